"""cgroup limits of a guest's process, where this machine has usable cgroups (version 2, or 1: memory and pids).

A limit of memory well above the guest's RAM keeps a QEMU that leaks, or was taken over, from starving
its neighbours.  Where cgroups cannot be written, guests run without.
"""

from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NAME = "pileus"
_THREADS = 256


def memory_bytes(ram_mib: int) -> int:
    """What QEMU may use for a guest: its RAM, and room for devices, translated code and buffers."""
    return (ram_mib + ram_mib // 8 + 768) << 20


def limit(guest_id: str, pid: int, ram_mib: int) -> None:
    """Put a process under its guest's limits."""
    if _is_unified():
        _delegate()
    for folder, files in _folders(guest_id).items():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                value = _THREADS if file == "pids.max" else memory_bytes(ram_mib)
                (folder / file).write_text(str(value))
            (folder / "cgroup.procs").write_text(str(pid))


def unlimit(guest_id: str) -> None:
    """Remove what `limit` made; the process must be gone."""
    for folder in _folders(guest_id):
        for path in (folder, folder.parent):
            with suppress(OSError):
                path.rmdir()


def _is_unified() -> bool:
    return (_ROOT / "cgroup.controllers").exists()


def _folders(guest_id: str) -> dict[Path, tuple[str, ...]]:
    """Folders of a guest, with the limits to write in each."""
    if _is_unified():
        return {_ROOT / _NAME / guest_id: ("memory.max", "pids.max")}
    limits = {"memory": ("memory.limit_in_bytes",), "pids": ("pids.max",)}
    return {_ROOT / kind / _NAME / guest_id: files for kind, files in limits.items() if (_ROOT / kind).is_dir()}


def _delegate() -> None:
    """Version 2 limits only where every folder above says which controllers it hands down."""
    for folder in (_ROOT, _ROOT / _NAME):
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            (folder / "cgroup.subtree_control").write_text("+memory +pids")
