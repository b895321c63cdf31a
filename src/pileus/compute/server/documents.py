"""What a server's guest is told about itself, by the metadata service and on its config drive."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from pileus.compute.server.rows import Nic, Server, ServerVolume
from pileus.core.ids import derived_id
from pileus.db.connect import Tx
from pileus.metadata import document
from pileus.network import facade as network
from pileus.network.facade import PortView

DOMAIN = "novalocal"


def full_hostname(server: Server) -> str:
    """With the default domain, unless the owner gave a name with one."""
    return server.hostname if "." in server.hostname else f"{server.hostname}.{DOMAIN}"


def instance(tx: Tx, server: Server, nics: Sequence[Nic], volumes: Sequence[ServerVolume]) -> document.Instance:
    """All that the guest may know."""
    ports = {port.id: port for port in network.ports_of(tx, server.id)}
    own = [ports[nic.port_id] for nic in nics if nic.port_id in ports]
    fixed = [(ip, port) for port in own for ip, _ in port.fixed_ips if ":" not in ip]
    floating = [outer for port in own for _, outer in port.floating_ips]
    return document.Instance(
        id=server.id,
        name=server.name,
        hostname=full_hostname(server),
        project_id=server.project_id,
        zone=server.node_zone or server.zone or "nova",
        metadata=server.metadata,
        keys=((server.key_name, server.key_type, server.public_key),) if server.key_name and server.public_key else (),
        user_data=base64.b64decode(server.user_data or ""),
        files=tuple((path, base64.b64decode(content)) for path, content in server.files),
        posted_password=server.password,
        network_data=network.network_data(tx, [port.id for port in own]),
        devices=tuple(_devices(nics, volumes, ports)),
        launch_index=server.launch_index,
        random_seed=base64.b64encode(derived_id(server.id, "seed").encode()).decode(),
        fixed_ipv4=fixed[0][0] if fixed else "",
        floating_ipv4=floating[0] if floating else "",
        flavor_name=server.flavor.name,
        image_id=server.image_id or "",
        security_groups=tuple(name for _, name in network.security_groups_of(tx, [port.id for port in own])),
    )


def _devices(
    nics: Sequence[Nic], volumes: Sequence[ServerVolume], ports: Mapping[str, PortView]
) -> list[Mapping[str, Any]]:
    """Tagged devices (Compute API user guide, "Device role tagging")."""
    found: list[Mapping[str, Any]] = [
        {"type": "nic", "bus": "pci", "address": "", "mac": ports[nic.port_id].mac_address, "tags": [nic.tag]}
        for nic in nics
        if nic.tag and nic.port_id in ports and not nic.detach
    ]
    for volume in volumes:
        if volume.tag and not volume.detach:
            serial, path = volume.volume_id[:20], volume.device
            found.append(
                {"type": "disk", "bus": volume.bus or "virtio", "address": "", "serial": serial, "path": path,
                 "tags": [volume.tag]}
            )  # fmt: skip
    return found


def config_drive(
    tx: Tx, server: Server, nics: Sequence[Nic], volumes: Sequence[ServerVolume], admin_password: str
) -> dict[str, bytes]:
    """The files of the config drive; it alone tells the administrator's password."""
    told = structs.replace(instance(tx, server, nics, volumes), admin_password=admin_password)
    return document.config_drive(told)
