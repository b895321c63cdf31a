"""The unmodified openstacksdk makes a network with everything on it, finds it and removes it again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keystoneauth1 import token_endpoint
from keystoneauth1.session import Session
from openstack import exceptions
from openstack.connection import Connection

from networking import Networking
from pileus.http.app import App


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Networking]:
    made = Networking(tmp_path)
    yield made
    made.close()


def connect(url: str, caller: str) -> Connection:
    session = Session(auth=token_endpoint.Token(f"{url}/networking", caller))
    return Connection(session=session, network_endpoint_override=f"{url}/networking", network_api_version="2")


def test_a_whole_topology(lab: Networking, serve: Callable[[App], str]) -> None:
    url = serve(lab.api.app)
    admin, demo = connect(url, "admin").network, connect(url, "demo").network
    public = admin.create_network(name="public", is_router_external=True, provider_network_type="flat",
                                  provider_physical_network="public")  # fmt: skip
    admin.create_subnet(network_id=public.id, ip_version=4, cidr="172.24.4.0/24", is_dhcp_enabled=False)
    net = demo.create_network(name="private")
    subnet = demo.create_subnet(network_id=net.id, ip_version=4, cidr="10.0.0.0/24", dns_nameservers=["9.9.9.9"])
    router = demo.create_router(name="r", external_gateway_info={"network_id": public.id})
    demo.add_interface_to_router(router, subnet=subnet.id)
    group = demo.create_security_group(name="web")
    demo.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol="tcp",
                                    port_range_min=80, port_range_max=80)  # fmt: skip
    port = demo.create_port(network_id=net.id, security_groups=[group.id])
    floating = demo.create_ip(floating_network_id=public.id, port_id=port.id)
    assert demo.find_network("private").id == net.id and demo.find_security_group("web").id == group.id
    assert [p.id for p in demo.ports(network_id=net.id, device_owner="")] == [port.id]
    assert floating.fixed_ip_address == port.fixed_ips[0]["ip_address"] and floating.port_details["status"] == "DOWN"
    assert demo.set_tags(net, ["red"]).tags == ["red"] and [n.id for n in demo.networks(tags=["red"])] == [net.id]
    assert demo.find_extension("router").alias == "router" and demo.get_quota("d" * 32).ports == 500
    assert len(list(demo.ports(limit=1, paginated=True))) == 3
    with pytest.raises(exceptions.ConflictException):
        demo.delete_network(net)
    demo.delete_ip(floating)
    demo.delete_port(port)
    demo.remove_interface_from_router(router, subnet=subnet.id)
    for gone in (router, group, net):
        demo._delete(type(gone), gone)
    assert list(demo.networks(is_router_external=False)) == [] and demo.find_network(net.id) is None
