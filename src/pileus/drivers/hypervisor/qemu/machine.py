"""One guest: the next thing that is missing between what is and what is wished.

The stages run in order and the first that is under way ends the call; the next call looks again.
Everything that is decided is decided from the record, the files and QEMU itself, so the agent may be
killed between any two steps.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from pileus.compute.drivers import Broken, Disk, Ended, Guest, GuestSeen, LocalDisk, Power

from . import disks, limits, record
from .cell import Cell, Settings
from .command import PINNED, ports_for
from .devices import controllers, device_names, disk_name, is_remote, nic_name
from .hotplug import Hotplug
from .memory import Memory
from .qmp import PATIENCE, Qmp, QmpError
from .record import Record

log = logging.getLogger("pileus.hypervisor")
_PRESS_AGAIN = 4.0  # seconds after which a guest that was not up yet is shown the power button again
_BEYOND_HELP = ("internal-error", "guest-panicked", "shutdown")  # states of QEMU that `cont` does not leave
_KILLED = (137, 143)  # exit codes of a process that someone ended
_LOOK = 3.0  # seconds until a guest that is only looked at must have answered
_SILENCE = 15.0  # seconds for which one that did not is not asked again, since others wait to be looked at


class Absent(ConnectionError):
    """The guest's process does not answer: it is not there yet, or any more."""


class Machine:
    """A guest of this node; use it under its lock."""

    def __init__(self, guest_id: str, folder: Path, settings: Settings) -> None:
        self.id, self.folder, self.settings = guest_id, folder, settings
        self.lock = threading.RLock()
        self.cell = Cell(folder, settings)
        self.process, self.memory = self.cell.process, Memory(folder)
        self.copying: set[str] = set()  # copies that are, or were, made of its files while it is off
        self._qmp: Qmp | None = None
        self._record: Record | None = None
        self._pressed = 0.0
        self._asked_again = 0.0  # when a silent guest may be asked again

    def record(self) -> Record:
        """What is remembered; raises LookupError when nothing is."""
        if self._record is None:
            self._record = record.load(self.folder / "record")
        if self._record is None:
            raise LookupError(f"guest {self.id} is not known here")
        return self._record

    def ensure(self, wish: Guest) -> bool:
        """Do what is missing towards the wish; True when nothing is."""
        self._note(wish)
        stages = (self._stop, self._make_disks, self._start, self._power, self._plug, self._tidy)
        try:
            return all(stage(wish) for stage in stages)
        except Absent:
            return False

    def seen(self) -> GuestSeen:
        """The guest as it is; one that does not answer as it should be."""
        known = self.record()
        if not self.process.pid():
            return self._at_rest(known)
        if time.monotonic() < self._asked_again:
            return self.presumed()
        try:
            with self.talk(_LOOK) as qmp:
                power = _POWER.get(qmp.call("query-status")["status"], "paused")
                return self._shown(power, self._hotplug(qmp).attached())
        except Absent:
            return self._at_rest(known)
        except OSError:  # it is busy
            self._asked_again = time.monotonic() + _SILENCE
            return self.presumed()

    def presumed(self) -> GuestSeen:
        """The guest as it should be, when nobody can ask it; this needs no lock."""
        known = self.record()
        if not self.process.pid():
            return self._at_rest(known)
        return self._shown("on", set(device_names(known.running or known.guest)))

    def _shown(self, power: Power | Literal["crashed"], there: set[str]) -> GuestSeen:
        known = self.record()
        shown, pid = known.running or known.guest, self.process.pid()
        every = (*shown.disks, *known.guest.disks)
        return GuestSeen(
            id=self.id,
            power=power,
            resets=known.resets,
            reboots=known.reboots,
            disks=tuple(dict.fromkeys(disk.id for disk in every if disk_name(disk.id) in there)),
            nics=tuple(nic.port_id for nic in shown.nics if nic_name(nic.port_id) in there),
            vcpus=shown.vcpus,
            ram_mib=shown.ram_mib,
            started_at=known.started_at,
            pid=pid,
            resident_bytes=_resident_bytes(pid),
        )

    def go_down(self) -> bool:
        """Shut the guest down because its node goes down; it counts as lost, so that it runs again later."""
        if self.process.alive():
            self.record().why = "lost"
            return self._shut_down()
        return all(relay.remove() for relay in self.cell.relays())

    def remove(self) -> bool:
        """End it and remove everything; True when nothing is left."""
        self.hang_up()
        if not self.process.kill():
            return False
        limits.unlimit(self.id)
        done = all(relay.remove() for relay in self.cell.relays())
        with suppress(LookupError):
            for disk in self.record().guest.disks:
                self.settings.making.forget(self._work(disk))
        if done:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._record = None
        return not self.folder.exists()

    @contextmanager
    def talk(self, patience: float = PATIENCE) -> Iterator[Qmp]:
        """The connection to the monitor; closed when it broke.  Raises Absent when the guest is, or goes, off.

        `patience` is in seconds for each answer.
        """
        if not self.process.alive():
            raise Absent(f"guest {self.id} is off")
        try:
            if self._qmp is None:
                self._qmp = self._connect(patience)
            self._qmp.wait_at_most(patience)
            yield self._qmp
            self._asked_again = 0.0
        except OSError as error:
            if not (isinstance(error, QmpError) and error.kind):
                self.hang_up()
            if not isinstance(error, Absent) and self.process.ends():
                raise Absent(f"guest {self.id} went off") from error
            raise

    def _connect(self, patience: float) -> Qmp:
        try:
            return Qmp(self.cell.run / "qmp", patience)
        except (FileNotFoundError, ConnectionRefusedError):
            raise Absent(f"guest {self.id} is being started") from None

    def tend_relays(self) -> None:
        """Start relays again that died under a guest that runs, and end those that nobody needs.

        Raises OSError while a far side is away.
        """
        needed = self.process.alive()
        if not needed and self.is_copied():
            return
        for relay in self.cell.relays():
            if needed:
                relay.revive()
            else:
                relay.remove()

    def is_copied(self) -> bool:
        """Whether a copy is being made of its files, which therefore must rest."""
        return any(self.settings.copies.busy(copy_id) for copy_id in self.copying)

    def hang_up(self) -> None:
        """Close the connection to the monitor, which serves one client only."""
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None

    def disk(self, disk_id: str) -> Disk:
        """A disk of the wish or of the running guest; raises LookupError."""
        known = self.record()
        for disk in (*(known.running.disks if known.running else ()), *known.guest.disks):
            if disk.id == disk_id:
                return disk
        raise LookupError(f"guest {self.id} has no disk {disk_id}")

    def _note(self, wish: Guest) -> None:
        """Remember the wish before anything is done for it."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        try:
            known = self.record()
        except LookupError:
            known = self._record = Record(guest=wish)
        places = dict(known.places)
        known.give_places(dict.fromkeys([*self._bound(), *device_names(wish)]))
        if known.guest != wish or known.places != places:
            known.guest = wish
            self._save()

    def _bound(self) -> list[str]:
        """Names of devices whose places are taken: by a process that runs, or by a saved memory."""
        known = self.record()
        if known.running is None or not (self.process.alive() or self.memory.there()):
            return []
        return [*device_names(known.running), *known.controllers]

    def _save(self) -> None:
        record.save(self.folder / "record", self.record())

    def _stop(self, wish: Guest) -> bool:
        """End the process where the wish asks for that; True when nothing has to end (any more)."""
        known = self.record()
        if not self.process.alive():
            return True
        if wish.resets != known.resets:
            return self._end()
        if wish.power == "suspended":
            with self.talk() as qmp:
                return self.memory.save(qmp) and self._end()
        if wish.power == "off" or wish.reboots != known.reboots:
            return self._shut_down()
        return True

    def _shut_down(self) -> bool:
        """Show the guest its power button; end it when it does not react in time, or cannot."""
        known, now = self.record(), time.time()
        if not known.pressed_at:
            known.pressed_at, known.why = now, known.why or "asked"
            self._save()
        if now - known.pressed_at > self.settings.acpi_seconds:
            return self._end()
        with self.talk(_LOOK) as qmp:
            if qmp.call("query-status")["status"] != "running":
                return self._end()
            if now - self._pressed > _PRESS_AGAIN:
                self._pressed = now
                qmp.call("system_powerdown")
        return False

    def _end(self) -> bool:
        self.hang_up()
        known = self.record()
        known.why = known.why or "asked"
        self._save()
        if not self.process.kill():
            raise ConnectionError(f"guest {self.id}: its process does not end")
        limits.unlimit(self.id)
        log.info("guest %s has ended", self.id)
        return True

    def _make_disks(self, wish: Guest) -> bool:
        """Have the local disks; True when all are there."""
        folder = self.folder / "disks"
        folder.mkdir(mode=0o700, exist_ok=True)
        alive = self.process.alive()
        done = True
        for disk in wish.disks:
            if not isinstance(disk.source, LocalDisk):
                continue
            path = disks.local_path(self.folder, disk.id)
            if path.exists():
                if not alive:
                    disks.grow(path, disks.wanted_bytes(disk, disk.source))
            elif alive and disk.source.copy_of:
                raise ValueError(f"disk {disk.id} copies a disk of a running guest: power it off first")
            else:
                done = self._make_disk(disk, disk.source, path) and done
        return done

    def _make_disk(self, disk: Disk, source: LocalDisk, path: Path) -> bool:
        origin = None
        if source.copy_of:
            origin = disks.local_path(self.folder, source.copy_of)
            if not origin.exists():
                raise Broken(f"disk {disk.id} should be a copy of {source.copy_of}, which is not there")
        elif source.image:
            if self.settings.images.ensure(source.image) is None:
                return False
            origin = self.settings.images.path(source.image)
        size = disks.wanted_bytes(disk, source)
        work: Callable[[], int] = lambda: disks.make(path, size, origin)  # noqa: E731 (it is handed on)
        return self.settings.making.ask(self._work(disk), work) is not None

    def _work(self, disk: Disk) -> str:
        return f"{self.id}/{disk.id}"

    def _start(self, wish: Guest) -> bool:
        """Have a process where the guest should run."""
        if wish.power in ("off", "suspended") or self.process.alive():
            return True
        if self.is_copied():
            return False
        self.copying.clear()
        if not self.settings.boots.turn(self.id):
            return False
        known = self.record()
        restarts = (wish.resets, wish.reboots) != (known.resets, known.reboots)
        if restarts or self._ended(known) == "crash":  # a memory that QEMU could not take back is given up
            self.memory.drop()
        resumes = self.memory.there()
        if resumes and known.running is not None:
            shown = _with_sources_of(wish, known.running)
        else:
            shown, resumes = wish, False
            known.give_places(device_names(wish))
            known.machine, known.ports = PINNED[wish.machine], ports_for(known.places)
            known.controllers = controllers(wish)
        known.running, known.resets, known.reboots = shown, wish.resets, wish.reboots
        known.why, known.pressed_at, known.started_at = "", 0.0, time.time()
        self.process.forget()  # what is still missing may fail this start: then nobody saw how the guest ended
        self._save()
        self.hang_up()
        self._qmp = self.cell.start(known, shown, incoming=resumes)
        how = "resumed from disk" if resumes else "started"
        log.info(
            "guest %s is %s: process %d, %d MiB, %s", self.id, how, self.process.pid(), shown.ram_mib, known.machine
        )
        return True

    def _power(self, wish: Guest) -> bool:
        """Let the guest run, or pause it."""
        known = self.record()
        if not self.process.alive():
            if wish.power == "off":
                self.memory.drop()
                known.resets, known.reboots = wish.resets, wish.reboots
                known.why = "asked" if self._ended(known) == "crash" else known.why
                known.pressed_at = 0.0
                self._save()
            return wish.power in ("off", "suspended")
        with self.talk() as qmp:
            status = qmp.call("query-status")["status"]
            if status in _BEYOND_HELP:
                self._end()
                return False
            if status == "inmigrate":
                return self._resume(qmp, known.running or wish)
            if wish.power == "paused":
                if status == "running":
                    qmp.call("stop")
            elif status != "running":
                self.cell.seal(known.running or wish)
                self.memory.cancel(qmp)
                qmp.call("cont")
        return True

    def _resume(self, qmp: Qmp, guest: Guest) -> bool:
        """Give a fresh QEMU the saved memory (it ends when it cannot take it)."""
        if qmp.call("query-migrate").get("status", "none") == "none":
            self.cell.seal(guest)
            self.memory.load(qmp)
        return False

    def _plug(self, wish: Guest) -> bool:
        """Have the disks and cards of the wish in a running guest."""
        if not self.process.alive():
            return wish.power in ("off", "suspended")
        known = self.record()
        before = known.running
        try:
            with self.talk() as qmp:
                return self._hotplug(qmp).follow(wish)
        finally:
            if known.running != before:
                self._save()

    def _hotplug(self, qmp: Qmp) -> Hotplug:
        known = self.record()
        return Hotplug(qmp, known, self.cell.open_disk, lambda disk: self.cell.ensure_relay(disk, known))

    def _tidy(self, wish: Guest) -> bool:
        """Remove what the wish no longer has: local disks, relays, places."""
        known = self.record()
        alive = self.process.alive()
        if alive or not self.memory.there():
            kept = {disk.id for disk in wish.disks if isinstance(disk.source, LocalDisk)} | set(wish.keep)
            disks.remove_others(self.folder, kept)
        far = {known.places[disk_name(disk.id)] for disk in wish.disks if is_remote(disk)} if alive else set()
        return all(relay.remove() for relay in self.cell.relays() if int(relay.folder.name) not in far)

    def _at_rest(self, known: Record) -> GuestSeen:
        ended = self._ended(known)
        crashed: Literal["crashed", "off"] = "crashed" if ended == "crash" else "off"
        starting = self.process.alive()
        return GuestSeen(
            id=self.id,
            power="suspended" if self.memory.there() else crashed,
            ended="" if starting else "asked" if self.memory.there() else ended,
            resets=known.resets,
            reboots=known.reboots,
            disks=tuple(disk.id for disk in known.guest.disks),
            nics=tuple(nic.port_id for nic in known.guest.nics),
            vcpus=known.guest.vcpus,
            ram_mib=known.guest.ram_mib,
        )

    def _ended(self, known: Record) -> Ended:
        """Why the process is not there."""
        code = self.process.exit_code()
        if known.why or known.running is None:
            return known.why or "asked"
        if code is None or code in _KILLED or "terminating on signal" in self.process.complaint():
            return "lost"
        return "guest" if code == 0 else "crash"


_POWER: dict[str, Literal["on", "off", "paused", "suspended", "crashed"]] = {
    "running": "on", "prelaunch": "paused", "inmigrate": "suspended",
    "internal-error": "crashed", "guest-panicked": "crashed",
}  # fmt: skip


def _with_sources_of(wish: Guest, running: Guest) -> Guest:
    """The guest as it was when it was suspended, its volumes where they are now."""
    sources = {disk.id: disk.source for disk in wish.disks}
    nics = {nic.port_id: nic for nic in wish.nics}
    moved = tuple(msgspec.structs.replace(disk, source=sources.get(disk.id, disk.source)) for disk in running.disks)
    cards = tuple(nics.get(nic.port_id, nic) for nic in running.nics)
    return msgspec.structs.replace(running, disks=moved, nics=cards)


def _resident_bytes(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
