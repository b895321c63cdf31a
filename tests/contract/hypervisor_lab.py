"""Machines on which hypervisors of a kind start and end, for the contract suite and the suite of QEMU itself."""

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from pileus.compute.drivers import Connection, Disk, Guest, Hypervisor, ImageSource, LocalDisk, Nic
from pileus.drivers.hypervisor.fake import FakeHypervisor, FakeMachine
from pileus.drivers.hypervisor.qemu import QemuHypervisor
from pileus.drivers.image_cache import ImageCache

T = TypeVar("T")
UID = 62002
MIB = 1 << 20
ACPI_SECONDS = 0.3
REAL_GUEST = Path(__file__).parents[2] / ".cache" / "guest" / "disk.qcow2"


def until(ask: Callable[[], T | None], seconds: float = 30.0) -> T:
    """Ask until the answer is not "under way" (a driver's None, or a removal's False)."""
    deadline = time.monotonic() + seconds
    while (answer := ask()) is None or answer is False:
        assert time.monotonic() < deadline, "still under way"
        time.sleep(0.01)
    return answer


def new_id() -> str:
    return str(uuid.uuid4())


def local(disk_id: str, **facts: object) -> Disk:
    return Disk(id=disk_id, source=LocalDisk(**({"size_gib": 1} | facts)))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def guest(*disks: Disk, nics: tuple[Nic, ...] = (), **facts: object) -> Guest:
    """A small guest; without a system on its disk it stays in its firmware and uses next to nothing."""
    known: dict[str, object] = {"id": new_id(), "name": "one", "vcpus": 1, "ram_mib": 32}
    return Guest(disks=disks or (local("root.0"),), nics=nics, **(known | facts))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def image_of(path: Path, form: str = "raw") -> ImageSource:
    data = path.read_bytes()
    digest = hashlib.sha512(data).hexdigest()
    return ImageSource(id=new_id(), format=form, size=len(data), sha512=digest, url=f"file://{path}")  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


class Bench(Protocol):
    """One machine on which agents come and go."""

    folder: Path

    def hypervisor(self) -> Hypervisor:
        """A new agent's driver; the one before is gone."""

    def reboot(self) -> None: ...
    def crash(self, guest_id: str) -> None: ...
    def nic(self) -> Nic: ...
    def traces(self) -> object: ...
    def close(self) -> None: ...


class FakeBench:
    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.folder = Path(tempfile.mkdtemp(prefix="phv-"))

    def hypervisor(self) -> FakeHypervisor:
        return FakeHypervisor(self.machine)

    def reboot(self) -> None:
        self.machine.reboot()

    def crash(self, guest_id: str) -> None:
        self.machine.crash(guest_id)

    def nic(self) -> Nic:
        return Nic(port_id=new_id(), mac="fa:16:3e:00:00:01", device="tap0", netns="", mtu=1450)

    def traces(self) -> object:
        return sorted(self.machine.guests), sorted(self.machine.copies)

    def close(self) -> None:
        shutil.rmtree(self.folder)


class QemuBench:
    """QEMU under TCG in a folder with a short path (unix sockets), and a network namespace for taps."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="phv-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.netns = ""
        self.driver: QemuHypervisor | None = None

    def hypervisor(self) -> QemuHypervisor:
        self.leave()
        self.driver = qemu(self.folder)
        return self.driver

    def leave(self) -> None:
        if self.driver is not None:
            self.driver.close()
            self.driver = None

    def pids(self) -> list[int]:
        """Programs of guests and relays of this bench, not the cells' keepers."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if words.startswith(b"qemu-") and str(self.folder).encode() in words:
                    found.append(int(entry.name))
        return found

    def reboot(self) -> None:
        self.leave()
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not self.pids())

    def crash(self, guest_id: str) -> None:
        assert self.driver is not None
        seen = self.driver.observe_guest(guest_id)
        assert seen is not None
        machine = self.driver._machine(guest_id)
        overwrite_code(seen.pid, "libc.so.6")
        with suppress(OSError), machine.talk() as qmp:
            qmp.call("query-status")
        until(lambda: not machine.process.alive())

    def nic(self) -> Nic:
        if not self.netns:
            self.netns = f"phv{os.getpid() % 100000}"
            subprocess.run(["ip", "netns", "add", self.netns], check=True)
        device = f"tap{uuid.uuid4().hex[:8]}"
        ip = ["ip", "-n", self.netns]
        subprocess.run([*ip, "tuntap", "add", device, "mode", "tap", "vnet_hdr"], check=True)
        subprocess.run([*ip, "link", "set", device, "up"], check=True)
        tail = os.urandom(2).hex(":")
        return Nic(port_id=new_id(), mac=f"fa:16:3e:00:{tail}", device=device, netns=self.netns, mtu=1450)

    def traces(self) -> object:
        ours = [path for part in ("guests", "copies") for path in (self.folder / "h" / part).rglob("*")]
        groups = list(Path("/sys/fs/cgroup").glob("**/pileus/*"))
        held = [path.name for path in groups if (self.folder / "h" / "guests" / path.name).exists()]
        return sorted(str(path) for path in ours), len(self.pids()), sorted(held)

    def close(self) -> None:
        driver = self.hypervisor()
        for guest_id in driver.list_guests():
            until(lambda guest_id=guest_id: driver.remove_guest(guest_id))  # type: ignore[misc]  # a default binds the loop's value, whose type mypy does not infer
        self.leave()
        left = self.pids()
        if self.netns:
            subprocess.run(["ip", "netns", "delete", self.netns], check=True)
        shutil.rmtree(self.folder)
        assert left == []


def overwrite_code(pid: int, library: str) -> None:
    """Make every instruction of a library in another process an illegal one.

    Signals would not do: the process is the first of its pid namespace, which ignores them.
    """
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith(library) and " r-xp " in line:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
                memory.seek(start)
                memory.write(b"\x0f\x0b" * ((end - start) // 2))


def qemu(folder: Path, **options: object) -> QemuHypervisor:
    """A driver as the agent makes it, in a hurry."""
    images = ImageCache(folder / "images", UID, 64 << 30)
    known: dict[str, object] = {
        "accelerator": "tcg",
        "acpi_seconds": ACPI_SECONDS,
        "boots_at_once": 8,
        "housekeeping_seconds": 0.1,
    }
    return QemuHypervisor(folder / "h", uid=UID, gid=UID, images=images, **(known | options))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def volume(folder: Path, mib: int = 16, **facts: object) -> Disk:
    """A volume as the block driver of its own node gives it."""
    path = folder / f"volume-{new_id()}"
    path.write_bytes(b"volume".ljust(512, b"."))
    os.truncate(path, mib * MIB)
    source = Connection(kind="file", path=str(path))
    known: dict[str, object] = {"id": new_id(), "source": source, "size_bytes": mib * MIB}
    return Disk(**(known | facts))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it
