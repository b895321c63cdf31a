"""The cell in which programs touch what guests and users wrote: no privileges, no network, no files but those named.

bubblewrap makes the namespaces, setpriv drops to the unprivileged user before the program starts, so
that the program itself needs no privilege at all (QEMU's own `-runas` dies under its own seccomp filter).
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_SYSTEM = ("--ro-bind", "/usr", "/usr", "--dev", "/dev", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin")
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # merged /usr, as Debian 12 has it
_NEEDED = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP")


def confined(
    uid: int,
    gid: int,
    *,
    read: Sequence[Path] = (),
    write: Sequence[Path] = (),
    devices: Sequence[Path] = (),
    network: bool = False,
    status_fd: int | None = None,
    groups: Sequence[int] = (),
) -> list[str]:
    """The words before a program's own: it runs as `uid` and sees /usr and the named paths, at their own places.

    With `status_fd` the program is process 1 of its cell, and bubblewrap writes its pid ("child-pid")
    and later its exit code ("exit-code") there as lines of JSON; it then outlives who started it.
    Without, it dies with its starter.
    """
    words = ["bwrap", "--unshare-ipc", "--unshare-uts", "--unshare-pid", "--unshare-cgroup-try", "--new-session"]
    words += [] if network else ["--unshare-net"]
    words += ["--die-with-parent"] if status_fd is None else ["--as-pid-1", "--json-status-fd", str(status_fd)]
    words += _SYSTEM
    for name in _LINKS:
        if Path("/", name).is_symlink():
            words += ["--symlink", f"usr/{name}", f"/{name}"]
        elif Path("/", name).is_dir():
            words += ["--ro-bind", f"/{name}", f"/{name}"]
    for parent in sorted({parent for path in (*read, *write) for parent in path.parents[:-1]}):
        words += ["--dir", str(parent)]  # bubblewrap's own parents would be closed to the user
    for option, paths in (("--ro-bind", read), ("--bind", write), ("--dev-bind", devices)):
        for path in paths:
            words += [option, str(path), str(path)]
    kept = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    drop = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return [*words, *_NEEDED, "--", "setpriv", f"--reuid={uid}", f"--regid={gid}", *kept, *drop, "--"]


def limited(limits: Mapping[str, int]) -> list[str]:
    """Words that limit the program after them, as prlimit names limits: as, cpu, fsize, nofile … (bytes, seconds)."""
    return ["prlimit", *(f"--{name}={value}" for name, value in limits.items()), "--"]


def run_confined(prefix: Sequence[str], argv: Sequence[str], patience: float) -> tuple[int, str]:
    """Run a confined program to its end; (exit code, what it said on stderr), 124 when `patience` seconds are over."""
    try:
        done = subprocess.run(
            [*prefix, *argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, cwd="/",
            env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"still at it after {patience:.0f} s"
    return done.returncode, done.stderr.decode(errors="replace")[-2000:].strip()
