"""Availability zones, as aggregates and nodes name them.  Source: Compute API reference, "Availability zones"."""

from typing import Any

from pileus.compute.host import Host, hosts
from pileus.compute.service import ADMIN, COMPUTE, refuse_unknown
from pileus.core.context import Context
from pileus.core.op import collection
from pileus.core.paging import Query

_RULE = "os_compute_api:os-availability-zone"


def _zones(ctx: Context) -> dict[str, list[Host]]:
    """The enabled hosts of each zone; a zone whose hosts are all disabled is listed without any."""
    found: dict[str, list[Host]] = {}
    for host in hosts(ctx.tx, ctx.now):
        there = found.setdefault(host.zone, [])
        if not host.node.disabled:
            there.append(host)
    return dict(sorted(found.items()))


def _available(there: list[Host]) -> bool:
    return any(host.state == "up" for host in there)


@COMPUTE.op("GET", "/os-availability-zone", rule=f"{_RULE}:list", allow="@", load=collection)
def list_zones(ctx: Context, query: Query) -> dict[str, Any]:
    """Get availability zone information."""
    refuse_unknown(ctx, query)
    return {
        "availabilityZoneInfo": [
            {"zoneName": name, "zoneState": {"available": _available(there)}, "hosts": None}
            for name, there in _zones(ctx).items()
        ]
    }


@COMPUTE.op("GET", "/os-availability-zone/detail", rule=f"{_RULE}:detail", allow=ADMIN, load=collection)
def list_zones_with_hosts(ctx: Context, query: Query) -> dict[str, Any]:
    """Get detailed availability zone information."""
    refuse_unknown(ctx, query)
    return {
        "availabilityZoneInfo": [
            {
                "zoneName": name,
                "zoneState": {"available": _available(there)},
                "hosts": {
                    host.name: {
                        "nova-compute": {"available": host.state == "up", "active": True, "updated_at": host.seen}
                    }
                    for host in there
                }
                or None,
            }
            for name, there in _zones(ctx).items()
        ]
    }
