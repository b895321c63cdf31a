"""Controller and node over a real socket: who may speak to whom, and that all verbs and streams come through."""

import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.compute.drivers import Guest
from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.drivers.switch.fake import FakeSwitch
from pileus.network.drivers import Segment
from pileus.node import relay, trust
from pileus.node.agent import Agent, listen_unix, name_request, serve
from pileus.node.client import HypervisorClient, SwitchClient, Wire
from pileus.node.fencing import Fence
from pileus.node.wire import Stale, Tls
from pileus.roles import authority

NODE, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
GUEST = Guest(id="33333333-3333-3333-3333-333333333333", name="g", vcpus=1, ram_mib=64, disks=(), nics=())


class Screened(FakeHypervisor):
    """A hypervisor whose guests have a screen: a unix socket that greets at once and then echoes."""

    def __init__(self, folder: Path):
        super().__init__()
        self.path = folder / "screen"
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(str(self.path))
        self.listening.listen()
        threading.Thread(target=self._screens, daemon=True).start()

    def _screens(self) -> None:
        while True:
            one, _ = self.listening.accept()
            threading.Thread(target=self._echo, args=(one,), daemon=True).start()

    @staticmethod
    def _echo(one: socket.socket) -> None:
        with one:
            one.sendall(b"RFB 003.008\n")
            while data := one.recv(1 << 16):
                one.sendall(data)

    def console_socket(self, guest_id: str, kind: str) -> str:
        if guest_id != GUEST.id:
            raise LookupError("no such guest")
        return str(self.path)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(Screened(tmp_path), FakeSwitch(), FakeBlock(), Fence(tmp_path / "epochs"))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    authority.ensure_authority(tmp_path / "keys", "127.0.0.1:1")
    return tmp_path / "keys"


def joined(keys: Path, folder: Path, node_id: str) -> trust.Identity:
    """The identity of a node, as joining leaves it."""
    folder.mkdir()
    own, key = trust.identity(folder), authority.new_key()
    authority.write_secret(own.key, key)
    own.certificate.write_bytes(authority.sign_node(keys, authority.new_request(key), node_id))
    own.authority.write_bytes(trust.identity(authority.folder_of(keys)).authority.read_bytes())
    return own


@pytest.fixture
def far_url(agent: Agent, keys: Path, tmp_path: Path) -> Iterator[str]:
    """The agent of NODE, listening with TLS."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = serve(agent, listening, trust.answering(joined(keys, tmp_path / "node", NODE)))
    yield f"https://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def controller(keys: Path, node_id: str) -> Tls:
    return Tls(trust.calling(trust.identity(authority.folder_of(keys))), trust.node_name(node_id))


@pytest.fixture(params=["unix", "tls"])
def wire(request: pytest.FixtureRequest, agent: Agent, keys: Path, tmp_path: Path) -> Iterator[Wire]:
    if request.param == "tls":
        yield Wire(request.getfixturevalue("far_url"), controller(keys, NODE))
        return
    server = serve(agent, listen_unix(tmp_path / "agent.sock", 0))
    yield Wire(f"unix://{tmp_path}/agent.sock")
    server.shutdown()
    server.server_close()


def test_verbs_answer_as_the_driver_does(wire: Wire) -> None:
    hypervisor, switch = HypervisorClient(wire), SwitchClient(wire)
    assert hypervisor.capabilities().accelerator == "fake"
    seen = hypervisor.ensure_guest(GUEST)
    assert seen is not None and seen.power == "on"
    assert hypervisor.list_guests() == [GUEST.id]
    assert hypervisor.observe_guest(OTHER) is None
    assert switch.ensure_segment(Segment(id="s", kind="vxlan", vni=7)) is True
    with pytest.raises(LookupError):
        hypervisor.disk_copy_path(OTHER)


def test_an_older_lease_is_refused(wire: Wire) -> None:
    HypervisorClient(wire, (f"server/{GUEST.id}", 5)).ensure_guest(GUEST)
    with pytest.raises(Stale):
        HypervisorClient(wire, (f"server/{GUEST.id}", 4)).remove_guest(GUEST.id)


def test_the_log_of_a_node_says_for_whose_request_it_works(
    wire: Wire, agent: Agent, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.request_id = lambda: "req-7"
    monkeypatch.setattr(agent, "drivers", {**agent.drivers, "hypervisor": Busy()})
    caplog.handler.addFilter(name_request)
    with caplog.at_level(logging.INFO, "pileus.agent"), pytest.raises(ConnectionError):
        HypervisorClient(wire).list_guests()
    assert [record.request_id for record in caplog.records if "busy" in record.getMessage()] == ["req-7"]


class Busy:
    """A driver that is never ready, which the agent notes in its log."""

    def list_guests(self) -> list[str]:
        raise ConnectionError("busy")


def test_a_screen_comes_through_from_its_first_byte(wire: Wire) -> None:
    screen = wire.console(GUEST.id, "vnc")
    screen.settimeout(5)
    head = b""
    while len(head) < 12 and (more := screen.recv(12 - len(head))):
        head += more
    assert head == b"RFB 003.008\n"
    sent = bytes(range(256)) * 4096
    threading.Thread(target=screen.sendall, args=(sent,), daemon=True).start()
    heard = b""
    while len(heard) < len(sent) and (more := screen.recv(1 << 16)):
        heard += more
    assert heard == sent
    screen.close()


def test_streams_are_joined_whatever_their_numbers(tmp_path: Path) -> None:
    low = [os.open(tmp_path, os.O_RDONLY) for _ in range(1100)]  # select() fails beyond 1023
    try:
        one, left = socket.socketpair()
        other, right = socket.socketpair()
        thread = threading.Thread(target=relay.join, args=(left, right), daemon=True)
        thread.start()
        assert right.fileno() > 1023
        one.sendall(b"hello")
        other.settimeout(5)
        assert other.recv(5) == b"hello"
        one.close()
        assert other.recv(1) == b""
        thread.join(5)
        assert not thread.is_alive()
        other.close()
    finally:
        for fd in low:
            os.close(fd)


def test_a_guest_without_a_screen_is_told(wire: Wire) -> None:
    with pytest.raises(LookupError):
        wire.console(OTHER, "vnc")


def test_a_node_that_is_another_is_not_spoken_to(far_url: str, keys: Path) -> None:
    with pytest.raises(ConnectionError, match="certificate"):
        HypervisorClient(Wire(far_url, controller(keys, OTHER))).list_guests()


def test_another_node_is_not_obeyed(far_url: str, keys: Path, tmp_path: Path, agent: Agent) -> None:
    other = Tls(trust.calling(joined(keys, tmp_path / "other", OTHER)), trust.node_name(NODE))
    with pytest.raises(ConnectionError):
        HypervisorClient(Wire(far_url, other)).list_guests()
    assert agent.counts == {}


def test_strangers_are_not_obeyed(far_url: str, keys: Path, tmp_path: Path, agent: Agent) -> None:
    plain = ssl.create_default_context(cafile=str(trust.identity(authority.folder_of(keys)).authority))
    authority.ensure_authority(tmp_path / "elsewhere", "127.0.0.1:1")
    foreign = trust.calling(trust.identity(authority.folder_of(tmp_path / "elsewhere")))
    for context in (plain, foreign):
        with pytest.raises(ConnectionError):
            HypervisorClient(Wire(far_url, Tls(context, trust.node_name(NODE)))).list_guests()
    assert agent.counts == {}


def test_one_silent_stranger_does_not_keep_others_out(far_url: str, keys: Path) -> None:
    host, port = far_url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port))):
        assert HypervisorClient(Wire(far_url, controller(keys, NODE))).list_guests() == []
