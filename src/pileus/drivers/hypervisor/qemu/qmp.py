"""QMP: one synchronous connection to the monitor of one QEMU (QEMU's docs/interop/qmp-spec).

A monitor serves one client at a time, so a guest has one connection, used under the guest's lock.
Events are passed over: what they tell is asked for by queries, which also work after the agent was away.
"""

import itertools
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

PATIENCE = 20.0  # seconds until an answer must have come
LONGEST = 8 << 20  # bytes of one answer; the other side may be hostile


class QmpError(ConnectionError):
    """QEMU refused a command, or does not answer as it should; `kind` is QMP's error class."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


class Qmp:
    """An open connection; raises OSError (QmpError where QEMU says why) and is then of no further use."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ids = itertools.count()
        self._waiting = b""
        try:
            self._socket.settimeout(patience)
            self._socket.connect(str(path))
            self._read()
            self.call("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def wait_at_most(self, seconds: float) -> None:
        """From now on answers must come within so many seconds."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """End the connection; the guest does not mind."""
        self._socket.close()

    def call(self, command: str, arguments: Mapping[str, Any] | None = None, fds: Sequence[int] = ()) -> Any:
        """Run one command, passing file descriptors with it, and return what it returns."""
        number = next(self._ids)
        request = {"execute": command, "arguments": arguments or {}, "id": number}
        data = msgspec.json.encode(request) + b"\n"
        if fds:
            sent = socket.send_fds(self._socket, [data], list(fds))
            data = data[sent:]
        self._socket.sendall(data)
        while True:
            answer = self._read()
            if answer.get("id") != number:
                continue
            if "error" in answer:
                error = answer["error"]
                raise QmpError(f"{command}: {error.get('desc', 'refused')}", str(error.get("class", "")))
            return answer.get("return")

    def _read(self) -> dict[str, Any]:
        """The next message: an answer, an event or the greeting."""
        while b"\n" not in self._waiting:
            if len(self._waiting) > LONGEST:
                raise QmpError("QEMU's answer has no end")
            data = self._socket.recv(1 << 16)
            if not data:
                raise QmpError("QEMU closed its monitor")
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\n")
        if not line.strip():
            return {}
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise QmpError("QEMU's answer cannot be read") from None
