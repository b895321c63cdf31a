"""Hosts: nodes that run servers, as the administrators' APIs see them; zones and liveness come together here."""

import json
from collections import defaultdict

from msgspec import Struct

from pileus.core.clock import iso_micro
from pileus.core.errors import NotFound
from pileus.core.nodes import ALIVE_SECONDS, NODES, Node
from pileus.db.connect import Tx


class Host(Struct, frozen=True, kw_only=True):
    """A node with what compute knows of it."""

    node: Node
    zone: str  # availability zone: of its aggregates, else its own
    forced_down: bool
    alive: bool  # it reported lately

    @property
    def id(self) -> str:
        return self.node.id

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def number(self) -> int:
        """The integer that stands for the UUID before 2.53: 28 bits of it."""
        return int(self.node.id.replace("-", "")[:7], 16) + 1

    @property
    def state(self) -> str:
        return "up" if self.alive and not self.forced_down else "down"

    @property
    def status(self) -> str:
        return "disabled" if self.node.disabled else "enabled"

    @property
    def seen(self) -> str | None:
        return iso_micro(self.node.seen_at)


def hosts(tx: Tx, now: float) -> list[Host]:
    """All hosts by the time they came."""
    zones = zones_by_node(tx)
    down = {row[0] for row in tx.all("select node_id from forced_down")}
    return [
        Host(
            node=node, zone=zones.get(node.id, node.zone), forced_down=node.id in down,
            alive=now - node.seen_at < ALIVE_SECONDS,
        )
        for node in NODES.all(tx, order="nodes.created_at, nodes.id")
        if "compute" in node.roles
    ]  # fmt: skip


def zones_by_node(tx: Tx) -> dict[str, str]:
    """The availability zone of each node that an aggregate puts into one."""
    rows = tx.all(
        "select h.node_id, a.metadata from aggregates a join aggregate_hosts h on h.aggregate_id = a.id"
        " order by a.number desc"
    )
    found = {node_id: json.loads(metadata).get("availability_zone") for node_id, metadata in rows}
    return {node_id: zone for node_id, zone in found.items() if zone}


def named(tx: Tx, now: float, name: str) -> Host:
    """A host by its name; raises NotFound."""
    found = next((host for host in hosts(tx, now) if host.name == name), None)
    if found is None:
        raise NotFound(f"Compute host {name[:255]} could not be found.")
    return found


def servers_by_node(tx: Tx) -> dict[str, list[dict[str, str]]]:
    """Name and UUID of the servers on each node."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    rows = tx.all("select node_id, id, name from servers where node_id is not null order by created_at, id")
    for node_id, server_id, name in rows:
        found[node_id].append({"uuid": server_id, "name": name})
    return found
