"""The cell of one guest: what its QEMU gets into its hands, and how it is started and closed in.

QEMU runs as an unprivileged user without capabilities, in namespaces of its own, sees /usr and two
folders of sockets, and gets disks and taps as open descriptors.
"""

import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from msgspec import Struct

from pileus.compute.drivers import Broken, Connection, Disk, Guest, LocalDisk, Refused
from pileus.drivers.background import Background
from pileus.drivers.image_cache import ImageCache
from pileus.drivers.sandbox import confined

from . import accelerator, console, disks, limits
from .boots import Boots
from .command import Start, command
from .copies import Copies
from .devices import CONFIG_DRIVE, config_drive, disk_name, is_remote, read_only
from .process import Process
from .qmp import Qmp
from .record import Record
from .relay import Relay
from .taps import open_tap

_STARTING = 20.0  # seconds until a new QEMU must answer


class Settings(Struct, frozen=True, kw_only=True):
    """What all guests of a node share."""

    uid: int
    gid: int
    accelerator: accelerator.Accelerator
    images: ImageCache
    boots: Boots
    making: Background[int]
    copies: Copies
    acpi_seconds: float  # how long a guest may take to shut down when asked to


class Cell:
    """The process of one guest and the files that it is given, in the guest's folder."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.run, self.doors = folder / "run", folder / "remote"
        self.process = Process(folder, mark=f"socket,id=monitor,path={self.run}/qmp,server=on,wait=off")

    def disk_path(self, disk: Disk) -> Path:
        """The file of a disk that is one."""
        if disk.id == CONFIG_DRIVE:
            return self.folder / "config.iso"
        if isinstance(disk.source, LocalDisk):
            return disks.local_path(self.folder, disk.id)
        return Path(disk.source.path)

    def open_disk(self, disk: Disk) -> int:
        """A descriptor of a disk's file; raises OSError while it is not there."""
        flags = os.O_RDONLY if read_only(disk) else os.O_RDWR
        fd = os.open(self.disk_path(disk), flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            os.close(fd)
            raise Broken(f"disk {disk.id} is no file")
        return fd

    def relay(self, place: int) -> Relay:
        """The relay of the far disk that has this place."""
        return Relay(self.folder / "relays", self.doors, place, self.settings.uid, self.settings.gid)

    def relays(self) -> list[Relay]:
        """All relays of which there is a trace."""
        folder = self.folder / "relays"
        return [self.relay(int(path.name)) for path in folder.iterdir()] if folder.exists() else []

    def ensure_relay(self, disk: Disk, known: Record) -> str:
        """Have the relay of a far disk; the path of its socket."""
        assert isinstance(disk.source, Connection), "only volumes are far"
        return self.relay(known.places[disk_name(disk.id)]).ensure(disk.source, disk.size_bytes)

    def start(self, known: Record, guest: Guest, *, incoming: bool) -> Qmp:
        """Start QEMU, which waits for `cont`; the connection to its monitor.

        Raises Refused with what QEMU said when it does not want to start.
        """
        self._make_folders()
        if guest.config_drive is not None:
            disks.make_config_drive(self.folder / "config.iso", guest.config_drive)
        settings = self.settings
        kvm = settings.accelerator == "kvm"
        with ExitStack() as stack:

            def kept(fd: int) -> int:
                stack.callback(os.close, fd)
                return fd

            start = self._collect(known, guest, kept, incoming=incoming)
            status = kept(self.process.status_fd())
            cell = confined(
                settings.uid, settings.gid, read=[self.doors], write=[self.run], status_fd=status,
                devices=[accelerator.DEVICE] if kvm else [], groups=accelerator.kvm_groups() if kvm else [],
            )  # fmt: skip
            fds = [start.console, *start.files.values(), *start.taps.values()]
            self.process.start([*cell, *command(start)], status, fds)
        qmp = self._await_monitor()
        settings.boots.started(guest.id, self.process.pid())
        return qmp

    def seal(self, guest: Guest) -> None:
        """Before the guest's first instruction: its process may not replace its sockets, nor grow without end.

        We connect to these sockets as root; a link in their place could lead anywhere.
        """
        os.chown(self.run, os.geteuid(), os.getegid())
        self.run.chmod(0o755)
        limits.limit(guest.id, self.process.pid(), guest.ram_mib)

    def _make_folders(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir(mode=0o700)
        os.chown(self.run, self.settings.uid, self.settings.gid)
        self.doors.mkdir(mode=0o711, exist_ok=True)

    def _collect(self, known: Record, guest: Guest, kept: Callable[[int], int], *, incoming: bool) -> Start:
        """Open what the guest gets; raises OSError while something is not there."""
        extra = [config_drive(guest)] if guest.config_drive is not None else []
        near = [disk for disk in (*guest.disks, *extra) if not is_remote(disk)]
        return Start(
            guest=guest,
            machine=known.machine,
            places=known.places,
            ports=known.ports,
            controllers=known.controllers,
            accelerator=self.settings.accelerator,
            run=self.run,
            console=kept(console.open_log(self.folder)),
            files={disk_name(disk.id): kept(self.open_disk(disk)) for disk in near},
            relays={disk_name(disk.id): self.ensure_relay(disk, known) for disk in guest.disks if is_remote(disk)},
            taps={nic.port_id: kept(open_tap(nic.netns, nic.device)) for nic in guest.nics},
            incoming=incoming,
        )

    def _await_monitor(self) -> Qmp:
        deadline = time.monotonic() + _STARTING
        while True:
            with suppress(FileNotFoundError, ConnectionError):
                return Qmp(self.run / "qmp")
            if not self.process.alive():
                complaint = self.process.complaint()
                if '" lock' in complaint:  # another process still has the disk
                    raise ConnectionError(complaint)
                raise Refused(f"QEMU did not start: {complaint}")
            if time.monotonic() > deadline:
                self.process.kill()
                raise ConnectionError(f"QEMU did not answer within {_STARTING:.0f} s")
            time.sleep(0.01)
