"""What a node reports becomes a node, a provider, and looks at what differs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pileus.compute import facade
from pileus.compute.drivers import Capabilities
from pileus.core.nodes import NODES
from pileus.placement import facade as placement
from server_cloud import ServerCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Any:
    made = ServerCloud(tmp_path)
    yield made
    made.close()


def report(cloud: ServerCloud, **changes: Any) -> Any:
    told: dict[str, Any] = {
        "id": "11111111-2222-4333-8444-555555555555", "name": "far", "url": "https://far:1", "endpoint": "192.0.2.7",
        "version": "1", "zone": "east", "roles": ["compute"], "pools": [], "guests": [], "things": {}, "volumes": [],
        "capabilities": Capabilities(vcpus=4, ram_mib=8192, disk_gib=50, accelerator="kvm", traits=("HW_CPU_X86_AVX",)),
        **changes,
    }  # fmt: skip
    wire = msgspec.json.decode(msgspec.json.encode(told), type=facade.Report)
    return cloud.db.transact(lambda tx: facade.node_report(tx, wire, cloud.clock()))


def test_a_new_node_is_known_with_its_resources(cloud: ServerCloud) -> None:
    report(cloud)
    node = cloud.db.read(lambda tx: NODES.get(tx, name="far"))
    assert node is not None and node.zone == "east" and node.endpoint == "192.0.2.7" and not node.disabled
    usage = cloud.db.read(lambda tx: placement.usages(tx, [node.id]))[node.id]
    assert usage["VCPU"].capacity == 64 and usage["MEMORY_MB"].capacity == int((8192 - 512) * 1.5)
    assert usage["DISK_GB"].capacity == 50
    wanted = placement.Wanted(resources={"VCPU": 1}, required=frozenset({"HW_CPU_X86_AVX"}))
    assert cloud.db.read(lambda tx: placement.candidates(tx, wanted)) == [node.id]


def test_what_the_operator_said_of_a_node_stays(cloud: ServerCloud) -> None:
    report(cloud)
    cloud.db.transact(lambda tx: NODES.update(tx, {"disabled": True, "disabled_reason": "fan"}, name="far"))
    report(cloud, url="https://far:2")
    node = cloud.db.read(lambda tx: NODES.get(tx, name="far"))
    assert node is not None and node.disabled and node.disabled_reason == "fan" and node.url == "https://far:2"


def test_network_things_of_nobody_are_named_and_guests_are_not(cloud: ServerCloud) -> None:
    answer = report(cloud, things={"port": ["p1"], "segment": [], "router": ["r1"]}, guests=[("g1", "on")])
    assert answer == {"orphans": {"port": ["p1"], "router": ["r1"]}}


def test_nothing_of_a_server_is_an_orphan(cloud: ServerCloud) -> None:
    cloud.boot()
    assert cloud.report() == [{"orphans": {}}]


def test_only_servers_at_rest_that_differ_look_again(cloud: ServerCloud) -> None:
    server, other = cloud.boot(), cloud.boot({"name": "two"})

    def due() -> set[str]:
        rows = cloud.db.read(lambda tx: tx.all("select id from work where kind = 'server' and due is not null"))
        return {row[0] for row in rows}

    cloud.report()
    assert due() == set()
    cloud.machine().crash(server)
    cloud.report()
    assert due() == {server}
    cloud.run()
    cloud.do(other, "os-resetState", {"state": "error"}, caller="admin")
    cloud.machine().crash(other)
    cloud.report()
    assert due() == set()


def test_a_report_that_is_no_report_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"id": 1}', type=facade.Report)
