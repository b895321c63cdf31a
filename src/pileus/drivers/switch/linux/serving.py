"""The inside of a network's DHCP namespace: addresses, routes, the metadata service's socket."""

import socket

from pileus.network.drivers import Segment

from . import links, names


def address(segment: Segment) -> None:
    """Its addresses, the metadata service's, and the way out of each subnet."""
    own = [names.interface(text) for text in segment.dhcp_ips]
    always = [names.interface(f"{names.METADATA4}/32"), names.interface(f"{names.METADATA6}/64")]
    links.set_addresses(names.DHCP_DEVICE, [*own, *always])
    routes = []
    for subnet in segment.subnets:
        if subnet.gateway_ip and any(one.ip in names.network(subnet.cidr) for one in own):
            everything = names.network("0.0.0.0/0" if subnet.ip_version == 4 else "::/0")
            routes.append((everything, str(names.address(subnet.gateway_ip)), names.DHCP_DEVICE))
    links.set_routes({str(to): (to, via, device) for to, via, device in reversed(routes)}.values())


def listen(*, ipv6: bool) -> socket.socket:
    """A listening TCP socket on the metadata address; raises OSError where the segment is not served."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    wire = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ipv6:
            wire.bind((names.METADATA6, 80, 0, socket.if_nametoindex(names.DHCP_DEVICE)))
        else:
            wire.bind((names.METADATA4, 80))
        wire.listen(128)
    except OSError:
        wire.close()
        raise
    return wire
