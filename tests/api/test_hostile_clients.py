"""Clients that mean harm, on real connections to the real server: they are ended in time, and the others go on."""

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from direct import OTHER
from pileus.http.server import Limits, allow_many_files

QUICK = Limits(header_seconds=1.0, body_seconds=1.0, send_seconds=1.0, idle_seconds=1)
PATIENCE = 8.0  # far above the limits, far below what is normal
HEAD = b"Host: cloud\r\nX-Auth-Token: demo\r\nContent-Type: application/json\r\n"
NETWORKS = "/networking/v2.0/networks"


class Served:
    """The server in its own process."""

    def __init__(self, folder: Path, limits: Limits):
        self.folder = folder
        script = Path(__file__).parent / "served.py"
        command = [sys.executable, str(script), str(folder), msgspec.json.encode(limits).decode()]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=(folder / "log").open("w"), text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, data: bytes) -> socket.socket:
        """A connection on which this was sent."""
        made = self.connect()
        made.sendall(data)
        return made

    def exchange(self, data: bytes) -> bytes:
        """All that comes back until the server closes."""
        with self.send(data) as sock:
            return rest_of(sock)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """A client of good will: status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, {"x-auth-token": "demo", "content-type": "application/json", **headers})
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        return answer.status, json.loads(raw) if raw else None

    def works(self) -> None:
        """A whole request of somebody else is served."""
        assert self.call("GET", NETWORKS)[0] == 200

    def memory(self) -> int:
        """Resident bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self) -> str:
        """Stop it; what it logged."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        return (self.folder / "log").read_text()


def rest_of(sock: socket.socket) -> bytes:
    """What still comes until the other side closes; socket.timeout when it does not."""
    parts = []
    try:
        while part := sock.recv(1 << 20):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def drip(sock: socket.socket, data: bytes, every: float = 0.1) -> float:
    """Send byte by byte until the server ends the connection; the seconds that took."""
    began = time.monotonic()
    try:
        for byte in data:
            sock.sendall(bytes([byte]))
            time.sleep(every)
            assert time.monotonic() - began < PATIENCE, "the server lets this go on"
    except (BrokenPipeError, ConnectionResetError):
        return time.monotonic() - began
    raise AssertionError("the server took it all")


def post(path: str, *lines: bytes, body: bytes = b"", token: bytes = b"demo") -> bytes:
    """A request as bytes, with header lines of one's own."""
    head = [b"POST " + path.encode() + b" HTTP/1.1", b"Host: cloud", b"X-Auth-Token: " + token,
            b"Content-Type: application/json", *lines]  # fmt: skip
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Limits], Served]]:
    """Start a server of one's own; it ends with the test, however that ends."""
    started = []

    def one(limits: Limits) -> Served:
        started.append(Served(tmp_path, limits))
        return started[-1]

    yield one
    for served in started:
        assert "Traceback" not in served.end()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with short patience."""
    made = Served(tmp_path_factory.mktemp("quick"), QUICK)
    yield made
    log = made.end()
    assert "Traceback" not in log, log


def test_headers_that_never_end_are_not_waited_for(quick: Served) -> None:
    silent = quick.connect()
    blank = quick.connect()
    assert drip(blank, b"\r\n" * 1000) < PATIENCE
    slow = quick.send(b"GET / HTTP/1.1\r\n")
    assert drip(slow, b"X-A: b\r\n" * 1000) < PATIENCE
    assert rest_of(silent) == b""
    quick.works()


def test_a_second_request_that_never_ends_is_not_waited_for(quick: Served) -> None:
    sock = quick.send(b"GET /networking HTTP/1.1\r\nHost: a\r\n\r\nGET /networking HTTP/1.1\r\nX: ")
    assert rest_of(sock).count(b"HTTP/1.1 200") == 1
    sock = quick.send(b"GET /networking HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"200" in sock.recv(65536)
    assert drip(sock, b"\r\n" * 1000) < PATIENCE


@pytest.mark.parametrize("kind", [b"Content-Length: 9000", b"Transfer-Encoding: chunked"])
def test_bodies_that_drip_or_stop_are_not_waited_for(quick: Served, kind: bytes) -> None:
    stopped = quick.send(post(NETWORKS, kind))
    dripping = quick.send(post(NETWORKS, kind))
    data = b"1;x=y\r\na\r\n" * 500 if b"chunked" in kind else b"[" * 5000
    assert drip(dripping, data) < PATIENCE
    assert rest_of(stopped) == b""
    quick.works()


def test_a_refused_request_whose_body_comes_later_does_not_keep_its_connection(quick: Served) -> None:
    sock = quick.send(post(NETWORKS, b"Content-Length: 4", token=b"nobody"))
    assert b" 401 " in sock.recv(65536)
    sock.sendall(b"[  ]")
    assert b"HTTP/1.1" not in rest_of(sock)


def test_a_body_that_comes_slowly_but_steadily_is_taken(quick: Served) -> None:
    body = json.dumps({"network": {"name": "n" * 200, "description": " " * 4000}}).encode()
    sock = quick.send(post(NETWORKS, b"Content-Length: %d" % len(body), b"Connection: close"))
    for at in range(0, len(body), 600):
        sock.sendall(body[at : at + 600])
        time.sleep(0.3)
    answer = rest_of(sock)
    assert b" 400 " in answer or b" 201 " in answer, answer


def test_who_does_not_take_the_answer_loses_it(quick: Served) -> None:
    image = quick.call("POST", "/image/v2/images", {"name": "i", "disk_format": "raw", "container_format": "bare"})[1]
    path, size = f"/image/v2/images/{image['id']}/file", 40 << 20
    assert quick.call("PUT", path, bytes(size), **{"content-type": "application/octet-stream"})[0] == 204
    before = quick.files()
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.settimeout(PATIENCE)
    lazy.connect(("127.0.0.1", quick.port))
    lazy.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
    time.sleep(3)
    assert len(rest_of(lazy)) < size
    wait_for(lambda: quick.files() <= before)
    quick.works()


def wait_for(what: Any) -> None:
    """Until something holds."""
    ends = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < ends, "it does not come about"
        time.sleep(0.05)


def test_a_cut_upload_leaves_nothing(quick: Served) -> None:
    image = quick.call("POST", "/image/v2/images", {"name": "i", "disk_format": "raw", "container_format": "bare"})[1]
    kept = {path.name for path in (quick.folder / "images").rglob("*")}
    path = f"/image/v2/images/{image['id']}"
    head = f"PUT {path}/file HTTP/1.1\r\nHost: a\r\nX-Auth-Token: demo\r\nContent-Type: application/octet-stream\r\n"
    sock = quick.send(head.encode() + b"Content-Length: 2000000\r\n\r\n" + bytes(1_000_000))
    wait_for(lambda: quick.call("GET", path)[1]["status"] == "saving")
    sock.close()
    wait_for(lambda: quick.call("GET", path)[1]["status"] == "queued")
    assert {path.name for path in (quick.folder / "images").rglob("*")} == kept
    assert quick.call("DELETE", path)[0] == 204


def test_bytes_beyond_the_declared_body_are_no_part_of_it(quick: Served) -> None:
    before = quick.call("GET", NETWORKS)[1]
    answer = quick.exchange(post(NETWORKS, b"Content-Length: 2", body=b'{}"network": {"name": "smuggled"}}\r\n\r\n'))
    assert answer.startswith(b"HTTP/1.1 400") and answer.endswith(b"Invalid HTTP request received."), answer
    assert quick.call("GET", NETWORKS)[1] == before


SMUGGLED = b"DELETE /networking/v2.0/networks/x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("lines", [
    (b"Content-Length: 4", b"Transfer-Encoding: chunked"), (b"Transfer-Encoding: chunked", b"Content-Length: 4"),
    (b"Content-Length: 4", b"Content-Length: 5"), (b"Content-Length: +4",), (b"Content-Length: -1",),
    (b"Content-Length: 4, 4",), (b"Content-Length: 0x4",), (b"Content-Length: 99999999999999999999",),
    (b"Transfer-Encoding: xchunked",), (b"Transfer-Encoding: chunked, identity",), (b"Transfer-Encoding: \x0bchunked",),
    (b"Transfer-Encoding : chunked",), (b"X: a\x00b",), (b"X: a\rb: c",), (b" folded: x",), (b"X y: z",), (b": x",),
], ids=repr)  # fmt: skip
def test_requests_that_two_readers_may_read_differently_are_refused(quick: Served, lines: tuple[bytes, ...]) -> None:
    answer = quick.exchange(post("/identity/v3/regions", *lines, body=b"0\r\n\r\n" + SMUGGLED))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert answer.count(b"HTTP/1.1 ") <= 1, answer


@pytest.mark.parametrize("data", [
    b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9,
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://example.org HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%ff%fe HTTP/1.1\r\nHost: \xff\r\n\r\n", b"BREW /compute HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /identity/v3/users HTTP/1.1\r\nX-Auth-Token: \xff\xfe\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"\x00" * 300,
    b"GET /compute HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET /compute HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
], ids=repr)  # fmt: skip
def test_what_is_no_request_is_refused(quick: Served, data: bytes) -> None:
    answer = quick.exchange(data)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 3", b"HTTP/1.1 200")), answer
    assert b"Traceback" not in answer


def test_noise_is_refused(quick: Served) -> None:
    noise = random.Random(7)
    for _ in range(50):
        start = noise.choice([b"", b"GET ", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"])
        answer = quick.exchange(start + noise.randbytes(noise.randrange(2000)) + b"\r\n\r\n")
        assert b" 500 " not in answer and b"Traceback" not in answer, answer
    quick.works()


@pytest.mark.parametrize("bomb", [
    b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 100_000, b"GET / HTTP/1.1\r\nX-A: " + b"b" * 8_000_000,
    b"GET /" + b"a" * 8_000_000, b"GET / HTTP/1.1\r\n" + b"a" * 8_000_000, b"A" * 8_000_000,
    post(NETWORKS, b"Transfer-Encoding: chunked", body=b"0\r\n" + b"X-A: b\r\n" * 100_000),
    post(NETWORKS, b"Transfer-Encoding: chunked", body=b"1;" + b"x" * 8_000_000),
], ids=lambda bomb: repr(bomb[-30:]))  # fmt: skip
def test_header_bombs_are_refused_before_they_are_kept(quick: Served, bomb: bytes) -> None:
    before = quick.memory()
    sock = quick.connect()
    try:
        sock.sendall(bomb)
        answer = rest_of(sock)
    except (BrokenPipeError, ConnectionResetError):
        answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert quick.memory() - before < 4 << 20
    quick.works()


def test_bodies_over_the_limit_are_refused_before_they_are_sent(quick: Served) -> None:
    sock = quick.send(post(NETWORKS, b"Content-Length: 900000000", b"Expect: 100-continue"))
    assert sock.recv(65536).startswith(b"HTTP/1.1 413")
    before = quick.memory()
    sock = quick.send(post(NETWORKS, b"Transfer-Encoding: chunked"))
    chunk = b"%x\r\n" % (1 << 16) + b" " * (1 << 16) + b"\r\n"
    for _ in range(100):
        sock.sendall(chunk)
    assert sock.recv(65536).startswith(b"HTTP/1.1 413")
    assert quick.memory() - before < 4 << 20
    zipped = post(
        NETWORKS, b"Content-Encoding: gzip", b"Content-Length: 4", b"Connection: close", body=b"\x1f\x8b\x08\x00"
    )
    assert quick.exchange(zipped).startswith(b"HTTP/1.1 4")


FORGED = {
    **dict.fromkeys(("x-user", "x-user-name", "x-roles", "x-role", "remote-user", "x-forwarded-user"), "admin"),
    **dict.fromkeys(("x-project-id", "x-tenant-id"), str(OTHER.project_id)),
    **dict.fromkeys(("openstack-system-scope", "x-system-scope"), "all"),
    **dict.fromkeys(("x-identity-status", "x-service-identity-status"), "Confirmed"),
    **dict.fromkeys(("x-forwarded-for", "x-real-ip"), "127.0.0.1"),
    "x-user-id": "a" * 32, "x-is-admin-project": "True", "x-service-roles": "service",
    "x-domain-id": "default", "x-original-url": "/identity/v3", "x-http-method-override": "DELETE",
    "x-forwarded-proto": "https", "x-forwarded-host": "evil.example", "x-forwarded-prefix": "/evil",
    "forwarded": "for=127.0.0.1;proto=https;host=evil.example",
}  # fmt: skip


def test_forged_headers_have_no_effect(quick: Served) -> None:
    assert quick.call("GET", NETWORKS, **FORGED, **{"x-auth-token": ""})[0] == 401
    assert quick.call("GET", "/identity/v3/users", **FORGED)[0] == 403
    assert quick.call("GET", NETWORKS, **FORGED, **{"x-service-token": "admin"})[0] == 401, "admin is no service"
    status, made = quick.call("POST", NETWORKS, {"network": {"name": "mine"}}, **FORGED)
    assert status == 201 and made["network"]["project_id"] == "d" * 32
    assert quick.call("GET", f"{NETWORKS}/{made['network']['id']}", **FORGED)[1]["network"]["name"] == "mine"
    links = json.dumps(quick.call("GET", "/compute", **FORGED)[1])
    assert "evil" not in links and "https" not in links and f"http://127.0.0.1:{quick.port}/compute" in links


def test_a_token_in_the_trailers_is_none(quick: Served) -> None:
    request = (b"POST /networking/v2.0/networks HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked"
               b"\r\nTrailer: X-Auth-Token\r\n\r\n0\r\nX-Auth-Token: admin\r\n\r\n")  # fmt: skip
    assert quick.exchange(request).startswith(b"HTTP/1.1 401")


def test_a_host_that_is_none_does_not_get_into_links(quick: Served) -> None:
    for host in ("evil.example/x", 'a"b', "a b", "a\\b", "[::1", "x" * 300 + "\t"):
        status, body = quick.call("GET", "/compute", host=host)
        assert "evil" not in json.dumps(body) and "localhost" in json.dumps(body), (status, body)


def test_many_requests_at_once_on_one_connection_let_others_through(quick: Served) -> None:
    one = b"GET " + NETWORKS.encode() + b" HTTP/1.1\r\n" + HEAD + b"\r\n"
    sock = quick.send(one * 2000)
    quick.works()
    sock.close()
    quick.works()


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 12_000, reason="too few files are allowed here")
def test_ten_thousand_connections_do_not_disturb_others(start: Callable[[Limits], Served]) -> None:
    allow_many_files()
    patient = start(Limits(header_seconds=60.0))
    patient.works()
    before = patient.files()
    held = [patient.connect() for _ in range(5000)]
    held += [patient.send(b"GET / HTTP/1.1\r\nX-A: ") for _ in range(5000)]
    wait_for(lambda: patient.files() >= before + 9_990)
    for _ in range(50):
        patient.works()
    assert patient.call("POST", NETWORKS, {"network": {"name": "n"}})[0] == 201
    assert patient.memory() < 250 << 20
    for sock in held:
        sock.close()
    wait_for(lambda: patient.files() <= before + 5)


def test_connections_beyond_what_a_server_can_hold_are_closed_at_once(start: Callable[[Limits], Served]) -> None:
    small = start(Limits(connections=20, header_seconds=2.0))
    held = [small.connect() for _ in range(40)]
    time.sleep(0.5)
    assert sum(ended(sock) for sock in held) == 20
    time.sleep(2.5)
    assert all(ended(sock) for sock in held)
    small.works()


def ended(sock: socket.socket) -> bool:
    """Whether the other side has closed it."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
