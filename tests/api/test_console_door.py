"""The door to consoles: whoever has a token gets that one console for a while, from our own page, and nothing else."""

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pileus.http.server import Limits
from pileus.roles.pages import Pages
from server_cloud import COMPUTE, LATEST, ServerCloud


class Node:
    """A node whose guests' consoles say what they are and then repeat what they hear, until `cut`."""

    def __init__(self) -> None:
        self.off = False
        self.ends: list[socket.socket] = []

    def wire(self, node_id: str) -> "Node":
        return self

    def console(self, server_id: str, kind: str) -> socket.socket:
        if self.off:
            raise LookupError(f"guest {server_id} is off")
        ours, theirs = socket.socketpair()
        self.ends.append(ours)
        threading.Thread(target=self._repeat, args=(ours, f"{kind} of {server_id}\n".encode()), daemon=True).start()
        return theirs

    @staticmethod
    def _repeat(end: socket.socket, greeting: bytes) -> None:
        with contextlib.suppress(OSError):
            end.sendall(greeting)
            while data := end.recv(65536):
                end.sendall(data)

    def cut(self) -> None:
        for end in self.ends:
            end.shutdown(socket.SHUT_RDWR)


class Door:
    """A cloud with one server, and the address of the door to its consoles."""

    def __init__(self, folder: Path, serve: Callable[..., str]):
        self.cloud, self.node = ServerCloud(folder), Node()
        self.server = self.cloud.boot({"name": "seen"})
        app = self.cloud.api.app
        app.pages = Pages(self.cloud.config, self.cloud.db, self.node)
        self.url = serve(app)
        self.place = self.url.removeprefix("http://")

    def token(self, kind: str = "vnc") -> str:
        names = {"vnc": "novnc", "serial": "serial"}
        body = {"remote_console": {"protocol": kind, "type": names[kind]}}
        path = f"{COMPUTE}/servers/{self.server}/remote-consoles"
        url: str = self.cloud.call("POST", path, body, version=LATEST).json["remote_console"]["url"]
        return url.replace("%3D", "=").rpartition("=")[2]

    def connect(self, token: str, path: str = "/", **how: Any) -> Any:
        return connect(f"ws://{self.place}{path}?token={token}", **how)

    def refuses(self, token: str, path: str = "/", **how: Any) -> bool:
        try:
            self.connect(token, path, **how)
        except InvalidStatus as refused:
            return refused.response.status_code == 403
        return False

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers or {})) as answer:
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {}, error.read()


@pytest.fixture
def door(tmp_path: Path, serve: Callable[..., str]) -> Iterator[Door]:
    found = Door(tmp_path, serve)
    yield found
    found.node.cut()
    found.cloud.close()


def test_a_token_opens_its_console_and_carries_bytes_both_ways(door: Door) -> None:
    for kind, path in (("vnc", "/"), ("vnc", "/websockify"), ("serial", "/serial")):
        with door.connect(door.token(kind), path, subprotocols=["binary"]) as screen:
            assert screen.subprotocol == "binary"
            assert screen.recv(timeout=5) == f"{kind} of {door.server}\n".encode()
            sent = bytes(range(256)) * 1000
            screen.send(sent)
            heard = b""
            while len(heard) < len(sent):
                heard += screen.recv(timeout=5)
            assert heard == sent


def test_a_quiet_console_stays_open(tmp_path: Path, serve: Callable[..., str]) -> None:
    door = Door(tmp_path, partial(serve, limits=Limits(header_seconds=0.3, body_seconds=0.3, idle_seconds=1)))
    with door.connect(door.token()) as screen:
        assert screen.recv(timeout=5)
        time.sleep(1.5)
        screen.send(b"still here")
        assert screen.recv(timeout=5) == b"still here"


def test_a_token_may_come_in_the_cookie_that_the_page_sets(door: Door) -> None:
    with connect(
        f"ws://{door.place}/websockify", additional_headers={"cookie": f"a=b; token={door.token()}"}
    ) as screen:
        assert screen.recv(timeout=5).startswith(b"vnc")


def test_a_token_is_for_one_kind_of_console_and_no_key_to_the_api(door: Door) -> None:
    assert door.refuses(door.token("vnc"), "/serial")
    assert door.refuses(door.token("serial"), "/")
    status, _, _ = door.get(f"{COMPUTE}/servers", {"x-auth-token": door.token()})
    assert status == 401


def test_without_a_token_that_was_given_nothing_opens(door: Door) -> None:
    token = door.token()
    for wrong in ("", "x", token[:-1], token + "x", "%00", "'%20or%201=1"):
        assert door.refuses(wrong), wrong


def test_a_token_ends_after_its_time(door: Door) -> None:
    token = door.token()
    door.connect(token).__enter__().close()
    door.cloud.db.transact(lambda tx: tx.run("update console_tokens set expires_at = ?", time.time() - 1))
    assert door.refuses(token)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://{place}.evil.example", "http://127.0.0.1:1"]
)
def test_another_sites_page_opens_nothing(door: Door, origin: str) -> None:
    assert door.refuses(door.token(), origin=origin.format(place=door.place))


def test_our_own_page_and_programs_without_a_page_open_it(door: Door) -> None:
    for origin in (None, f"http://{door.place}", door.cloud.config.url):
        with door.connect(door.token(), origin=origin) as screen:
            assert screen.recv(timeout=5)


def test_a_deleted_server_has_no_console(door: Door) -> None:
    token = door.token()
    door.cloud.delete(door.server)
    assert door.refuses(token)


def test_a_guest_that_is_off_has_no_console_and_one_that_ends_closes_it(door: Door) -> None:
    token = door.token()
    with door.connect(token) as screen:
        assert screen.recv(timeout=5)
        door.node.cut()
        with pytest.raises(ConnectionClosed):
            screen.recv(timeout=5)
    door.node.off = True
    assert door.refuses(token)


@pytest.mark.skipif(not Path("/usr/share/novnc").exists(), reason="not installed: novnc (packages.txt)")
def test_the_page_is_novncs_and_nothing_beside_it_is_served(door: Door) -> None:
    status, headers, page = door.get("/vnc/vnc_lite.html?path=%3Ftoken%3Dx")
    assert status == 200 and b"rfb.js" in page
    assert headers["content-type"] == "text/html" and headers["referrer-policy"] == "no-referrer"
    assert door.get("/vnc/core/rfb.js")[1]["content-type"].endswith("javascript")
    for path in (
        "../doc/novnc/copyright",
        "..%2f..%2f..%2fetc%2fpasswd",
        "core",
        "core/",
        "x%00.html",
        "//etc/passwd",
        "x" * 5000,
    ):
        assert door.get(f"/vnc/{path}")[0] == 404, path
