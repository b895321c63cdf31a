"""What QEMU guests promise beyond the contract: their cell, their disks, far volumes, and a real system inside."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_lab import (
    MIB,
    REAL_GUEST,
    UID,
    QemuBench,
    guest,
    image_of,
    local,
    new_id,
    qemu,
    until,
    volume,
)
from msgspec.structs import replace

from pileus.compute.drivers import Broken, Connection, Disk, Guest, GuestSeen
from pileus.drivers.hypervisor.qemu import QemuHypervisor
from pileus.drivers.hypervisor.qemu.console import KEPT

pytestmark = pytest.mark.root


@pytest.fixture
def bench() -> Iterator[QemuBench]:
    made = QemuBench()
    yield made
    made.close()


def ensure(hypervisor: QemuHypervisor, wish: Guest) -> GuestSeen:
    return until(lambda: hypervisor.ensure_guest(wish))


def folder_of(bench: QemuBench, wish: Guest) -> Path:
    return bench.folder / "h" / "guests" / wish.id


def test_a_guest_is_locked_up(bench: QemuBench) -> None:
    seen = ensure(bench.hypervisor(), guest(local("root.0"), volume(bench.folder), nics=(bench.nic(),)))
    proc = Path(f"/proc/{seen.pid}")
    facts = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert facts["Uid"].split() == [str(UID)] * 4 and facts["Gid"].split() == [str(UID)] * 4
    assert facts["Groups"].strip() == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[name], 16) == 0, name
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    for space in ("net", "ipc", "uts", "pid", "mnt"):
        assert os.readlink(proc / "ns" / space) != os.readlink(f"/proc/self/ns/{space}"), space
    links = subprocess.run(["nsenter", "-t", str(seen.pid), "-n", "ip", "-br", "link"], capture_output=True, text=True)
    assert [line.split()[0] for line in links.stdout.splitlines()] == ["lo"]
    root = {path.name for path in (proc / "root").iterdir()}
    assert root <= {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "dev", "tmp"}
    visible = [
        str(path.relative_to(proc / "root")) for path in (proc / "root" / bench.folder.relative_to("/")).rglob("*")
    ]
    assert {name.rsplit("/", 1)[-1] for name in visible if not name.endswith(seen.id)} <= {
        "h", "guests", "remote", "run", "qmp", "vnc", "serial",
    }  # fmt: skip


def test_a_guest_cannot_replace_what_root_connects_to(bench: QemuBench) -> None:
    wish = guest()
    hypervisor = bench.hypervisor()
    ensure(hypervisor, wish)
    run = folder_of(bench, wish) / "run"
    assert (run.stat().st_uid, run.stat().st_mode & 0o022) == (0, 0)
    for kind in ("vnc", "serial"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(5)
            door.connect(hypervisor.console_socket(wish.id, kind))  # type: ignore[arg-type]  # both are words of the Literals
            if kind == "vnc":
                assert door.recv(12) == b"RFB 003.008\n"
    for path in folder_of(bench, wish).rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o022 == 0, path
            assert path.stat().st_uid == 0, path


def test_logs_are_bounded_and_say_whose_they_are(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    seen = ensure(hypervisor, wish)
    folder = folder_of(bench, wish)
    for _ in range(4):
        with (folder / "console").open("ab") as console:  # as QEMU writes it: appended
            console.write(b"x" * (KEPT // 2 + 10) + b"end\n")
        until(lambda: (folder / "console").stat().st_size < KEPT // 2)
    assert sum(path.stat().st_size for path in folder.glob("console*")) <= KEPT
    assert hypervisor.console_log(wish.id, 4) == b"end\n"
    assert len(hypervisor.console_log(wish.id, 10 * KEPT)) <= KEPT
    os.kill(seen.pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{seen.pid}").exists())
    assert all(wish.id in line for line in (folder / "log").read_text().splitlines())
    assert hypervisor.observe_guest(wish.id).ended == "lost"  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_a_qemu_that_does_not_answer_is_looked_at_quickly_and_ended_when_the_node_goes_down(bench: QemuBench) -> None:
    hypervisor, wish = bench.hypervisor(), guest()
    seen = ensure(hypervisor, wish)
    os.kill(seen.pid, signal.SIGSTOP)
    began = time.monotonic()
    looks = [hypervisor.observe_guest(wish.id) for _ in range(5)]
    assert {look and look.power for look in looks} == {"on"}
    assert time.monotonic() - began < 8, "only the first look waits"
    hypervisor.go_down(0.5)
    assert not Path(f"/proc/{seen.pid}").exists()
    assert hypervisor.observe_guest(wish.id).ended == "lost"  # type: ignore[union-attr]  # None would fail the test here, as it should


@pytest.mark.parametrize("hostile", ["../../etc", "", "x" * 300, "a/b", "0" * 31 + "\n"])
def test_ids_never_become_paths_of_their_own(bench: QemuBench, hostile: str) -> None:
    hypervisor = bench.hypervisor()
    with pytest.raises(ValueError, match=r"\w"):
        hypervisor.ensure_guest(replace(guest(), id=hostile))
    with pytest.raises(ValueError, match=r"\w"):
        hypervisor.remove_guest(hostile)
    with pytest.raises(ValueError, match=r"\w"):
        hypervisor.disk_copy_path(hostile + "/")
    with pytest.raises(ValueError, match=r"\w"):
        ensure(hypervisor, guest(local(hostile + "/x")))


def test_a_folder_with_too_long_a_path_is_refused_at_once(bench: QemuBench) -> None:
    with pytest.raises(ValueError, match="too long"):
        qemu(bench.folder / ("x" * 60))


def test_local_disks_hold_their_image_and_grow(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    origin = bench.folder / "image"
    origin.write_bytes(os.urandom(MIB))
    image = image_of(origin)
    wish = guest(local("root.0", image=image), local("ephemeral.0"), local("swap.0", size_gib=0), power="off")
    wish = replace(wish, disks=(*wish.disks[:2], replace(wish.disks[2], size_bytes=8 * MIB)))
    ensure(hypervisor, wish)
    disks = folder_of(bench, wish) / "disks"
    assert sorted(path.name for path in disks.iterdir()) == ["ephemeral.0", "root.0", "swap.0"]
    assert (disks / "root.0").stat().st_size == 1 << 30
    assert head(disks / "root.0", MIB) == origin.read_bytes()
    assert (disks / "root.0").stat().st_blocks * 512 < 4 * MIB
    kinds = {name: blkid(disks / name) for name in ("ephemeral.0", "swap.0")}
    assert kinds == {"ephemeral.0": ("ext4", "ephemeral0"), "swap.0": ("swap", "swap0")}
    with pytest.raises(Broken, match="needs"):
        ensure(hypervisor, guest(Disk(id="root.0", source=local("x", image=image, size_gib=0).source, size_bytes=4096)))


def head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def blkid(path: Path) -> tuple[str, str]:
    argv = ["blkid", "-p", "-o", "value", "-s", "TYPE", "-s", "LABEL", str(path)]
    words = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    return words[1], words[0]


def test_a_resize_copies_the_disk_and_its_revert_finds_the_old_one(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest(local("root.0"))
    ensure(hypervisor, wish)
    disks = folder_of(bench, wish) / "disks"
    larger = replace(wish, disks=(local("root.1", size_gib=2, copy_of="root.0"),), keep=("root.0",))
    with pytest.raises(ValueError, match="power it off"):
        hypervisor.ensure_guest(larger)
    ensure(hypervisor, replace(wish, power="off"))
    (disks / "root.0").open("r+b").write(b"mark")
    assert ensure(hypervisor, larger).disks == ("root.1",)
    assert head(disks / "root.1", 4) == b"mark"
    assert (disks / "root.1").stat().st_size == 2 << 30
    ensure(hypervisor, replace(larger, power="off"))
    assert ensure(hypervisor, wish).disks == ("root.0",)
    assert [path.name for path in disks.iterdir()] == ["root.0"]


def test_a_config_drive_is_an_iso_with_the_right_label(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    files = {"openstack/latest/meta_data.json": b'{"x": 1}', "openstack/latest/user_data": os.urandom(3000)}
    wish = guest(config_drive=files)
    ensure(hypervisor, wish)
    iso = folder_of(bench, wish) / "config.iso"
    assert iso.read_bytes()[32808:32840].strip() == b"config-2"
    for path, content in files.items():
        argv = ["isoinfo", "-R", "-i", str(iso), "-x", f"/{path}"]
        assert subprocess.run(argv, capture_output=True, check=True).stdout == content
    with pytest.raises(ValueError, match="no path"):
        ensure(hypervisor, guest(config_drive={"../../x": b""}))


def test_a_tap_that_is_not_there_is_waited_for_and_never_made(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    nic = replace(bench.nic(), device="tapmissing")
    wish = guest(nics=(nic,))
    with pytest.raises(ConnectionError, match="tapmissing"):
        ensure(hypervisor, wish)
    links = subprocess.run(["ip", "-n", bench.netns, "-br", "link"], capture_output=True, text=True, check=True)
    assert "tapmissing" not in links.stdout
    subprocess.run(["ip", "-n", bench.netns, "tuntap", "add", "tapmissing", "mode", "tap", "vnet_hdr"], check=True)
    assert ensure(hypervisor, wish).nics == (nic.port_id,)


def test_a_memory_that_cannot_be_taken_back_ends_in_a_cold_start(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    wish = guest()
    ensure(hypervisor, wish)
    ensure(hypervisor, replace(wish, power="suspended"))
    memory = folder_of(bench, wish) / "memory"
    memory.write_bytes(memory.read_bytes()[:5000])

    def ask() -> GuestSeen | None:
        try:
            return hypervisor.ensure_guest(wish)
        except ConnectionError:
            return None

    assert until(ask).power == "on"
    assert not memory.exists()


def test_a_volume_that_somebody_else_still_writes_is_not_opened(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    shared = volume(bench.folder)
    first, second = guest(local("root.0"), shared), guest(local("root.0"), shared)
    ensure(hypervisor, first)
    with pytest.raises(ConnectionError, match="lock"):
        ensure(hypervisor, second)
    plugged = guest()
    ensure(hypervisor, plugged)
    with pytest.raises(ConnectionError, match="lock"):
        hypervisor.ensure_guest(replace(plugged, disks=second.disks))
    until(lambda: hypervisor.remove_guest(first.id))
    assert ensure(hypervisor, second).power == "on"


def test_a_shared_volume_is_open_in_several_guests(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    disk = volume(bench.folder)
    shared = replace(disk, source=replace(disk.source, shared=True))
    first, second = guest(local("root.0"), shared), guest()
    ensure(hypervisor, first)
    ensure(hypervisor, second)
    assert ensure(hypervisor, replace(second, disks=(*second.disks, shared))).disks[1] == disk.id


def test_going_down_ends_guests_and_remembers_that_they_ran(bench: QemuBench) -> None:
    hypervisor = bench.hypervisor()
    running, paused = guest(), guest()
    ensure(hypervisor, running)
    ensure(hypervisor, paused)
    ensure(hypervisor, replace(paused, power="paused"))
    hypervisor.go_down(0.2)
    assert bench.pids() == []
    for wish in (running, paused):
        seen = bench.hypervisor().observe_guest(wish.id)
        assert seen is not None and (seen.power, seen.ended) == ("off", "lost")


class Far:
    """A volume on another node: nbdkit over TCP, TLS with a pre-shared key."""

    def __init__(self, folder: Path) -> None:
        self.file, self.keys, self.port = folder / "far", folder / "psk", free_port()
        self.file.write_bytes(b"far away")
        os.truncate(self.file, 16 * MIB)
        self.key = secrets.token_hex(32)
        self.keys.write_text(f"node-1:{self.key}\n")
        self.server: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        self.end()
        argv = ["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(self.port), "--tls=require", f"--tls-psk={self.keys}"]
        self.server = subprocess.Popen([*argv, "file", str(self.file)], stderr=subprocess.DEVNULL)

    def end(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()

    def disk(self, mib: int = 16, **facts: object) -> Disk:
        tls = {"identity": "node-1", "key": self.key}
        known: dict[str, object] = {"kind": "nbd", "host": "127.0.0.1", "port": self.port, "export": "v", "tls": tls}
        return Disk(id="f" * 8 + new_id()[8:], source=Connection(**(known | facts)), size_bytes=mib * MIB)  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


@pytest.fixture
def far(bench: QemuBench) -> Iterator[Far]:
    made = Far(bench.folder)
    made.serve()
    yield made
    made.end()


def test_a_far_volume_is_reached_through_a_relay_that_holds_the_key(bench: QemuBench, far: Far) -> None:
    hypervisor = bench.hypervisor()
    wish = guest(local("root.0"), far.disk())
    volume_id = wish.disks[1].id
    seen = until_quietly(hypervisor, wish)
    assert seen.disks == ("root.0", volume_id)
    assert len(bench.pids()) == 2
    proc = Path(f"/proc/{seen.pid}")
    assert far.key.encode() not in b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in bench.pids())
    assert list((proc / "root" / bench.folder.relative_to("/")).rglob("*psk*")) == []
    for power in ("on", "off"):
        until_quietly(hypervisor, replace(wish, power=power))
        copy = new_id()
        assert until(lambda: hypervisor.ensure_disk_copy(wish.id, volume_id, copy)) == 16 * MIB
        assert Path(hypervisor.disk_copy_path(copy)).read_bytes()[:8] == b"far away"
        hypervisor.remove_disk_copy(copy)
    until_quietly(hypervisor, wish)
    relay = next(pid for pid in bench.pids() if b"storage-daemon" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(relay, signal.SIGKILL)
    until(lambda: relay not in bench.pids() and len(bench.pids()) == 2)
    again = until_quietly(hypervisor, replace(wish, name="again"))
    assert again.pid == hypervisor.observe_guest(wish.id).pid  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert len(bench.pids()) == 2
    os.truncate(far.file, 32 * MIB)
    far.serve()
    grown = replace(wish, disks=(wish.disks[0], replace(wish.disks[1], size_bytes=32 * MIB)))
    assert until_quietly(hypervisor, grown).pid == again.pid
    until(lambda: hypervisor.remove_guest(wish.id))
    assert bench.pids() == []


def test_a_far_volume_with_a_wrong_key_or_no_server_is_waited_for(bench: QemuBench, far: Far) -> None:
    hypervisor = bench.hypervisor()
    wrong = far.disk(tls={"identity": "node-1", "key": "0" * 64})
    with pytest.raises(ConnectionError, match="cannot be opened"):
        ensure(hypervisor, guest(local("root.0"), wrong))
    far.end()
    with pytest.raises(ConnectionError, match="cannot be opened"):
        ensure(hypervisor, guest(local("root.0"), far.disk()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_quietly(hypervisor: QemuHypervisor, wish: Guest) -> GuestSeen:
    """Until the wish is fulfilled; a far side that is away is waited for."""

    def ask() -> GuestSeen | None:
        try:
            return hypervisor.ensure_guest(wish)
        except ConnectionError:
            return None

    return until(ask)


class Line:
    """A login on the serial line of a real guest."""

    def __init__(self, hypervisor: QemuHypervisor, guest_id: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(hypervisor.console_socket(guest_id, "serial"))
        self.socket.settimeout(20)

    def login(self) -> None:
        self.socket.sendall(b"cirros\n")
        self.wait(b"assword:")
        self.socket.sendall(b"gocubsgo\n")
        self.wait(b"$ ")

    def wait(self, text: bytes) -> bytes:
        said = b""
        while text not in said:
            said += self.socket.recv(4096)
        return said

    def run(self, command: str) -> str:
        mark = secrets.token_hex(4)
        self.socket.sendall(f"{command}; echo {mark[:4]}''{mark[4:]}\n".encode())
        said = self.wait(mark.encode()).decode(errors="replace")
        return said.split("\n", 1)[-1].rsplit(mark, 1)[0].replace("\r", "")

    def until(self, command: str, text: str, *, there: bool = True) -> str:
        return until(lambda: said if (text in (said := self.run(command))) == there else None)


@pytest.fixture(params=["q35", pytest.param("pc", marks=pytest.mark.slow)])
def real(request: pytest.FixtureRequest, bench: QemuBench) -> tuple[QemuHypervisor, Guest]:
    if not REAL_GUEST.exists():
        pytest.skip("the guest image is not built (make guest)")
    hypervisor = bench.hypervisor()
    image = image_of(REAL_GUEST, "qcow2")
    data = b'{"uuid": "x", "hostname": "boxy", "name": "boxy"}'
    wish = guest(
        local("root.0", image=image), ram_mib=128, machine=request.param,
        config_drive={"openstack/latest/meta_data.json": data},
    )  # fmt: skip
    bench.leave()
    hypervisor = bench.driver = qemu(bench.folder, acpi_seconds=20.0)
    ensure(hypervisor, wish)
    return hypervisor, wish


def booted(hypervisor: QemuHypervisor, wish: Guest, times: int = 1) -> None:
    until(lambda: hypervisor.console_log(wish.id, KEPT).count(b"boxy login:") >= times or None, 90)


def test_a_real_system_lives_a_whole_life(bench: QemuBench, real: tuple[QemuHypervisor, Guest]) -> None:
    """Boot, identity, hot-plug both ways, online growth, suspend, a copy, a soft reboot, and power-off from inside."""
    hypervisor, wish = real
    booted(hypervisor, wish)
    line = Line(hypervisor, wish.id)
    line.login()
    assert "OpenStack Nova" in line.run("cat /sys/class/dmi/id/product_name")
    assert wish.id in line.run("sudo cat /sys/class/dmi/id/product_uuid").lower()
    disk, nic = volume(bench.folder, serial="abc-serial"), bench.nic()
    more = replace(wish, disks=(*wish.disks, disk), nics=(nic,))
    ensure(hypervisor, more)
    line.until("cat /sys/block/vd*/serial", "abc-serial")
    assert nic.mac in line.until("cat /sys/class/net/*/address", nic.mac)
    larger = replace(more, disks=(wish.disks[0], replace(disk, size_bytes=32 * MIB)))
    ensure(hypervisor, larger)
    line.until("cat /sys/block/vd*/size", str(32 * MIB // 512))
    line.run("echo here | sudo tee /dev/shm/mark; echo there | sudo tee /var/mark; sync")
    line.socket.close()
    ensure(hypervisor, replace(larger, power="suspended"))
    ensure(hypervisor, larger)
    line = Line(hypervisor, wish.id)
    assert "here" in line.run("cat /dev/shm/mark")
    ensure(hypervisor, wish)
    line.until("cat /sys/block/vd*/serial; ls /sys/class/net", "abc-serial", there=False)
    assert "eth0" not in line.run("ls /sys/class/net")
    copy = new_id()
    until(lambda: hypervisor.ensure_disk_copy(wish.id, "root.0", copy))
    path = Path(hypervisor.disk_copy_path(copy))
    assert path.stat().st_blocks * 512 < 200 * MIB
    line.socket.close()
    started = time.monotonic()
    ensure(hypervisor, replace(wish, reboots=1))
    assert time.monotonic() - started < 20, "the guest obeys its power button"
    booted(hypervisor, wish, 2)
    line = Line(hypervisor, wish.id)
    line.login()
    assert "there" in line.run("sudo cat /var/mark")
    line.socket.sendall(b"sudo poweroff\n")
    seen = until(lambda: seen if (seen := hypervisor.observe_guest(wish.id)) and not seen.pid else None)
    assert (seen.power, seen.ended) == ("off", "guest")
