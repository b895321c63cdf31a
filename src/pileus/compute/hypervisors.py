"""Hypervisors: what each host can do, has and runs.  Source: Compute API reference, "Hypervisors".

Amounts are those of placement, so what is reserved for a resize counts as used.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pileus.compute.host import Host, hosts, servers_by_node
from pileus.compute.service import ADMIN, COMPUTE, next_link, page_limit, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound, NotImplementedHere
from pileus.core.fields import Field, Fields
from pileus.core.ids import is_uuid
from pileus.core.op import collection
from pileus.core.paging import Query
from pileus.core.schema import is_ip
from pileus.placement import facade as placement

_RULE = "os_compute_api:os-hypervisors"
_NOTHING = placement.Usage(0, 0, 0, 0)


class Hypervisor(Struct, frozen=True, kw_only=True):
    """A host with its amounts and servers."""

    host: Host
    usage: Mapping[str, placement.Usage]
    servers: list[dict[str, str]]
    busy: int  # servers that something is being done with
    now: float

    def of(self, resource_class: str) -> placement.Usage:
        """One resource; all zero before the host reported it."""
        return self.usage.get(resource_class, _NOTHING)


def _id(one: Hypervisor, ctx: Context) -> int | str:
    return one.host.id if ctx.version >= (2, 53) else one.host.number


def _version(one: Hypervisor, _ctx: Context) -> int:
    """7002000 of "QEMU 7.2.0", as upstream writes it."""
    numbers = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", str(one.host.node.capabilities.get("version", "")))
    major, minor, micro = (int(n or 0) for n in numbers.groups()) if numbers else (0, 0, 0)
    return major * 1_000_000 + minor * 1_000 + micro


def _address(one: Hypervisor, _ctx: Context) -> str:
    return one.host.node.endpoint if is_ip(one.host.node.endpoint) else "127.0.0.1"


def _service(one: Hypervisor, ctx: Context) -> dict[str, Any]:
    return {"id": _id(one, ctx), "host": one.host.name, "disabled_reason": one.host.node.disabled_reason}


def _cpu(one: Hypervisor, _ctx: Context) -> dict[str, Any]:
    """What is known of the processors: their traits, in the words of CPU flags."""
    traits = one.host.node.capabilities.get("traits", [])
    flags = sorted(t.removeprefix("HW_CPU_X86_").lower() for t in traits if t.startswith("HW_CPU_X86_"))
    return {"topology": {"sockets": 1, "cores": one.of("VCPU").total, "threads": 1}, "features": flags}


def uptime(one: Hypervisor) -> str | None:
    """How long the machine has been running, in the words of uptime(1); None where its agent does not tell."""
    booted = float(one.host.node.capabilities.get("booted_at") or 0)
    if not booted:
        return None
    minutes = max(int(one.now - booted) // 60, 0)
    days, rest = divmod(minutes, 1440)
    return f"up {f'{days} days, ' if days else ''}{rest // 60}:{rest % 60:02}"


_BRIEF = (
    Field("id", get=_id),
    Field("hypervisor_hostname", get="host.name"),
    Field("state", get="host.state"),
    Field("status", get="host.status"),
)
BRIEF = Fields("hypervisor", "hypervisors", _BRIEF)
_AMOUNTS: dict[str, Any] = {
    "vcpus": lambda one, _ctx: one.of("VCPU").total,
    "vcpus_used": lambda one, _ctx: one.of("VCPU").used,
    "memory_mb": lambda one, _ctx: one.of("MEMORY_MB").total,
    "memory_mb_used": lambda one, _ctx: one.of("MEMORY_MB").used + one.of("MEMORY_MB").reserved,
    "free_ram_mb": lambda one, _ctx: one.of("MEMORY_MB").capacity - one.of("MEMORY_MB").used,
    "local_gb": lambda one, _ctx: one.of("DISK_GB").total,
    "local_gb_used": lambda one, _ctx: one.of("DISK_GB").used,
    "free_disk_gb": lambda one, _ctx: one.of("DISK_GB").capacity - one.of("DISK_GB").used,
    "disk_available_least": lambda one, _ctx: one.of("DISK_GB").capacity - one.of("DISK_GB").used,
    "running_vms": lambda one, _ctx: len(one.servers),
    "current_workload": lambda one, _ctx: one.busy,
}
DETAIL = Fields(
    "hypervisor",
    "hypervisors",
    (
        *_BRIEF,
        Field("hypervisor_type", get=lambda _one, _ctx: "QEMU"),
        Field("hypervisor_version", get=_version),
        Field("host_ip", get=_address),
        Field("service", get=_service),
        *(Field(name, get=get, until="2.87") for name, get in _AMOUNTS.items()),
        Field("cpu_info", get=lambda one, ctx: json.dumps(_cpu(one, ctx)), until="2.27"),
        Field("cpu_info", get=_cpu, since="2.28", until="2.87"),
        Field("uptime", get=lambda one, _ctx: uptime(one), since="2.88"),
    ),
)


def _all(ctx: Context) -> list[Hypervisor]:
    found = hosts(ctx.tx, ctx.now)
    usage = placement.usages(ctx.tx, [host.id for host in found])
    servers = servers_by_node(ctx.tx)
    busy: dict[str, int] = dict(ctx.tx.all(
        "select node_id, count(*) from servers where node_id is not null and task is not null group by node_id"
    ))  # fmt: skip
    return [
        Hypervisor(
            host=host, usage=usage.get(host.id, {}), servers=servers.get(host.id, []), busy=busy.get(host.id, 0),
            now=ctx.now,
        )
        for host in found
    ]  # fmt: skip


def _matching(ctx: Context, pattern: str) -> list[Hypervisor]:
    """Those whose name holds the pattern; raises NotFound when none does."""
    found = [one for one in _all(ctx) if pattern in one.host.name]
    if not found:
        raise NotFound(f"No hypervisor matching '{pattern[:255]}' could be found.")
    return found


def _shown(ctx: Context, fields: Fields, one: Hypervisor, query: Query) -> dict[str, Any]:
    """A hypervisor, with its servers when they are asked for (2.53; also when there are none, 2.75)."""
    body = fields.render(one, ctx)
    if ctx.version >= (2, 53) and query.truth("with_servers") and (one.servers or ctx.version >= (2, 75)):
        body["servers"] = one.servers
    return body


def _list(ctx: Context, fields: Fields, query: Query, path: str) -> dict[str, Any]:
    """One page of the list (2.33), or those that match a pattern (2.53)."""
    refuse_unknown(ctx, query, "limit", "marker", "hypervisor_hostname_pattern", "with_servers", since="2.53")
    pattern = query.one("hypervisor_hostname_pattern") if ctx.version >= (2, 53) else None
    if pattern is not None:
        if "limit" in query or "marker" in query:
            raise BadRequest(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
            )
        return {"hypervisors": [_shown(ctx, fields, one, query) for one in _matching(ctx, pattern)]}
    found = _all(ctx)
    if ctx.version < (2, 33):
        return {"hypervisors": [_shown(ctx, fields, one, query) for one in found]}
    page = _after(ctx, found, query.one("marker"))[: page_limit(query)]
    following = next_link(ctx, path, query, page, str(_id(page[-1], ctx)) if page else "")
    return {"hypervisors": [_shown(ctx, fields, one, query) for one in page], **following}


def _after(ctx: Context, found: list[Hypervisor], marker: str | None) -> list[Hypervisor]:
    if marker is None:
        return found
    ids = [str(_id(one, ctx)) for one in found]
    if marker not in ids:
        raise BadRequest(f"marker [{marker[:80]}] not found")
    return found[ids.index(marker) + 1 :]


@COMPUTE.op("GET", "/os-hypervisors", rule=f"{_RULE}:list", allow=ADMIN, load=collection)
def list_hypervisors(ctx: Context, query: Query) -> dict[str, Any]:
    """List hypervisors."""
    return _list(ctx, BRIEF, query, "os-hypervisors")


@COMPUTE.op("GET", "/os-hypervisors/detail", rule=f"{_RULE}:list-detail", allow=ADMIN, load=collection)
def list_hypervisors_with_details(ctx: Context, query: Query) -> dict[str, Any]:
    """List hypervisors with details."""
    return _list(ctx, DETAIL, query, "os-hypervisors/detail")


@COMPUTE.op("GET", "/os-hypervisors/statistics", rule=f"{_RULE}:statistics", allow=ADMIN, load=collection, until="2.87")
def show_statistics(ctx: Context) -> dict[str, Any]:
    """Show hypervisor statistics: the sums over those that are enabled."""
    found = [one for one in _all(ctx) if not one.host.node.disabled]
    sums = {name: sum(get(one, ctx) for one in found) for name, get in _AMOUNTS.items()}
    return {"hypervisor_statistics": {"count": len(found), **sums}}


def load_hypervisor(ctx: Context, hypervisor_id: str) -> Hypervisor:
    """A hypervisor by its id of this version; raises BadRequest, NotFound."""
    if ctx.version >= (2, 53) and not is_uuid(hypervisor_id):
        raise BadRequest(f"Invalid uuid {hypervisor_id[:80]}")
    found = next((one for one in _all(ctx) if str(_id(one, ctx)) == hypervisor_id.lower()), None)
    if found is None:
        raise NotFound(f"Hypervisor with ID '{hypervisor_id[:80]}' could not be found.")
    return found


@COMPUTE.op("GET", "/os-hypervisors/{hypervisor_id}", rule=f"{_RULE}:show", allow=ADMIN, load=load_hypervisor)
def show_hypervisor(ctx: Context, hypervisor: Hypervisor, query: Query) -> dict[str, Any]:
    """Show hypervisor details."""
    refuse_unknown(ctx, query, "with_servers", since="2.53")
    return {"hypervisor": _shown(ctx, DETAIL, hypervisor, query)}


@COMPUTE.op(
    "GET", "/os-hypervisors/{hypervisor_id}/uptime", rule=f"{_RULE}:uptime", allow=ADMIN, load=load_hypervisor,
    until="2.87",
)  # fmt: skip
def show_uptime(ctx: Context, hypervisor: Hypervisor) -> dict[str, Any]:
    """Show hypervisor uptime."""
    text = uptime(hypervisor)
    if text is None:
        raise NotImplementedHere("The agent of this host does not tell when its machine was started.")
    return {"hypervisor": {**BRIEF.render(hypervisor, ctx), "uptime": text}}


@COMPUTE.op(
    "GET", "/os-hypervisors/{hypervisor_id}/search", rule=f"{_RULE}:search", allow=ADMIN, load=collection, until="2.52"
)
def search_hypervisors(ctx: Context, hypervisor_id: str) -> dict[str, Any]:
    """Search hypervisors by a part of their name."""
    return {"hypervisors": [BRIEF.render(one, ctx) for one in _matching(ctx, hypervisor_id)]}


@COMPUTE.op(
    "GET",
    "/os-hypervisors/{hypervisor_id}/servers",
    rule=f"{_RULE}:servers",
    allow=ADMIN,
    load=collection,
    until="2.52",
)
def list_hypervisor_servers(ctx: Context, hypervisor_id: str) -> dict[str, Any]:
    """List hypervisor servers, of those with a part of their name."""
    return {
        "hypervisors": [
            {**BRIEF.render(one, ctx), **({"servers": one.servers} if one.servers else {})}
            for one in _matching(ctx, hypervisor_id)
        ]
    }
