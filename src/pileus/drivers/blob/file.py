"""FileBlob: the bytes of images as files in one folder.

`data/NAME` holds what is whole.  An upload under way is `partial/NAME.RANDOM`, locked (flock) by the
process that writes it, so that the next start can tell one that died from one that is still running.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOLE = 1 << 16  # bytes; a run of zeros of this length is not written


class FileBlob:
    """image.drivers.Blob on a file system."""

    def __init__(self, folder: Path):
        self.data, self.partial = folder / "data", folder / "partial"
        for place in (self.data, self.partial):
            place.mkdir(parents=True, exist_ok=True)
        self._remove_stale()

    def create(self, name: str) -> "FileWriter":
        """Begin an upload; raises FileExistsError when the name is taken, ValueError for a bad name."""
        path = self._path(name)
        if path.exists():
            raise FileExistsError(name)
        return FileWriter(self.partial / f"{name}.{secrets.token_hex(8)}", path)

    def open(self, name: str) -> BinaryIO:
        try:
            return self._path(name).open("rb")
        except (FileNotFoundError, ValueError):
            raise LookupError(f"no bytes are kept under {name!r}") from None

    def size(self, name: str) -> int:
        with self.open(name) as file:
            return os.fstat(file.fileno()).st_size

    def url(self, name: str) -> str:
        return self._path(name).resolve().as_uri()

    def remove(self, name: str) -> bool:
        path = self._path(name)
        path.unlink(missing_ok=True)
        for partial in self.partial.glob(f"{name}.*"):
            partial.unlink(missing_ok=True)
        return True

    def list(self) -> Sequence[str]:
        return sorted(entry.name for entry in os.scandir(self.data))

    def read(self, name: str, offset: int, length: int, chunk: int = 1 << 18) -> Iterator[bytes]:
        """The bytes from `offset`, at most `length` of them; raises LookupError at once."""
        return _pieces(self.open(name), offset, length, chunk)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a blob")
        return self.data / name

    def _remove_stale(self) -> None:
        """Unlink the partial uploads that no living process holds."""
        for entry in os.scandir(self.partial):
            with suppress(OSError), open(entry.path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)


class FileWriter:
    """image.drivers.BlobWriter: gone without a trace unless committed."""

    def __init__(self, partial: Path, final: Path):
        self.partial, self.final = partial, final
        self._at = 0
        self._handle = _create_locked(partial)

    def write(self, data: bytes) -> None:
        """Append; long runs of zeros become holes."""
        view = memoryview(data)
        for start in range(0, len(view), _HOLE):
            piece = view[start : start + _HOLE]
            if len(piece) < _HOLE or piece != _ZEROS:
                self._write_at(piece, self._at)
            self._at += len(piece)

    def _write_at(self, piece: memoryview, at: int) -> None:
        while piece:
            written = os.pwrite(self._handle, piece, at)
            piece, at = piece[written:], at + written

    def commit(self) -> None:
        try:
            os.ftruncate(self._handle, self._at)  # the last bytes may have been zeros
            os.fsync(self._handle)
            os.link(self.partial, self.final)  # unlike a rename, this never replaces
            _sync_folder(self.final.parent)
        finally:
            self.abort()

    def abort(self) -> None:
        with suppress(FileNotFoundError):
            self.partial.unlink()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _create_locked(path: Path) -> int:
    """A new file that this process holds; made again if a start that saw it unlocked removed it."""
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)


_ZEROS = memoryview(bytes(_HOLE))


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pieces(file: BinaryIO, offset: int, length: int, chunk: int) -> Iterator[bytes]:
    with file:
        while length > 0 and (piece := os.pread(file.fileno(), min(chunk, length), offset)):
            yield piece
            offset += len(piece)
            length -= len(piece)
