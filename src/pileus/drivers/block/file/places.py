"""Where the files of a pool lie, and how a new one appears whole or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct

Kind = Literal["volumes", "snapshots"]
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
GIB = 1 << 30


class PoolFolder(Struct, frozen=True, kw_only=True):
    """A folder that keeps volumes, and the name by which volume types choose it."""

    folder: Path
    backend: str
    capabilities: dict[str, str] = {}  # what the operator says of it besides


class Places:
    """The paths of one pool: `volumes/ID.raw`, `snapshots/ID.raw`, and `partial/` for what is being made."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name, mode in (("volumes", 0o711), ("snapshots", 0o700), ("partial", 0o700)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name).chmod(mode)

    def path(self, kind: Kind, thing_id: str) -> Path:
        """Raises ValueError for what is no id: ids come from controllers, but become file names here."""
        if not _ID.fullmatch(thing_id):
            raise ValueError(f"{thing_id!r} is no id of a volume or snapshot")
        return self.folder / kind / f"{thing_id}.raw"

    def partial(self, final: Path) -> Path:
        """Where a thing is made, on the same file system as the place that it is renamed to."""
        return self.folder / "partial" / f"{final.parent.name}.{final.name}"

    def list(self, kind: Kind) -> Iterator[str]:
        for entry in os.scandir(self.folder / kind):
            yield entry.name.split(".")[0]

    def making(self) -> Iterator[str]:
        """Ids of the things that are being made."""
        for entry in os.scandir(self.folder / "partial"):
            yield entry.name.split(".")[1]

    def clear_partial(self) -> None:
        """What was being made when the last agent died is made again when somebody asks."""
        for entry in os.scandir(self.folder / "partial"):
            os.unlink(entry.path)


def create_empty(partial: Path, final: Path, size: int) -> None:
    """A new file of zeros: a hole of `size` bytes never shows what other files held on the same disk."""
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, size)
    finally:
        os.close(handle)
    publish(partial, final)


def publish(partial: Path, final: Path) -> None:
    """Give a finished file its name, durably."""
    sync(partial)
    rename(partial, final)


def sync(path: Path) -> None:
    """Have the bytes of a file, or the names of a folder, on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(partial: Path, final: Path) -> None:
    """Give a synced file its name, durably."""
    partial.rename(final)
    sync(final.parent)


def remove(path: Path) -> None:
    """Unlink, durably; a file that is not there is as good as removed."""
    with suppress(FileNotFoundError):
        path.unlink()
        sync(path.parent)
