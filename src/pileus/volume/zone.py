"""Availability zones of block storage: those of its nodes.

Source: Block Storage API reference, "Availability zones (os-availability-zone)".
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.nodes import ALIVE_SECONDS, NODES
from pileus.core.op import Reply, collection
from pileus.db.connect import Tx
from pileus.volume.service import READER, op

FIRST_ZONE = "nova"


def zones(tx: Tx) -> dict[str, list[float]]:
    """Each zone with the times at which its storage nodes were last seen."""
    found: dict[str, list[float]] = {}
    for node in NODES.all(tx, order="nodes.zone"):
        if "storage" in node.roles or node.pools:
            found.setdefault(node.zone, []).append(node.seen_at)
    return found or {FIRST_ZONE: []}


def checked_zone(tx: Tx, name: str | None) -> str:
    """The zone asked for, or the first one; raises BadRequest for a zone that has no storage."""
    there = zones(tx)
    if name is None:
        return FIRST_ZONE if FIRST_ZONE in there else next(iter(there))
    if name not in there:
        raise BadRequest(f"Availability zone '{name[:80]}' is invalid. Choose one of: {', '.join(sorted(there))}.")
    return name


@op("GET", "/os-availability-zone", rule="volume:availability_zone_list", allow=READER, load=collection)
def list_zones(ctx: Context) -> Reply:
    """List availability zones and whether a node of theirs answers."""
    shown: list[dict[str, Any]] = [
        {"zoneName": name, "zoneState": {"available": not seen or ctx.now - max(seen) < ALIVE_SECONDS}}
        for name, seen in zones(ctx.tx).items()
    ]
    return Reply({"availabilityZoneInfo": shown})
