"""A relay for each disk that is reached over NBD: a qemu-storage-daemon between a guest and a far volume.

QEMU itself has no network and never sees a key: it opens a socket in its own folder.  The relay holds
the connection (TLS with a pre-shared key over TCP), waits for a far side that is away, and keeps
nothing: each acknowledged write was acknowledged by the far side, so it may be killed at any time.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec

from pileus.compute.drivers import Connection
from pileus.drivers.sandbox import confined

from .devices import RECONNECT_SECONDS
from .process import Process

_STARTING = 8.0  # seconds until it must serve


class Relay:
    """The relay of one disk of a guest; `door` is the folder that the guest's cell can see."""

    def __init__(self, folder: Path, door: Path, place: int, uid: int, gid: int) -> None:
        self.folder = folder / str(place)
        self.door = door / str(place)
        self.socket = self.door / "nbd"
        self.uid, self.gid = uid, gid
        self.process = Process(self.folder, mark=f"addr.type=unix,addr.path={self.socket}")

    def ensure(self, connection: Connection, size_bytes: int) -> str:
        """Have it serve this connection at this size; the path of its socket.

        A far volume that grew needs a fresh relay: the guest's own connection waits meanwhile.
        Raises ConnectionError when the far side cannot be opened.
        """
        wanted = msgspec.json.encode((connection, size_bytes))
        told = self.folder / "connection"
        same = told.exists() and told.read_bytes() == wanted
        if not (same and self.process.alive() and self._serves()):
            self._stop()
            told_fd = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(told_fd, "wb") as file:
                file.write(wanted)
            self._start(connection)
        return str(self.socket)

    def revive(self) -> None:
        """Start it again when it died by itself; raises OSError while the far side is away."""
        told = self.folder / "connection"
        if told.exists() and not self.process.alive():
            connection, size = msgspec.json.decode(told.read_bytes(), type=tuple[Connection, int])
            self.ensure(connection, size)

    def remove(self) -> bool:
        """End it and remove its files; True when it is gone."""
        if not self.process.kill():
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.door, ignore_errors=True)
        return True

    def _stop(self) -> None:
        if not self.process.kill():
            raise ConnectionError(f"the relay {self.socket} does not end")
        shutil.rmtree(self.door, ignore_errors=True)
        self.door.mkdir(parents=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chown(self.door, self.uid, self.gid)

    def _serves(self) -> bool:
        return (self.door / "pid").exists()  # written when all is ready to be connected to

    def _start(self, connection: Connection) -> None:
        keys = self._write_keys(connection)
        reads = [Path(connection.path).parent] if connection.path else []
        status = self.process.status_fd()
        try:
            cell = confined(
                self.uid,
                self.gid,
                read=[*reads, keys],
                write=[self.door],
                network=bool(connection.host),
                status_fd=status,
            )
            self.process.start([*cell, *self._command(connection, keys)], status)
        finally:
            os.close(status)
        deadline = time.monotonic() + _STARTING
        while not self._serves():
            if not self.process.alive() or time.monotonic() > deadline:
                self.process.kill()
                raise ConnectionError(f"the volume cannot be opened: {self.process.complaint()}")
            time.sleep(0.005)

    def _write_keys(self, connection: Connection) -> Path:
        """The key file of a TLS-PSK client, as GnuTLS's psktool writes it: identity:key in hex."""
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700, exist_ok=True)
        os.chown(keys, self.uid, self.gid)
        if connection.tls:
            file = keys / "keys.psk"
            file.unlink(missing_ok=True)
            file.touch(0o600)
            os.chown(file, self.uid, self.gid)
            file.write_text(f"{connection.tls['identity']}:{connection.tls['key']}\n")
        return keys

    def _command(self, connection: Connection, keys: Path) -> list[str]:
        words = ["qemu-storage-daemon"]
        server: dict[str, Any] = {"type": "unix", "path": connection.path}
        if connection.host:
            server = {"type": "inet", "host": connection.host, "port": str(connection.port)}
        node = {
            "driver": "nbd", "node-name": "far", "server": server, "export": connection.export,
            "reconnect-delay": RECONNECT_SECONDS, "open-timeout": 2, "read-only": connection.read_only,
            "discard": "unmap",
        }  # fmt: skip
        if connection.tls:
            identity = {"qom-type": "tls-creds-psk", "id": "tls", "dir": str(keys), "endpoint": "client"}
            words += ["--object", _json(identity | {"username": connection.tls["identity"]})]
            node["tls-creds"] = "tls"
        export = {"type": "nbd", "id": "disk", "node-name": "far", "name": "disk", "writable": not connection.read_only}
        return [
            *words, "--blockdev", _json(node), "--nbd-server", f"addr.type=unix,addr.path={self.socket}",
            "--export", _json(export), "--pidfile", str(self.door / "pid"),
        ]  # fmt: skip


def _json(options: dict[str, Any]) -> str:
    return msgspec.json.encode(options).decode()
