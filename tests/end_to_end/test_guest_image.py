"""The guest image does what people and conformance suites type into a CirrOS, on its own under QEMU."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lone_guest import IMAGES, LoneGuest, Metadata

from pileus.metadata import document

pytestmark = pytest.mark.skipif(not (IMAGES / "disk.qcow2").exists(), reason="make guest builds the image")
SERVER = "11111111-2222-3333-4444-555555555555"
SCRIPT = b"#!/bin/sh\necho told > /run/user-data-ran\n"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ECDSA nistp384 key, as test suites make them."""
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(path)], check=True)
    return path


def instance(key: Path) -> document.Instance:
    public = key.with_suffix(".pub").read_text().strip()
    return document.Instance(
        id=SERVER, name="my-server", hostname="my-server.novalocal", project_id="p",
        keys=(("k", "ssh", public),), user_data=SCRIPT, admin_password="s3cret",
    )  # fmt: skip


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[LoneGuest]:
    """A guest on a q35 machine that hears of itself from the metadata service."""
    metadata = Metadata(document.tree(instance(key)))
    ports = [word for n in (1, 2, 3) for word in ("-device", f"pcie-root-port,id=port{n},chassis={n},slot={n}")]
    folder = tmp_path_factory.mktemp("guest")
    found = LoneGuest(folder, key, metadata, extra=["-device", "virtio-rng-pci", *ports])
    found.wait_for_ssh()
    yield found
    found.close()
    metadata.shutdown()


def eventually(what: Callable[[], bool], seconds: float = 20) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if what():
            return True
        time.sleep(0.3)
    return what()


def test_it_learns_its_name_and_runs_user_data(guest: LoneGuest) -> None:
    assert guest.run("hostname") == guest.run("cat /etc/hostname") == "my-server\n"
    assert eventually(lambda: guest.run("cat /run/user-data-ran", check=False) == "told\n")
    assert guest.run("sudo -n id -u") == "0\n"
    password = guest.run("sudo sed -n 's/^cirros:\\([^:]*\\):.*/\\1/p' /etc/shadow").strip()
    salt = password.split("$")[2]
    assert guest.run(f"mkpasswd -m sha512 -S '{salt}' s3cret").strip() == password


def test_its_root_takes_the_whole_disk(guest: LoneGuest) -> None:
    assert int(guest.run("df -m / | awk 'END { print $2 }'")) > 900


def test_its_console_shows_the_boot_and_a_login(guest: LoneGuest) -> None:
    assert eventually(lambda: "login:" in guest.said())
    assert len(guest.said().splitlines()) > 10


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("ip -o link | awk '{ print $2 }'", "eth0:"),
        ("ip addr show eth0 | awk '/ether/ {print $2}'", "52:54:00"),
        ("ip -4 -o addr", "inet 169.254.169.15/24"),
        ("ping -c1 -w1 -s56 169.254.169.2", "1 received"),
        ("sudo ping -I eth0 -c1 -w1 169.254.169.2", "1 received"),
        ("ping -W 1 -M do -c 1 -p ff 169.254.169.2", "1 received"),
        ("ping6 -c1 -w2 ::1", "1 received"),
        ("curl -V", "libcurl"),
        ("curl -s http://169.254.169.254/openstack/2013-10-17/meta_data.json", SERVER),
        ("lsblk -lb --nodeps", "disk"),
        ("lsblk --nodeps --noheadings --output NAME", "vda"),
        ("sudo lsblk --fs --ascii", "vda2"),
        ("blkid -L cirros-rootfs -o device", "/dev/vda2"),
        ("grep -c -E '[vs]d.$' /proc/partitions", "1"),
        ("grep -c ^processor /proc/cpuinfo", "1"),
        ("kill -0 $(cat /var/run/udhcpc.eth0.pid) 2>&1 || true", "not permitted"),
        ("sudo /bin/kill -USR1 $(cat /var/run/udhcpc.eth0.pid); sleep 1; ip -4 -o addr", "169.254.169.15"),
        ("sudo start-stop-daemon -K -x /sbin/dhcpcd -p /var/run/dhcpcd/pid -o || true", ""),
        ("test -d /etc/sysconfig/network-scripts/ || echo 'False'", "False"),
        ("echo abc > /tmp/x; md5sum -b /tmp/x", "0bee89b07a248e27c83fc3d5951213c1 */tmp/x"),
        ("echo abc > /tmp/x; sha1sum /tmp/x | head -c 40", "03cfd743661f07975fa2f1220c5194cbaff48451"),
        ("sudo '/sbin/ip' address list", "eth0"),
        ("sudo ip link add link eth0 name eth0.5 type vlan id 5; ip link show eth0.5", "eth0.5@eth0"),
        ("echo 'echo $0 ran' | sh -eux", "sh ran"),
        ("pidof dropbear; which ip", "bin/ip"),
        ("cat /nonexistent 2>&1 || true", "No such file or directory"),
        ("(nc -lp 5555 > /tmp/got &); sleep 0.5; echo heard | nc -w 1 127.0.0.1 5555; cat /tmp/got", "heard"),
        ("(sudo nc -p 5556 -lk -e echo foolish &) ; sleep 0.5; echo bar | nc -w 1 127.0.0.1 5556", "foolish"),
        ("(sudo nc -u -p 5557 -lk -e echo foolish &) ; sleep 2; echo bar | nc -w 1 -u 127.0.0.1 5557", "foolish"),
        ("dmesg | tail -n 1; cut -f1 -d. /proc/uptime", ""),
        ("scp -S /bin/false /etc/issue nobody@nowhere: 2>&1 || true; ls /usr/lib/sftp-server", "sftp-server"),
    ],
)
def test_it_understands(guest: LoneGuest, command: str, answer: str) -> None:
    assert answer in guest.run(command)


@pytest.mark.parametrize("kind", ["vfat", "ext4"])
def test_a_disk_plugged_in_is_found_by_its_serial_formatted_and_kept(guest: LoneGuest, kind: str) -> None:
    disk = guest.folder / f"{kind}.raw"
    disk.write_bytes(b"")
    with disk.open("r+b") as file:
        file.truncate(64 << 20)
    guest.tell(f"drive_add 0 if=none,id={kind},file={disk},format=raw")
    guest.tell(f"device_add virtio-blk-pci,drive={kind},id=d{kind},bus=port1,serial=aaaabbbb-1111-2222-3")
    assert eventually(lambda: "vdb" in guest.run("lsblk --nodeps --noheadings --output NAME"))
    assert guest.run("cat /sys/block/vdb/serial") == "aaaabbbb-1111-2222-3"
    guest.run(f"sudo mkfs -t {kind} /dev/vdb; sudo mkdir -p /mnt/{kind}; sudo mount /dev/vdb /mnt/{kind}")
    guest.run(f'sudo sh -c "date > /mnt/{kind}/timestamp; sync"; sudo cat /mnt/{kind}/timestamp')
    guest.run(f"sudo umount /mnt/{kind}; sudo mount /dev/vdb /mnt/{kind}; sudo cat /mnt/{kind}/timestamp")
    assert ("lost+found" in guest.run(f"ls /mnt/{kind}")) == (kind == "ext4")
    guest.run(f"sudo umount /mnt/{kind}")
    guest.tell(f"device_del d{kind}")
    assert eventually(lambda: "vdb" not in guest.run("cat /proc/partitions"))


def test_a_scsi_disk_plugged_in_is_found(guest: LoneGuest) -> None:
    disk = guest.folder / "scsi.raw"
    disk.write_bytes(bytes(1 << 20))
    guest.tell("device_add virtio-scsi-pci,id=scsi,bus=port3")
    guest.tell(f"drive_add 0 if=none,id=sd,file={disk},format=raw")
    guest.tell("device_add scsi-hd,drive=sd,bus=scsi.0")
    assert eventually(lambda: "sda" in guest.run("lsblk -S"))


def test_a_card_plugged_in_is_left_to_whoever_plugged_it(guest: LoneGuest) -> None:
    guest.tell("netdev_add user,id=second,net=10.77.0.0/24,restrict=on")
    guest.tell("device_add virtio-net-pci,netdev=second,id=n2,bus=port2,mac=52:54:00:00:00:77")
    assert eventually(lambda: "52:54:00:00:00:77" in guest.run("ip -o link"))
    card = guest.run("ip -o link | awk '/52:54:00:00:00:77/ { print $2 }'").strip().strip(":")
    assert "inet " not in guest.run(f"ip addr show {card}")
    guest.run(f"sudo ip addr add 10.77.0.9/24 dev {card}; sudo ip link set {card} up")
    assert "1 received" in guest.run("ping -c1 -w3 10.77.0.2")


def test_a_reboot_keeps_what_it_learnt_and_the_power_button_ends_it(guest: LoneGuest) -> None:
    key = "sudo md5sum /etc/dropbear/dropbear_ed25519_host_key"
    before = guest.run(key)
    guest.run("sudo reboot", check=False)
    assert eventually(lambda: guest.said().count("ssh is up") == 2, 60)
    assert guest.run(key) == before
    assert "user-data-ran" not in guest.run("ls /run")
    assert eventually(lambda: "acpid" in guest.run("ps"))
    guest.tell("system_powerdown")
    assert eventually(lambda: guest.process.poll() is not None, 30)


def config_drive(folder: Path, files: dict[str, bytes]) -> Path:
    tree, image = folder / "tree", folder / "config.iso"
    for name, data in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    subprocess.run(["genisoimage", "-quiet", "-J", "-r", "-V", "config-2", "-o", image, tree], check=True)
    return image


@pytest.mark.parametrize("where", ["ide", "scsi", "virtio"])
def test_a_config_drive_tells_it_all_without_a_network(where: str, tmp_path: Path, key: Path) -> None:
    image = config_drive(tmp_path, document.config_drive(instance(key)))
    drive = ["-drive", f"if=none,id=config,file={image},format=raw,read-only=on"]
    device = {
        "ide": ["-device", "ide-cd,drive=config"],
        "scsi": ["-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,drive=config,bus=scsi.0"],
        "virtio": ["-device", "virtio-blk-pci,drive=config"],
    }[where]
    guest = LoneGuest(tmp_path, key, extra=[*drive, *device], machine="pc" if where == "ide" else "q35", ram=128)
    try:
        guest.wait_for_ssh()
        assert guest.run("hostname") == "my-server\n"
        assert eventually(lambda: guest.run("cat /run/user-data-ran", check=False) == "told\n")
        guest.run("sudo mount $(blkid -L config-2 -o device) /mnt")
        assert SERVER in guest.run("sudo cat /mnt/openstack/latest/meta_data.json")
        guest.run("sudo umount /mnt")
    finally:
        guest.close()


def test_the_ec2_tree_alone_is_enough(tmp_path: Path, key: Path) -> None:
    files = {name: data for name, data in document.tree(instance(key)).items() if not name.startswith("openstack")}
    metadata = Metadata(files)
    guest = LoneGuest(tmp_path, key, metadata)
    try:
        guest.wait_for_ssh()
        assert guest.run("hostname") == "my-server\n"
    finally:
        guest.close()
        metadata.shutdown()


def test_metadata_that_comes_late_is_still_heard(tmp_path: Path, key: Path) -> None:
    files: dict[str, bytes] = {}
    metadata = Metadata(files)
    guest = LoneGuest(tmp_path, key, metadata)
    try:
        assert eventually(lambda: "none found" in guest.said(), 60)
        files.update(document.tree(instance(key)))
        guest.wait_for_ssh()
        assert guest.run("hostname") == "my-server\n"
    finally:
        guest.close()
        metadata.shutdown()


@pytest.mark.slow
def test_it_boots_by_uefi(tmp_path: Path, key: Path) -> None:
    metadata = Metadata(document.tree(instance(key)))
    guest = LoneGuest(tmp_path, key, metadata, extra=["-bios", "/usr/share/ovmf/OVMF.fd"], ram=256)
    try:
        guest.wait_for_ssh()
        assert "efi" in guest.run("ls /sys/firmware")
    finally:
        guest.close()
        metadata.shutdown()
