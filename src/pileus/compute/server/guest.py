"""The guest that a server's node should have: a pure function of the server and of what was made ready for it."""

from collections.abc import Mapping

from pileus.compute.drivers import Bus, Connection, Disk, Guest, ImageSource, LocalDisk, Nic, Power
from pileus.compute.server.rows import Migration, Server, ServerVolume
from pileus.compute.server.rows import Nic as NicRow
from pileus.network.facade import PortView

GIB = 1 << 30
BUSES: tuple[Bus, ...] = ("virtio", "scsi", "ide", "usb")


class Parts:
    """What others made ready for one guest."""

    def __init__(
        self,
        *,
        ports: Mapping[str, PortView],
        connections: Mapping[str, Connection],
        sizes: Mapping[str, int],
        images: Mapping[str, ImageSource],
        config_drive: Mapping[str, bytes] | None = None,
    ):
        self.ports = ports  # by port id
        self.connections = connections  # by the id of the server's volume row
        self.sizes = sizes  # GiB, by the id of the server's volume row
        self.images = images  # by image id
        self.config_drive = config_drive


def boots_from_volume(server: Server) -> bool:
    """Whether the root disk is a volume."""
    return server.image_id is None


def root_disk(server: Server) -> str:
    """Name of the local root disk of this generation."""
    return f"root.{server.generation}"


def local_names(server: Server, generation: int) -> list[str]:
    """Names of the local disks of one generation."""
    names = [] if boots_from_volume(server) else [f"root.{generation}"]
    return names + [f"{wish.kind}{n}.{generation}" for n, wish in enumerate(server.local_disks)]


def build(
    server: Server,
    nics: list[NicRow],
    volumes: list[ServerVolume],
    migration: Migration | None,
    power: Power,
    parts: Parts,
) -> Guest:
    """The whole wish for the server's node."""
    keep: tuple[str, ...] = ()
    if server.kept is not None and migration is not None and migration.wish != "confirm":
        keep = tuple(local_names(server, server.kept))
    return Guest(
        id=server.id,
        name=f"instance-{server.id[:8]}",
        vcpus=server.flavor.vcpus,
        ram_mib=server.flavor.ram_mib,
        disks=tuple(_disks(server, volumes, parts)),
        nics=tuple(
            _nic(row, parts.ports[row.port_id]) for row in nics if row.port_id in parts.ports and not row.detach
        ),
        keep=keep,
        config_drive=parts.config_drive,
        power=power,
        resets=server.resets,
        reboots=server.reboots,
        machine="pc" if server.image_properties.get("hw_machine_type", "").startswith(("pc-i440", "pc")) else "q35",
        hostname=server.hostname,
    )


def _nic(row: NicRow, port: PortView) -> Nic:
    return Nic(
        port_id=port.id, mac=port.mac_address, device=port.device, netns=port.netns, mtu=port.mtu, tag=row.tag or ""
    )


def _bus(*wishes: str) -> Bus:
    """The first bus that is wished for and known."""
    return next((bus for wish in wishes for bus in BUSES if bus == wish), "virtio")


def _disks(server: Server, volumes: list[ServerVolume], parts: Parts) -> list[Disk]:
    """In boot order: a rescue disk, the root disk, other bootable volumes, the rest."""
    properties = server.image_properties
    bus = _bus(properties.get("hw_disk_bus", ""))
    disks = [_rescue(server, parts, bus)] if server.rescued else []
    if not boots_from_volume(server):
        disks.append(_local(server, "root", server.flavor.disk_gib, bus, parts, image=server.root_image))
    shown = [row for row in volumes if not row.detach and row.id in parts.connections]
    bootable = [row for row in shown if row.boot_index is not None and row.boot_index >= 0]
    bootable.sort(key=lambda row: row.boot_index or 0)
    disks += [_volume(row, parts, bus) for row in bootable]
    disks += _further_locals(server, bus, parts)
    return disks + [_volume(row, parts, bus) for row in shown if row not in bootable]


def _further_locals(server: Server, bus: Bus, parts: Parts) -> list[Disk]:
    return [
        _local(server, f"{wish.kind}{n}", wish.size_gib, _bus(wish.bus, bus), parts, tag=wish.tag)
        for n, wish in enumerate(server.local_disks)
    ]


def _local(
    server: Server, name: str, size_gib: int, bus: Bus, parts: Parts, *, image: str | None = None, tag: str = ""
) -> Disk:
    """A local disk of this generation; what it is made from matters only until it is made."""
    made = server.built == server.generation
    copied = server.copied_from is not None and not name.startswith("swap")
    copy_of = f"{name}.{server.copied_from}" if copied and not made else None
    source = LocalDisk(size_gib=size_gib, image=parts.images.get(image or "") if not copied else None, copy_of=copy_of)
    return Disk(id=f"{name}.{server.generation}", source=source, bus=bus, tag=tag)


def _volume(row: ServerVolume, parts: Parts, bus: Bus) -> Disk:
    return Disk(
        id=row.volume_id,
        source=parts.connections[row.id],
        bus=_bus(row.bus, bus),
        device="cdrom" if row.device_type == "cdrom" else "disk",
        serial=row.volume_id[:20],
        tag=row.tag or "",
        size_bytes=parts.sizes[row.id] * GIB,
    )


def _rescue(server: Server, parts: Parts, bus: Bus) -> Disk:
    """The disk that a rescued server runs from."""
    wish = server.rescue
    return Disk(
        id=f"rescue.{server.rescues}",
        source=LocalDisk(size_gib=0, image=parts.images.get(wish.image_id) if wish else None),
        bus=_bus(wish.bus if wish else "", bus),
        device="cdrom" if wish and wish.device == "cdrom" else "disk",
    )
