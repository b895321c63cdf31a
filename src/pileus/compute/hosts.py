"""The hosts API of old (until 2.42).  Source: Compute API reference, "Hosts"."""

from typing import Any

from pileus.compute.host import Host, named
from pileus.compute.service import ADMIN, COMPUTE
from pileus.compute.services import disable, enable, running
from pileus.core.context import Context
from pileus.core.errors import NotImplementedHere
from pileus.core.op import collection
from pileus.core.paging import Query
from pileus.core.schema import Schema
from pileus.placement import facade as placement

_RULE = "os_compute_api:os-hosts"
LAST = "2.42"


def load_host(ctx: Context, host_name: str) -> Host:
    """A host by name; raises NotFound."""
    return named(ctx.tx, ctx.now, host_name)


@COMPUTE.op("GET", "/os-hosts", rule=f"{_RULE}:list", allow=ADMIN, load=collection, until=LAST)
def list_hosts(ctx: Context, query: Query) -> dict[str, Any]:
    """List hosts: one line for each service that is enabled."""
    zone = query.one("zone")
    return {
        "hosts": [
            {"host_name": s.host, "service": s.binary.removeprefix("nova-"), "zone": s.zone}
            for s in running(ctx)
            if s.status == "enabled" and zone in (None, "", s.zone)
        ]
    }


def _line(host: Host, project: str, cpu: int, memory_mb: int, disk_gb: int) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory_mb": memory_mb, "disk_gb": disk_gb}
    return {"resource": {"host": host.name, "project": project, **amounts}}


@COMPUTE.op("GET", "/os-hosts/{host_name}", rule=f"{_RULE}:show", allow=ADMIN, load=load_host, until=LAST)
def show_host(ctx: Context, host: Host) -> dict[str, Any]:
    """Show host details: its amounts, what is used, what each project's servers have."""
    usage = placement.usages(ctx.tx, [host.id]).get(host.id, {})
    amounts = [usage.get(name, placement.Usage(0, 0, 0, 0)) for name in ("VCPU", "MEMORY_MB", "DISK_GB")]
    rows = ctx.tx.all(
        "select project_id, cast(sum(vcpus) as bigint), cast(sum(ram_mib) as bigint), cast(sum(disk_gib) as bigint)"
        " from servers where node_id = ? group by project_id order by project_id",
        host.id,
    )
    whole = [sum(row[column] for row in rows) for column in (1, 2, 3)]
    return {
        "host": [
            _line(host, "(total)", *(amount.total for amount in amounts)),
            _line(host, "(used_now)", *(amount.used for amount in amounts)),
            _line(host, "(used_max)", *whole),
            *(_line(host, *row) for row in rows),
        ]
    }


_WORD: Schema = {"type": "string", "enum": ["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"]}


@COMPUTE.op(
    "PUT", "/os-hosts/{host_name}", rule=f"{_RULE}:update", allow=ADMIN, load=load_host, until=LAST,
    takes={
        "type": "object", "properties": {"status": _WORD, "maintenance_mode": _WORD}, "minProperties": 1,
        "additionalProperties": False,
    },
)  # fmt: skip
def update_host(ctx: Context, host: Host, body: dict[str, Any]) -> dict[str, Any]:
    """Update host status; there is no maintenance mode apart from it."""
    if "maintenance_mode" in body:
        raise NotImplementedHere("Maintenance mode is not implemented: disable the host and migrate its servers.")
    if body["status"].lower() == "enable":
        enable(ctx.tx, host)
        return {"host": host.name, "status": "enabled"}
    disable(ctx.tx, host, None)
    return {"host": host.name, "status": "disabled"}


def power_host(host: Host) -> None:
    """Start up, shut down or reboot a host: no driver does that, as with upstream's libvirt."""
    raise NotImplementedHere(f"Host power actions are not implemented: see to {host.name} by its own means.")


for _action, _word in (("startup", "start"), ("shutdown", "shutdown"), ("reboot", "reboot")):
    COMPUTE.op(
        "GET", f"/os-hosts/{{host_name}}/{_action}", rule=f"{_RULE}:{_word}", allow=ADMIN, load=load_host, until=LAST
    )(power_host)
