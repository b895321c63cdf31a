"""The lives of networking on fake switches: what is wished stands, nothing else does, whatever is killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from direct import DEMO
from network_lab import Lab, routed, tenant
from pileus.core.nodes import ALIVE_SECONDS
from pileus.core.policy import Enforcer
from pileus.drivers.switch.fake import FakeSwitch
from pileus.network import drivers
from pileus.network import facade as network


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    assert made.db.read(network.inconsistencies) == []
    made.db.close()


def test_a_network_without_ports_is_nowhere(lab: Lab) -> None:
    tenant(lab)
    lab.run()
    assert lab.standing(1, "segment") == lab.standing(2, "segment") == {}


def test_a_bound_port_comes_up_with_its_network_groups_and_dhcp(lab: Lab) -> None:
    net, _ = tenant(lab)
    port_id = lab.plug(net["id"], 1, dns_name="web")
    lab.run()
    view = lab.view(port_id)
    assert view.up and view.device.startswith("tap") and view.status == "ACTIVE" and view.netns == "fake"
    segment = lab.standing(1, "segment")[net["id"]]
    assert segment.serves and segment.dhcp_ips == ("10.0.0.2/24",) and segment.vni > 0
    assert [(h.ips, h.hostname) for h in segment.hosts] == [(("10.0.0.3",), "web")]
    wish = lab.standing(1, "port")[port_id]
    group_id = view.security_groups[0]
    assert {r.remote_group for r in wish.rules} == {"", group_id}
    assert lab.standing(1, "group")[group_id].addresses == ("10.0.0.3",)
    assert lab.pokes == ["s1"]


def test_deleting_a_port_leaves_nothing_and_frees_its_address_at_once(lab: Lab) -> None:
    net, subnet = tenant(lab)
    port_id = lab.plug(net["id"], 1)
    lab.run()
    lab.call("DELETE", f"/ports/{port_id}")
    lab.call("GET", f"/ports/{port_id}", ok=404)
    again = lab.make("port", network_id=net["id"], fixed_ips=[{"ip_address": "10.0.0.3"}])
    lab.run()
    assert not any(lab.number(1).switch.list_things().values())
    lab.call("DELETE", f"/ports/{again['id']}")
    lab.call("DELETE", f"/subnets/{subnet['id']}")
    lab.call("DELETE", f"/networks/{net['id']}")
    lab.run()
    assert lab.leftovers() == []


def test_nodes_know_each_others_ports_and_one_serves(lab: Lab) -> None:
    net, _ = tenant(lab)
    first, second = lab.plug(net["id"], 1), lab.plug(net["id"], 2)
    lab.run()
    one, two = lab.standing(1, "segment")[net["id"]], lab.standing(2, "segment")[net["id"]]
    assert (one.serves, two.serves) == (True, False) and len(one.hosts) == 2 and two.hosts == ()
    assert one.endpoints == ("192.0.2.2",) and [p.ips for p in one.peers] == [("10.0.0.4",)]
    assert {(p.ips, p.endpoint) for p in two.peers} == {(("10.0.0.2",), "192.0.2.1"), (("10.0.0.3",), "192.0.2.1")}
    lab.db.transact(lambda tx: network.delete_port(tx, second, lab.now))
    lab.run()
    assert not lab.standing(2, "segment") and lab.standing(1, "segment")[net["id"]].peers == ()
    assert lab.view(first).up


@pytest.mark.parametrize("node", [1, 2])
def test_a_port_is_up_only_when_dhcp_answers_to_it(lab: Lab, node: int) -> None:
    """Its network stands and is served by node 1; whatever is stepped first, no guest asks in vain."""
    net, _ = tenant(lab)
    lab.plug(net["id"], 1)
    lab.plug(net["id"], 2, server="s2")
    lab.run()
    port_id, rounds = lab.plug(net["id"], node, server="fast", dns_name="fast"), 0
    while not lab.view(port_id).up:
        if not lab.worker.run_one():
            lab.now += 0.05
        known = {host.port_id for host in lab.standing(1, "segment")[net["id"]].hosts}
        assert port_id in known or lab.view(port_id).status == "BUILD", "it is up, and DHCP does not know it"
        rounds += 1
        assert rounds < 200
    lab.db.transact(lambda tx: network.unbind_port(tx, port_id, lab.now))
    lab.run()
    lab.call("PUT", f"/ports/{port_id}", {"port": {"fixed_ips": [{"ip_address": "10.0.0.77"}]}})
    lab.db.transact(lambda tx: network.bind_port(tx, port_id, lab.node(node), lab.now))
    lab.run()
    assert ("10.0.0.77",) in [host.ips for host in lab.standing(1, "segment")[net["id"]].hosts]
    assert lab.view(port_id).up


def test_a_port_moves_to_another_node(lab: Lab) -> None:
    net, _ = tenant(lab)
    port_id = lab.plug(net["id"], 1)
    lab.run()
    lab.db.transact(lambda tx: network.bind_port(tx, port_id, lab.node(2), lab.now))
    assert not lab.view(port_id).up
    lab.run()
    assert lab.view(port_id).up and lab.standing(2, "port") and not lab.standing(1, "port")
    lab.db.transact(lambda tx: network.detach_port(tx, port_id, lab.now))
    lab.run()
    view = lab.view(port_id)
    assert (view.status, view.device_id, view.node_id, view.up) == ("DOWN", "", None, False)
    assert not any(thing for node in lab.nodes.values() for thing in node.switch.list_things().values())


def test_a_rule_reaches_the_ports_of_its_group_and_members_follow(lab: Lab) -> None:
    net, _ = tenant(lab)
    group = lab.make("security_group", name="web")
    port_id = lab.plug(net["id"], 1, security_groups=[group["id"]])
    lab.run()
    assert len(lab.standing(1, "port")[port_id].rules) == 2
    other = lab.make("security_group", name="peers")
    rule = lab.make("security_group_rule", security_group_id=group["id"], direction="ingress", protocol="tcp",
                    port_range_min=80, port_range_max=80, remote_group_id=other["id"])  # fmt: skip
    lab.run()
    made = lab.standing(1, "port")[port_id].rules
    assert drivers.Rule(direction="ingress", ethertype="IPv4", protocol="tcp", port_min=80, port_max=80,
                        remote_group=other["id"]) in made  # fmt: skip
    assert lab.standing(1, "group")[other["id"]].addresses == ()
    lab.plug(net["id"], 2, security_groups=[other["id"]])
    lab.run()
    assert lab.standing(1, "group")[other["id"]].addresses == ("10.0.0.4",)
    lab.call("DELETE", f"/security-group-rules/{rule['id']}")
    lab.run()
    assert other["id"] not in lab.standing(1, "group") and len(lab.standing(1, "port")[port_id].rules) == 2


def test_a_router_stands_on_one_node_with_its_networks(lab: Lab) -> None:
    net, _, ext, router = routed(lab)
    port_id = lab.plug(net["id"], 2)
    lab.run()
    made = lab.standing(1, "router")[router["id"]]
    assert made.legs[0].ips == ("10.0.0.1/24",) and made.gateway.ips == ("172.24.4.2/24",)
    assert made.next_hops == ("172.24.4.1",) and made.snat
    assert set(lab.standing(1, "segment")) == {net["id"], ext["id"]} and not lab.standing(2, "router")
    ports = lab.call("GET", f"/ports?device_id={router['id']}", caller="admin")["ports"]
    assert {port["status"] for port in ports} == {"ACTIVE"}
    assert ("10.0.0.1",) in [p.ips for p in lab.standing(2, "segment")[net["id"]].peers]
    floating = lab.make("floatingip", floating_network_id=ext["id"], port_id=port_id)
    assert floating["status"] == "DOWN"
    lab.run()
    assert lab.standing(1, "router")[router["id"]].floating == ((floating["floating_ip_address"], "10.0.0.3"),)
    assert lab.call("GET", f"/floatingips/{floating['id']}")["floatingip"]["status"] == "ACTIVE"
    lab.call("PUT", f"/floatingips/{floating['id']}", {"floatingip": {"port_id": None}})
    lab.run()
    assert lab.standing(1, "router")[router["id"]].floating == ()
    assert lab.call("GET", f"/floatingips/{floating['id']}")["floatingip"]["status"] == "DOWN"


def test_a_leg_that_is_taken_off_goes_from_the_node_and_its_network_with_it(lab: Lab) -> None:
    net, subnet, ext, router = routed(lab)
    lab.run()
    lab.call("PUT", f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]})
    lab.run()
    assert lab.standing(1, "router")[router["id"]].legs == () and set(lab.standing(1, "segment")) == {ext["id"]}
    lab.call("DELETE", f"/routers/{router['id']}")
    lab.call("DELETE", f"/networks/{net['id']}")
    lab.call("DELETE", f"/networks/{ext['id']}", caller="admin")
    lab.call("GET", f"/networks/{net['id']}", ok=404)
    lab.run()
    assert lab.leftovers() == []


def test_routers_and_dhcp_follow_when_their_node_falls_silent(lab: Lab) -> None:
    net, _, _, router = routed(lab)
    port_id = lab.plug(net["id"], 2)
    lab.plug(net["id"], 1, server="s2")
    lab.run()
    assert lab.standing(1, "router") and lab.standing(1, "segment")[net["id"]].serves
    lab.number(1).alive = False
    lab.later(100)
    lab.run(20)
    assert lab.standing(2, "router")[router["id"]].legs and lab.standing(2, "segment")[net["id"]].serves
    assert lab.view(port_id).up
    lab.number(1).alive = True
    lab.report()
    assert not lab.standing(1, "router"), "the agent removes what nobody wants there"
    lab.run(20)
    assert not lab.standing(1, "segment")[net["id"]].serves


def test_one_node_away_does_not_hold_up_the_others(lab: Lab) -> None:
    net, _ = tenant(lab)
    lab.plug(net["id"], 2)
    lab.run()
    lab.plug(net["id"], 1)
    lab.run()
    assert lab.standing(2, "segment")[net["id"]].serves
    lab.number(1).alive = False
    port_id = lab.plug(net["id"], 2)
    lab.run(10)
    assert lab.view(port_id).up


def test_a_port_waits_for_dhcp_no_longer_than_its_node_counts_as_alive(lab: Lab) -> None:
    net, _ = tenant(lab)
    lab.plug(net["id"], 1)
    lab.run()
    assert lab.standing(1, "segment")[net["id"]].serves
    lab.number(1).alive = False
    port_id = lab.plug(net["id"], 2)
    lab.run(10)
    assert not lab.view(port_id).up and lab.view(port_id).status == "BUILD"
    lab.later(ALIVE_SECONDS)
    lab.run(10)
    assert lab.view(port_id).up and lab.standing(2, "segment")[net["id"]].serves


def test_after_a_reboot_everything_stands_again(lab: Lab) -> None:
    net, _, _, _ = routed(lab)
    port_id = lab.plug(net["id"], 1)
    lab.run()
    machine = lab.number(1).switch.machine
    before = dict(machine.standing)
    lab.number(1).reboot()
    lab.report()
    lab.run()
    assert machine.standing == before and lab.view(port_id).up


def test_what_a_node_lost_is_noticed_by_comparing(lab: Lab) -> None:
    net, _ = tenant(lab)
    port_id = lab.plug(net["id"], 1)
    lab.run()
    machine = lab.number(1).switch.machine
    del machine.standing["port", port_id], machine.wishes["port", port_id]
    things = {**FakeSwitch(machine).list_things(), "group": ["stranger"]}
    orphans = lab.db.transact(lambda tx: network.compare_node(tx, lab.node(1), things, lab.now))
    assert orphans == {"group": ["stranger"]}
    lab.run()
    assert lab.standing(1, "port")


def test_many_ports_of_one_network_cost_few_driver_calls(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    net, _ = tenant(lab)
    lab.call("PUT", f"/quotas/{DEMO.project_id}", {"quota": {"port": -1}}, caller="admin")
    for number in range(100):
        lab.plug(net["id"], 1 + number % 2, server=f"s{number}")
    lab.run()
    assert len(lab.standing(1, "port")) == 50 and len(lab.pokes) == 100
    assert lab.effects() <= 100 + 100  # one call a port, few for what they share
    lab.db.close()


def test_policy_defaults_refer_to_rules_that_exist() -> None:
    enforcer = Enforcer()
    for name, text in network.SERVICE.rules.items():
        enforcer.declare(name, text)
    enforcer.check_references()
