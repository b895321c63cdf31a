"""QemuHypervisor: the Hypervisor Protocol with QEMU, one process a guest, each in a cell of its own.

Guests outlive the agent: a new driver on the same folder finds them by their locks.
"""

import logging
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from pileus.compute.drivers import Broken, Capabilities, Guest, GuestSeen, ImageSource, Refused
from pileus.drivers.background import Background
from pileus.drivers.image_cache import ImageCache

from . import accelerator, console
from .boots import Boots, cpu_seconds
from .cell import Settings
from .command import check_path
from .copies import Copies
from .devices import disk_name, is_remote, node_name
from .machine import Machine

log = logging.getLogger("pileus.hypervisor")
_LOOK = 3.0  # seconds for which a look waits for whoever is at work on the guest
MOST_VCPUS = 255  # of the pinned machine types without an interrupt remapper
_TRAITS = (
    "COMPUTE_DEVICE_TAGGING", "COMPUTE_GRAPHICS_MODEL_VGA", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG", "COMPUTE_NET_VIF_MODEL_VIRTIO",
    "COMPUTE_NODE", "COMPUTE_RESCUE_BFV", "COMPUTE_STORAGE_BUS_IDE", "COMPUTE_STORAGE_BUS_SCSI",
    "COMPUTE_STORAGE_BUS_USB", "COMPUTE_STORAGE_BUS_VIRTIO", "COMPUTE_VOLUME_ATTACH_WITH_TAG",
    "COMPUTE_VOLUME_EXTEND", "COMPUTE_VOLUME_MULTI_ATTACH",
)  # fmt: skip


class QemuHypervisor:
    """Guests in `folder`, run as an unprivileged user.

    `accelerator` is auto, kvm or tcg (see accelerator.choose; the choice is noted beside `folder`).
    `acpi_seconds` is how long a guest may take to shut down before it is ended.  `boots_at_once` bounds
    how many guests boot at a time (see boots).  Raises ValueError for a folder whose path is too long.
    """

    def __init__(
        self,
        folder: Path,
        *,
        uid: int,
        gid: int,
        images: ImageCache,
        accelerator: str = "auto",
        acpi_seconds: float = 30.0,
        boots_at_once: int = 0,
        housekeeping_seconds: float = 1.0,
    ) -> None:
        check_path(folder)
        self.folder, self.images = folder, images
        self._guests = folder / "guests"
        self._guests.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.chmod(0o711)
        self.copies = Copies(folder / "copies")
        self.accelerator = _choose(accelerator, uid, folder)
        self.settings = Settings(
            uid=uid, gid=gid, accelerator=self.accelerator, images=images, making=Background(), copies=self.copies,
            boots=Boots(boots_at_once or _boots_at_once(self.accelerator)), acpi_seconds=acpi_seconds,
        )  # fmt: skip
        self._machines: dict[str, Machine] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._version = _version()
        for draft in self._guests.glob("*/disks/*.part"):
            draft.unlink(missing_ok=True)
        keeper = threading.Thread(
            target=self._keep_house, args=(housekeeping_seconds,), name="housekeeping", daemon=True
        )
        keeper.start()

    def close(self) -> None:
        """Let go of all guests, which run on."""
        self._over.set()
        with self._lock:
            for machine in self._machines.values():
                with machine.lock:
                    machine.hang_up()
            self._machines.clear()

    def go_down(self, seconds: float) -> None:
        """Shut all guests down before the node goes down, and end those that run after `seconds`."""
        self.settings = msgspec.structs.replace(self.settings, acpi_seconds=seconds)
        machines = [self._machine(guest_id) for guest_id in self.list_guests()]
        deadline = time.monotonic() + seconds + 5.0
        while machines and time.monotonic() < deadline:
            machines = [machine for machine in machines if not _went_down(machine, self.settings)]
            time.sleep(0.1)
        for machine in machines:  # their QEMU does not answer
            with machine.lock:
                machine.process.kill()

    def capabilities(self) -> Capabilities:
        return Capabilities(
            vcpus=os.cpu_count() or 1,
            ram_mib=_ram_mib(),
            disk_gib=shutil.disk_usage(self.folder).total >> 30,
            accelerator=self.accelerator,
            traits=_TRAITS,
            version=self._version,
            booted_at=_booted_at(),
        )

    def ensure_image(self, image: ImageSource) -> int | None:
        return self.images.ensure(image)

    def ensure_guest(self, guest: Guest) -> GuestSeen | None:
        _refuse(guest)
        machine = self._machine(guest.id)
        with machine.lock:
            done = machine.ensure(guest)
            return machine.seen() if done else None

    def observe_guest(self, guest_id: str) -> GuestSeen | None:
        machine = self._machine(guest_id)
        if not machine.folder.exists():
            return None
        mine = machine.lock.acquire(timeout=_LOOK)  # whoever has it may be waiting for a QEMU that is stuck
        try:
            return machine.seen() if mine else machine.presumed()
        except LookupError:  # killed before its first note, or while it was removed
            return GuestSeen(id=guest_id, power="off", ended="lost") if machine.folder.exists() else None
        finally:
            if mine:
                machine.lock.release()

    def list_guests(self) -> Sequence[str]:
        return sorted(path.name for path in self._guests.iterdir())

    def remove_guest(self, guest_id: str) -> bool:
        machine = self._machine(guest_id)
        with machine.lock:
            gone = machine.remove()
        if gone:
            with self._lock:
                self._machines.pop(guest_id, None)
        return gone

    def console_log(self, guest_id: str, limit: int) -> bytes:
        return console.read(self._machine(guest_id).folder, limit)

    def console_socket(self, guest_id: str, kind: str) -> str:
        machine = self._machine(guest_id)
        if kind not in ("vnc", "serial") or not machine.process.pid():
            raise LookupError(f"guest {guest_id} is off")
        return str(machine.cell.run / kind)

    def ensure_disk_copy(self, guest_id: str, disk_id: str, copy_id: str) -> int | None:
        finished = self.copies.finished(copy_id)
        if finished is not None:
            return finished
        machine = self._machine(guest_id)
        with machine.lock:
            disk = machine.disk(disk_id)
            if machine.process.alive():
                node = node_name(machine.record().places.get(disk_name(disk_id), 0))
                with machine.talk() as qmp:
                    return self.copies.from_guest(qmp, node, copy_id)
            machine.copying.add(copy_id)
            if is_remote(disk):
                relay = partial(machine.cell.ensure_relay, disk, machine.record())
                return self.copies.from_relay(relay, copy_id, self.settings.uid, self.settings.gid)
            return self.copies.from_file(machine.cell.disk_path(disk), copy_id)

    def disk_copy_path(self, copy_id: str) -> str:
        if self.copies.finished(copy_id) is None:
            raise LookupError(f"no copy {copy_id}")
        return str(self.copies.path(copy_id))

    def remove_disk_copy(self, copy_id: str) -> bool:
        for guest_id in self.list_guests():
            machine = self._machine(guest_id)
            with machine.lock, suppress(ConnectionError):
                if machine.process.alive():
                    with machine.talk() as qmp:
                        self.copies.end_job(qmp, copy_id)
        return self.copies.remove(copy_id)

    def list_disk_copies(self) -> Sequence[str]:
        return self.copies.list()

    def list_image_drafts(self) -> Sequence[str]:
        return self.images.drafts()

    def diagnostics(self, guest_id: str) -> Mapping[str, object]:
        machine = self._machine(guest_id)
        with machine.lock:
            seen, known = machine.seen(), machine.record()
            if not seen.pid or known.running is None:
                raise LookupError(f"guest {guest_id} is off")
            with machine.talk() as qmp:
                blocks = qmp.call("query-blockstats")
                actual = qmp.call("query-balloon")["actual"] >> 20
        share = int(cpu_seconds(seen.pid) * 1e9) // max(1, seen.vcpus)
        return {
            "uptime": int(time.time() - seen.started_at),
            "num_cpus": seen.vcpus,
            "cpu_details": [{"id": number, "time": share, "utilisation": None} for number in range(seen.vcpus)],
            "memory_details": {"maximum": seen.ram_mib, "used": actual},
            "nic_details": [{"port_id": nic.port_id, "mac_address": nic.mac} for nic in known.running.nics],
            "disk_details": _disk_details(blocks),
        }

    def inject_nmi(self, guest_id: str) -> None:
        machine = self._machine(guest_id)
        if not machine.process.pid():
            raise LookupError(f"guest {guest_id} is not running")
        with machine.lock, machine.talk() as qmp:
            qmp.call("inject-nmi")

    def _machine(self, guest_id: str) -> Machine:
        """The one object of a guest; raises ValueError unless the id is a UUID as we write it (it becomes a path)."""
        checked = str(uuid.UUID(guest_id))
        if checked != guest_id:
            raise ValueError(f"{guest_id!r} is not the id of a guest")
        with self._lock:
            if checked not in self._machines:
                self._machines[checked] = Machine(checked, self._guests / checked, self.settings)
            return self._machines[checked]

    def _keep_house(self, seconds: float) -> None:
        """Bound the logs of guests and look after their relays every second; prune the image cache every hour."""
        pruned = time.monotonic()
        while not self._over.wait(seconds):
            for path in self._guests.iterdir():
                console.trim(path)
                if (path / "relays").exists():
                    self._tend_relays(path.name)
            if time.monotonic() - pruned > 3600:
                pruned = time.monotonic()
                with suppress(OSError):
                    self.images.prune()

    def _tend_relays(self, guest_id: str) -> None:
        machine = self._machine(guest_id)
        if machine.lock.acquire(blocking=False):  # who holds it looks after the relays
            try:
                for relay in machine.cell.relays():
                    console.trim(relay.folder)
                machine.tend_relays()
            except OSError as error:
                log.info("guest %s waits for a volume: %s", guest_id, error)
            finally:
                machine.lock.release()


def _went_down(machine: Machine, settings: Settings) -> bool:
    with machine.lock, suppress(OSError, LookupError):
        machine.settings = settings
        return machine.go_down()
    return False


def _choose(wanted: str, uid: int, folder: Path) -> accelerator.Accelerator:
    return accelerator.choose(wanted, uid, folder.parent / "accelerator")


def _refuse(guest: Guest) -> None:
    """What no QEMU of this machine can run; placement knows the rest."""
    if guest.vcpus > MOST_VCPUS:
        raise Refused(f"{guest.vcpus} vCPUs; a guest has at most {MOST_VCPUS}")
    if guest.ram_mib > _ram_mib():
        raise Refused(f"{guest.ram_mib} MiB of RAM; this node has {_ram_mib()}")
    for disk in guest.disks:
        if disk.bus == "ide" and guest.machine == "pc" and sum(d.bus == "ide" for d in guest.disks) > 3:
            raise Broken("a pc machine has room for three IDE disks beside the config drive")


def _boots_at_once(chosen: str) -> int:
    processors = os.cpu_count() or 1
    return max(2, processors) if chosen == "tcg" else 8 * processors


def _booted_at() -> float:
    """When this machine started, seconds since the epoch (proc_stat(5))."""
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime ")))


def _ram_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _version() -> str:
    """QEMU's version, as it tells it."""
    try:
        said = subprocess.run(
            ["qemu-system-x86_64", "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.split("version", 1)[-1].split()[0]


def _disk_details(blocks: list[dict[str, object]]) -> list[dict[str, object]]:
    """Counters of each disk, under the ids that the wish has (Compute API reference, server diagnostics)."""
    details: list[dict[str, object]] = []
    for block in blocks:
        name, stats = str(block.get("qdev", "")), block.get("stats")
        device = next((part for part in name.split("/") if part.startswith("disk-")), "")
        if device and isinstance(stats, dict):
            details.append(
                {
                    "id": device.removeprefix("disk-"),
                    "read_bytes": stats["rd_bytes"],
                    "read_requests": stats["rd_operations"],
                    "write_bytes": stats["wr_bytes"],
                    "write_requests": stats["wr_operations"],
                }
            )
    return details
