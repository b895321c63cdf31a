"""A process of a guest that outlives the agent: started in a cell, found again, ended for certain.

The process holds a lock on a file of its folder for as long as it lives, which tells more than a pid:
a pid may be another's by now.  bubblewrap writes the pid and the exit code beside it.
"""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

_ENDING = 10.0  # seconds until a killed process must be gone
_GOING = 1.0  # seconds between the first and the last sign of a process's end
_TELLING = 1.0  # seconds until the exit code of one that is gone must be written


class Process:
    """The one process that may run from `folder`; its argument list must contain `mark`."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark
        self._pid = 0

    def alive(self) -> bool:
        """Whether it runs (its lock is held)."""
        return _held(self.folder / "lock")

    def ends(self) -> bool:
        """Whether it is gone, or goes within a moment: its sockets are closed a little before its lock."""
        deadline = time.monotonic() + _GOING
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def pid(self) -> int:
        """Its process id, 0 when it does not run or has not begun."""
        if not self.alive():
            self._pid = 0
        elif not self._pid:
            self._pid = self._status().get("child-pid", 0)
        return self._pid

    def exit_code(self) -> int | None:
        """How it ended (128 + signal when killed); None when nobody saw it, or it runs.

        bubblewrap writes that down a moment after the end, and holds the file for so long.
        """
        deadline = time.monotonic() + _TELLING
        while not self.alive() and _held(self.folder / "status") and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._status().get("exit-code")

    def log(self) -> Path:
        """Where its complaints go."""
        return self.folder / "log"

    def complaint(self) -> str:
        """The last two lines that it said."""
        with suppress(OSError):
            lines = self.log().read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
            return " ".join(lines[-2:])[-800:]
        return ""

    def forget(self) -> None:
        """Forget how the last one ended."""
        (self.folder / "status").unlink(missing_ok=True)

    def status_fd(self) -> int:
        """A fresh file for what bubblewrap tells of the process, to be passed to `start`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "status").unlink(missing_ok=True)
        fd = os.open(self.folder / "status", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def start(self, argv: Sequence[str], status_fd: int, fds: Sequence[int] = ()) -> None:
        """Start it, with `fds` inherited; raises BlockingIOError when one runs already."""
        lock = os.open(self.folder / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self.log().open("ab") as log:
                child = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                    pass_fds=[lock, status_fd, *fds], start_new_session=True,
                )  # fmt: skip
            threading.Thread(target=child.wait, name=f"reap {child.pid}", daemon=True).start()
        finally:
            os.close(lock)
        self._pid = 0

    def kill(self) -> bool:
        """End it at once; True when it is gone."""
        deadline = time.monotonic() + _ENDING
        while self.alive():
            self._kill(self._status().get("child-pid", 0))
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _kill(self, pid: int) -> None:
        """SIGKILL to the process, unless the pid is another's by now."""
        if not pid:
            return
        with suppress(ProcessLookupError, FileNotFoundError):
            handle = os.pidfd_open(pid)
            try:
                if self.mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)

    def _status(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with suppress(OSError, msgspec.MsgspecError):
            for line in (self.folder / "status").read_bytes().splitlines():
                found |= msgspec.json.decode(line, type=dict[str, int])
        return found


def _held(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
