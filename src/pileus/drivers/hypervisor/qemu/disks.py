"""Local disks: raw files in the guest's folder, copied from the image cache or empty, sparse, never smaller than asked.

No disk has a backing file: what a guest writes into its first bytes is never read as a format.
"""

import fcntl
import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pileus.compute.drivers import Broken, Disk, LocalDisk

_FICLONE = 0x40049409
_STEP = 64 << 20  # bytes copied between two looks at holes
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_FORMATTING = {
    "swap": ("mkswap", "--quiet"),
    "ephemeral": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"),
}  # by the first word of an empty disk's id


def checked(name: str) -> str:
    """An id that is fit to be a file's name; raises ValueError."""
    if not _SAFE.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a file")
    return name


def local_path(folder: Path, disk_id: str) -> Path:
    """Where a local disk of a guest lies."""
    return folder / "disks" / checked(disk_id)


def wanted_bytes(disk: Disk, source: LocalDisk) -> int:
    """The size that a local disk should have; 0: as large as what it is made from."""
    return disk.size_bytes or source.size_gib << 30


def make(target: Path, size: int, origin: Path | None) -> int:
    """Make a disk from another raw file, or empty, in a folder that exists; visible only when whole.  Its bytes.

    Raises Broken when it would have to be smaller than what it is made from.
    """
    draft = target.with_name(f"{uuid.uuid4()}.part")
    try:
        if origin is None:
            draft.touch(0o600)
        else:
            copy(origin, draft)
        present = draft.stat().st_size
        if size and size < present:
            raise Broken(f"disk {target.name} has {size} bytes; what it is made from needs {present}")
        os.truncate(draft, max(size, present))
        kind = target.name.split(".")[0]
        if origin is None and kind in _FORMATTING:
            _format(kind, target.name.replace(".", ""), draft)
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)
    return max(size, present)


def grow(path: Path, size: int) -> None:
    """Make a disk larger; smaller is never wanted."""
    if path.stat().st_size < size:
        os.truncate(path, size)


def copy(origin: Path, target: Path) -> int:
    """Copy a raw file: by reference where the file system can, else its data without its holes.  Its size."""
    source_fd = os.open(origin, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.ioctl(target_fd, _FICLONE, source_fd)
            except OSError:
                _copy_data(source_fd, target_fd)
            os.fsync(target_fd)
            return os.fstat(target_fd).st_size
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _copy_data(source_fd: int, target_fd: int) -> None:
    size = os.lseek(source_fd, 0, os.SEEK_END)
    os.truncate(target_fd, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source_fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        end = min(os.lseek(source_fd, at, os.SEEK_HOLE), at + _STEP)
        os.lseek(target_fd, at, os.SEEK_SET)
        while at < end:
            copied = os.sendfile(target_fd, source_fd, at, end - at)  # copy_file_range stays within a file system
            if copied == 0:
                return
            at += copied


def _format(kind: str, label: str, path: Path) -> None:
    """Swap space and ephemeral disks come ready for use (Compute API guide, "Flavors")."""
    labelled = ["-L", label[:16]]
    done = subprocess.run(
        [*_FORMATTING[kind], *labelled, path], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise Broken(f"disk {label} cannot be formatted: {done.stderr.strip()[-300:]}")


def remove_others(folder: Path, wanted: set[str]) -> None:
    """Remove local disks that nobody wants; drafts that are being made are younger than their makers' wish."""
    with suppress(FileNotFoundError):
        for path in (folder / "disks").iterdir():
            if path.name not in wanted and path.suffix != ".part":
                path.unlink(missing_ok=True)


def make_config_drive(target: Path, files: Mapping[str, bytes]) -> None:
    """An ISO 9660 labelled config-2 with Joliet and Rock Ridge names (Compute user guide, "Config drives").

    Raises ValueError for a path that leads out of it.
    """
    with tempfile.TemporaryDirectory(prefix="config-drive-", dir=target.parent) as name:
        root = Path(name)
        for path, content in files.items():
            place = root / path
            if path.startswith("/") or ".." in place.parts:
                raise ValueError(f"{path!r} is no path within a config drive")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        draft = target.with_suffix(".part")
        argv = ["genisoimage", "-quiet", "-J", "-r", "-V", "config-2", "-publisher", "Pileus", "-o", str(draft), name]
        subprocess.run(argv, capture_output=True, timeout=60, check=True)
        draft.chmod(0o600)
        draft.rename(target)
