"""Copies of large files in the background: by reflink where the file system can, else extent by extent."""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pileus.drivers.background import Background

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_STRIDE = 16 << 20  # bytes between two looks at whether the copy is still wanted
_MOMENT = 0.05  # seconds given to a new copy: a reflink takes less and needs no second question
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
    """Copies under way, each called after the file that it makes and what it is made of."""

    def __init__(self) -> None:
        self._work: Background[bool] = Background()
        self._lock = threading.Lock()
        self._cancels: dict[Path, dict[str, threading.Event]] = {}

    def ensure(self, target: Path, origin: Path, work: Callable[[threading.Event], None]) -> bool:
        """Start `work`, or ask after it: True when it has just ended, False under way; raises what it raised."""
        name = f"{target} from {origin}"
        with self._lock:
            cancelled = self._cancels.setdefault(target, {}).setdefault(name, threading.Event())

        def whole() -> bool:
            work(cancelled)
            return True

        ends = time.monotonic() + _MOMENT
        try:
            while not self._work.ask(name, whole):
                if time.monotonic() > ends:
                    return False
                time.sleep(0.002)
        except BaseException:
            self._forget(target)
            raise
        self._forget(target)
        return True

    def _forget(self, target: Path) -> None:
        """The copy has ended: the next one is not cancelled by what cancelled this one."""
        with self._lock:
            self._cancels.pop(target, None)

    def cancel(self, target: Path) -> bool:
        """Stop what makes a file; True when nothing runs any more."""
        with self._lock:
            for name, cancelled in list(self._cancels.get(target, {}).items()):
                cancelled.set()
                if self._work.busy(name):
                    return False
                self._work.forget(name)
            self._cancels.pop(target, None)
        return True
