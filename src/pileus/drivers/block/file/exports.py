"""Volumes for other nodes: one nbdkit for each volume, NBD over TCP, TLS with a pre-shared key for each node.

nbdkit rather than qemu-storage-daemon, whose replies over TCP with TLS wait for delayed acknowledgements
(22 reads a second against some thousands).  A daemon outlives the agent, keeps its
port and keys when it is started again, and clients reconnect to it.
"""

import logging
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from pileus.volume.drivers import Connection

log = logging.getLogger("pileus.block")
FIRST_PORT, PORTS = 20809, 4096  # below the ports that systems give to outgoing connections
_STARTS = 5.0  # seconds that a daemon may take to listen


class Export(Struct, kw_only=True):
    """What is remembered of one exported volume."""

    volume_id: str
    path: str
    port: int
    keys: dict[str, str]  # node id → hex key
    size: int = 0  # bytes, as the daemon that runs has told its clients


class Exports:
    """The daemons of one node."""

    def __init__(self, folder: Path, listen: str, uid: int):
        self.folder, self.listen, self.uid = folder, listen, uid
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        self._lock = threading.RLock()
        self._closed = False

    def ensure(self, volume_id: str, path: Path, node: str) -> Connection:
        """A daemon that serves the volume to one more node; raises OSError when it does not start."""
        with self._lock:
            export = self._read(volume_id) or Export(
                volume_id=volume_id, path=str(path), port=self._free_port(), keys={}
            )
            if node not in export.keys:
                export.keys[node] = secrets.token_hex(32)
                self._write(export)
            self._start(export)
        return Connection(
            kind="nbd", host=self.listen, port=export.port, export=volume_id,
            tls={"identity": node, "key": export.keys[node]},
        )  # fmt: skip

    def remove(self, volume_id: str, node: str) -> None:
        """Shut one node out; its connections end with the daemon, the other nodes' clients reconnect."""
        with self._lock:
            export = self._read(volume_id)
            if export is None or export.keys.pop(node, None) is None:
                return
            self._stop(volume_id)
            if export.keys:
                self._start(export)
            else:
                self._forget(volume_id)

    def remove_all(self, volume_id: str) -> None:
        with self._lock:
            if self._read(volume_id) is not None:
                self._stop(volume_id)
                self._forget(volume_id)

    def stop_all(self) -> None:
        """End every daemon; the records stay, so that the next start serves the same again."""
        with self._lock:
            self._closed = True
            for volume_id in self.list():
                self._stop(volume_id)

    def show_size(self, volume_id: str, size: int) -> None:
        """Serve the volume's new size: clients learn it when they reconnect."""
        with self._lock:
            export = self._read(volume_id)
            if export is not None and export.size != size:
                self._stop(volume_id)
                self._start(export)

    def nodes(self, volume_id: str) -> set[str]:
        export = self._read(volume_id)
        return set(export.keys) if export else set()

    def list(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.json")}

    def restart_dead(self) -> None:
        """Start again what died by itself or with the machine."""
        for volume_id in self.list():
            with self._lock:
                export = self._read(volume_id)
                if export is not None and not self._pid(volume_id) and Path(export.path).exists():
                    log.warning("the export of volume %s had died: starting it again", volume_id)
                    with suppress(OSError):
                        self._start(export)

    def _start(self, export: Export) -> None:
        if self._closed or self._pid(export.volume_id):
            return
        for lost in self._strays(export.volume_id):  # started by an agent that died before it wrote the number down
            self._kill(export.volume_id, lost)
        self._file(export.volume_id, "pid").unlink(missing_ok=True)
        export.size = os.stat(export.path).st_size
        self._write(export)
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--no-new-privs"]
        command = [
            *(become if os.geteuid() == 0 else []), "nbdkit", "--foreground",
            f"--ipaddr={self.listen}", f"--port={export.port}", "--tls=require",
            f"--tls-psk={self._file(export.volume_id, 'psk')}", "file", export.path,
        ]  # fmt: skip
        log_path = self._file(export.volume_id, "log")
        with log_path.open("wb") as said:
            daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, close_fds=True
            )
        self._file(export.volume_id, "pid").write_text(str(daemon.pid))
        threading.Thread(target=daemon.wait, name=f"nbdkit-{export.volume_id[:8]}", daemon=True).start()
        self._await(export, daemon, log_path)

    def _await(self, export: Export, daemon: "subprocess.Popen[bytes]", log_path: Path) -> None:
        """Until it listens; raises OSError with what it said when it ended instead."""
        ends = time.monotonic() + _STARTS
        while time.monotonic() < ends:
            if daemon.poll() is not None:
                said = log_path.read_text(errors="replace")[-500:].strip()
                raise OSError(f"nbdkit ended with {daemon.returncode}: {said}")
            with suppress(OSError), socket.create_connection((self.listen, export.port), 1.0):
                return
            time.sleep(0.01)
        daemon.kill()
        raise OSError(f"nbdkit does not listen on {self.listen} port {export.port}")

    def _stop(self, volume_id: str) -> None:
        """At once: what was acknowledged is the kernel's already, and a client whose connection breaks comes
        back, while one that is told "shutting down" passes an error to its guest."""
        pid = self._pid(volume_id)
        if pid:
            self._kill(volume_id, pid)

    def _kill(self, volume_id: str, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while self._is_ours(volume_id, str(pid)):
            time.sleep(0.002)

    def _pid(self, volume_id: str) -> int:
        """The daemon's process, 0 when it does not run (another process may bear its number now)."""
        with suppress(OSError, ValueError):
            pid = int(self._file(volume_id, "pid").read_text())
            if self._is_ours(volume_id, str(pid)):
                return pid
        return 0

    def _strays(self, volume_id: str) -> Iterator[int]:
        """Daemons of this volume, looked for among all processes."""
        for name in os.listdir("/proc"):
            if name.isdigit() and self._is_ours(volume_id, name):
                yield int(name)

    def _is_ours(self, volume_id: str, pid: str) -> bool:
        """Whether a process serves this volume: the path of its keys stands in its command."""
        with suppress(OSError):
            return f"--tls-psk={self._file(volume_id, 'psk')}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    def _free_port(self) -> int:
        """A port that no export of ours has and nobody listens on."""
        taken = {export.port for volume_id in self.list() if (export := self._read(volume_id))}
        start = secrets.randbelow(PORTS)
        for i in range(PORTS):
            port = FIRST_PORT + (start + i) % PORTS
            if port in taken:
                continue
            with socket.socket(socket.AF_INET6 if ":" in self.listen else socket.AF_INET) as probe, suppress(OSError):
                probe.bind((self.listen, port))
                return port
        raise OSError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS} is free on {self.listen}")

    def _read(self, volume_id: str) -> Export | None:
        with suppress(FileNotFoundError):
            return msgspec.json.decode(self._file(volume_id, "json").read_bytes(), type=Export)
        return None

    def _write(self, export: Export) -> None:
        """The record first, then the keys that the daemon reads at each handshake."""
        _put(self._file(export.volume_id, "json"), msgspec.json.encode(export), 0)
        lines = "".join(f"{node}:{key}\n" for node, key in sorted(export.keys.items()))
        _put(self._file(export.volume_id, "psk"), lines.encode(), self.uid)

    def _forget(self, volume_id: str) -> None:
        for suffix in ("psk", "pid", "log", "json"):
            self._file(volume_id, suffix).unlink(missing_ok=True)

    def _file(self, volume_id: str, suffix: str) -> Path:
        return self.folder / f"{volume_id}.{suffix}"


def _put(path: Path, data: bytes, uid: int) -> None:
    """Replace a secret file at once; only `uid` may read it."""
    fresh = path.with_name(path.name + ".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, data)
        if os.geteuid() == 0:
            os.fchown(handle, uid, uid)
        os.fsync(handle)
    finally:
        os.close(handle)
    fresh.rename(path)
