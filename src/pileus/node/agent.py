"""The node agent: holds the drivers and the machine's privileges, and no wish of its own.

It does what controllers ask over HTTP (a unix socket on one machine, mutual TLS elsewhere), tells them
every few seconds what is, and answers guests' metadata requests by asking a controller.
"""

import contextvars
import http.client
import logging
import os
import shutil
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from pileus.compute.drivers import Broken, Hypervisor, Refused
from pileus.network.drivers import OwnSwitch
from pileus.node.fencing import Fence
from pileus.node.relay import join
from pileus.node.trust import CONTROLLER, names
from pileus.node.wire import VERBS, Stale, Tls, encode, open_connection
from pileus.volume.drivers import Block

log = logging.getLogger("pileus.agent")
BODY_LIMIT = 32 << 20
IDLE_SECONDS = 120
WATCH_SECONDS = 2.0
EFFECTS = ("ensure_", "remove_", "revert", "inject_")  # how verbs begin that change something


# For which request of a user a thread of the agent is at work; "" when none is known.
REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="")


def name_request(record: logging.LogRecord) -> bool:
    """A log filter that drops nothing: lines that a controller's call caused carry the user's request id."""
    record.request_id = REQUEST.get()
    return True


class Agent:
    """The drivers of one node behind one socket."""

    def __init__(self, hypervisor: Hypervisor, switch: OwnSwitch, block: Block, fence: Fence):
        self.drivers: Mapping[str, Any] = {"hypervisor": hypervisor, "switch": switch, "block": block}
        self.hypervisor, self.switch, self.block, self.fence = hypervisor, switch, block, fence
        self.counts: dict[str, int] = {}

    def call(self, family: str, verb: str, raw: bytes, lease: str, epoch: str) -> Any:
        """One verb for a controller; raises what the driver raises, or Stale."""
        described = VERBS.get((family, verb))
        if described is None:
            raise LookupError(f"no such verb: {family}/{verb}")
        arguments = described.arguments(raw)
        self.counts[f"{family}/{verb}"] = self.counts.get(f"{family}/{verb}", 0) + 1
        run = getattr(self.drivers[family], verb)
        if not lease:
            return run(*arguments.values())  # drivers name their arguments as they like
        if not verb.startswith(EFFECTS):
            self.fence.admit(lease, int(epoch))  # who only looks waits for nobody
            return run(*arguments.values())
        with self.fence.acting(lease, int(epoch)):
            return run(*arguments.values())


class Handler(BaseHTTPRequestHandler):
    """One connection of a controller."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: "AgentServer"

    def setup(self) -> None:
        """Over TLS, listen to a controller of this cloud only: another node's certificate is no reason to obey."""
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
            if CONTROLLER not in names(self.request.getpeercert()):
                raise PermissionError(f"{self.client_address[0]} is no controller of this cloud")
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Requests are not logged one by one; failures are, with their traceback."""

    def do_POST(self) -> None:
        """A driver verb."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            self._answer(413, {"error": "ValueError", "message": "body too large"})
            return
        raw = self.rfile.read(int(length))
        parts = self.path.strip("/").split("/")
        REQUEST.set(self.headers.get("x-request-id", ""))
        try:
            if len(parts) != 3 or parts[0] != "v1":
                raise LookupError(f"no such path: {self.path}")
            lease, epoch = self.headers.get("x-lease", ""), self.headers.get("x-epoch", "0")
            result = self.server.agent.call(parts[1], parts[2], raw, lease, epoch)
            self._answer(200, {"result": result})
        except Exception as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        for kind, name, status in _STATUS:
            if isinstance(error, kind):
                return self._answer(status, {"error": name, "message": str(error)})
        if isinstance(error, ConnectionError | TimeoutError):  # something is not ready yet: the step is tried again
            log.info("%s: %s", self.path, error)
            return self._answer(503, {"error": "NodeError", "message": str(error)})
        log.error("%s failed", self.path, exc_info=error)
        return self._answer(500, {"error": type(error).__name__, "message": f"{type(error).__name__}: {error}"})

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        data = encode(body)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        """A file to read, or a console to be joined to."""
        parts = [unquote(p) for p in self.path.strip("/").split("/")]
        agent = self.server.agent
        try:
            match parts:
                case ["v1", "copies", copy_id]:
                    self._file(agent.hypervisor.disk_copy_path(copy_id))
                case ["v1", "volumes", pool, volume_id]:
                    self._file(agent.block.volume_path(pool, volume_id))
                case ["v1", "console", guest_id, ("vnc" | "serial") as kind]:
                    self._console(agent.hypervisor.console_socket(guest_id, kind))
                case ["v1", "counts"]:
                    self._answer(200, agent.counts)
                case _:
                    raise LookupError(f"no such path: {self.path}")
        except Exception as error:
            self._refuse(error)

    def _file(self, path: str) -> None:
        with Path(path).open("rb") as file:
            self.send_response(200)
            self.send_header("content-type", "application/octet-stream")
            self.send_header("content-length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile, 1 << 18)

    def _console(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as guest:
            guest.connect(path)
            self.send_response(101)
            self.send_header("upgrade", "raw")
            self.send_header("connection", "upgrade")
            self.end_headers()
            self.wfile.flush()
            self.close_connection = True
            join(self.connection, guest)


_STATUS: tuple[tuple[type[Exception], str, int], ...] = (
    (Refused, "Refused", 422),
    (Broken, "Broken", 422),
    (Stale, "Stale", 409),
    (LookupError, "LookupError", 404),
    (msgspec.ValidationError, "ValueError", 400),
    (ValueError, "ValueError", 400),
)


class AgentServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each connection of a controller; controllers are few."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, agent: Agent, listening: socket.socket, tls: ssl.SSLContext | None = None):
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = tls.wrap_socket(listening, server_side=True, do_handshake_on_connect=False) if tls else listening
        self.agent = agent

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        request.settimeout(IDLE_SECONDS)
        return request, address or ("unix", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up or is refused ends its own connection and nothing else."""
        log.info("a connection from %s ended early", client_address, exc_info=True)


def listen_unix(path: Path, gid: int) -> socket.socket:
    """A listening socket that root and one group may use."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    os.chown(path, 0 if os.geteuid() == 0 else -1, gid if os.geteuid() == 0 else -1)
    listening.listen(256)
    return listening


class Controllers:
    """The controllers' door for nodes: reports go there, metadata comes from there."""

    def __init__(self, url: str, tls: Tls | None = None):
        self.url, self.tls = url, tls

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request; raises OSError when no controller answers."""
        connection = open_connection(self.url, 10.0, self.tls)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from None
        finally:
            connection.close()


class Reporter:
    """Tells controllers what is, at once and then every `seconds`; removes what they say is nobody's."""

    def __init__(self, agent: Agent, controllers: Controllers, identity: Mapping[str, Any], seconds: float):
        self.agent, self.controllers, self.identity, self.seconds = agent, controllers, dict(identity), seconds
        self.wake = threading.Event()
        self.stopping = False
        self.heard = False  # whether a controller has taken a report since this agent started

    def report(self) -> dict[str, Any]:
        """What this node is and has."""
        agent = self.agent
        guests = []
        for guest_id in agent.hypervisor.list_guests():
            seen = agent.hypervisor.observe_guest(guest_id)
            guests.append((guest_id, seen.power if seen else "gone"))
        return {
            **self.identity,
            "fresh": not self.heard,
            "capabilities": agent.hypervisor.capabilities(),
            "pools": agent.block.pools(),
            "guests": guests,
            "things": agent.switch.list_things(),
            "volumes": agent.block.list_things(),
        }

    def once(self) -> None:
        """Report, and remove the network things that no controller wants."""
        status, raw = self.controllers.request("POST", "/node/v1/report", encode(self.report()))
        if status != 200:
            log.warning("the report was refused: %s %s", status, raw[:500])
            return
        self.heard = True
        orphans = msgspec.json.decode(raw).get("orphans", {})
        switch = self.agent.switch
        removers: dict[str, Callable[[str], bool]] = {
            "port": switch.remove_port, "router": switch.remove_router,
            "segment": switch.remove_segment, "group": switch.remove_group,
        }  # fmt: skip
        for kind, remove in removers.items():
            for thing in orphans.get(kind, ()):
                log.warning("removing %s %s: no controller wants it", kind, thing)
                remove(thing)

    def run(self) -> None:
        """Until stopping; a controller that is away is tried again sooner."""
        while not self.stopping:
            pause = self.seconds
            try:
                self.once()
            except OSError as error:
                log.info("no controller answers: %s", error)
                pause = min(1.0, self.seconds)
            except Exception:
                log.exception("the report failed")
            self.wake.wait(pause)
            self.wake.clear()


class Watch:
    """Notices what changes by itself: guests, so that controllers hear of it within seconds; services of networks."""

    def __init__(self, agent: Agent, reporter: Reporter):
        self.agent, self.reporter = agent, reporter
        self._running: dict[str, int] = {}  # process id of each guest

    def run(self) -> None:
        """Until the reporter stops; what fails once is tried again."""
        while not self.reporter.stopping:
            for look in (self.guests, self.agent.switch.look_after):
                try:
                    look()
                except Exception:
                    log.exception("looking after the node failed")
            time.sleep(WATCH_SECONDS)

    def guests(self) -> None:
        """Compare what runs with what ran, cheaply: by process id alone."""
        now = {}
        for guest_id in self.agent.hypervisor.list_guests():
            seen = self.agent.hypervisor.observe_guest(guest_id)
            now[guest_id] = seen.pid if seen else 0
        if any(pid and not now.get(guest_id) for guest_id, pid in self._running.items()):
            self.reporter.wake.set()
        self._running = now


def serve(agent: Agent, listening: socket.socket, tls: ssl.SSLContext | None = None) -> AgentServer:
    """Start serving controllers in a thread."""
    server = AgentServer(agent, listening, tls)
    threading.Thread(target=server.serve_forever, name="agent", daemon=True).start()
    return server
