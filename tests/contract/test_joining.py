"""A machine joins the cloud by a token, and from then on speaks for itself only."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.core.config import Config
from pileus.core.nodes import NODES
from pileus.db.connect import Database, connect
from pileus.db.migrate import migrate
from pileus.drivers.blob.file import FileBlob
from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.drivers.switch.fake import FakeSwitch
from pileus.http.server import server
from pileus.node import trust
from pileus.node.agent import Agent, Controllers, Reporter
from pileus.node.fencing import Fence
from pileus.node.wire import Tls, encode
from pileus.roles import authority, joining
from pileus.roles.join_tokens import create_token
from pileus.roles.node_door import NodeDoor


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    authority.ensure_authority(tmp_path / "keys", "127.0.0.1:1")
    return tmp_path / "keys"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    db = connect(f"sqlite://{tmp_path}/pileus.db")
    migrate(db)
    yield db
    db.close()


@pytest.fixture
def url(keys: Path, store: Database, tmp_path: Path) -> Iterator[str]:
    """The controllers' door for machines elsewhere."""
    listening = socket.create_server(("127.0.0.1", 0))
    own = trust.identity(authority.folder_of(keys))
    back = server(NodeDoor(store, FileBlob(tmp_path / "images"), keys), trust.answering(own, strangers=True))
    thread = threading.Thread(target=lambda: asyncio.run(back.serve(sockets=[listening])), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    back.should_exit = True
    thread.join(10)


def token(store: Database, keys: Path, seconds: float = 60.0) -> str:
    mark = authority.fingerprint(trust.identity(authority.folder_of(keys)).authority.read_bytes())
    return store.transact(lambda tx: create_token(tx, fingerprint=mark, seconds=seconds, now=time.time()))


def machine(tmp_path: Path, name: str) -> Config:
    return Config(state=str(tmp_path / name), name=name, agent_address="127.0.0.1:2")


def speaking(config: Config, url: str) -> Controllers:
    return Controllers(url, Tls(trust.calling(trust.identity(joining.folder(config)))))


def test_a_token_is_good_once(url: str, keys: Path, store: Database, tmp_path: Path) -> None:
    good = token(store, keys)
    member = joining.join(machine(tmp_path, "one"), url, good)
    assert joining.membership(machine(tmp_path, "one")) == member
    with pytest.raises(joining.JoinRefused, match="used"):
        joining.join(machine(tmp_path, "two"), url, good)
    assert joining.membership(machine(tmp_path, "two")) is None


def test_no_token_is_taken_for_an_option_of_the_command(keys: Path, store: Database) -> None:
    assert [found for found in (token(store, keys) for _ in range(400)) if not found[0].isalnum()] == []


def test_an_old_an_unknown_or_a_cut_token_is_refused(url: str, keys: Path, store: Database, tmp_path: Path) -> None:
    old = token(store, keys, seconds=-1.0)
    unknown = "x" * 43 + "." + old.rpartition(".")[2]
    for bad in (old, unknown, "." + old.rpartition(".")[2], "", old.rpartition(".")[0]):
        with pytest.raises(joining.JoinRefused):
            joining.join(machine(tmp_path, "one"), url, bad)


def test_the_secret_is_not_told_to_whoever_answers(url: str, keys: Path, store: Database, tmp_path: Path) -> None:
    """The token names another authority than that of the server that answers: nothing is sent."""
    authority.ensure_authority(tmp_path / "elsewhere", "127.0.0.1:1")
    elsewhere = trust.identity(authority.folder_of(tmp_path / "elsewhere")).authority.read_bytes()
    bad = token(store, keys).rpartition(".")[0] + "." + authority.fingerprint(elsewhere)
    with pytest.raises(joining.JoinRefused, match="not the cloud"):
        joining.join(machine(tmp_path, "one"), url, bad)
    unused = store.read(lambda tx: tx.one("select count(*) from join_tokens where node_id is null"))
    assert unused == (1,)


def report(config: Config, controllers: Controllers, tmp_path: Path, **changed: Any) -> tuple[int, bytes]:
    agent = Agent(FakeHypervisor(), FakeSwitch(), FakeBlock(), Fence(tmp_path / f"{config.name}-epochs"))
    member = joining.membership(config)
    assert member is not None
    identity = {
        "id": member.node_id, "name": config.name, "url": "https://127.0.0.1:2", "endpoint": "192.0.2.2",
        "roles": ["compute"], "version": "1", "zone": "nova",
    }  # fmt: skip
    body = Reporter(agent, controllers, {**identity, **changed}, 1.0).report()
    return controllers.request("POST", "/node/v1/report", encode(body))


def test_a_node_reports_itself_and_nobody_else(url: str, keys: Path, store: Database, tmp_path: Path) -> None:
    one, two = machine(tmp_path, "one"), machine(tmp_path, "two")
    joining.join(one, url, token(store, keys))
    other = joining.join(two, url, token(store, keys))
    assert report(one, speaking(one, url), tmp_path)[0] == 200
    assert [node.name for node in store.read(NODES.all)] == ["one"]
    assert report(one, speaking(one, url), tmp_path, id=other.node_id)[0] == 403
    assert report(one, speaking(one, url), tmp_path, url="unix:///run/agent.sock")[0] == 403
    assert [node.name for node in store.read(NODES.all)] == ["one"]


def test_a_stranger_learns_nothing(url: str, keys: Path, store: Database, tmp_path: Path) -> None:
    one = machine(tmp_path, "one")
    joining.join(one, url, token(store, keys))
    plain = ssl.create_default_context(cafile=str(trust.identity(joining.folder(one)).authority))
    stranger = Controllers(url, Tls(plain))
    assert report(one, stranger, tmp_path)[0] == 403
    for path in ("/node/v1/metadata/n/10.0.0.5/latest", "/node/v1/images/i"):
        assert stranger.request("GET", path)[0] == 403
    assert stranger.request("GET", "/node/v1/nothing")[0] == 404
    assert store.read(NODES.all) == []


def test_a_node_asks_metadata_of_the_networks_it_serves_only(
    url: str, keys: Path, store: Database, tmp_path: Path
) -> None:
    one = machine(tmp_path, "one")
    joining.join(one, url, token(store, keys))
    assert speaking(one, url).request("GET", "/node/v1/metadata/some-network/10.0.0.5/latest/meta-data/")[0] == 403


def test_a_missing_image_is_not_there(url: str, keys: Path, store: Database, tmp_path: Path) -> None:
    one = machine(tmp_path, "one")
    joining.join(one, url, token(store, keys))
    assert speaking(one, url).request("GET", "/node/v1/images/nothing")[0] == 404


def test_nonsense_is_refused_in_words(url: str, keys: Path, store: Database, tmp_path: Path) -> None:
    one = machine(tmp_path, "one")
    joining.join(one, url, token(store, keys))
    node = speaking(one, url)
    for path, body in (("report", b"{"), ("report", b"[]"), ("join", b'{"token": 1}'), ("join", b"x" * 100_000)):
        status, said = node.request("POST", f"/node/v1/{path}", body)
        assert status == 400 and said
