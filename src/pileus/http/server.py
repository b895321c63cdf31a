"""The HTTP server: uvicorn, with the time-outs and limits that keep one slow client from hurting others."""

import asyncio
import socket
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


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    return sock


def server(app: Any) -> uvicorn.Server:
    """A server for an ASGI application; run it with `serve` on sockets of the caller's."""
    config = uvicorn.Config(
        app,
        http=cast(Any, GuardedProtocol),
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
    return uvicorn.Server(config)
