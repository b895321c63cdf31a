"""FakeHypervisor: the Hypervisor Protocol in memory, for tests, simulation and benchmarks.

It keeps the promises of the contract (disks before the process, counters done once, nothing left
after remove) and can be slow, under way, or fail at any point.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from pileus.compute.drivers import (
    Broken,
    Capabilities,
    Connection,
    Ended,
    Guest,
    GuestSeen,
    ImageSource,
    LocalDisk,
    Refused,
)

LOG_BYTES = 1 << 20
ROOMY = Capabilities(
    vcpus=64, ram_mib=262_144, disk_gib=10_000, accelerator="fake", version="1.0", booted_at=1_767_225_600.0
)  # fmt: skip


def no_faults(verb: str) -> None:
    """Faults that never come."""


class FakeGuest(Struct):
    """A guest as the machine has it: its disks outlive its process."""

    seen: GuestSeen
    local: dict[str, LocalDisk] = field(default_factory=dict)
    log: bytes = b""


class FakeMachine(Struct):
    """What outlives a FakeHypervisor: files (a disk) and processes (lost by `reboot`).

    `broken` maps the id of an image to the reason why its bytes cannot be used.
    """

    guests: dict[str, FakeGuest] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    copies: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    rounds: dict[tuple[str, str], int] = field(default_factory=dict)
    starts: int = 0

    def reboot(self) -> None:
        """Lose all processes; disks, and guests suspended to disk, stay."""
        self.rounds.clear()
        for guest in self.guests.values():
            if guest.seen.power in ("on", "paused"):
                self._end(guest, "off", "lost")

    def crash(self, guest_id: str) -> None:
        """The guest's process dies by itself."""
        self._end(self.guests[guest_id], "crashed", "crash")

    def shut_down(self, guest_id: str) -> None:
        """The guest powers itself off."""
        self._end(self.guests[guest_id], "off", "guest")

    def _end(self, guest: FakeGuest, power: str, ended: Ended) -> None:
        changed = {"power": power, "ended": ended, "started_at": 0.0, "pid": 0, "resident_bytes": 0}
        guest.seen = msgspec.structs.replace(guest.seen, **changed)


class FakeHypervisor:
    """A hypervisor that runs nothing.

    `faults` is called with the verb's name before and after each effect and may raise.  `latency` is
    in seconds for each call, spent in `sleep`.  `rounds` is how often a change answers "under way"
    before it is done.
    """

    def __init__(
        self,
        machine: FakeMachine | None = None,
        capabilities: Capabilities = ROOMY,
        faults: Callable[[str], None] = no_faults,
        latency: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        rounds: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.machine = machine if machine is not None else FakeMachine()
        self.faults = faults
        self._capabilities = capabilities
        self._latency = latency
        self._sleep = sleep
        self._rounds = rounds
        self._now = now
        self._lock = threading.RLock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def ensure_image(self, image: ImageSource) -> int | None:
        self._begin("ensure_image")
        with self._lock:
            if reason := self.machine.broken.get(image.id):
                raise Broken(reason)
            if image.id not in self.machine.images:
                if self._under_way("image", image.id):
                    return None
                self.machine.images[image.id] = image.size
                self.machine.rounds.pop(("image", image.id), None)
        self.faults("ensure_image")
        return image.size

    def ensure_guest(self, guest: Guest) -> GuestSeen | None:
        self._begin("ensure_guest")
        self._refuse(guest)
        local = {disk.id: disk.source for disk in guest.disks if isinstance(disk.source, LocalDisk)}
        if any(self.ensure_image(disk.image) is None for disk in local.values() if disk.image):
            return None
        with self._lock:
            old = self.machine.guests.get(guest.id)
            _check_copies(guest, old)
            kept = {name: disk for name, disk in old.local.items() if name in guest.keep} if old else {}
            wanted = FakeGuest(seen=self._target(guest, old), local=kept | local, log=old.log if old else b"")
            if old is None or (wanted.seen, wanted.local) != (old.seen, old.local):
                if self._under_way("guest", guest.id):
                    return None
                self._become(wanted, old)
        self.faults("ensure_guest")
        return wanted.seen

    def observe_guest(self, guest_id: str) -> GuestSeen | None:
        self._begin("observe_guest")
        guest = self.machine.guests.get(guest_id)
        return guest.seen if guest else None

    def list_guests(self) -> Sequence[str]:
        with self._lock:
            return sorted(self.machine.guests)

    def remove_guest(self, guest_id: str) -> bool:
        self._begin("remove_guest")
        with self._lock:
            self.machine.guests.pop(guest_id, None)
            self.machine.rounds.pop(("guest", guest_id), None)
        self.faults("remove_guest")
        return True

    def console_log(self, guest_id: str, limit: int) -> bytes:
        guest = self.machine.guests.get(guest_id)
        return guest.log[-limit:] if guest and limit > 0 else b""

    def console_socket(self, guest_id: str, kind: str) -> str:
        guest = self.machine.guests.get(guest_id)
        if guest is None or not guest.seen.pid:
            raise LookupError(f"guest {guest_id} is off")
        return f"/nonexistent/{guest_id}/{kind}"

    def ensure_disk_copy(self, guest_id: str, disk_id: str, copy_id: str) -> int | None:
        self._begin("ensure_disk_copy")
        with self._lock:
            if copy_id not in self.machine.copies:
                guest = self.machine.guests.get(guest_id)
                if guest is None or disk_id not in {*guest.local, *guest.seen.disks}:
                    raise LookupError(f"guest {guest_id} has no disk {disk_id}")
                if self._under_way("copy", copy_id):
                    return None
                self.machine.copies[copy_id] = f"{guest_id}/{disk_id}\n".encode().ljust(1024, b"\0")
        self.faults("ensure_disk_copy")
        return len(self.machine.copies[copy_id])

    def disk_copy_path(self, copy_id: str) -> str:
        with self._lock:
            if copy_id not in self.machine.copies:
                raise LookupError(f"no copy {copy_id}")
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="fake-copies-")
            path = Path(self._folder.name) / copy_id
            path.write_bytes(self.machine.copies[copy_id])
            return str(path)

    def remove_disk_copy(self, copy_id: str) -> bool:
        self._begin("remove_disk_copy")
        with self._lock:
            self.machine.copies.pop(copy_id, None)
            self.machine.rounds.pop(("copy", copy_id), None)
            if self._folder is not None:
                (Path(self._folder.name) / copy_id).unlink(missing_ok=True)
        self.faults("remove_disk_copy")
        return True

    def list_disk_copies(self) -> Sequence[str]:
        with self._lock:
            return sorted(self.machine.copies)

    def list_image_drafts(self) -> Sequence[str]:
        return [thing_id for kind, thing_id in list(self.machine.rounds) if kind == "image"]

    def diagnostics(self, guest_id: str) -> Mapping[str, object]:
        guest = self.machine.guests.get(guest_id)
        if guest is None or not guest.seen.pid:
            raise LookupError(f"guest {guest_id} is off")
        seen = guest.seen
        return {
            "uptime": int(self._now() - seen.started_at),
            "num_cpus": seen.vcpus,
            "cpu_details": [{"id": number, "time": 0, "utilisation": None} for number in range(seen.vcpus)],
            "memory_details": {"maximum": seen.ram_mib, "used": seen.ram_mib},
            "nic_details": [{"port_id": port_id} for port_id in seen.nics],
            "disk_details": [
                {"id": disk_id, "read_bytes": 0, "read_requests": 0, "write_bytes": 0, "write_requests": 0}
                for disk_id in seen.disks
            ],
        }

    def inject_nmi(self, guest_id: str) -> None:
        self._begin("inject_nmi")
        guest = self.machine.guests.get(guest_id)
        if guest is None or guest.seen.power != "on":
            raise LookupError(f"guest {guest_id} is not running")
        guest.log += b"NMI\n"

    def _target(self, guest: Guest, old: FakeGuest | None) -> GuestSeen:
        """The guest as it will be seen when the wish is fulfilled."""
        before = old.seen if old else GuestSeen(id=guest.id, power="off")
        if guest.power == "suspended" and not (before.pid or before.power == "suspended"):
            return before  # there is no memory to save
        runs = guest.power in ("on", "paused")
        restarts = (guest.resets, guest.reboots) != (before.resets, before.reboots)
        same = before.pid and not restarts
        resumed = before.power == "suspended" and runs and not restarts
        fresh = runs and not same
        keeps_size = (runs and (same or resumed)) or guest.power == "suspended"
        return GuestSeen(
            id=guest.id,
            power=guest.power,
            ended="" if runs else (before.ended or "asked"),
            resets=guest.resets,
            reboots=guest.reboots,
            disks=tuple(disk.id for disk in guest.disks),
            nics=tuple(nic.port_id for nic in guest.nics),
            vcpus=before.vcpus if keeps_size and before.vcpus else guest.vcpus,
            ram_mib=before.ram_mib if keeps_size and before.ram_mib else guest.ram_mib,
            started_at=(self._now() if fresh else before.started_at) if runs else 0.0,
            pid=(100_000 + self.machine.starts + 1 if fresh else before.pid) if runs else 0,
            resident_bytes=guest.ram_mib << 20 if runs else 0,
        )

    def _become(self, wanted: FakeGuest, old: FakeGuest | None) -> None:
        if wanted.seen.pid and (old is None or wanted.seen.pid != old.seen.pid):
            self.machine.starts += 1
            wanted.log = (wanted.log + f"boot {self.machine.starts}\nlogin: ".encode())[-LOG_BYTES:]
        self.machine.guests[wanted.seen.id] = wanted
        self.machine.rounds.pop(("guest", wanted.seen.id), None)

    def _refuse(self, guest: Guest) -> None:
        if guest.vcpus > self._capabilities.vcpus:
            raise Refused(f"{guest.vcpus} vCPUs wanted, this node has {self._capabilities.vcpus}")
        if guest.ram_mib > self._capabilities.ram_mib:
            raise Refused(f"{guest.ram_mib} MiB of RAM wanted, this node has {self._capabilities.ram_mib}")
        for disk in guest.disks:
            if isinstance(disk.source, Connection) and not (disk.source.path or disk.source.host):
                raise Broken(f"disk {disk.id}: the connection leads nowhere")

    def _under_way(self, kind: str, thing_id: str) -> bool:
        """Count one more answer of "under way", True while some are due."""
        waited = self.machine.rounds.get((kind, thing_id), 0)
        if waited < self._rounds:
            self.machine.rounds[kind, thing_id] = waited + 1
            return True
        return False

    def _begin(self, verb: str) -> None:
        if self._latency:
            self._sleep(self._latency)
        self.faults(verb)


def _check_copies(guest: Guest, old: FakeGuest | None) -> None:
    """A disk is copied from one that is there, and that nobody writes meanwhile."""
    present = old.local if old else {}
    for disk in guest.disks:
        if not isinstance(disk.source, LocalDisk) or not disk.source.copy_of or disk.id in present:
            continue
        if disk.source.copy_of not in present:
            raise Broken(f"disk {disk.id} should be a copy of {disk.source.copy_of}, which is not there")
        if old and old.seen.pid and (guest.power, guest.resets) == ("on", old.seen.resets):
            raise ValueError(f"disk {disk.id} copies a disk of a running guest: power it off first")
