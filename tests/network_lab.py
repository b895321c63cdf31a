"""Networking alone over fake nodes (or any switches), with a clock that jumps and workers that are killed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from direct import DEMO, Direct
from pileus.core.context import Context
from pileus.core.ids import derived_id
from pileus.core.nodes import NODES, Node
from pileus.core.reconcile import Kind, Lease, Rest, Worker
from pileus.db.connect import Tx
from pileus.drivers.switch.fake import FakeMachine, FakeSwitch
from pileus.network import facade as network
from pileus.node.wire import Stale

B = "/networking/v2.0"


class Killed(BaseException):
    """The worker ended here."""


class Away:
    """A switch whose node does not answer."""

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            raise ConnectionError("the node does not answer")

        return call


class Fenced:
    """A switch as one lease reaches it: older epochs are refused, arguments cross a wire."""

    def __init__(self, lab: "Lab", node_id: str, lease: Lease | None):
        self.lab, self.node_id, self.lease = lab, node_id, lease

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            assert self.lease is not None
            key = (self.node_id, self.lease.kind, self.lease.id)
            if self.lease.epoch < self.lab.epochs.get(key, 0):
                raise Stale("an older lease")
            self.lab.epochs[key] = self.lease.epoch
            crossed = [msgspec.json.decode(msgspec.json.encode(arg), type=type(arg)) for arg in args]
            return getattr(self.lab.switch_of(self.node_id), verb)(*crossed)

        return call


class Lab:
    """Networking alone, over as many fake nodes as wanted, with a clock that jumps."""

    def __init__(self, folder: Path, nodes: int = 2):
        self.api = Direct([network.SERVICE], folder)
        self.db = self.api.db
        self.now = time.time()
        self.kill_at = -1
        self.effects = 0
        self.down: set[str] = set()
        self.epochs: dict[Any, int] = {}
        self.machines = {derived_id("node", str(i)): FakeMachine() for i in range(1, nodes + 1)}
        self.told: list[str] = []
        for number, node_id in enumerate(self.machines, 1):
            self.report(node_id, number)
        self.revive()

    def report(self, node_id: str, number: int = 0) -> None:
        """A node says that it is there."""

        def work(tx: Tx) -> None:
            if NODES.get(tx, id=node_id) is None:
                NODES.insert(
                    tx,
                    Node(
                        id=node_id, name=f"node{number}", url="", endpoint=f"192.0.2.{number}", pools=[],
                        roles=["compute", "network"], capabilities={}, created_at=self.now, seen_at=self.now,
                    ),
                )  # fmt: skip
            NODES.update(tx, {"seen_at": self.now}, id=node_id)

        self.db.transact(work)

    def switch_of(self, node_id: str) -> FakeSwitch | Away:
        return Away() if node_id in self.down else FakeSwitch(self.machines[node_id], faults=self.fault)

    def fault(self, verb: str) -> None:
        self.effects += 1
        if self.effects == self.kill_at:
            raise Killed(verb)

    def switch(self, node_id: str, lease: Lease | None = None) -> Any:
        return Fenced(self, node_id, lease)

    def clock(self) -> float:
        return self.now

    def revive(self) -> None:
        def told(server_id: str, _world: Any) -> Rest:
            self.told.append(server_id)
            return Rest()

        server: Kind[str] = Kind("server", lambda tx, i: i, told, lambda *_: None, lambda s, w: Rest(), lambda lease: 0)
        found = {kind.name: kind for kind in [*network.kinds(self.db, self, self.clock), server]}
        self.worker = Worker(self.db, found, clock=self.clock)

    def run(self, seconds: float = 30.0) -> None:
        """Step until nothing is due for so long; killed workers are revived when their lease is over."""
        ends = self.now + seconds
        while self.now < ends:
            try:
                while self.worker.run_one():
                    pass
            except Killed:
                self.revive()
                self.now += 61
                ends += 61
                for node_id in self.machines.keys() - self.down:
                    self.report(node_id)
            due = self.db.read(lambda tx: tx.one("select min(case when lease > due then lease else due end) from work"))
            if due is None or due[0] is None or due[0] > ends:
                return
            self.now = max(self.now + 0.001, due[0])

    # --- what a user and compute do ---------------------------------------------------------------------

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
        return derived_id("node", str(number))

    def standing(self, node: int, kind: str) -> dict[str, Any]:
        return {i: thing for (k, i), thing in self.machines[self.node(node)].standing.items() if k == kind}

    def leftovers(self) -> list[Any]:
        things = [key for machine in self.machines.values() for key in (*machine.standing, *machine.wishes)]
        tables = ("networks", "subnets", "ports", "addresses", "routers", "floating_ips", "port_groups")
        rows = [(table, self.db.read(lambda tx, t=table: tx.one(f"select count(*) from {t}"))[0]) for table in tables]
        return [*things, *(row for row in rows if row[1])]

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
