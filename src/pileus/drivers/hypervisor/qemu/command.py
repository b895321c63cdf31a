"""Pure: a guest as the words that start its QEMU."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from pileus.compute.drivers import Guest

from .devices import (
    CONTROLLERS,
    Options,
    block_node,
    config_drive,
    disk_devices,
    disk_name,
    nic_backend,
    nic_device,
    nic_name,
    pci,
)
from .record import MOST_DEVICES

PINNED = {"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2"}  # a newer QEMU still shows a guest the same hardware
SPARE_PORTS = 8  # empty places of a q35 guest; devices can only be plugged where a root port is from the start
TB_MIB = 64  # cache of translated code; TCG's own default grows to a GiB
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
CONSOLE_SET = 1000  # descriptor set of the console's log; a disk's is the number of its place


class Start(Struct, frozen=True, kw_only=True):
    """Everything that the words depend on; files and taps are numbers of inherited descriptors."""

    guest: Guest
    machine: str  # a pinned machine type
    places: Mapping[str, int]
    controllers: Sequence[str] = ()
    ports: int = 0  # how many root ports a q35 guest has
    accelerator: Literal["kvm", "tcg"]
    run: Path  # folder of the sockets
    console: int
    files: Mapping[str, int] = {}  # name of a disk's device → descriptor
    relays: Mapping[str, str] = {}  # name of a disk's device → unix socket of its relay
    taps: Mapping[str, int] = {}  # port id → descriptor
    incoming: bool = False  # wait for a saved state


def command(start: Start) -> list[str]:
    """The argument list.  The guest does not run before `cont`: its cell is closed first."""
    guest = start.guest
    words = ["qemu-system-x86_64", *_machine(start), *_identity(guest), "-S", "-sandbox", SANDBOX]
    words += ["-incoming", "defer"] if start.incoming else []
    words += _doors(start)
    words += _ports(start) if guest.machine == "q35" else []
    words += ["-object", _json({"qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom"})]
    rng = {"driver": "virtio-rng-pci", "id": "rng0", "rng": "entropy", "max-bytes": 4096, "period": 1000}
    balloon = {"driver": "virtio-balloon-pci", "id": "balloon0", "free-page-reporting": True}
    for device in (rng, balloon, *(CONTROLLERS[name] for name in start.controllers)):
        words += ["-device", _json(device | pci(guest.machine, start.places[device["id"]]))]
    return [*words, *_disks(start), *_nics(start)]


def _machine(start: Start) -> list[str]:
    guest = start.guest
    if start.accelerator == "kvm":
        accelerator, cpu = ["-accel", "kvm"], "host"
    else:
        thread = "multi" if guest.vcpus > 1 else "single"
        accelerator, cpu = ["-accel", f"tcg,thread={thread},tb-size={TB_MIB}"], "max"
    return [
        "-nodefaults", "-no-user-config", "-machine", f"{start.machine},usb=off,dump-guest-core=off",
        *accelerator, "-cpu", cpu, "-m", f"size={guest.ram_mib}M",
        "-smp", f"cpus={guest.vcpus},sockets={guest.vcpus},cores=1,threads=1",
        "-rtc", "base=utc,driftfix=slew", "-boot", "strict=on",
    ]  # fmt: skip


def _identity(guest: Guest) -> list[str]:
    """What the guest and the log read of who it is; cloud-init looks for the product's name."""
    smbios = (
        "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,family=Virtual Machine,"
        f"version=Pileus,serial={guest.id},uuid={guest.id}"
    )
    return ["-name", f"guest={guest.id}", "-msg", "timestamp=on,guest-name=on", "-uuid", guest.id, "-smbios", smbios]


def _doors(start: Start) -> list[str]:
    """Monitor, serial line and screen, each a unix socket; what the serial line says is logged as well."""
    run = start.run
    serial = f"socket,id=serial0,path={run}/serial,server=on,wait=off,logfile=/dev/fdset/{CONSOLE_SET},logappend=on"
    return [
        "-add-fd", f"set={CONSOLE_SET},fd={start.console},opaque=console",
        "-chardev", f"socket,id=monitor,path={run}/qmp,server=on,wait=off", "-mon", "chardev=monitor,mode=control",
        "-chardev", serial, "-device", _json({"driver": "isa-serial", "chardev": "serial0"}),
        "-display", "none", "-device", _json({"driver": "VGA", "id": "video0", "vgamem_mb": 16, **_fixed(start, 1)}),
        "-vnc", f"unix:{run}/vnc",
    ]  # fmt: skip


def _fixed(start: Start, slot: int) -> Options:
    q35 = start.guest.machine == "q35"
    return {"bus": "pcie.0", "addr": f"{slot:#x}"} if q35 else {"bus": "pci.0", "addr": f"{slot + 1:#x}"}


def ports_for(places: Mapping[str, int]) -> int:
    """How many root ports a q35 guest starts with, spare ones included."""
    return min(MOST_DEVICES, max(places.values(), default=0) + SPARE_PORTS)


def _ports(start: Start) -> list[str]:
    words = []
    for number in range(start.ports):
        slot, function = divmod(number, 8)
        port = {"driver": "pcie-root-port", "id": f"port{number + 1}", "chassis": number + 1, "bus": "pcie.0"}
        words += ["-device", _json(port | {"addr": f"{slot + 2:#x}.{function}", "multifunction": True})]
    return words


def _disks(start: Start) -> list[str]:
    guest, words = start.guest, []
    extra = [config_drive(guest)] if guest.config_drive is not None else []
    for order, disk in enumerate([*guest.disks, *extra]):
        name = disk_name(disk.id)
        place = start.places[name]
        if name in start.files:
            words += ["-add-fd", f"set={place},fd={start.files[name]},opaque={name}"]
        words += ["-blockdev", _json(block_node(disk, place, start.relays.get(name, "")))]
        for device in disk_devices(guest, disk, place):
            boots = disk not in extra and device["id"] == name
            words += ["-device", _json(device | ({"bootindex": order} if boots else {}))]
    return words


def _nics(start: Start) -> list[str]:
    words = []
    for nic in start.guest.nics:
        place = start.places[nic_name(nic.port_id)]
        words += ["-netdev", _json(nic_backend(place, str(start.taps[nic.port_id])))]
        words += ["-device", _json(nic_device(start.guest, nic, place))]
    return words


def _json(options: Options) -> str:
    return msgspec.json.encode(options).decode()


def check_path(folder: Path) -> None:
    """Unix sockets have short names (sun_path, 108 bytes); raises ValueError when the folder leaves no room."""
    longest = folder / "guests" / ("0" * 36) / "remote" / "99" / "nbd"
    if len(os.fsencode(longest)) > 107:
        raise ValueError(f"{folder} is too long a path for the sockets of guests; choose a shorter state folder")
