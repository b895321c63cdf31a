"""What a guest said on its serial line: the last mebibyte of it, whatever it says."""

import os
from contextlib import suppress
from pathlib import Path

KEPT = 1 << 20  # bytes, in two files of at most half each


def open_log(folder: Path) -> int:
    """A descriptor for QEMU to append to."""
    return os.open(folder / "console", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def read(folder: Path, limit: int) -> bytes:
    """The last `limit` bytes."""
    if limit <= 0:
        return b""
    return (_tail(folder / "console.old", limit) + _tail(folder / "console", limit))[-limit:]


def trim(folder: Path) -> None:
    """Turn a log that grew past its half into the old one.

    QEMU goes on writing into the same file (it appends), so what it writes between the copy and the
    cut is lost: microseconds.
    """
    for name in ("console", "log"):
        path = folder / name
        with suppress(OSError):
            if path.stat().st_size > KEPT // 2:
                draft = folder / f"{name}.part"
                draft.write_bytes(_tail(path, KEPT // 2))
                draft.rename(folder / f"{name}.old")
                os.truncate(path, 0)


def _tail(path: Path, limit: int) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit)
    return b""
