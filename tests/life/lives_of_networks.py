"""The lives of networks and what hangs on them, as users make, change and delete them; see lives.py."""

from collections.abc import Callable, Mapping
from typing import Any

from one_machine import ADMIN, PROJECT, Act, Life, Nothing, Row, Scene, nothing_wrong, rests_in

from direct import Answer
from server_cloud import NETWORK

OWN = "a user's own"  # ports that were made by hand


def inside(scene: Scene) -> str:
    """A network on which servers may be."""
    return str(scene.of(net["id"] for net in scene.rows("networks") if not net["router:external"] and net["subnets"]))


def make(kind: str, **body: Any) -> Callable[[Scene], Answer]:
    path = {"security_group": "security-groups"}.get(kind, f"{kind}s")
    return lambda scene: scene.ask(
        "POST", f"{NETWORK}/{path}", {kind: {k: v(scene) if callable(v) else v for k, v in body.items()}}
    )  # fmt: skip


def update(kind: str, **body: Any) -> Callable[[Scene, Row], Answer]:
    return lambda scene, row: scene.ask("PUT", f"{NETWORK}/{kind}s/{row['id']}", {
        kind: {k: v(scene) if callable(v) else v for k, v in body.items()}})  # fmt: skip


def outside(scene: Scene) -> str:
    return str(scene.of(net["id"] for net in scene.rows("networks") if net["router:external"]))


def with_subnet(scene: Scene, network: Answer, cidr: str, **more: Any) -> Answer:
    if network.status != 201:
        return network
    body = {"network_id": network.json["network"]["id"], "ip_version": 4, "cidr": cidr, **more}
    return scene.ask("POST", f"{NETWORK}/subnets", {"subnet": body}, **ADMIN)


def new_outside(scene: Scene) -> Answer:
    if any(net["router:external"] for net in scene.rows("networks")):
        raise Nothing
    body = {"name": "public", "router:external": True, "provider:network_type": "flat",
            "provider:physical_network": "public"}  # fmt: skip
    network = scene.ask("POST", f"{NETWORK}/networks", {"network": body}, **ADMIN)
    return with_subnet(scene, network, "172.24.4.0/24", enable_dhcp=False)


def new_inside(scene: Scene) -> Answer:
    number = scene.of(range(1, 200))
    return with_subnet(scene, make("network", name="n")(scene), f"10.{number}.0.0/24")


def leg(verb: str) -> Callable[[Scene, Row], Answer]:
    def ask(scene: Scene, row: Row) -> Answer:
        subnets = [one for net in scene.rows("networks") if not net["router:external"] for one in net["subnets"]]
        body = {"subnet_id": scene.of(subnets)}
        return scene.ask("PUT", f"{NETWORK}/routers/{row['id']}/{verb}_router_interface", body)

    return ask


def open_router(scene: Scene) -> Answer:
    """A router between a network and the outside."""
    made = make("router", external_gateway_info=lambda scene: {"network_id": outside(scene)})(scene)
    if made.status == 201:
        leg("add")(scene, made.json["router"])
    return made


def end_router(scene: Scene, router_id: str) -> Answer:
    ports = scene.ask("GET", f"{NETWORK}/ports?device_id={router_id}&device_owner=network:router_interface", **ADMIN)
    for port in ports.json["ports"]:
        scene.ask("PUT", f"{NETWORK}/routers/{router_id}/remove_router_interface", {"port_id": port["id"]})
    return scene.ask("DELETE", f"{NETWORK}/routers/{router_id}")


def groups(scene: Scene) -> list[str]:
    return [scene.some("security_groups")]


def allow(scene: Scene, row: Row) -> Answer:
    """A rule for members of another group."""
    body = {"security_group_id": row["id"], "direction": "ingress", "protocol": "tcp",
            "port_range_min": scene.of(range(1, 100)), "port_range_max": 100,
            "remote_group_id": scene.some("security_groups")}  # fmt: skip
    return scene.ask("POST", f"{NETWORK}/security-group-rules", {"security_group_rule": body})


def forbid(scene: Scene, row: Row) -> Answer:
    rule = scene.of(row["security_group_rules"])
    return scene.ask("DELETE", f"{NETWORK}/security-group-rules/{rule['id']}")


def standing(scene: Scene, kind: str, thing_id: str) -> list[str]:
    """Nodes on which it stands, by name."""
    return [node.name for node in scene.cloud.nodes.values() if (kind, thing_id) in node.switch.machine.standing]


def port_rests(scene: Scene, row: Row) -> str:
    """Up where it is bound, and nowhere else; what was made for a server goes with it."""
    owners = {server["id"] for server in scene.rows("servers")}
    left = row["device_id"] not in owners if row["device_id"] else row["name"] != OWN
    if left:
        return "its server is gone"
    host = row["binding:host_id"]
    wanted = "ACTIVE" if host and row["admin_state_up"] else "DOWN"
    there = standing(scene, "port", row["id"])
    if there != ([host] if host else []):
        return f"it stands on {there}"
    return "" if row["status"] == wanted else f"it should be {wanted}"


def router_rests(scene: Scene, row: Row) -> str:
    """One that is open to the outside stands on one node."""
    there = standing(scene, "router", row["id"])
    return "" if len(there) == 1 or (not there and not row["external_gateway_info"]) else f"it stands on {there}"


def floating_rests(scene: Scene, row: Row) -> str:
    return "" if row["status"] == ("ACTIVE" if row["port_id"] else "DOWN") else "it does not rest"


def network_usage(name: str) -> Callable[[Scene], Mapping[str, int]]:
    return lambda scene: {
        name: scene.ask("GET", f"{NETWORK}/quotas/{PROJECT}/details", **ADMIN).json["quota"][name]["used"]
    }


FLOATING = Life(
    name="floatingips",
    path=f"{NETWORK}/floatingips",
    make={"create": make("floatingip", floating_network_id=outside)},
    acts=(
        Act("associate", update("floatingip", port_id=lambda scene: scene.some("ports"))),
        Act("disassociate", update("floatingip", port_id=None)),
    ),
    rests=floating_rests,
    usage=network_usage("floatingip"),
    counted=lambda rows: {"floatingip": len(rows)},
)

ROUTERS = Life(
    name="routers",
    path=f"{NETWORK}/routers",
    make={"create": open_router, "create closed": make("router", name="closed")},
    acts=(
        Act("add an interface", leg("add")), Act("remove an interface", leg("remove")),
        Act("close", update("router", external_gateway_info=None)),
        Act("open", update("router", external_gateway_info=lambda scene: {"network_id": outside(scene)})),
    ),
    rests=router_rests,
    delete=end_router,
    usage=network_usage("router"),
    counted=lambda rows: {"router": len(rows)},
)  # fmt: skip

PORTS = Life(
    name="ports",
    path=f"{NETWORK}/ports",
    how=ADMIN,
    mine=lambda row: not row["device_owner"].startswith("network:"),
    make={"create": make("port", name=OWN, network_id=inside)},
    acts=(
        Act("close", update("port", admin_state_up=False)),
        Act("open", update("port", admin_state_up=True)),
        Act("change groups", update("port", security_groups=groups)),
        Act("change addresses", update("port", allowed_address_pairs=[{"ip_address": "10.9.0.77"}])),
    ),
    rests=port_rests,
)

NETWORKS = Life(
    name="networks",
    path=f"{NETWORK}/networks",
    how=ADMIN,
    make={"create outside": new_outside, "create": new_inside},
    rests=rests_in("ACTIVE"),
    delete=lambda scene, network_id: scene.ask("DELETE", f"{NETWORK}/networks/{network_id}", **ADMIN),
    usage=network_usage("network"),
    counted=lambda rows: {"network": sum(row["project_id"] == PROJECT for row in rows)},
)

GROUPS = Life(
    name="security_groups",
    path=f"{NETWORK}/security-groups",
    mine=lambda row: row["name"] != "default",
    make={"create": make("security_group", name="group")},
    acts=(Act("allow", allow), Act("forbid", forbid)),
    rests=nothing_wrong,
)
