"""One dnsmasq process: started in a namespace, reloaded or restarted when its files change, ended by name.

dnsmasq drops to `nobody` and has a session of its own, so it outlives the agent that started it; it is
found again by its pid file and the path on its command line.  What changes about hosts is one SIGHUP, except
that it is restarted for an address that another MAC has held since the start (it keeps leases only in memory
here), and when hosts that it knows have tags: it frees what is not its own when it forgets one that has a lease
(dnsmasq 2.86 to 2.90, dhcp_netid_free).
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import msgspec

from . import namespaces
from .dhcp import Served
from .namespaces import SwitchError

_STARTING = 10.0  # seconds until it must have bound its sockets
_ENDING = 3.0  # seconds that a process gets between SIGTERM and SIGKILL
_children: dict[int, "subprocess.Popen[bytes]"] = {}  # those that this process has to reap
_FILES = ("hosts", "options", "names")
_CHANGING = "changing"  # a file that stands from before the files are written until dnsmasq was told


def ensure(folder: Path, netns: str, served: Served, leased: dict[str, str]) -> None:
    """Have a dnsmasq in `netns` that serves exactly this.

    `leased` is address → MAC as the hosts have it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    tagged = "set:" in _read(folder / "hosts")
    fresh = _untold(folder) or _read(folder / "conf") != served.conf
    changed = any(_read(folder / name) != getattr(served, name) for name in _FILES)
    if fresh or changed:
        (folder / _CHANGING).touch()
    for name in (*_FILES, "conf"):
        _put(folder / name, getattr(served, name))
    pid = running(folder)
    seen = _seen(folder)
    fresh = fresh or pid is None or not _lives_in(pid, netns)
    if fresh or (changed and tagged) or any(seen.get(ip, mac) != mac for ip, mac in leased.items()):
        end(folder)
        _put(folder / "leased", msgspec.json.encode(leased).decode())
        _start(folder, netns)
    elif changed and pid is not None:
        _put(folder / "leased", msgspec.json.encode(seen | leased).decode())
        os.kill(pid, signal.SIGHUP)
    (folder / _CHANGING).unlink(missing_ok=True)


def _untold(folder: Path) -> bool:
    """Whether the files may be newer than what dnsmasq read: who wrote them was killed before it could say so."""
    return (folder / _CHANGING).exists()


def ails(folder: Path) -> bool:
    """Whether the dnsmasq of this folder does not run, or was not told of a change; cheap."""
    return running(folder) is None or _untold(folder)


def _start(folder: Path, netns: str) -> None:
    """Start it and wait for its pid file, which it writes when its sockets are bound."""
    complaint = folder / "stderr"
    argv = ["dnsmasq", "--keep-in-foreground", f"--conf-file={folder}/conf"]
    with complaint.open("wb") as stderr:
        child = namespaces.inside(
            netns,
            lambda: subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd="/", start_new_session=True
            ),
        )
    _children[child.pid] = child
    deadline = time.monotonic() + _STARTING
    while running(folder) != child.pid:
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            child.wait()
            raise SwitchError(f"dnsmasq in {netns} did not start: {complaint.read_text()[-2000:].strip()}")
        time.sleep(0.005)


def remove(folder: Path) -> None:
    """End the process and remove its files."""
    end(folder)
    shutil.rmtree(folder, ignore_errors=True)


def running(folder: Path) -> int | None:
    """The pid of the dnsmasq of this folder, or None."""
    try:
        pid = int((folder / "pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if _is_ours(pid, folder) else None


def end(folder: Path) -> None:
    """Stop every dnsmasq that was started from this folder (one, or more after a kill at a bad moment)."""
    for pid in _started_from(folder):
        _kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _ENDING
        while _is_ours(pid, folder):
            if time.monotonic() > deadline:
                _kill(pid, signal.SIGKILL)
            time.sleep(0.005)
    (folder / "pid").unlink(missing_ok=True)


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _started_from(folder: Path) -> list[int]:
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if _is_ours(pid, folder)]


def _is_ours(pid: int, folder: Path) -> bool:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:  # reaped here, so that no zombie stays
        _children.pop(pid, None)
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"--conf-file={folder}/conf".encode() in words


def _lives_in(pid: int, netns: str) -> bool:
    try:
        there, wanted = os.stat(f"/proc/{pid}/ns/net"), os.stat(namespaces.FOLDER / netns)
    except OSError:
        return False
    return there.st_ino == wanted.st_ino


def _seen(folder: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode((folder / "leased").read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        return {}


def _read(file: Path) -> str:
    """The text of a file, "" when there is none."""
    try:
        return file.read_text()
    except OSError:
        return ""


def _put(file: Path, text: str) -> bool:
    """Write a file for dnsmasq's unprivileged user; True if that changed it."""
    if file.exists() and _read(file) == text:
        return False
    draft = file.with_name(file.name + ".new")
    draft.write_text(text)
    draft.chmod(0o644)
    os.replace(draft, file)
    return True
