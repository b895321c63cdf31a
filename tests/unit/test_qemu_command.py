"""The words that start a QEMU: nothing is probed, nothing is named by path, everything has its place."""

import itertools
import json
import subprocess
from pathlib import Path

import pytest

from pileus.compute.drivers import Connection, Disk, Guest, LocalDisk, Nic, Refused
from pileus.drivers.hypervisor.qemu import devices
from pileus.drivers.hypervisor.qemu.boots import ASKED_WITHIN, Boots
from pileus.drivers.hypervisor.qemu.command import PINNED, Start, check_path, command, ports_for
from pileus.drivers.hypervisor.qemu.record import MOST_DEVICES, Record

ID = "3f1c7a7e-0000-4000-8000-000000000001"
HOSTILE = 'x",file=/etc/shadow,id='


def disk(name: str, **facts: object) -> Disk:
    return Disk(**({"id": name, "source": LocalDisk(size_gib=1)} | facts))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def guest(**facts: object) -> Guest:
    nic = Nic(port_id="p1", mac="fa:16:3e:00:00:01", device="tap1", netns="n", mtu=1450)
    known = {"id": ID, "name": HOSTILE, "vcpus": 2, "ram_mib": 256, "disks": (disk("root.0"),), "nics": (nic,)}
    return Guest(**(known | facts))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def started(wish: Guest, **facts: object) -> list[str]:
    record = Record(guest=wish)
    record.give_places(devices.device_names(wish))
    names = [devices.disk_name(d.id) for d in wish.disks if not devices.is_remote(d)]
    names += [devices.disk_name(devices.CONFIG_DRIVE)] if wish.config_drive is not None else []
    known: dict[str, object] = {
        "guest": wish, "machine": PINNED[wish.machine], "places": record.places, "ports": ports_for(record.places),
        "controllers": devices.controllers(wish), "accelerator": "tcg", "run": Path("/run/g"), "console": 10,
        "files": {name: 20 + number for number, name in enumerate(names)},
        "taps": {nic.port_id: 50 + number for number, nic in enumerate(wish.nics)},
    }  # fmt: skip
    return command(Start(**(known | facts)))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def options(words: list[str], name: str) -> list[dict[str, object]]:
    values = [value for option, value in itertools.pairwise(words) if option == f"-{name}"]
    return [json.loads(value) for value in values if value.startswith("{")]


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_every_disk_is_raw_by_name_and_comes_as_a_descriptor(machine: str) -> None:
    volume = Connection(kind="file", path="/secret/place/volume")
    disks = (disk("root.0"), disk("v", source=volume, serial=HOSTILE), disk("r", bus="ide", device="cdrom"))
    words = started(guest(machine=machine, disks=disks, config_drive={}))
    nodes = options(words, "blockdev")
    assert len(nodes) == 4
    for node in nodes:
        assert node["driver"] == "raw"
        assert node["file"]["driver"] == "file" and node["file"]["filename"].startswith("/dev/fdset/")  # type: ignore[index]  # None or another shape would fail the test here
    assert "/secret/place" not in " ".join(words)
    assert not {"-drive", "-hda", "-cdrom", "-netdev user", "-runas", "-daemonize"} & set(words)


def test_what_a_user_wrote_never_becomes_an_option_of_its_own() -> None:
    words = started(guest(disks=(disk("root.0", serial=HOSTILE),)))
    device = next(found for found in options(words, "device") if found.get("id") == "disk-root.0")
    assert device["serial"] == HOSTILE[:20]
    assert not any(HOSTILE in word for word in words if not word.startswith("{"))


def test_a_guest_begins_stopped_sandboxed_and_knows_who_it_is() -> None:
    words = started(guest())
    assert "-S" in words
    assert words[words.index("-sandbox") + 1] == (
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    )
    assert "product=OpenStack Nova" in words[words.index("-smbios") + 1]
    assert f"uuid={ID}" in words[words.index("-smbios") + 1]
    assert words[words.index("-accel") + 1] == "tcg,thread=multi,tb-size=64"
    assert words[words.index("-machine") + 1].startswith("pc-q35-7.2,")


def test_the_order_of_the_disks_is_the_order_of_booting() -> None:
    words = started(guest(disks=(disk("rescue", bus="usb"), disk("root.0"), disk("cd", bus="scsi", device="cdrom"))))
    order = {found["id"]: found["bootindex"] for found in options(words, "device") if "bootindex" in found}
    assert order == {"disk-rescue": 0, "disk-root.0": 1, "disk-cd": 2}


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize("bus", ["virtio", "scsi", "ide", "usb"])
@pytest.mark.parametrize("device", ["disk", "cdrom"])
def test_no_two_devices_share_a_place(machine: str, bus: str, device: str) -> None:
    words = started(guest(machine=machine, disks=(disk("root.0"), disk("b", bus=bus, device=device)), config_drive={}))
    found = options(words, "device")
    places = [
        (o.get("bus"), o.get("addr"), o.get("unit"), o.get("scsi-id")) for o in found if "addr" in o or "unit" in o
    ]
    assert len(places) == len(set(places))
    ports = [o["bus"] for o in found if str(o.get("bus", "")).startswith("port")]
    assert len(ports) == len(set(ports))
    assert set(ports) <= {o["id"] for o in found if o["driver"] == "pcie-root-port"}
    read_only = {node["node-name"]: node["read-only"] for node in options(words, "blockdev")}
    assert read_only[next(o["drive"] for o in found if o.get("id") == "disk-b")] is (device == "cdrom")


def test_a_device_keeps_its_place_and_a_gone_one_gives_it_up() -> None:
    record = Record(guest=guest())
    record.give_places(["a", "b", "c"])
    assert record.places == {"a": 1, "b": 2, "c": 3}
    record.give_places(["c", "d", "a"])
    assert record.places == {"a": 1, "c": 3, "d": 2}
    with pytest.raises(Refused, match=str(MOST_DEVICES)):
        record.give_places(map(str, range(MOST_DEVICES + 1)))


def test_a_q35_guest_has_spare_ports() -> None:
    assert ports_for({"a": 1, "b": 4}) == 12
    assert ports_for({"a": MOST_DEVICES}) == MOST_DEVICES


def test_a_far_disk_is_reached_through_its_relay_and_waits_for_it() -> None:
    far = disk("v", source=Connection(kind="nbd", host="h", port=1, tls={"identity": "i", "key": "k3y"}))
    words = started(guest(disks=(disk("root.0"), far)), relays={"disk-v": "/run/g/remote/4/nbd"})
    node = options(words, "blockdev")[1]["file"]
    assert node["server"] == {"type": "unix", "path": "/run/g/remote/4/nbd"}  # type: ignore[index]  # None or another shape would fail the test here
    assert node["reconnect-delay"] > 0  # type: ignore[index]  # None or another shape would fail the test here
    assert "k3y" not in " ".join(words)


def test_sockets_must_fit_into_the_folder_s_path() -> None:
    check_path(Path("/var/lib/pileus/node/hypervisor"))
    with pytest.raises(ValueError, match="too long"):
        check_path(Path("/" + "x" * 60))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_boots_take_turns_in_the_order_of_asking() -> None:
    clock = Clock()
    boots = Boots(1, clock)
    assert boots.turn("a")
    for name in ("b", "c"):
        clock.now += 1
        assert not boots.turn(name)
    clock.now += ASKED_WITHIN - 2.5
    assert not boots.turn("b")
    clock.now += 1  # a never started: its turn is over
    assert not boots.turn("c")
    assert boots.turn("b")
    assert not boots.turn("c")


def test_who_asks_no_more_keeps_nobody_waiting() -> None:
    clock = Clock()
    boots = Boots(1, clock)
    assert boots.turn("a")
    assert not boots.turn("b")
    clock.now += ASKED_WITHIN + 1
    assert boots.turn("c")


def test_a_guest_that_rests_or_is_gone_gives_its_turn_on() -> None:
    clock = Clock()
    boots = Boots(1, clock)
    assert boots.turn("a")
    boots.started("a", 2**22 + 1)  # no such process
    assert boots.turn("b")
    with subprocess.Popen(["sleep", "60"]) as idle:
        boots.started("b", idle.pid)
        assert not boots.turn("c")
        clock.now += 4
        assert boots.turn("c")
        idle.kill()
