"""The unmodified openstacksdk uses all that stands beside servers, and placement."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from compute_client import HOST1, Compute
from keystoneauth1 import token_endpoint
from keystoneauth1.session import Session
from openstack import exceptions
from openstack.connection import Connection
from placement_client import U1, U2, Placement

from direct import DEMO
from pileus.http.app import App


def connect(url: str, caller: str) -> Connection:
    session = Session(auth=token_endpoint.Token(url, caller))
    return Connection(
        session=session, compute_endpoint_override=f"{url}/compute/v2.1", compute_api_version="2",
        placement_endpoint_override=f"{url}/placement", placement_api_version="1",
    )  # fmt: skip


@pytest.fixture
def compute(tmp_path: Path) -> Compute:
    api = Compute(tmp_path)
    api.host()
    return api


def test_flavors(compute: Compute, serve: Callable[[App], str]) -> None:
    url = serve(compute.direct.app)
    admin, demo = connect(url, "admin").compute, connect(url, "demo").compute
    tiny = admin.create_flavor(name="m1.tiny", ram=512, vcpus=1, disk=1, is_public=False, description="d")
    admin.create_flavor(name="m1.big", ram=4096, vcpus=4, disk=40)
    admin.create_flavor_extra_specs(tiny, {"hw:cpu_policy": "shared"})
    assert admin.fetch_flavor_extra_specs(tiny).extra_specs == {"hw:cpu_policy": "shared"}
    assert admin.get_flavor_extra_specs_property(tiny, "hw:cpu_policy") == "shared"
    admin.update_flavor_extra_specs_property(tiny, "hw:cpu_policy", "dedicated")
    admin.delete_flavor_extra_specs_property(tiny, "hw:cpu_policy")
    assert [flavor.name for flavor in demo.flavors()] == ["m1.big"]
    admin.flavor_add_tenant_access(tiny, DEMO.project_id)
    assert {access["tenant_id"] for access in admin.get_flavor_access(tiny)} == {DEMO.project_id}
    assert demo.find_flavor("m1.tiny").description == "d"
    assert [flavor.name for flavor in demo.flavors(min_ram=1024)] == ["m1.big"]
    assert len(list(demo.flavors(limit=1))) == 2
    admin.flavor_remove_tenant_access(tiny, DEMO.project_id)
    assert admin.update_flavor(tiny.id, description="e").description == "e"
    admin.delete_flavor(tiny)
    with pytest.raises(exceptions.ForbiddenException):
        demo.create_flavor(name="x", ram=1, vcpus=1, disk=1)


def test_keypairs_groups_quotas_and_limits(compute: Compute, serve: Callable[[App], str]) -> None:
    url = serve(compute.direct.app)
    admin, demo = connect(url, "admin").compute, connect(url, "demo").compute
    made = demo.create_keypair(name="k")
    assert "OPENSSH PRIVATE KEY" in made.private_key
    again = demo.create_keypair(name="me", public_key=made.public_key)
    assert {key.name for key in demo.keypairs()} == {"k", "me"} and again.fingerprint == made.fingerprint
    assert demo.find_keypair("k").created_at and demo.get_keypair("me").type == "ssh"
    demo.delete_keypair("k")
    group = demo.create_server_group(name="g", policy="anti-affinity", rules={"max_server_per_host": 2})
    assert demo.get_server_group(group).rules == {"max_server_per_host": 2}
    assert [g.name for g in demo.server_groups()] == ["g"] == [g.name for g in admin.server_groups(all_projects=True)]
    demo.delete_server_group(group)
    admin.update_quota_set(DEMO.project_id, cores=3)
    assert admin.get_quota_set(DEMO.project_id).cores == 3
    assert admin.get_quota_set(DEMO.project_id, usage=True).usage["cores"] == 0
    assert admin.get_quota_set_defaults(DEMO.project_id).cores == 20
    admin.revert_quota_set(DEMO.project_id)
    assert admin.get_quota_class_set().instances == 10
    assert admin.update_quota_class_set("default", instances=9).instances == 9
    limits = demo.get_limits().absolute
    assert limits.total_cores == 20 and limits.instances == 9


def test_hosts(compute: Compute, serve: Callable[[App], str]) -> None:
    compute.server()
    admin = connect(serve(compute.direct.app), "admin").compute
    aggregate = admin.create_aggregate(name="a", availability_zone="z")
    admin.set_aggregate_metadata(aggregate, {"ssd": "true"})
    assert admin.update_aggregate(aggregate, name="b").name == "b"
    assert [a.metadata for a in admin.aggregates()] == [{"availability_zone": "z", "ssd": "true"}]
    other = admin.create_aggregate(name="c")
    assert admin.add_host_to_aggregate(other, "host-1").hosts == ["host-1"]
    assert admin.remove_host_from_aggregate(other, "host-1").hosts == []
    admin.delete_aggregate(other)
    assert [zone.name for zone in admin.availability_zones()] == ["nova"]
    assert "host-1" in next(iter(admin.availability_zones(details=True))).hosts
    service = next(s for s in admin.services() if s.binary == "nova-compute")
    admin.disable_service(service, disabled_reason="later")
    assert admin.find_service("nova-compute", host="host-1").disabled_reason == "later"
    admin.update_service_forced_down(service, forced=True)
    admin.enable_service(service)
    [hypervisor] = list(admin.hypervisors(details=True, with_servers=True))
    assert hypervisor.id == HOST1 and hypervisor.servers[0]["name"] == "web" and hypervisor.uptime
    assert admin.find_hypervisor("host-1", details=True).host_ip == "127.0.0.1"
    assert admin.get_hypervisor(HOST1).name == "host-1"
    day_ago = datetime.now(UTC) - timedelta(days=1)
    assert next(iter(admin.usages(start=day_ago))).total_vcpus_usage > 1
    assert admin.get_usage(DEMO.project_id).server_usages[0]["name"] == "web"
    assert admin.find_extension("os-hosts").name == "Hosts"


def test_placement(tmp_path: Path, serve: Callable[[App], str]) -> None:
    admin = connect(serve(Placement(tmp_path).direct.app), "admin").placement
    provider = admin.create_resource_provider(name="n", uuid=U1)
    assert admin.find_resource_provider("n").id == U1
    assert admin.update_resource_provider(provider, name="m").name == "m"
    inventory = admin.create_resource_provider_inventory(U1, "VCPU", total=4)
    assert [i.resource_class for i in admin.resource_provider_inventories(U1)] == ["VCPU"]
    provider = admin.get_resource_provider(U1)
    changed = admin.update_resource_provider_inventory(
        inventory, U1, total=8, resource_provider_generation=provider.generation
    )
    assert changed.total == 8
    aggregated = admin.set_resource_provider_aggregates(admin.get_resource_provider(U1), U2)
    assert aggregated.aggregates == [U2]
    assert admin.fetch_resource_provider_aggregates(provider).aggregates == [U2]
    assert admin.create_trait("CUSTOM_GOLD").id == "CUSTOM_GOLD"
    assert "CUSTOM_GOLD" in {trait.id for trait in admin.traits()}
    admin.delete_trait("CUSTOM_GOLD")
    assert admin.create_resource_class(name="CUSTOM_SEAT").id == "CUSTOM_SEAT"
    assert admin.get_resource_class("CUSTOM_SEAT") and "VCPU" in {c.id for c in admin.resource_classes()}
    admin.delete_resource_class("CUSTOM_SEAT")
    admin.delete_resource_provider_inventory("VCPU", U1)
    admin.delete_resource_provider(provider)
    assert list(admin.resource_providers()) == []
