"""What guests are told of their network: network_data.json of the metadata tree.

Source: Compute API user guide, "Network metadata" (network_data.json, links, networks, services).
"""

import ipaddress
from collections.abc import Sequence
from typing import Any

from pileus.db.connect import Tx
from pileus.network.network.rows import NETWORKS, Network
from pileus.network.port.rows import FixedIp, Port, ports_by_id
from pileus.network.subnet.rows import Subnet, subnets_by_id


def network_data(tx: Tx, port_ids: Sequence[str]) -> dict[str, Any]:
    """The network_data.json of a server with these ports, in their order."""
    found = ports_by_id(tx, port_ids)
    ports = [found[port_id] for port_id in port_ids if port_id in found]
    subnets = subnets_by_id(tx, (fixed.subnet_id for port in ports for fixed in port.fixed_ips))
    networks = {n.id: n for n in NETWORKS.all(tx, id=tuple({port.network_id for port in ports}))}
    links: list[dict[str, Any]] = []
    nets: list[dict[str, Any]] = []
    services: dict[str, None] = {}
    for port in ports:
        links.append(_link(port, networks[port.network_id]))
        for fixed in port.fixed_ips:
            subnet = subnets[fixed.subnet_id]
            nets.append(_network(port, fixed, subnet, len(nets)))
            services.update(dict.fromkeys(subnet.dns_nameservers))
    return {"links": links, "networks": nets, "services": [{"type": "dns", "address": ip} for ip in services]}


def _device(port: Port) -> str:
    return f"tap{port.id[:11]}"


def _link(port: Port, network: Network) -> dict[str, Any]:
    return {
        "id": _device(port), "vif_id": port.id, "type": "bridge", "mtu": network.mtu,
        "ethernet_mac_address": port.mac_address,
    }  # fmt: skip


def _network(port: Port, fixed: FixedIp, subnet: Subnet, number: int) -> dict[str, Any]:
    base = {"id": f"network{number}", "link": _device(port), "network_id": port.network_id}
    dns = [{"type": "dns", "address": ip} for ip in subnet.dns_nameservers]
    if subnet.ip_version == 4 and subnet.enable_dhcp:
        return {**base, "type": "ipv4_dhcp"}
    if subnet.ip_version == 6 and subnet.ipv6_address_mode:
        kind = "ipv6_" + subnet.ipv6_address_mode
        return {**base, "type": kind, "ip_address": fixed.ip_address, "netmask": str(subnet.net.netmask),
                "routes": [], "services": dns}  # fmt: skip
    return {
        **base, "type": f"ipv{subnet.ip_version}", "ip_address": fixed.ip_address, "netmask": str(subnet.net.netmask),
        "routes": _routes(subnet), "services": dns,
    }  # fmt: skip


def _routes(subnet: Subnet) -> list[dict[str, str]]:
    routes = []
    for route in subnet.host_routes:
        net = ipaddress.ip_network(route.destination)
        routes.append({"network": str(net.network_address), "netmask": str(net.netmask), "gateway": route.nexthop})
    if subnet.gateway_ip:
        everything = "0.0.0.0" if subnet.ip_version == 4 else "::"  # noqa: S104 (a route, not a socket)
        routes.append({"network": everything, "netmask": everything, "gateway": subnet.gateway_ip})
    return routes


def mac_of_link_local(address: str) -> str:
    """The MAC of which a link-local address was made (RFC 4291 appendix A), or ""."""
    try:
        packed = ipaddress.IPv6Address(address).packed
    except ValueError:
        return ""
    if packed[:8] != b"\xfe\x80" + bytes(6) or packed[11:13] != b"\xff\xfe":
        return ""
    return ":".join(f"{octet:02x}" for octet in (packed[8] ^ 2, packed[9], packed[10], *packed[13:]))
