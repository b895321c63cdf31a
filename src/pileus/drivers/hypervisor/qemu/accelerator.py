"""KVM or TCG: KVM is chosen only where a probe guest really ran under it.

/dev/kvm may be there and open, and yet no guest gets anywhere (nested virtualization that is off or
half there).  So a firmware of four instructions is run, as the same user and in the same cell as guests;
it says by an exit code that it was executed.
"""

import functools
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from pileus.drivers.sandbox import confined, run_confined

Accelerator = Literal["kvm", "tcg"]
DEVICE = Path("/dev/kvm")
NOBODY = 65534
_PATIENCE = 8.0
_PORT = 0x501
_SAID = 0x10
_EXIT_CODE = _SAID << 1 | 1  # isa-debug-exit: what was written, doubled, and one
_RESET_VECTOR = 0xFFF0  # where a processor begins, in a firmware of 64 KiB
_FIRMWARE = (  # mov dx, port; mov al, said; out dx, al; hlt
    bytes(_RESET_VECTOR) + bytes([0xBA, _PORT & 0xFF, _PORT >> 8, 0xB0, _SAID, 0xEE, 0xF4]).ljust(16, b"\0")
)
_PROBE = (
    "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-cpu", "host",
    "-m", "32", "-accel", "kvm", "-device", f"isa-debug-exit,iobase={_PORT:#x},iosize=1",
)  # fmt: skip


def kvm_groups() -> list[int]:
    """Groups that a user needs to open /dev/kvm."""
    try:
        found = DEVICE.stat()
    except OSError:
        return []
    return [found.st_gid] if found.st_mode & stat.S_IWGRP and not found.st_mode & stat.S_IWOTH else []


@functools.cache
def probe_kvm(uid: int = NOBODY) -> bool:
    """Whether a guest of this unprivileged user runs under KVM; asked once in a process's life."""
    if not DEVICE.exists():
        return False
    with tempfile.TemporaryDirectory(prefix="kvm-probe-") as folder:
        Path(folder).chmod(0o755)
        firmware = Path(folder) / "firmware"
        firmware.write_bytes(_FIRMWARE)
        firmware.chmod(0o644)
        argv = [*_PROBE, "-bios", str(firmware)]
        if os.geteuid() != 0:
            return _run_plainly(argv)
        cell = confined(uid, uid, read=[firmware], devices=[DEVICE], groups=kvm_groups())
        return run_confined(cell, argv, _PATIENCE)[0] == _EXIT_CODE


def _run_plainly(argv: list[str]) -> bool:
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return False
    return done.returncode == _EXIT_CODE


def choose(wanted: str, uid: int, note: Path) -> Accelerator:
    """The accelerator of this machine ("auto" asks the probe), noted for `pileus status`.

    A probe holds until the machine boots again or /dev/kvm changes.  Raises ValueError when KVM is
    insisted on and does not work.
    """
    if wanted == "tcg":
        found: Accelerator = "tcg"
    else:
        found = _remembered(uid, note.with_name("kvm-probe"))
        if wanted == "kvm" and found != "kvm":
            raise ValueError("accelerator = kvm, but no guest runs under KVM here; pileus doctor says more")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{found}\n")
    return found


def _remembered(uid: int, memory: Path) -> Accelerator:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    device = DEVICE.stat() if DEVICE.exists() else None
    facts = f"{boot} {(device.st_mode, device.st_uid, device.st_gid) if device else 'absent'} {uid}"
    if memory.exists() and memory.read_text().startswith(facts):
        return "kvm" if memory.read_text().endswith(" kvm\n") else "tcg"
    found: Accelerator = "kvm" if probe_kvm(uid) else "tcg"
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{facts} {found}\n")
    return found
