"""What a network is on one node: the driver's wish, from the rows; pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from msgspec import Struct

from pileus.core.nodes import Node
from pileus.network import drivers
from pileus.network.network.rows import Network
from pileus.network.port.fields import DOMAIN, host_name
from pileus.network.port.rows import DHCP, FLOATING, OF_ROUTERS, Port
from pileus.network.subnet.rows import Subnet

Mode = Literal["", "slaac", "dhcpv6-stateful", "dhcpv6-stateless"]


class Picture(Struct, frozen=True, kw_only=True):
    """All that segments of one network are made of, read at once."""

    network: Network
    subnets: Sequence[Subnet]
    ports: Sequence[Port]  # placed ones, and the DHCP port
    nodes: Mapping[str, Node]


def place_of(port: Port, served_by: str | None) -> str | None:
    """The node that a port is on."""
    return served_by if port.device_owner == DHCP else port.placed_on or port.node_id


def segment_on(picture: Picture, node_id: str, nodes: Sequence[str], served_by: str | None) -> drivers.Segment:
    """The segment of a network on a node, `nodes` being all that have one."""
    network, serves = picture.network, served_by == node_id
    dhcp = next((port for port in picture.ports if port.device_owner == DHCP), None)
    by_id = {subnet.id: subnet for subnet in picture.subnets}
    vxlan = network.network_type == "vxlan"
    return drivers.Segment(
        id=network.id, kind="vxlan" if vxlan else "flat", vni=network.segmentation_id or 0,
        physical=network.physical_network or "", mtu=network.mtu, endpoint=_endpoint(picture, node_id),
        endpoints=_endpoints(picture, nodes, node_id) if vxlan else (),
        peers=_peers(picture, node_id, served_by) if vxlan else (),
        serves=serves, dhcp_mac=dhcp.mac_address if dhcp and serves else "",
        dhcp_ips=tuple(by_id[f.subnet_id].prefixed(f.ip_address) for f in dhcp.fixed_ips) if dhcp and serves else (),
        subnets=tuple(subnet_wish(subnet) for subnet in picture.subnets),
        hosts=tuple(_host(port) for port in guests(picture)) if serves else (),
        domain=network.dns_domain.rstrip(".") or DOMAIN,
    )  # fmt: skip


def _endpoint(picture: Picture, node_id: str) -> str:
    node = picture.nodes.get(node_id)
    return node.endpoint if node else ""


def _endpoints(picture: Picture, nodes: Sequence[str], node_id: str) -> tuple[str, ...]:
    found = {_endpoint(picture, other) for other in nodes if other != node_id}
    return tuple(sorted(found - {""}))


def _peers(picture: Picture, node_id: str, served_by: str | None) -> tuple[drivers.Peer, ...]:
    peers = []
    for port in picture.ports:
        there = place_of(port, served_by)
        endpoint = _endpoint(picture, there) if there and there != node_id else ""
        if endpoint:
            peers.append(drivers.Peer(mac=port.mac_address, ips=port.ips, endpoint=endpoint))
    return tuple(peers)


def guests(picture: Picture) -> list[Port]:
    """The ports that its DHCP server answers to."""
    return [port for port in picture.ports if port.device_owner not in (DHCP, FLOATING, *OF_ROUTERS)]


def _host(port: Port) -> drivers.Host:
    name = port.dns_name or (host_name(port, port.ips[0]) if port.ips else "")
    return drivers.Host(
        port_id=port.id, mac=port.mac_address, ips=port.ips,
        hostname=name if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name) else "",
        options=tuple((o.opt_name, o.opt_value, o.ip_version) for o in port.extra_dhcp_opts),
    )  # fmt: skip


def subnet_wish(subnet: Subnet) -> drivers.Subnet:
    """A subnet as drivers know it."""
    return drivers.Subnet(
        id=subnet.id, cidr=subnet.cidr, ip_version=6 if subnet.ip_version == 6 else 4, gateway_ip=subnet.gateway_ip,
        dhcp=subnet.enable_dhcp, dns=tuple(subnet.dns_nameservers),
        host_routes=tuple((route.destination, route.nexthop) for route in subnet.host_routes),
        ra_mode=_mode(subnet.ipv6_ra_mode), address_mode=_mode(subnet.ipv6_address_mode),
    )  # fmt: skip


def _mode(text: str | None) -> Mode:
    return cast(Mode, text or "")
