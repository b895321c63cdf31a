"""Pools: where volumes can live, what they can do, and which one suits a volume.

Source: Block Storage API reference, "Back-end storage pools", "Capabilities for storage back ends
(capabilities)"; administration guide, "Filter and weigh" (capabilities named in extra specs).
"""

import operator
from typing import Any

from msgspec import Struct

from pileus import __version__
from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.nodes import ALIVE_SECONDS, NODES, Node
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.reconcile import Transient
from pileus.core.schema import truth
from pileus.db.connect import Tx
from pileus.volume.drivers import Broken
from pileus.volume.service import ADMIN, missing, op
from pileus.volume.volume_type import VolumeType, find_type

OVER_SUBSCRIPTION = 20.0  # volumes are sparse: so many times the space of a pool may be promised


class PoolSeen(Struct, frozen=True, kw_only=True):
    """A pool of a node, and how much of it is promised.  Sizes in GiB."""

    node_id: str
    node_name: str
    zone: str
    name: str
    backend: str
    total: float
    free: float
    promised: int
    alive: bool
    enabled: bool
    seen_at: float
    said: dict[str, str] = {}  # by the operator, over what is known

    @property
    def host(self) -> str:
        """The name of its back end in the API."""
        return host_name(self.node_name, self.backend)

    @property
    def full_name(self) -> str:
        return f"{self.host}#{self.name}"

    def capabilities(self) -> dict[str, Any]:
        """What extra specs of volume types are compared with."""
        return {
            "volume_backend_name": self.backend, "vendor_name": "Pileus", "driver_version": __version__,
            "storage_protocol": "file", "pool_name": self.name, "total_capacity_gb": round(self.total, 2),
            "free_capacity_gb": round(self.free, 2), "reserved_percentage": 0, "QoS_support": False,
            "multiattach": True, "online_extend_support": True, "thin_provisioning_support": True,
            "thick_provisioning_support": False, "provisioned_capacity_gb": self.promised,
            "max_over_subscription_ratio": str(OVER_SUBSCRIPTION), "timestamp": iso_micro(self.seen_at), **self.said,
        }  # fmt: skip


def host_name(node_name: str, backend: str) -> str:
    """A back end of a node as the API writes it: HOST@BACKEND."""
    return f"{node_name}@{backend}"


def all_pools(tx: Tx, now: float) -> list[PoolSeen]:
    """Every pool of every node, by node and name."""
    promised = {
        (node, pool): int(size)
        for node, pool, size in tx.all("select node_id, pool, sum(wanted_gib) from volumes group by node_id, pool")
    }
    off = {row[0] for row in tx.all("select host from volume_services where disabled = 1 or frozen = 1")}
    return [_seen(node, pool, promised, off, now) for node in NODES.all(tx, order="nodes.name") for pool in node.pools]


def _seen(node: Node, pool: dict[str, Any], promised: dict[Any, int], off: set[str], now: float) -> PoolSeen:
    backend = str(pool["backend"])
    return PoolSeen(
        node_id=node.id, node_name=node.name, zone=node.zone, name=str(pool["name"]), backend=backend,
        total=float(pool["total_gib"]), free=float(pool["free_gib"]),
        promised=promised.get((node.id, pool["name"]), 0), alive=now - node.seen_at < ALIVE_SECONDS,
        enabled=host_name(node.name, backend) not in off, seen_at=node.seen_at, said=dict(pool.get("capabilities", {})),
    )  # fmt: skip


_OPERATORS = {"=": operator.ge, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le}
_WORDS = {"s==": operator.eq, "s!=": operator.ne, "s<": operator.lt, "s<=": operator.le, "s>": operator.gt,
          "s>=": operator.ge}  # fmt: skip


def satisfies(value: Any, wanted: str) -> bool:
    """Whether a capability is what an extra spec asks for, in the scheduler's little language."""
    word, _, rest = wanted.strip().partition(" ")
    rest = rest.strip()
    if word == "<is>":
        return truth(value) == truth(rest)
    if word == "<in>":
        return rest in str(value)
    if word == "<or>":
        return str(value) in [option.strip() for option in wanted.split("<or>") if option.strip()]
    if word in _WORDS:
        return bool(_WORDS[word](str(value), rest))
    if word in _OPERATORS and rest:
        try:
            return bool(_OPERATORS[word](float(value), float(rest)))
        except (TypeError, ValueError):
            return False
    return str(value) == wanted


def lacking(pool: PoolSeen, type_: VolumeType) -> list[str]:
    """What a type asks for and a pool does not have, one line each."""
    capabilities, lines = pool.capabilities(), []
    for key, wanted in type_.extra_specs.items():
        scope, _, rest = key.rpartition(":")
        if scope not in ("", "capabilities"):
            continue
        value = capabilities.get(rest)
        if value is None or not satisfies(value, wanted):
            lines.append(f"{rest}: {wanted!r} wanted, {value!r} there")
    zones = type_.extra_specs.get("RESKEY:availability_zones")
    if zones and pool.zone not in [z.strip() for z in zones.split(",")]:
        lines.append(f"availability zone: {zones} wanted, {pool.zone} there")
    return lines


def obstacles(pool: PoolSeen, type_: VolumeType, zone: str, size_gib: int) -> list[str]:
    """Why a pool cannot take a volume of this size, one line each; a node that is away is none of them."""
    lines = lacking(pool, type_)
    if pool.zone != zone:
        lines.append(f"availability zone: {zone} wanted, {pool.zone} there")
    if not pool.enabled:
        lines.append("it is disabled")
    room = pool.total * OVER_SUBSCRIPTION - pool.promised
    if size_gib > room or pool.free < 1:
        lines.append(f"gigabytes: {size_gib} wanted, {pool.free:.0f} free on disk, {max(room, 0):.0f} left to promise")
    return lines


def choose(tx: Tx, type_: VolumeType, *, zone: str, size_gib: int, near_node_id: str | None, now: float) -> PoolSeen:
    """The best pool for a volume: near its server, then the one with the most free space.

    Raises Broken naming, for each pool, what is missing; Transient when those that fit are away.
    """
    pools = all_pools(tx, now)
    fitting = [p for p in pools if not obstacles(p, type_, zone, size_gib)]
    if not fitting:
        lines = [f"{p.full_name}: {', '.join(obstacles(p, type_, zone, size_gib))}" for p in pools]
        raise Broken(f"No valid backend was found. {'; '.join(lines) or 'There is no storage node.'}")
    ready = [p for p in fitting if p.alive]
    if not ready:
        raise Transient(f"the nodes that have room do not answer: {', '.join(p.node_name for p in fitting)}")
    return max(ready, key=lambda p: (p.node_id == near_node_id, p.free - p.promised / OVER_SUBSCRIPTION))


@op(
    "GET", "/scheduler-stats/get_pools", rule="scheduler_extension:scheduler_stats:get_pools", allow=ADMIN,
    load=collection,
)  # fmt: skip
def list_pools(ctx: Context, query: Query) -> Reply:
    """List all pools, on demand with what they can do."""
    pools = all_pools(ctx.tx, ctx.now)
    if type_name := query.one("volume_type"):
        type_ = find_type(ctx, type_name)
        pools = [p for p in pools if not lacking(p, type_)]
    if name := query.one("name"):
        pools = [p for p in pools if p.full_name == name]
    detail = query.truth("detail")
    shown = [{"name": p.full_name, **({"capabilities": p.capabilities()} if detail else {})} for p in pools]
    return Reply({"pools": shown})


def load_host(ctx: Context, host: str) -> PoolSeen:
    """A back end by its name HOST@BACKEND; raises NotFound."""
    for pool in all_pools(ctx.tx, ctx.now):
        if host in (pool.host, pool.full_name):
            return pool
    raise missing("Host", host[:80])


@op("GET", "/capabilities/{host}", rule="volume_extension:capabilities", allow=ADMIN, load=load_host)
def get_capabilities(pool: PoolSeen) -> Reply:
    """Show what a back end can do."""
    flags = {
        "multiattach": "Attach one volume to several servers", "thin_provisioning": "Space is used when written",
        "online_extend": "Extend while attached",
    }  # fmt: skip
    can = pool.capabilities()
    told = {name: can[name] for name in ("vendor_name", "volume_backend_name", "pool_name", "driver_version")}
    return Reply({
        "namespace": f"OS::Storage::Capabilities::{pool.host}", **told, "storage_protocol": can["storage_protocol"],
        "display_name": pool.backend, "description": "Raw files", "visibility": "public", "replication_targets": [],
        "properties": {k: {"title": k, "description": v, "type": "boolean"} for k, v in flags.items()},
    })  # fmt: skip
