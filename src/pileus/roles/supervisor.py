"""Keeps the processes of one machine: starts them, starts them again when they die, ends them all.

Everything is imported before the children are forked, so they start in milliseconds, share their
code pages, and need not read the program's files after they gave up their privileges.
"""

import ctypes
import fcntl
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

log = logging.getLogger("pileus.supervisor")
BACKOFF_MAX = 10.0
STOP_SECONDS = 10.0
ORPHAN_SECONDS = 4.0  # the API lets requests finish for 3
LOOK_SECONDS = 0.5  # whoever asks whether a supervisor lives holds its lock for an instant
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Role:
    """A process: what it runs and as whom (0: root, with all its rights)."""

    name: str
    run: Callable[[], None]
    uid: int = 0


def drop_privileges(uid: int) -> None:
    """Become an unprivileged user and group for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o077)


class AlreadyRunning(Exception):
    """Another supervisor holds this state folder."""


def take(path: Path, seconds: float = LOOK_SECONDS) -> int:
    """Hold a lock file; its descriptor.  Raises BlockingIOError when another holds it for longer than a look."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    ends = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                os.close(lock)
                raise
            time.sleep(0.02)
        else:
            return lock


def holders(path: Path) -> list[int]:
    """Processes, other than this one, that have a file open."""
    wanted, found = path.stat(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # it ended, or is not ours to look at
            if any(os.path.samestat(wanted, os.stat(fd.path)) for fd in os.scandir(entry / "fd")):
                found.append(int(entry.name))
    return found


def end_orphans(folder: Path) -> int:
    """End what a supervisor that was killed left behind, stopped processes too; the lock that they held.

    Every role inherits a lock from its supervisor, so that it is found whatever became of the others.
    """
    path = folder / "roles"
    for number, seconds in ((signal.SIGTERM, ORPHAN_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        try:
            return take(path, 0.0)
        except BlockingIOError:
            pass
        for pid in holders(path):
            log.warning("ending process %d, whose supervisor is gone", pid)
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)
        with suppress(BlockingIOError):
            return take(path, seconds)
    return take(path, 0.0)


class Supervisor:
    """The parent of the roles of one machine; it holds a lock in `folder` for as long as it lives.

    Raises AlreadyRunning when another one lives.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.roles: dict[str, Role] = {}
        try:
            self.lock = take(folder / "lock")
        except BlockingIOError:
            raise AlreadyRunning(f"another supervisor holds {folder}") from None
        self.inherited = end_orphans(folder)
        (folder / "processes.json").unlink(missing_ok=True)
        self.pids: dict[int, str] = {}
        self.deaths: dict[str, list[float]] = {}
        self.due: dict[str, float] = {}
        self.told = False  # whether processes.json says what is
        self.stopping = False

    def start(self, name: str) -> None:
        """Fork one role."""
        role, parent = self.roles[name], os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(self.lock)  # this lock is the supervisor's alone
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() != parent:
                    os._exit(1)
                if role.uid and os.geteuid() == 0:
                    drop_privileges(role.uid)
                    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # cleared by the change of user
                role.run()
                code = 0
            except KeyboardInterrupt:
                code = 0
            except BaseException:
                logging.getLogger(f"pileus.{name}").exception("%s ended", name)
            finally:
                os._exit(code)
        self.pids[pid] = name
        log.info("started %s as process %d", name, pid)
        self.write()

    def write(self) -> None:
        """Tell `pileus status` who is who; on a full disk later."""
        target = self.folder / "processes.json"
        fresh = target.with_suffix(".new")
        processes = {"supervisor": os.getpid(), **{name: pid for pid, name in self.pids.items()}}
        try:
            fresh.write_text(json.dumps(processes))
            fresh.replace(target)
        except OSError as error:
            log.warning("cannot write %s: %s", target, error)
            self.told = False
        else:
            self.told = True

    def run(self, roles: list[Role]) -> None:
        """Start all roles and keep them until a signal ends this process."""
        self.roles = {role.name: role for role in roles}

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        for name in self.roles:
            self.start(name)
        while not self.stopping:
            self._reap()
            now = time.monotonic()
            for name in [n for n, at in self.due.items() if at <= now]:
                del self.due[name]
                self.start(name)
            if not self.told:
                self.write()
            time.sleep(0.2)
        self._end()

    def _reap(self) -> None:
        """Notice children that died and plan their return, later and later when they die at once."""
        while self.pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            name = self.pids.pop(pid, "")
            if name:
                now = time.monotonic()
                self.deaths[name] = [t for t in self.deaths.get(name, []) if now - t < 60] + [now]
                pause = min(BACKOFF_MAX, 0.05 * 2 ** (len(self.deaths[name]) - 1))
                log.error("%s (process %d) ended with %s; again in %.2f s", name, pid, status, pause)
                self.due[name] = now + pause
                self.write()

    def _end(self) -> None:
        """Ask all to stop, then insist."""
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            for pid in list(self.pids):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    self.pids.pop(pid, None)
            ends = time.monotonic() + seconds
            while self.pids and time.monotonic() < ends:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                self.pids.pop(pid, None)
                if pid == 0:
                    time.sleep(0.02)
        (self.folder / "processes.json").unlink(missing_ok=True)


def alive(folder: Path) -> bool:
    """Whether a supervisor lives (its lock is held): what files say may be older than a kill or a reboot."""
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def processes(folder: Path) -> Mapping[str, int]:
    """The processes of a running supervisor, by role; empty when none runs."""
    if not alive(folder):
        return {}
    try:
        found: dict[str, int] = json.loads((folder / "processes.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
