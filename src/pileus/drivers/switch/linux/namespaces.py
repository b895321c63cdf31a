"""Work inside network namespaces: threads that enter them, commands, sysctls, and their making and unmaking.

`inside` never changes the namespace of the caller: it uses a thread of its own that ends with the work.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

FOLDER = Path("/run/netns")
PATIENCE = 30  # seconds for one command of the system
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_libc = ctypes.CDLL(None, use_errno=True)


class SwitchError(RuntimeError):
    """The machine refused something; the text says what and why."""


def run(argv: Sequence[str], text: str = "") -> str:
    """Run a program in the namespace of the calling thread; its output, or SwitchError with its complaint."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd="/")
    if done.returncode:
        raise SwitchError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()[:2000]}")
    return done.stdout


def run_json(argv: Sequence[str]) -> list[dict[str, Any]]:
    """Run a program that prints a JSON list (nothing at all counts as an empty one)."""
    text = run(argv).strip()
    return msgspec.json.decode(text, type=list[dict[str, Any]]) if text else []


def ip(lines: Sequence[str]) -> None:
    """Apply lines of `ip`, in one process, in the namespace of the calling thread."""
    if lines:
        run(["ip", "-batch", "-"], "\n".join(lines) + "\n")


def bridge(lines: Sequence[str]) -> None:
    """Apply lines of `bridge`, in one process, in the namespace of the calling thread."""
    if lines:
        run(["bridge", "-batch", "-"], "\n".join(lines) + "\n")


def nft(text: str) -> None:
    """Apply nft commands as one transaction in the namespace of the calling thread."""
    if text:
        run(["nft", "-f", "-"], text)


def exists_here(device: str) -> bool:
    """Whether the namespace of the calling thread has this device."""
    try:
        socket.if_nametoindex(device)
    except OSError:
        return False
    return True


def sysctl(path: str, value: object) -> None:
    """Set a sysctl below /proc/sys/net of the calling thread's namespace, writing only if it differs."""
    file = Path("/proc/sys/net") / path
    if file.read_text().strip() != str(value):
        file.write_text(f"{value}\n")


def inside(netns: str, work: Callable[[], T]) -> T:
    """Call `work` in a namespace ("" is the caller's own) and give back what it returns or raises."""
    if not netns:
        return work()
    answer: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            fd = os.open(FOLDER / netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"cannot enter namespace {netns}")
            finally:
                os.close(fd)
            answer.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter, name=f"netns {netns}", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return answer[0]


def exists(netns: str) -> bool:
    """Whether a namespace of this name stands (a mount, not only a left-over file)."""
    return (FOLDER / netns).exists() and os.path.ismount(FOLDER / netns)


def ensure(netns: str) -> None:
    """Have a namespace with its loopback up, also where making it was cut short."""
    if not exists(netns):
        (FOLDER / netns).unlink(missing_ok=True)
        run(["ip", "netns", "add", netns])
    inside(netns, _raise_loopback)


def _raise_loopback() -> None:
    """Set lo up in the namespace of the calling thread (netdevice(7), ifreq: a name of 16 bytes, then the flags)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh22x", b"lo", 0)
        (flags,) = struct.unpack("16xh22x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked))
        if not flags & _IFF_UP:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def remove(netns: str) -> None:
    """Remove a namespace; no error where there is none."""
    if exists(netns):
        run(["ip", "netns", "delete", netns])
    else:
        (FOLDER / netns).unlink(missing_ok=True)


def listed(prefix: str) -> list[str]:
    """Names of namespaces that begin with `prefix`."""
    if not FOLDER.is_dir():
        return []
    return sorted(entry.name for entry in FOLDER.iterdir() if entry.name.startswith(prefix))
