"""Two byte streams joined: a guest's screen on one side, whoever looks at it on the other.

One thread does both ways, because a TLS stream may not be read and written by two threads at once.
"""

import select
import socket
import ssl
from contextlib import suppress

CHUNK = 1 << 16
HELD = 1 << 20  # bytes kept for a side that does not read; then the other side is not read either
PARTING_SECONDS = 2.0
_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class End:
    """One side: its stream, and what still has to be written to it."""

    def __init__(self, stream: socket.socket):
        stream.setblocking(False)
        self.stream, self.waiting = stream, bytearray()

    def fileno(self) -> int:
        return self.stream.fileno()

    def read(self) -> bytes | None:
        """What has arrived; b"" when the stream ended, None when there is nothing now."""
        try:
            return self.stream.recv(CHUNK)
        except _LATER:
            return None

    def write(self) -> None:
        """Send as much as is taken."""
        with suppress(*_LATER):
            while self.waiting:
                del self.waiting[: self.stream.send(self.waiting[:CHUNK])]

    def finish(self) -> None:
        """Send the rest, but wait for no one who does not read."""
        self.stream.settimeout(PARTING_SECONDS)
        self.stream.sendall(self.waiting)

    def pending(self) -> bool:
        """Whether TLS holds bytes that the kernel does not know of."""
        return isinstance(self.stream, ssl.SSLSocket) and self.stream.pending() > 0


def join(left: socket.socket, right: socket.socket) -> None:
    """Copy bytes both ways until either side ends; both are closed then."""
    ends = (End(left), End(right))
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    with left, right, suppress(OSError):
        while True:
            reading = [end for end in ends if len(other[end].waiting) < HELD]
            at_once = [end for end in reading if end.pending()]
            ready = _arrived(reading, ends, 0 if at_once else None)
            for end in {*ready, *at_once}:
                data = end.read()
                if data == b"":
                    other[end].finish()
                    return
                other[end].waiting += data or b""
            for end in ends:
                end.write()


def _arrived(reading: list[End], ends: tuple[End, End], milliseconds: int | None) -> list[End]:
    """Sleep until something arrives or what waits can be sent; those that can be read.

    By poll, as select knows no file descriptor above 1023.
    """
    waiting = select.poll()
    for end in ends:
        if events := (select.POLLIN if end in reading else 0) | (select.POLLOUT if end.waiting else 0):
            waiting.register(end, events)
    found = dict(waiting.poll(milliseconds))
    return [end for end in reading if found.get(end.fileno(), 0) & ~select.POLLOUT]
