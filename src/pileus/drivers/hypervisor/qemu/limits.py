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
    if (_ROOT / "cgroup.controllers").exists():
        _delegate()
    memory = str(memory_bytes(ram_mib))
    for folder, files in _folders(guest_id).items():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            for name, value in files.items():
                (folder / name).write_text(memory if value == "memory" else value)
            (folder / "cgroup.procs").write_text(str(pid))


def unlimit(guest_id: str) -> None:
    """Remove what `limit` made; the process must be gone."""
    for folder in _folders(guest_id):
        for path in (folder, folder.parent):
            with suppress(OSError):
                path.rmdir()


def _folders(guest_id: str) -> dict[Path, dict[str, str]]:
    """Folders of a guest, with the files to write in each."""
    if (_ROOT / "cgroup.controllers").exists():
        return {_ROOT / _NAME / guest_id: {"memory.max": "memory", "pids.max": str(_THREADS)}}
    own = _own_paths()
    files = {
        "memory": {"memory.limit_in_bytes": "memory"},
        "pids": {"pids.max": str(_THREADS)},
    }
    return {
        _ROOT / controller / own[controller].lstrip("/") / _NAME / guest_id: wanted
        for controller, wanted in files.items()
        if controller in own
    }


def _delegate() -> None:
    for folder in (_ROOT, _ROOT / _NAME):
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            (folder / "cgroup.subtree_control").write_text("+memory +pids")


def _own_paths() -> dict[str, str]:
    """Controller → our own cgroup, under which guests stay."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            found |= {name: path for name in names.split(",") if (_ROOT / name).is_dir()}
    return found
