"""The HTTP server: uvicorn, with the time-outs and limits that keep one slow client from hurting others."""

import asyncio
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 15.0  # from the first byte of a request (or the connection) to the end of its headers
BODY_SECONDS = 60.0  # without a single byte of a body that is still expected
IDLE_SECONDS = 60  # between requests on one connection
MAX_HEADERS = 128
BACKLOG = 4096


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that ends connections which do not finish what they began (slow loris)."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._arm(HEADER_SECONDS)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._timer is not None and self.cycle is not None and getattr(self.cycle, "more_body", False):
            self._arm(BODY_SECONDS)
        elif self._timer is None:
            self._arm(HEADER_SECONDS)
        super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            self.send_400_response("Too many headers.")
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._arm(BODY_SECONDS)

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)


class NamedProtocol(GuardedProtocol):
    """GuardedProtocol that tells the application by which certificate a client came."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._certificate = transport.get_extra_info("peercert") or {}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["peer_certificate"] = self._certificate


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    return sock


class Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it, since several share one process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(servers: Mapping[uvicorn.Server, Sequence[socket.socket]]) -> None:
    """Run servers, each on its sockets, until SIGTERM or SIGINT ends them all."""

    def stop() -> None:
        for one in servers:
            one.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.gather(*(one.serve(sockets=list(sockets)) for one, sockets in servers.items()))


def server(app: Any, tls: ssl.SSLContext | None = None) -> uvicorn.Server:
    """A server for an ASGI application; `serve` runs it.

    With `tls`, scope["peer_certificate"] is the client's, decoded as `ssl` does, {} when it showed none.
    """
    config = uvicorn.Config(
        app,
        http=cast(Any, NamedProtocol if tls else GuardedProtocol),
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
        ws="websockets-sansio",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=3,
        backlog=BACKLOG,
    )
    return Server(config)
