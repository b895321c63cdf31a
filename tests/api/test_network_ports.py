"""Ports and security groups through the whole pipeline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from networking import Networking
from pileus.core.nodes import NODES, Node


@pytest.fixture
def n(tmp_path: Path) -> Iterator[Networking]:
    made = Networking(tmp_path)
    yield made
    made.close()


def add_node(n: Networking, name: str = "node1") -> str:
    node = Node(id=f"id-{name}", name=name, url="", endpoint="", roles=["compute", "network"], capabilities={},
                pools=[], created_at=0.0, seen_at=0.0)  # fmt: skip
    n.db.transact(lambda tx: NODES.insert(tx, node))
    return node.id


def addresses(port: Any) -> list[str]:
    return [fixed["ip_address"] for fixed in port["fixed_ips"]]


def test_a_port_lives_through_create_show_update_delete(n: Networking) -> None:
    net, _ = n.tenant()
    port = n.make("port", network_id=net["id"], name="p", dns_name="Web")
    assert port["status"] == "DOWN" and port["mac_address"].startswith("fa:16:3e:") and addresses(port) == ["10.0.0.3"]
    assert port["dns_name"] == "web" and port["dns_assignment"][0]["fqdn"] == "web.novalocal."
    assert port["port_security_enabled"] and len(port["security_groups"]) == 1
    assert port["binding:vnic_type"] == "normal" and "binding:host_id" not in port
    shown = n.get("port", port, "admin")
    assert (shown["binding:vif_type"], shown["binding:host_id"], shown["binding:profile"]) == ("unbound", "", {})
    changed = n.change("port", port, name="q", admin_state_up=False, device_id="d", device_owner="compute:x",
                       description=None)  # fmt: skip
    assert (changed["name"], changed["admin_state_up"], changed["device_id"]) == ("q", False, "d")
    assert changed["revision_number"] == 1 and changed["description"] == ""
    n.delete("port", port)


def test_ports_are_made_in_bulk_with_tags(n: Networking) -> None:
    net, _ = n.tenant()
    body = {"ports": [{"network_id": net["id"], "tags": ["red"]}, {"network_id": net["id"]}]}
    made = n.call("POST", "/ports", body)["ports"]
    assert [port["tags"] for port in made] == [["red"], []] and made[0]["fixed_ips"] != made[1]["fixed_ips"]


def test_others_do_not_see_a_port_but_the_networks_owner_does(n: Networking) -> None:
    net, _ = n.tenant(caller="admin", shared=True)
    port = n.make("port", "other", network_id=net["id"])
    assert n.ids("port", "?device_owner=", "demo") == []
    for method in ("GET", "PUT", "DELETE"):
        body = {"port": {"name": "x"}} if method == "PUT" else None
        n.refused(404, "PortNotFound", method, f"/ports/{port['id']}", body)
    mine, _ = n.tenant("10.1.0.0/24")
    n.make("port", "admin", network_id=mine["id"], project_id="0" * 32)
    assert len(n.ids("port", f"?network_id={mine['id']}&device_owner=")) == 1
    n.cannot_make(404, "NetworkNotFound", "port", "other", network_id=mine["id"])
    n.cannot_make(403, "PolicyNotAuthorized", "port", "reader", network_id=mine["id"])


def test_addresses_are_chosen_by_subnet_by_address_or_both(n: Networking) -> None:
    net, first = n.tenant()
    second = n.make("subnet", network_id=net["id"], ip_version=4, cidr="10.0.1.0/24")
    wanted = [{"subnet_id": second["id"]}, {"ip_address": "10.0.0.77"},
              {"subnet_id": first["id"], "ip_address": "10.0.0.78"}]  # fmt: skip
    port = n.make("port", network_id=net["id"], fixed_ips=wanted)
    assert sorted(addresses(port)) == ["10.0.0.77", "10.0.0.78", "10.0.1.3"]
    changed = n.change("port", port, fixed_ips=[{"ip_address": "10.0.0.78"}, {"ip_address": "10.0.0.79"}])
    assert addresses(changed) == ["10.0.0.78", "10.0.0.79"]
    assert addresses(n.make("port", network_id=net["id"], fixed_ips=[{"ip_address": "10.0.0.77"}])) == ["10.0.0.77"]
    assert addresses(n.change("port", port, fixed_ips=[])) == []


@pytest.mark.parametrize(
    ("fixed_ips", "status", "refusal"),
    [
        ([{"ip_address": "10.0.0.3"}], 409, "IpAddressAlreadyAllocated"),
        ([{"ip_address": "10.9.0.3"}], 400, "InvalidIpForNetwork"),
        ([{"ip_address": "10.0.0.255"}], 400, "InvalidIpForSubnet"),
        ([{"subnet_id": "nope"}], 404, "SubnetNotFound"),
        ([{"ip_address": "::"}], 400, "InvalidIpForNetwork"),
        ([{"ip_address": "10.0.0.03"}], 400, "HTTPBadRequest"),
        ([{}], 400, "HTTPBadRequest"),
        ([{"subnet_id": "s"}] * 6, 400, "InvalidInput"),
        ("10.0.0.9", 400, "HTTPBadRequest"),
    ],
)
def test_addresses_that_cannot_be_are_refused_and_leave_no_port(
    n: Networking, fixed_ips: Any, status: int, refusal: str
) -> None:
    net, _ = n.tenant()
    n.make("port", network_id=net["id"])
    n.cannot_make(status, refusal, "port", network_id=net["id"], fixed_ips=fixed_ips)
    assert len(n.ids("port")) == 2


def test_a_full_subnet_says_so_and_a_freed_address_is_given_again(n: Networking) -> None:
    net, _ = n.tenant("10.0.0.0/29")
    ports = [n.make("port", network_id=net["id"]) for _ in range(4)]
    n.cannot_make(409, "IpAddressGenerationFailure", "port", network_id=net["id"])
    n.delete("port", ports[1])
    assert addresses(n.make("port", network_id=net["id"])) == addresses(ports[1])


def test_a_mac_is_unique_on_its_network_and_has_one_form(n: Networking) -> None:
    net, _ = n.tenant()
    port = n.make("port", network_id=net["id"], mac_address="FA-16-3E-00-00-01")
    assert port["mac_address"] == "fa:16:3e:00:00:01"
    n.cannot_make(409, "MacAddressInUse", "port", network_id=net["id"], mac_address="fa:16:3e:00:00:01")
    n.cannot_make(400, "HTTPBadRequest", "port", network_id=net["id"], mac_address="01:00:5e:00:00:01")
    n.cannot_make(400, "HTTPBadRequest", "port", network_id=net["id"], mac_address="x")
    assert n.ids("port", "?mac_address=FA:16:3E:00:00:01") == [port["id"]]
    n.cannot_change(403, "PolicyNotAuthorized", "port", port, mac_address="fa:16:3e:00:00:02")
    assert n.change("port", port, "admin", mac_address="fa:16:3e:00:00:02")["mac_address"] == "fa:16:3e:00:00:02"
    other, _ = n.tenant("10.1.0.0/24")
    n.make("port", network_id=other["id"], mac_address="fa:16:3e:00:00:02")


def test_the_last_address_is_given_only_once_the_named_ones_are(n: Networking) -> None:
    net, subnet = n.tenant("10.0.0.0/29")
    port = n.make("port", network_id=net["id"], fixed_ips=[{"subnet_id": subnet["id"]}, {"ip_address": "10.0.0.3"}])
    assert addresses(port) == ["10.0.0.3", "10.0.0.4"]


def test_allowed_address_pairs_are_kept_in_one_form(n: Networking) -> None:
    net, _ = n.tenant()
    pairs = [{"ip_address": "10.0.0.99"}, {"ip_address": "10.8.0.5/24", "mac_address": "FA:16:3E:11:11:11"}]
    port = n.make("port", network_id=net["id"], allowed_address_pairs=pairs)
    assert port["allowed_address_pairs"] == [
        {"ip_address": "10.0.0.99", "mac_address": port["mac_address"]},
        {"ip_address": "10.8.0.0/24", "mac_address": "fa:16:3e:11:11:11"},
    ]
    twice = [{"ip_address": "10.0.0.99"}] * 2
    n.cannot_change(400, "DuplicateAddressPairInRequest", "port", port, allowed_address_pairs=twice)
    many = [{"ip_address": f"10.0.0.{i}"} for i in range(20, 31)]
    n.cannot_change(400, "AllowedAddressPairExhausted", "port", port, allowed_address_pairs=many)
    n.cannot_change(400, "HTTPBadRequest", "port", port, allowed_address_pairs=[{"ip_address": "10.0.0.0/99"}])
    assert n.change("port", port, allowed_address_pairs=[])["allowed_address_pairs"] == []


def test_port_security_and_groups_go_together(n: Networking) -> None:
    net, _ = n.tenant()
    port = n.make("port", network_id=net["id"])
    off = {"port_security_enabled": False}
    n.cannot_change(409, "PortSecurityPortHasSecurityGroup", "port", port, **off)
    assert not n.change("port", port, **off, security_groups=[])["port_security_enabled"]
    pairs = [{"ip_address": "10.0.0.99"}]
    n.cannot_change(409, "AddressPairAndPortSecurityRequired", "port", port, allowed_address_pairs=pairs)
    group = n.make("security_group", name="g")
    n.cannot_change(409, "PortSecurityPortHasSecurityGroup", "port", port, security_groups=[group["id"]])
    n.cannot_change(404, "SecurityGroupNotFound", "port", port, security_groups=["nope"])
    theirs = n.make("security_group", "other", name="g")
    n.cannot_change(404, "SecurityGroupNotFound", "port", port, security_groups=[theirs["id"]])
    open_net = n.make("network", port_security_enabled=False)
    assert n.make("port", network_id=open_net["id"])["security_groups"] == []


def test_extra_dhcp_options_are_merged_and_taken_away_by_null(n: Networking) -> None:
    net, _ = n.tenant()
    options = [{"opt_name": "bootfile-name", "opt_value": "pxelinux.0"}, {"opt_name": "66", "opt_value": "10.0.0.5"}]
    port = n.make("port", network_id=net["id"], extra_dhcp_opts=options)
    assert {"opt_name": "bootfile-name", "opt_value": "pxelinux.0", "ip_version": 4} in port["extra_dhcp_opts"]
    changed = n.change("port", port, extra_dhcp_opts=[{"opt_name": "66", "opt_value": None}])
    assert [option["opt_name"] for option in changed["extra_dhcp_opts"]] == ["bootfile-name"]
    for bad in ({"opt_name": "a\nb", "opt_value": "x"}, {"opt_name": "x", "opt_value": "a\nserver=1"},
                {"opt_name": "999", "opt_value": "x"}, {"opt_name": "x"}):  # fmt: skip
        n.cannot_change(400, "HTTPBadRequest", "port", port, extra_dhcp_opts=[bad])


def test_binding_is_the_administrators_and_names_a_node(n: Networking) -> None:
    node_id = add_node(n)
    net, _ = n.tenant()
    port = n.make("port", network_id=net["id"])
    n.cannot_change(403, "PolicyNotAuthorized", "port", port, **{"binding:host_id": "node1"})
    bound = n.change("port", port, "admin", **{"binding:host_id": "node1"})
    assert (bound["binding:host_id"], bound["binding:vif_type"]) == ("node1", "bridge")
    assert n.db.read(lambda tx: tx.one("select node_id from ports where id = ?", port["id"])) == (node_id,)
    n.cannot_change(409, "PortBound", "port", port, "admin", mac_address="fa:16:3e:00:00:09")
    lost = n.change("port", port, "admin", **{"binding:host_id": "nowhere"})
    assert (lost["binding:host_id"], lost["binding:vif_type"]) == ("nowhere", "binding_failed")
    assert n.change("port", port, "admin", **{"binding:host_id": ""})["binding:vif_type"] == "unbound"
    n.cannot_change(400, "HTTPBadRequest", "port", port, **{"binding:vnic_type": "direct"})


def test_ports_of_routers_go_with_their_router_only(n: Networking) -> None:
    _, _, _, router = n.routed()
    leg = n.ids("port", f"?device_id={router['id']}")[0]
    n.cannot_delete(409, "ServicePortInUse", "port", leg)
    n.cannot_change(409, "PortInUse", "port", leg, device_id="")
    gateway = n.ids("port", "?device_owner=network:router_gateway", "admin")[0]
    n.refused(404, "PortNotFound", "GET", f"/ports/{gateway}")  # nobody's but the administrator's
    n.cannot_delete(409, "ServicePortInUse", "port", gateway, "admin")
    n.cannot_make(403, "PolicyNotAuthorized", "port", "other", network_id=n.outside("198.51.100.0/24")["id"],
                  device_owner="network:router_gateway")  # fmt: skip
    mine, _ = n.tenant("10.1.0.0/24")
    for owner in ("network:router_interface", "network:dhcp"):  # it would be plugged into that router
        given = {"network_id": mine["id"], "device_id": router["id"], "device_owner": owner}
        n.cannot_make(400, "HTTPBadRequest", "port", "demo", **given)
        port = n.make("port", network_id=mine["id"])
        n.cannot_change(400, "HTTPBadRequest", "port", port, device_id=router["id"], device_owner=owner)


def test_ports_are_found_by_address_subnet_group_and_device(n: Networking) -> None:
    net, subnet = n.tenant()
    group = n.make("security_group", name="g")
    port = n.make("port", network_id=net["id"], security_groups=[group["id"]], device_id="s1")
    other = n.make("port", network_id=net["id"])
    assert n.ids("port", "?fixed_ips=ip_address=10.0.0.3") == [port["id"]]
    both = sorted([port["id"], other["id"]])
    assert sorted(n.ids("port", "?fixed_ips=ip_address=10.0.0.3&fixed_ips=ip_address=10.0.0.4")) == both
    assert n.ids("port", f"?fixed_ips=subnet_id={subnet['id']},ip_address=10.0.0.4") == [other["id"]]
    assert n.ids("port", "?fixed_ips=ip_address_substr=0.0.3") == [port["id"]]
    assert n.ids("port", f"?security_groups={group['id']}") == [port["id"]]
    assert n.ids("port", "?device_id=s1&admin_state_up=true&status=DOWN") == [port["id"]]
    n.refused(400, "HTTPBadRequest", "GET", "/ports?fixed_ips=10.0.0.3")


def test_every_project_has_a_default_group_from_the_first_look(n: Networking) -> None:
    (group,) = n.call("GET", "/security-groups")["security_groups"]
    assert group["name"] == "default" and group["is_default"] and group["stateful"]
    rules = {(r["direction"], r["ethertype"], r["remote_group_id"]) for r in group["security_group_rules"]}
    assert rules == {("egress", "IPv4", None), ("egress", "IPv6", None), ("ingress", "IPv4", group["id"]),
                     ("ingress", "IPv6", group["id"])}  # fmt: skip
    assert n.ids("security_group") == [group["id"]] and n.ids("security_group", caller="other") != [group["id"]]
    n.cannot_make(409, "SecurityGroupDefaultAlreadyExists", "security_group", name="default")
    other = n.make("security_group", name="other")
    n.cannot_change(409, "SecurityGroupDefaultAlreadyExists", "security_group", other, name="default")
    n.cannot_change(409, "SecurityGroupCannotUpdateDefault", "security_group", group, name="x")
    n.cannot_delete(409, "SecurityGroupCannotRemoveDefault", "security_group", group)


def test_a_group_lives_through_create_show_update_delete(n: Networking) -> None:
    group = n.make("security_group", name="g", description="d")
    assert {r["direction"] for r in group["security_group_rules"]} == {"egress"}
    assert n.change("security_group", group, name="h")["name"] == "h"
    n.refused(404, "SecurityGroupNotFound", "GET", f"/security-groups/{group['id']}", caller="other")
    n.cannot_change(403, "PolicyNotAuthorized", "security_group", group, "reader", name="x")
    n.cannot_make(400, "HTTPBadRequest", "security_group", name="s", stateful=False)
    net, _ = n.tenant()
    port = n.make("port", network_id=net["id"], security_groups=[group["id"]])
    n.cannot_delete(409, "SecurityGroupInUse", "security_group", group)
    n.change("port", port, security_groups=[])
    n.delete("security_group", group)


RULE = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}


def test_a_rule_lives_through_create_show_delete_and_is_said_once(n: Networking) -> None:
    group = n.make("security_group", name="g")
    rule = n.make("security_group_rule", security_group_id=group["id"], **RULE)
    assert (rule["ethertype"], rule["protocol"], rule["remote_ip_prefix"]) == ("IPv4", "tcp", None)
    n.cannot_make(409, "SecurityGroupRuleExists", "security_group_rule", security_group_id=group["id"], **RULE)
    assert n.ids("security_group_rule", f"?security_group_id={group['id']}&protocol=tcp") == [rule["id"]]
    assert n.get("security_group_rule", rule)["id"] == rule["id"]
    n.refused(404, "SecurityGroupRuleNotFound", "GET", f"/security-group-rules/{rule['id']}", caller="other")
    n.refused(404, "SecurityGroupRuleNotFound", "DELETE", f"/security-group-rules/{rule['id']}", caller="other")
    n.cannot_make(404, "SecurityGroupNotFound", "security_group_rule", "other", security_group_id=group["id"], **RULE)
    n.cannot_make(403, "PolicyNotAuthorized", "security_group_rule", "reader", security_group_id=group["id"], **RULE)
    n.delete("security_group_rule", rule)


def test_rules_that_name_a_group_go_with_it(n: Networking) -> None:
    group, named = n.make("security_group", name="g"), n.make("security_group", name="named")
    rule = n.make("security_group_rule", security_group_id=group["id"], direction="ingress",
                  remote_group_id=named["id"])  # fmt: skip
    n.delete("security_group", named)
    n.refused(404, "SecurityGroupRuleNotFound", "GET", f"/security-group-rules/{rule['id']}")


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"direction": "sideways"}, "HTTPBadRequest"),
        ({"ethertype": "IPv5"}, "SecurityGroupRuleInvalidEtherType"),
        ({"protocol": "nonsense"}, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": 256}, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": None}, "SecurityGroupProtocolRequiredWithPorts"),
        ({"port_range_min": 23}, "SecurityGroupInvalidPortRange"),
        ({"port_range_max": None}, "SecurityGroupInvalidPortRange"),
        ({"port_range_min": 0}, "SecurityGroupInvalidPortValue"),
        ({"port_range_max": 65536}, "SecurityGroupInvalidPortValue"),
        ({"port_range_min": -16}, "SecurityGroupInvalidPortValue"),
        ({"port_range_max": "x"}, "HTTPBadRequest"),
        ({"protocol": "icmp", "port_range_min": 256, "port_range_max": None}, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "icmp", "port_range_min": None, "port_range_max": 3}, "SecurityGroupMissingIcmpType"),
        ({"protocol": "gre"}, "SecurityGroupInvalidProtocolForPort"),
        ({"remote_ip_prefix": "2001:db8::/64"}, "SecurityGroupRuleParameterConflict"),
        ({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "x"}, "SecurityGroupMultipleRemoteEntites"),
        ({"protocol": "ipv6-icmp", "port_range_min": None, "port_range_max": None},
         "SecurityGroupEthertypeConflictWithProtocol"),
    ],
)  # fmt: skip
def test_rules_that_contradict_themselves_are_refused(n: Networking, given: dict[str, Any], refusal: str) -> None:
    group = n.make("security_group", name="g")
    n.cannot_make(400, refusal, "security_group_rule", **{"security_group_id": group["id"], **RULE, **given})


def test_rules_have_one_form(n: Networking) -> None:
    group = n.make("security_group", name="g")

    def made(**given: Any) -> Any:
        return n.make("security_group_rule", security_group_id=group["id"], direction="ingress", **given)

    assert made(protocol="ICMP", ethertype="ipv6")["protocol"] == "ipv6-icmp"
    assert made(protocol=6)["protocol"] == "6"
    rule = made(protocol="any", remote_ip_prefix="10.0.0.7/8")
    assert (rule["remote_ip_prefix"], rule["normalized_cidr"]) == ("10.0.0.7/8", "10.0.0.0/8")
    assert made(protocol="udp", port_range_min="5", port_range_max="7")["port_range_max"] == 7
