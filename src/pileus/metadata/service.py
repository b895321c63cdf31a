"""The metadata service on a node: listens in each network's own namespace and asks a controller for the answer.

Who asks is known by the network's namespace and the source address, which anti-spoofing guarantees; no
header of the guest's is believed (CVE-2013-6419 and its like).
"""

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import quote

Ask = Callable[[str, str, bytes], tuple[int, bytes]]  # (method, path, body) → (status, body)
log = logging.getLogger("pileus.metadata")
BODY_LIMIT = 4096  # the only thing that guests send is a password, encrypted (RSA, at most 512 bytes)


class Handler(BaseHTTPRequestHandler):
    """One request of a guest."""

    protocol_version = "HTTP/1.1"
    timeout = 10
    server: "NetworkServer"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Guests' requests are not logged one by one."""

    def do_GET(self) -> None:
        """Ask the controller on behalf of the guest with this address."""
        self._forward("GET", b"")

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self._forward("GET", b"")

    def do_POST(self) -> None:
        """The guest's encrypted password (Compute API, os-server-password)."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            self._answer(413, b"")
            return
        self._forward("POST", self.rfile.read(int(length)))

    def _forward(self, method: str, body: bytes) -> None:
        address = self.client_address[0].partition("%")[0].removeprefix("::ffff:")
        path = self.path.partition("?")[0]
        where = f"/node/v1/metadata/{self.server.network_id}/{quote(address)}/{quote(path.lstrip('/'), safe='/')}"
        try:
            status, data = self.server.ask(method, where, body)
        except OSError as error:
            log.warning("no controller for metadata: %s", error)
            status, data = 503, b"the metadata service cannot reach a controller; try again\n"
        self._answer(status, data)

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        kind = "application/json" if data[:1] in (b"{", b"[") else "text/plain; charset=UTF-8"
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class NetworkServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The service of one network."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, network_id: str, listening: socket.socket, ask: Ask):
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.network_id, self.ask = network_id, ask

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A guest that hangs up is no error."""
        log.debug("a guest's request ended early", exc_info=True)


class MetadataService:
    """One server for each network that this node serves, following what the switch has.

    `home` tells the namespace of a network from one that is made anew under the same name: a socket in the
    old one hears nothing more.
    """

    def __init__(
        self, segments: Callable[[], Sequence[str]], open_socket: Callable[[str], socket.socket], ask: Ask,
        home: Callable[[str], int] = lambda network_id: 0,
    ):  # fmt: skip
        self.segments, self.open_socket, self.ask, self.home = segments, open_socket, ask, home
        self.servers: dict[str, tuple[int, NetworkServer]] = {}

    def follow(self) -> None:
        """Start servers for networks that are new or made anew, stop those of networks that went."""
        there = {network_id: self.home(network_id) for network_id in self.segments()}
        for network_id, (home, server) in list(self.servers.items()):
            if there.get(network_id) != home:
                del self.servers[network_id]
                self._stop(server)
        for network_id in there.keys() - self.servers.keys():
            try:
                listening = self.open_socket(network_id)
            except (LookupError, OSError):
                continue  # not served here, or its namespace is not ready yet
            server = NetworkServer(network_id, listening, self.ask)
            threading.Thread(target=server.serve_forever, name=f"metadata-{network_id[:8]}", daemon=True).start()
            self.servers[network_id] = (there[network_id], server)

    @staticmethod
    def _stop(server: NetworkServer) -> None:
        server.shutdown()
        server.server_close()  # an open socket would keep the namespace alive

    def run(self, stopping: threading.Event) -> None:
        """Follow the switch until stopping."""
        while not stopping.wait(0.5):
            try:
                self.follow()
            except Exception:
                log.exception("cannot follow the networks")
