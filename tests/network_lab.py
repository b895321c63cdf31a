"""The words of networking's tests over the fake cloud: what stands where, and a stand-in for compute."""

from pathlib import Path
from typing import Any

from cloud import FakeNode, ServerlessCloud
from direct import DEMO
from pileus.core.context import Context
from pileus.db.connect import Tx
from pileus.network import facade as network

B = "/networking/v2.0"
TABLES = ("networks", "subnets", "ports", "addresses", "routers", "floating_ips", "port_groups")


class Lab(ServerlessCloud):
    """A fake cloud of which networking alone is used, on two nodes."""

    def __init__(self, folder: Path, nodes: int = 2):
        super().__init__(folder, nodes)

    def number(self, number: int) -> FakeNode:
        return next(node for node in self.nodes.values() if node.name == f"node{number}")

    def effects(self) -> int:
        """How many calls nodes got."""
        return sum(sum(node.agent.counts.values()) for node in self.nodes.values())

    def call(self, method: str, path: str, body: Any = None, caller: str = "demo", ok: int = 0) -> Any:
        answer = self.api(method, B + path, body, caller=caller)
        assert answer.status == (ok or {"GET": 200, "POST": 201, "PUT": 200, "DELETE": 204}[method]), answer
        return answer.json

    def make(self, kind: str, caller: str = "demo", **given: Any) -> Any:
        plural = {"security_group": "security-groups", "security_group_rule": "security-group-rules"}.get(
            kind, kind + "s"
        )
        return self.call("POST", f"/{plural}", {kind: given}, caller)[kind]

    def as_demo(self, tx: Tx) -> Context:
        return Context(tx, DEMO, now=self.now, enforcer=self.api.app.enforcer)

    def plug(self, network_id: str, node: int, server: str = "s1", **given: Any) -> str:
        """A port of a server, wished on a node."""

        def work(tx: Tx) -> str:
            port = network.create_port(
                self.as_demo(tx), network_id=network_id, device_id=server, device_owner="compute:nova", **given
            )
            network.bind_port(tx, port.id, self.node(node), self.now)
            return port.id

        return self.db.transact(work)

    def node(self, number: int) -> str:
        return self.number(number).id

    def standing(self, node: int, kind: str) -> dict[str, Any]:
        return {i: thing for (k, i), thing in self.number(node).switch.machine.standing.items() if k == kind}

    def leftovers(self) -> list[str]:
        rows = [(table, self.db.read(lambda tx, t=table: tx.one(f"select count(*) from {t}"))[0]) for table in TABLES]
        return [*super().leftovers(), *(f"{rows} {table}" for table, rows in rows if rows)]

    def view(self, port_id: str) -> network.PortView:
        found = self.db.read(lambda tx: network.get_port(tx, port_id))
        assert found is not None
        return found


def tenant(lab: Lab) -> tuple[Any, Any]:
    net = lab.make("network", name="private")
    return net, lab.make("subnet", network_id=net["id"], ip_version=4, cidr="10.0.0.0/24")


def outside(lab: Lab) -> Any:
    ext = lab.make(
        "network", caller="admin", **{"router:external": True, "provider:network_type": "flat",
                                      "provider:physical_network": "public"},
    )  # fmt: skip
    lab.make("subnet", caller="admin", network_id=ext["id"], ip_version=4, cidr="172.24.4.0/24", enable_dhcp=False)
    return ext


def routed(lab: Lab) -> tuple[Any, Any, Any, Any]:
    net, subnet = tenant(lab)
    ext = outside(lab)
    router = lab.make("router", name="r", external_gateway_info={"network_id": ext["id"]})
    lab.call("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})
    return net, subnet, ext, router


def legs(lab: Lab, router: Any) -> list[Any]:
    owner = "network:router_interface"
    return list(lab.call("GET", f"/ports?device_id={router['id']}&device_owner={owner}")["ports"])


def tear_down(lab: Lab, net: Any, subnet: Any, ext: Any, router: Any, ports: list[str]) -> None:
    for floating in lab.call("GET", "/floatingips")["floatingips"]:
        lab.call("DELETE", f"/floatingips/{floating['id']}")
    for port_id in ports:
        lab.call("DELETE", f"/ports/{port_id}")
    if legs(lab, router):
        lab.call("PUT", f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]})
    lab.call("DELETE", f"/routers/{router['id']}")
    lab.call("DELETE", f"/networks/{net['id']}")
    lab.call("DELETE", f"/networks/{ext['id']}", caller="admin")
