"""Epochs are remembered over kills and full disks: an old lease never comes through again, not even late."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from pileus.compute.drivers import Guest
from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.drivers.switch.fake import FakeSwitch
from pileus.node import fencing
from pileus.node.agent import EFFECTS, Agent
from pileus.node.fencing import Fence
from pileus.node.wire import VERBS, Stale, encode


def test_an_old_epoch_is_refused_after_a_restart(tmp_path: Path) -> None:
    Fence(tmp_path / "epochs").admit("server/a", 5)
    again = Fence(tmp_path / "epochs")
    again.admit("server/a", 5)
    with pytest.raises(Stale):
        again.admit("server/a", 4)


def test_a_line_that_was_cut_short_harms_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "epochs"
    before = Fence(path)
    before.admit("server/a", 12)
    before.admit("server/b", 34)
    path.write_bytes(path.read_bytes()[:-1])  # server/b 3
    monkeypatch.setattr(Path, "write_text", full)
    after = Fence(path)
    after.admit("server/c", 56)
    monkeypatch.undo()
    last = Fence(path)
    for lease, old in (("server/a", 11), ("server/c", 55)):
        with pytest.raises(Stale):
            last.admit(lease, old)


def full(*_: object, **__: object) -> int:
    raise OSError(28, "No space left on device")


def test_the_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "COMPACT_LINES", 10)
    fence = Fence(tmp_path / "epochs")
    for epoch in range(1, 100):
        fence.admit("server/a", epoch)
    assert len((tmp_path / "epochs").read_text().splitlines()) < 20
    with pytest.raises(Stale):
        Fence(tmp_path / "epochs").admit("server/a", 98)


LEASE, SECONDS = "server/a", 10.0
WISH = encode({"guest": Guest(id="a", name="a", vcpus=1, ram_mib=64, disks=(), nics=())})
GONE = encode({"guest_id": "a"})


class Slow:
    """A node whose driver stops before its first effect until it is told to go on."""

    def __init__(self, folder: Path):
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.hypervisor = FakeHypervisor(faults=self.stop)
        self.fence = Fence(folder / "epochs")
        self.agent = Agent(self.hypervisor, FakeSwitch(), FakeBlock(), self.fence)
        self.callers = ThreadPoolExecutor(8)

    def stop(self, verb: str) -> None:
        if verb == "ensure_guest" and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(SECONDS)

    def call(self, verb: str, raw: bytes, epoch: int) -> "Future[object]":
        return self.callers.submit(self.agent.call, "hypervisor", verb, raw, LEASE, str(epoch))

    def waiting(self) -> int:
        turn = self.fence._turns.get(LEASE)
        return turn.callers if turn else 0

    def until(self, what: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(1000):
            if what():
                return
            pause.wait(0.005)
        raise AssertionError("it never came")


def test_what_was_admitted_before_a_takeover_does_not_land_after_it(tmp_path: Path) -> None:
    node = Slow(tmp_path)
    first = node.call("ensure_guest", WISH, 1)  # under way when the other worker takes over
    assert node.reached.wait(SECONDS)
    late = node.call("ensure_guest", WISH, 1)  # admitted, and then its thread sleeps
    node.until(lambda: node.waiting() == 2)
    newer = node.call("remove_guest", GONE, 2)
    node.until(lambda: node.waiting() == 3)
    with pytest.raises(Stale):
        node.fence.admit(LEASE, 1)
    assert not newer.done()
    node.go_on.set()
    assert first.result(SECONDS) and newer.result(SECONDS) is True
    with pytest.raises(Stale):
        late.result(SECONDS)
    assert list(node.hypervisor.list_guests()) == []
    assert node.waiting() == 0


def test_who_only_looks_waits_for_nobody(tmp_path: Path) -> None:
    node = Slow(tmp_path)
    first = node.call("ensure_guest", WISH, 1)
    assert node.reached.wait(SECONDS)
    assert node.call("observe_guest", GONE, 1).result(SECONDS) is None
    with pytest.raises(Stale):
        node.call("observe_guest", GONE, 0).result(SECONDS)
    node.go_on.set()
    first.result(SECONDS)


def test_an_effect_that_does_not_end_holds_up_a_call_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing, "TURN_SECONDS", 0.05)
    node = Slow(tmp_path)
    first = node.call("ensure_guest", WISH, 1)
    assert node.reached.wait(SECONDS)
    with pytest.raises(ConnectionError, match="still at work"):
        node.call("remove_guest", GONE, 2).result(SECONDS)
    node.go_on.set()
    first.result(SECONDS)
    assert node.call("remove_guest", GONE, 2).result(SECONDS) is True


def test_every_verb_either_looks_or_is_known_to_change_something() -> None:
    looks = ("observe_", "list_", "capabilities", "console_", "disk_copy_path", "diagnostics", "netns", "pools",
             "volume_path")  # fmt: skip
    assert [verb for _, verb in VERBS if not verb.startswith((*EFFECTS, *looks))] == []
