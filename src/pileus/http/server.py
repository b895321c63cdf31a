"""The HTTP server: uvicorn, with the time-outs and limits that keep one slow client from hurting others."""

import asyncio
import resource
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from msgspec import Struct, structs
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BACKLOG = 4096
FILES_WANTED = 65_536
FILES_KEPT = 256  # file descriptors that connections leave for everything else


class Limits(Struct, frozen=True, kw_only=True):
    """What one client may take; times in seconds, sizes in bytes."""

    header_seconds: float = 15.0  # from the first byte of a request (or the connection) to the end of its headers
    body_seconds: float = 60.0  # a body that is expected must bring `body_least` in each such span
    body_least: int = 1024
    send_seconds: float = 60.0  # for a client to take the next part of an answer
    idle_seconds: int = 60  # between requests on one connection
    headers: int = 128
    header_bytes: int = 65_536  # of request line, headers and trailers together
    connections: int = 0  # open at once; 0: as many as this process may have files


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that ends connections which do not finish what they began (slow loris, slow read).

    Whenever nothing is owed to the client, a timer runs: for the rest of the headers, for the next part of the
    body, or for the next request.
    """

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._in_head = True  # until the headers of the present request are complete
        self._head = 0  # bytes of the present request's headers as they came
        self._kept = 0  # bytes of what was read of them
        self._body = 0  # bytes of the body in the present span

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._arm(self.limits.header_seconds)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        """The time is over; a body that made its way, or that waits for us, gets another span."""
        if self._expects_body() and (self._body >= self.limits.body_least or self.flow.read_paused):
            self._body = 0
            self._arm(self.limits.body_seconds)
        else:
            self.transport.abort()

    def _expects_body(self) -> bool:
        return not self._in_head and self.cycle is not None and self.cycle.more_body

    def _is_served(self) -> bool:
        """Whether an answer is owed, so that it is not the client who lets us wait."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # it is a websocket's now
            return
        if self._in_head and self._head > self.limits.header_bytes:
            self.send_400_response("The headers are too long.")
        elif self._timer is None and self.timeout_keep_alive_task is None and not self._is_served():
            self._arm(self.limits.header_seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head, self._kept = True, 0, 0
        if self._timer is None:
            self._arm(self.limits.header_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers come too late to say anything (RFC 9110 §6.5.1)."""
        self._count(len(name) + len(value))
        if len(self.headers) >= self.limits.headers:
            raise ValueError("too many headers")  # the parser stops, and the client gets 400
        if self._in_head:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._kept += size
        if self._kept > self.limits.header_bytes:
            raise ValueError("the headers are too long")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head, self._body = False, 0
        self._arm(self.limits.body_seconds)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head = True, 0
        self._disarm()
        if not self._is_served():  # it was refused before its body had come
            self._arm(self.limits.idle_seconds)

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending = self.loop.call_later(self.limits.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_sending_timer()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """The answer is written; a client that does not take it in time loses the rest."""
        super().on_response_complete()
        if self.transport.is_closing() and self._sending is None:
            self._sending = self.loop.call_later(self.limits.send_seconds, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """The next request did not come; what the client has not taken of the last answer is dropped, too."""
        self.transport.abort()

    def _stop_sending_timer(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._stop_sending_timer()
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


def allow_many_files() -> int:
    """Raise this process's limit of open files, for itself and the processes that it starts; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= FILES_WANTED
    for limits in ((FILES_WANTED, hard if enough else FILES_WANTED), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (OSError, ValueError):  # only root may raise the hard limit, and not everywhere
            continue
        return limits[0]
    return soft


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


def server(app: Any, tls: ssl.SSLContext | None = None, limits: Limits | None = None) -> uvicorn.Server:
    """A server for an ASGI application; `serve` runs it.

    With `tls`, scope["peer_certificate"] is the client's, decoded as `ssl` does, {} when it showed none.
    Nothing is believed of what proxies say in headers (X-Forwarded-*, Forwarded).
    """
    limits = limits or Limits()
    if not limits.connections:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limits = structs.replace(limits, connections=max(files - FILES_KEPT, files // 2))
    config = uvicorn.Config(
        app,
        http=cast(Any, partial(NamedProtocol if tls else GuardedProtocol, limits=limits)),
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
        ws="websockets-sansio",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=3,
        backlog=BACKLOG,
    )
    return Server(config)
