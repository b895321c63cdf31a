"""Copies of large files in the background: by reflink where the file system can, else extent by extent."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_STRIDE = 16 << 20  # bytes between two looks at whether the copy is still wanted
_NO_REFLINK = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}


class Cancelled(Exception):
    """Nobody wants the copy any more."""


def copy_file(source: Path, target: Path, size: int, cancelled: threading.Event) -> None:
    """Make `target` hold the bytes of `source` and then zeros up to `size`; holes stay holes."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if not _reflink(reading, writing):
                _copy_extents(reading, writing, cancelled)
            os.ftruncate(writing, max(size, os.fstat(reading).st_size))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _reflink(reading: int, writing: int) -> bool:
    """Share the blocks, copied on write by the file system: atomic, so a used volume is safe to copy."""
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True


def _copy_extents(reading: int, writing: int, cancelled: threading.Event) -> None:
    at, end = 0, os.fstat(reading).st_size
    while at < end:
        try:
            at = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        hole = os.lseek(reading, at, os.SEEK_HOLE)
        at = _copy_range(reading, writing, at, hole, cancelled)


def _copy_range(reading: int, writing: int, at: int, end: int, cancelled: threading.Event) -> int:
    while at < end:
        if cancelled.is_set():
            raise Cancelled
        copied = _copy_some(reading, writing, at, min(_STRIDE, end - at))
        if copied == 0:  # the source was cut meanwhile
            return end
        at += copied
    return end


def _copy_some(reading: int, writing: int, at: int, count: int) -> int:
    try:
        return os.copy_file_range(reading, writing, count, at, at)
    except OSError as error:  # two file systems that do not know each other
        if error.errno not in _NO_REFLINK:
            raise
    os.lseek(writing, at, os.SEEK_SET)
    return os.sendfile(writing, reading, at, count)


class Copies:
    """Copies under way, each called after the file that it makes and why; an end is told once."""

    def __init__(self, threads: int = 2):
        self._pool = ThreadPoolExecutor(threads, "copy")
        self._lock = threading.Lock()
        self._running: dict[tuple[Path, str], tuple[Future[None], threading.Event]] = {}

    def ensure(self, target: Path, why: str, work: Callable[[threading.Event], None]) -> bool:
        """Start `work`, or ask after it: True when it has just ended, False under way; raises what it raised."""
        key = (target, why)
        with self._lock:
            if key not in self._running:
                cancelled = threading.Event()
                self._running[key] = (self._pool.submit(work, cancelled), cancelled)
            future, _ = self._running[key]
        if not _ended(future):
            return False
        with self._lock:
            self._running.pop(key, None)
        future.result()
        return True

    def cancel(self, target: Path) -> bool:
        """Stop what makes a file; True when nothing runs any more."""
        with self._lock:
            for key in [key for key in self._running if key[0] == target]:
                future, cancelled = self._running[key]
                cancelled.set()
                if future.cancel() or future.done():
                    del self._running[key]
            return all(key[0] != target for key in self._running)


def _ended(future: "Future[None]") -> bool:
    """Whether a copy has ended, given a moment: a reflink takes milliseconds and needs no second question."""
    try:
        future.exception(timeout=0.05)
    except CancelledError:
        return True
    except TimeoutError:
        return False
    return True
