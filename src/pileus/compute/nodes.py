"""Nodes as their agents report them: who they are, what they can give, what they have.

Sources: placement's resource classes and standard traits; upstream's defaults of ratios and reservations,
but for the VCPU ratio, which is that of test clouds on emulated CPUs.
"""

import logging
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins

from pileus.compute.drivers import Capabilities
from pileus.compute.server.rows import SERVERS, SNAPSHOTS, Server
from pileus.compute.server.states import failed, wanted_power
from pileus.core.nodes import ALIVE_SECONDS, NODES, Node
from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.network import facade as network
from pileus.placement import facade as placement
from pileus.placement.facade import Inventory
from pileus.volume import facade as volume
from pileus.volume.drivers import Pool

VCPU_RATIO, RAM_RATIO, DISK_RATIO = 16.0, 1.5, 1.0
RESERVED_RAM_MIB = 512
log = logging.getLogger("pileus.nodes")


class Report(Struct, frozen=True, kw_only=True):
    """What an agent tells of its node (see node.agent.Reporter)."""

    id: str
    name: str
    url: str
    endpoint: str
    roles: list[str]
    version: str
    zone: str
    capabilities: Capabilities
    pools: list[Pool]
    guests: list[tuple[str, str]]  # (server id, power, "gone" when only files are left)
    things: dict[str, list[str]]  # of the switch, by kind
    volumes: list[str]  # ids of volumes and snapshots
    fresh: bool = False  # the first since the agent started: what stood before may be gone


def node_report(tx: Tx, report: Report, now: float) -> dict[str, Any]:
    """Take a report; the answer names the network things that nobody wants.

    Whoever lives on a node that is new, was away or lost something (it booted anew) looks again.
    """
    before = NODES.get(tx, id=report.id)
    _save(tx, report, before, now)
    _provide(tx, report, now)
    if before is None or report.fresh or now - before.seen_at >= ALIVE_SECONDS:
        network.node_seen(tx, report.id, now)
        volume.node_seen(tx, report.id, now)
    _compare_guests(tx, report, now)
    _name_strangers(tx, report)
    return {"orphans": network.compare_node(tx, report.id, report.things, now)}


def _save(tx: Tx, report: Report, before: Node | None, now: float) -> None:
    """The node's row; what the operator says of it (disabled, why) stays."""
    told: dict[str, Any] = {
        "name": report.name, "url": report.url, "endpoint": report.endpoint, "roles": report.roles,
        "capabilities": {**to_builtins(report.capabilities), "version": report.capabilities.version or report.version},
        "pools": to_builtins(report.pools), "seen_at": now, "zone": report.zone,
    }  # fmt: skip
    if before is None:
        NODES.insert(tx, Node(id=report.id, created_at=now, **told))
    else:
        NODES.update(tx, {c: v for c, v in told.items() if getattr(before, c) != v}, id=report.id)


def _provide(tx: Tx, report: Report, now: float) -> None:
    """The node's resource provider."""
    if "compute" not in report.roles:
        return
    can = report.capabilities
    reserved = min(RESERVED_RAM_MIB, can.ram_mib // 4)
    offered = {
        "VCPU": Inventory(total=can.vcpus, allocation_ratio=VCPU_RATIO, max_unit=can.vcpus),
        "MEMORY_MB": Inventory(total=can.ram_mib, reserved=reserved, allocation_ratio=RAM_RATIO, max_unit=can.ram_mib),
        "DISK_GB": Inventory(total=can.disk_gib, allocation_ratio=DISK_RATIO, max_unit=can.disk_gib),
    }
    there = {name: inventory for name, inventory in offered.items() if inventory.total > 0}
    placement.ensure_provider(
        tx, provider_id=report.id, name=report.name, inventories=there, traits=can.traits, now=now
    )


def _compare_guests(tx: Tx, report: Report, now: float) -> None:
    """Servers that rest although their guest is not as it should be look again."""
    seen = dict(report.guests)
    resting = {i for (i,) in tx.all("select id from work where kind = 'server' and due is null")}
    for server in SERVERS.all(tx, node_id=report.id):
        if server.id in resting and _differs(server, seen.get(server.id, "gone")):
            poke(tx, "server", server.id, now)


def _differs(server: Server, power: str) -> bool:
    if server.deleted:
        return True
    if failed(server) or server.broken or server.shelved:
        return False
    return power != wanted_power(server)


def _name_strangers(tx: Tx, report: Report) -> None:
    """Guests and volumes of nobody are never touched, only told of."""
    for guest_id in {guest_id for guest_id, _ in report.guests} - expected_guests(tx, report.id):
        log.warning("node %s has guest %s, which is no server of that node", report.name, guest_id)
    for thing in set(report.volumes) - volume.expected(tx, report.id):
        log.warning("node %s has volume or snapshot %s of nobody", report.name, thing)


def expected_guests(tx: Tx, node_id: str) -> set[str]:
    """Ids of the servers of which a node may have a trace."""
    return {row[0] for row in tx.all("select id from servers where node_id = ?", node_id)}


def expected_copies(tx: Tx, node_id: str) -> set[str]:
    """Ids of the copies of disks that images are being made of."""
    return {snapshot.id for snapshot in SNAPSHOTS.all(tx, node_id=node_id)}


def powers_shown(tx: Tx, node_id: str) -> dict[str, str]:
    """In which power guests of a node were last seen, of servers that rest and are in no ERROR; by server id."""
    busy = {row[0] for row in tx.all("select id from work where kind = 'server' and due is not null")}
    servers = [s for s in SERVERS.all(tx, node_id=node_id, deleted=False) if not (failed(s) or s.broken)]
    return {server.id: server.seen.power for server in servers if server.id not in busy}


def inconsistencies(tx: Tx) -> list[str]:
    """Nodes without a provider, one line each."""
    compute: Mapping[str, str] = {node.id: node.name for node in NODES.all(tx) if "compute" in node.roles}
    known = placement.usages(tx, compute)
    return [f"node {name} has no resource provider" for node_id, name in compute.items() if node_id not in known]
