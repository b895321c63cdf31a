"""The contract of every hypervisor: twice is once, kill between, restart, unknown id, concurrent calls, nothing left.

Runs against the fake and, as root, against QEMU (guests without a system, which stay in their firmware).
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_lab import MIB, Bench, FakeBench, QemuBench, guest, image_of, local, new_id, until, volume
from msgspec.structs import replace

from pileus.compute.drivers import Broken, Guest, GuestSeen, Hypervisor, Refused
from pileus.drivers.hypervisor.fake import FakeHypervisor, FakeMachine


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.root)])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made: Bench = FakeBench() if request.param == "fake" else QemuBench()
    yield made
    made.close()


def ensure(hypervisor: Hypervisor, wish: Guest) -> GuestSeen:
    return until(lambda: hypervisor.ensure_guest(wish))


def observe(hypervisor: Hypervisor, guest_id: str) -> GuestSeen:
    seen = hypervisor.observe_guest(guest_id)
    assert seen is not None
    return seen


def same(one: GuestSeen, other: GuestSeen) -> bool:
    return replace(one, resident_bytes=0) == replace(other, resident_bytes=0)


def test_a_guest_is_as_it_was_wished(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest(local("root.0"), volume(bench.folder), nics=(bench.nic(),), config_drive={"openstack/x": b"y"})
    seen = ensure(hypervisor, wish)
    assert (seen.power, seen.ended, seen.resets, seen.reboots) == ("on", "", 0, 0)
    assert seen.disks == tuple(disk.id for disk in wish.disks)
    assert seen.nics == (wish.nics[0].port_id,)
    assert (seen.vcpus, seen.ram_mib) == (1, 32)
    assert abs(seen.started_at - time.time()) < 60
    assert seen.pid and seen.resident_bytes
    assert hypervisor.list_guests() == [wish.id]


def test_twice_is_once(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest(local("root.0"), volume(bench.folder))
    first = ensure(hypervisor, wish)
    traces = bench.traces()
    assert same(ensure(hypervisor, wish), first)
    assert same(observe(hypervisor, wish.id), first)
    assert bench.traces() == traces


def test_remove_leaves_nothing(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    before = bench.traces()
    powers = ("on", "off", "paused", "suspended")
    wishes = [guest(local("root.0"), volume(bench.folder)) for _ in powers]
    for wish, power in zip(wishes, powers, strict=True):
        ensure(hypervisor, wish)
        ensure(hypervisor, replace(wish, power=power))
    assert bench.traces() != before
    for wish in wishes:
        until(lambda wish=wish: hypervisor.remove_guest(wish.id))  # type: ignore[misc]  # a default binds the loop's value, whose type mypy does not infer
    assert bench.traces() == before
    assert list(hypervisor.list_guests()) == []


def test_unknown_ids_are_gone_already(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    nobody = new_id()
    assert hypervisor.remove_guest(nobody)
    assert hypervisor.remove_disk_copy(nobody)
    assert hypervisor.observe_guest(nobody) is None
    assert hypervisor.console_log(nobody, 100) == b""
    for ask in (
        lambda: hypervisor.console_socket(nobody, "vnc"),
        lambda: hypervisor.ensure_disk_copy(nobody, "root.0", new_id()),
        lambda: hypervisor.disk_copy_path(nobody),
        lambda: hypervisor.diagnostics(nobody),
    ):
        with pytest.raises(LookupError):
            ask()
    assert list(hypervisor.list_guests()) == []


def test_a_new_agent_takes_over_what_runs(bench: Bench) -> None:
    wish = guest()
    first = ensure(bench.hypervisor(), wish)
    heir = bench.hypervisor()
    assert heir.list_guests() == [wish.id]
    assert same(observe(heir, wish.id), first)
    assert same(ensure(heir, wish), first)
    assert until(lambda: heir.remove_guest(wish.id))


def test_after_a_reboot_of_the_machine_a_guest_is_lost_and_can_run_again(bench: Bench) -> None:
    wish = guest()
    first = ensure(bench.hypervisor(), wish)
    bench.reboot()
    heir = bench.hypervisor()
    lost = observe(heir, wish.id)
    assert (lost.power, lost.ended, lost.pid) == ("off", "lost", 0)
    again = ensure(heir, wish)
    assert again.power == "on" and again.pid != first.pid
    assert again.ended == ""


def test_a_suspended_guest_outlives_a_reboot_of_the_machine(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest(local("root.0"), volume(bench.folder))
    ensure(hypervisor, wish)
    asleep = ensure(hypervisor, replace(wish, power="suspended"))
    assert (asleep.power, asleep.pid) == ("suspended", 0)
    bench.reboot()
    heir = bench.hypervisor()
    assert observe(heir, wish.id).power == "suspended"
    assert ensure(heir, replace(wish, power="suspended")).power == "suspended"
    awake = ensure(heir, wish)
    assert awake.power == "on" and awake.disks == tuple(disk.id for disk in wish.disks)


def test_a_hard_reboot_of_a_suspended_guest_is_a_fresh_start(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    ensure(hypervisor, wish)
    ensure(hypervisor, replace(wish, power="suspended"))
    seen = ensure(hypervisor, replace(wish, vcpus=2, resets=1))
    assert (seen.power, seen.vcpus, seen.resets) == ("on", 2, 1)


def test_power_follows_the_wish(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    started = ensure(hypervisor, wish)
    paused = ensure(hypervisor, replace(wish, power="paused"))
    assert (paused.power, paused.pid) == ("paused", started.pid)
    on = ensure(hypervisor, wish)
    assert (on.power, on.pid) == ("on", started.pid)
    off = ensure(hypervisor, replace(wish, power="off"))
    assert (off.power, off.ended, off.pid, off.started_at) == ("off", "asked", 0, 0.0)
    with pytest.raises(LookupError):
        hypervisor.console_socket(wish.id, "serial")
    assert observe(hypervisor, wish.id).power == "off"
    assert ensure(hypervisor, replace(wish, power="paused")).power == "paused"


def test_a_guest_may_be_made_and_stay_off(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    seen = ensure(hypervisor, guest(power="off", resets=3, reboots=2))
    assert (seen.power, seen.ended, seen.resets, seen.reboots) == ("off", "asked", 3, 2)


def test_a_running_guest_can_be_looked_into(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest(local("root.0"), volume(bench.folder), nics=(bench.nic(),))
    ensure(hypervisor, wish)
    told = hypervisor.diagnostics(wish.id)
    assert (told["num_cpus"], told["memory_details"]) == (1, {"maximum": 32, "used": 32})
    assert [disk["id"] for disk in told["disk_details"]] == [disk.id for disk in wish.disks]  # type: ignore[attr-defined]  # of the object that is really there
    assert told["nic_details"][0]["port_id"] == wish.nics[0].port_id  # type: ignore[index]  # None or another shape would fail the test here
    assert len(hypervisor.console_log(wish.id, 5)) <= 5
    assert hypervisor.console_socket(wish.id, "serial") != hypervisor.console_socket(wish.id, "vnc")
    hypervisor.inject_nmi(wish.id)
    ensure(hypervisor, replace(wish, power="off"))
    with pytest.raises(LookupError):
        hypervisor.inject_nmi(wish.id)
    with pytest.raises(LookupError):
        hypervisor.diagnostics(wish.id)


def test_each_wished_reboot_happens_once(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    first = ensure(hypervisor, wish)
    hard = ensure(hypervisor, replace(wish, resets=1))
    assert hard.pid != first.pid and (hard.resets, hard.reboots) == (1, 0)
    assert same(ensure(hypervisor, replace(wish, resets=1)), hard)
    soft = ensure(hypervisor, replace(wish, resets=1, reboots=1))
    assert (soft.power, soft.resets, soft.reboots) == ("on", 1, 1)
    assert soft.started_at > hard.started_at
    assert same(ensure(hypervisor, replace(wish, resets=1, reboots=1)), soft)


def test_processors_and_memory_change_with_the_next_start(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    ensure(hypervisor, wish)
    larger = replace(wish, vcpus=2, ram_mib=64)
    running = ensure(hypervisor, larger)
    assert (running.vcpus, running.ram_mib) == (1, 32)
    ensure(hypervisor, replace(larger, power="off"))
    started = ensure(hypervisor, larger)
    assert (started.vcpus, started.ram_mib) == (2, 64)


def test_disks_and_cards_are_put_into_a_running_guest(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    first = ensure(hypervisor, wish)
    more = replace(
        wish, disks=(*wish.disks, volume(bench.folder), volume(bench.folder, bus="scsi")), nics=(bench.nic(),)
    )
    seen = ensure(hypervisor, more)
    assert seen.pid == first.pid
    assert seen.disks == tuple(disk.id for disk in more.disks)
    assert seen.nics == (more.nics[0].port_id,)
    assert same(ensure(hypervisor, more), seen)
    asleep = ensure(hypervisor, replace(more, power="suspended"))
    assert asleep.power == "suspended"
    awake = ensure(hypervisor, more)
    assert (awake.disks, awake.nics) == (seen.disks, seen.nics)
    less = replace(more, disks=wish.disks, nics=(), resets=1)
    assert ensure(hypervisor, less).disks == ("root.0",)


def test_a_disk_is_copied_as_it_is(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest(local("root.0"), volume(bench.folder))
    ensure(hypervisor, wish)
    for power in ("on", "paused", "off"):
        ensure(hypervisor, replace(wish, power=power))
        for disk in wish.disks:
            copy = new_id()
            size = until(lambda: hypervisor.ensure_disk_copy(wish.id, disk.id, copy))
            assert hypervisor.ensure_disk_copy(wish.id, disk.id, copy) == size
            path = Path(hypervisor.disk_copy_path(copy))
            assert path.stat().st_size == size and list(hypervisor.list_disk_copies()) == [copy]
            assert until(lambda: hypervisor.remove_disk_copy(copy)) and not path.exists()
            assert list(hypervisor.list_disk_copies()) == []
            with pytest.raises(LookupError):
                hypervisor.disk_copy_path(copy)
    with pytest.raises(LookupError):
        hypervisor.ensure_disk_copy(wish.id, "nothing.0", new_id())


def test_a_copy_outlives_the_guest_and_the_agent(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish, copy = guest(), new_id()
    ensure(hypervisor, wish)
    until(lambda: hypervisor.ensure_disk_copy(wish.id, "root.0", copy))
    until(lambda: hypervisor.remove_guest(wish.id))
    heir = bench.hypervisor()
    assert Path(heir.disk_copy_path(copy)).exists()
    assert heir.remove_disk_copy(copy)


def test_a_crash_is_told_and_the_guest_runs_again_when_wished(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    first = ensure(hypervisor, wish)
    bench.crash(wish.id)
    seen = observe(hypervisor, wish.id)
    assert (seen.power, seen.ended, seen.pid) == ("crashed", "crash", 0)
    assert ensure(hypervisor, wish).pid != first.pid


def test_what_no_node_of_this_kind_can_run_is_refused_with_a_reason(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    for facts in ({"vcpus": 4096}, {"ram_mib": 1 << 30}):
        with pytest.raises(Refused, match=r"\d"):
            hypervisor.ensure_guest(guest(**facts))
    assert list(hypervisor.list_guests()) == []


def test_a_broken_image_is_told(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    path = bench.folder / "image"
    path.write_bytes(os.urandom(MIB))
    image = replace(image_of(path), sha512="0" * 128)
    if isinstance(hypervisor, FakeHypervisor):
        hypervisor.machine.broken[image.id] = "the hash is wrong"
    with pytest.raises(Broken, match="hash"):
        until(lambda: hypervisor.ensure_image(image))
    with pytest.raises(Broken, match="hash"):
        ensure(hypervisor, guest(local("root.0", image=image)))


def test_concurrent_calls(bench: Bench) -> None:
    hypervisor = bench.hypervisor()
    wishes = [guest() for _ in range(3)]
    faults: list[BaseException] = []

    def work(wish: Guest, *, ends: bool) -> None:
        try:
            ensure(hypervisor, wish)
            hypervisor.list_guests()
            hypervisor.observe_guest(wish.id)
            if ends:
                until(lambda: hypervisor.remove_guest(wish.id))
        except BaseException as fault:
            faults.append(fault)

    plan = [(wishes[0], False), (wishes[0], False), (wishes[1], False), (wishes[1], False), (wishes[2], True)]
    threads = [threading.Thread(target=work, args=(wish,), kwargs={"ends": ends}) for wish, ends in plan]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert list(hypervisor.list_guests()) == sorted(wish.id for wish in wishes[:2])
    if isinstance(bench, QemuBench):
        assert len(bench.pids()) == 2


def test_fake_fails_before_and_after_each_effect() -> None:
    for at in (1, 2):
        calls: list[str] = []

        def fault(verb: str, at: int = at, calls: list[str] = calls) -> None:
            calls.append(verb)
            if len(calls) == at:
                raise ConnectionError(verb)

        machine, wish = FakeMachine(), guest()
        with pytest.raises(ConnectionError):
            FakeHypervisor(machine, faults=fault).ensure_guest(wish)
        assert bool(machine.guests) == (at == 2)
        assert FakeHypervisor(machine).ensure_guest(wish)


def test_fake_is_under_way_for_some_rounds_of_each_change() -> None:
    hypervisor, wish = FakeHypervisor(rounds=2), guest()
    for changed in (wish, replace(wish, power="off")):
        answers = [hypervisor.ensure_guest(changed) for _ in range(4)]
        assert answers[:2] == [None, None]
        assert answers[2] is not None and answers[2] == answers[3]


AGENT = """
import sys
sys.path.insert(0, {tests!r})
from contract.hypervisor_lab import *
from msgspec.structs import replace
hypervisor = qemu(Path({folder!r}))
wish = msgspec.json.decode({wish!r}, type=Guest)
print("ready", flush=True)
less, asleep = replace(wish, disks=wish.disks[:1]), replace(wish, power="suspended")
for changed in (wish, less, asleep, wish, replace(wish, resets=1)):
    deadline = time.monotonic() + 5
    while hypervisor.ensure_guest(changed) is None and time.monotonic() < deadline:
        time.sleep(0.005)
    hypervisor.ensure_disk_copy(wish.id, "root.0", wish.id)
until(lambda: hypervisor.remove_guest(wish.id))
print("over", flush=True)
"""


@pytest.mark.root
@pytest.mark.parametrize("after", [0.005, 0.04, 0.08, 0.12, 0.2, 0.35, 0.5])
def test_killed_at_any_moment_of_a_life(after: float) -> None:
    """kill -9 of the agent; a new one brings the guest to where it should be, once, and removes it whole."""
    import msgspec

    bench = QemuBench()
    wish = guest(local("root.0"), volume(bench.folder), power="on")
    text = msgspec.json.encode(wish).decode()
    code = "import msgspec\n" + AGENT.format(tests=str(Path(__file__).parents[1]), folder=str(bench.folder), wish=text)
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert agent.stdout is not None and agent.stdout.readline() == "ready\n"
        time.sleep(after)
        agent.kill()
        agent.wait()
        heir = bench.hypervisor()
        seen = ensure(heir, wish)
        assert seen.power == "on" and len(bench.pids()) == 1
        assert same(observe(heir, wish.id), seen)
        until(lambda: heir.remove_guest(wish.id))
        until(lambda: heir.remove_disk_copy(wish.id))
        assert bench.traces() == ([], 0, [])
    finally:
        agent.kill()
        bench.close()
