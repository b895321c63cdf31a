"""Pure: disks and network cards as QEMU's own options, the same at start and when plugged in later.

Formats are named, never probed; backing files do not exist.  Files are given as descriptors
(/dev/fdset/N), so the process needs no right to open any.
"""

from typing import Any

from pileus.compute.drivers import Connection, Disk, Guest, Nic

Options = dict[str, Any]

CONFIG_DRIVE = "config-2"  # also the label that guests look for (Compute user guide, "Config drives")
RECONNECT_SECONDS = 3600  # a guest's reads and writes wait so long for a relay that is away


def disk_name(disk_id: str) -> str:
    """The name of a disk's device."""
    return f"disk-{disk_id}"


def nic_name(port_id: str) -> str:
    """The name of a network card's device."""
    return f"nic-{port_id}"


def node_name(place: int) -> str:
    """The name of a disk's block node (QEMU allows 31 characters, an id has more)."""
    return f"node{place}"


def is_remote(disk: Disk) -> bool:
    """Whether a disk is reached over NBD."""
    return isinstance(disk.source, Connection) and disk.source.kind == "nbd"


def read_only(disk: Disk) -> bool:
    """Whether the guest may not write on a disk."""
    return disk.device == "cdrom" or (isinstance(disk.source, Connection) and disk.source.read_only)


CONTROLLERS: dict[str, Options] = {
    "scsi0": {"driver": "virtio-scsi-pci", "id": "scsi0"},
    "usb0": {"driver": "qemu-xhci", "id": "usb0", "p2": 15, "p3": 15},
}


def controllers(guest: Guest) -> tuple[str, ...]:
    """Names of the controllers that the guest's disks need."""
    buses = {disk.bus for disk in guest.disks}
    return tuple(name for name, bus in (("scsi0", "scsi"), ("usb0", "usb")) if bus in buses)


def device_names(guest: Guest) -> list[str]:
    """Names of everything that needs a place."""
    names = ["rng0", "balloon0", *controllers(guest)]
    names += [disk_name(disk.id) for disk in guest.disks]
    names += [nic_name(nic.port_id) for nic in guest.nics]
    if guest.config_drive is not None:
        names.append(disk_name(CONFIG_DRIVE))
    return names


def pci(machine: str, place: int) -> Options:
    """Where on the PCI bus a device sits: a root port each on q35 (it allows hot-plug), a slot each on pc."""
    if machine == "q35":
        return {"bus": f"port{place}"}
    return {"bus": "pci.0", "addr": f"{place + 2:#x}"}


def ide_disks(guest: Guest) -> list[str]:
    """Ids of the disks on the IDE bus, in the order of its connectors."""
    config = [CONFIG_DRIVE] if guest.config_drive is not None and guest.machine == "pc" else []
    return [disk.id for disk in guest.disks if disk.bus == "ide"] + config


def block_node(disk: Disk, place: int, relay: str = "") -> Options:
    """The block node of a disk: raw bytes of the descriptor set of its place, or of the relay's socket."""
    below: Options
    if relay:
        server = {"type": "unix", "path": relay}
        below = {"driver": "nbd", "server": server, "export": "disk", "reconnect-delay": RECONNECT_SECONDS}
    else:
        below = {"driver": "file", "filename": f"/dev/fdset/{place}"}
    own = {"read-only": read_only(disk), "discard": "unmap"}
    return {"driver": "raw", "node-name": node_name(place), "file": below | own, **own}


def disk_devices(guest: Guest, disk: Disk, place: int) -> list[Options]:
    """The device of a disk, after an adapter where its bus needs one."""
    name, cdrom = disk_name(disk.id), disk.device == "cdrom"
    device: Options = {"id": name, "drive": node_name(place)}
    if disk.serial:
        device["serial"] = disk.serial[: 36 if disk.bus == "scsi" else 20]
    if isinstance(disk.source, Connection) and disk.source.shared:
        device["share-rw"] = True
    if disk.bus == "virtio":
        return [device | {"driver": "virtio-blk-pci"} | pci(guest.machine, place)]
    if disk.bus == "scsi":
        return [device | {"driver": "scsi-cd" if cdrom else "scsi-hd", "bus": "scsi0.0", "scsi-id": place, "lun": 0}]
    if disk.bus == "ide":
        number = ide_disks(guest).index(disk.id)
        bus, unit = (number, 0) if guest.machine == "q35" else divmod(number, 2)
        return [device | {"driver": "ide-cd" if cdrom else "ide-hd", "bus": f"ide.{bus}", "unit": unit}]
    if cdrom:
        adapter = {"driver": "usb-bot", "id": f"bot{place}", "bus": "usb0.0"}
        return [adapter, device | {"driver": "scsi-cd", "bus": f"bot{place}.0"}]
    return [device | {"driver": "usb-storage", "bus": "usb0.0"}]


def config_drive(guest: Guest) -> Disk:
    """The config drive as a disk: IDE on pc; virtio on q35, whose SATA small kernels lack."""
    source = Connection(kind="file", path="", read_only=True)
    if guest.machine == "pc":
        return Disk(id=CONFIG_DRIVE, source=source, bus="ide", device="cdrom")
    return Disk(id=CONFIG_DRIVE, source=source, bus="virtio")


def nic_backend(place: int, fd: str) -> Options:
    """The host's end of a network card: a tap that came as a descriptor (a number, or the name of `getfd`)."""
    return {"type": "tap", "id": f"net{place}", "fd": fd}


def nic_device(guest: Guest, nic: Nic, place: int) -> Options:
    """The guest's end; it never boots from the network."""
    return {
        "driver": "virtio-net-pci", "id": nic_name(nic.port_id), "netdev": f"net{place}", "mac": nic.mac,
        "host_mtu": nic.mtu, "romfile": "", **pci(guest.machine, place),
    }  # fmt: skip
