"""Limits of a project's networking.  Source: Networking API reference, "Quotas extension", "Quota details"."""

from collections.abc import Callable
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, OverQuota
from pileus.core.op import Reply, unguarded
from pileus.core.quota import Quota
from pileus.db.connect import Tx
from pileus.network.service import ADMIN, NETWORK, READER


def _counter(table: str, term: str = "1 = 1") -> Callable[[Tx, str], int]:
    sql = f"select count(*) from {table} where project_id = ? and {term}"

    def count(tx: Tx, project_id: str) -> int:
        row = tx.one(sql, project_id)
        return int(row[0]) if row else 0

    return count


class Exceeded(OverQuota):
    """Networking says 409 when a limit would be passed."""

    status, title = 409, "Conflict"


QUOTA = Quota(
    "network",
    {
        "network": (100, _counter("networks", "deleting = 0")),
        "subnet": (100, _counter("subnets")),
        "port": (500, _counter("ports", "deleting = 0")),
        "router": (10, _counter("routers", "deleting = 0")),
        "floatingip": (50, _counter("floating_ips")),
        "security_group": (10, _counter("security_groups", "deleting = 0")),
        "security_group_rule": (100, _counter("security_group_rules")),
    },
)


def take(tx: Tx, project_id: str, **wanted: int) -> None:
    """Raise Exceeded unless a project may have so many more."""
    try:
        QUOTA.take(tx, project_id, **wanted)
    except OverQuota as error:
        raise Exceeded(error.message, kind="OverQuota") from None


LIMIT = {"type": "integer", "minimum": -1, "maximum": 0x7FFFFFFF}
BODY = {
    "type": "object",
    "properties": {
        "quota": {
            "type": "object",
            "properties": {
                **dict.fromkeys(QUOTA.resources, LIMIT),
                "project_id": {"type": "string"}, "tenant_id": {"type": "string"},
                "force": {"type": "boolean"}, "check_limit": {"type": "boolean"},
            },
            "additionalProperties": False,
        }
    },
    "required": ["quota"],
}  # fmt: skip
SEE = f"({ADMIN}) or ({READER})"


def of_project(_ctx: Context, project_id: str) -> dict[str, str]:
    """The target of quota operations: the project that is asked about."""
    return {"project_id": project_id}


NETWORK.rule("get_quota", SEE)


@NETWORK.op("GET", "/quotas", rule="get_quota", load=unguarded)
def list_quotas(ctx: Context) -> dict[str, Any]:
    """List the quotas of projects that have limits of their own."""
    rows = ctx.tx.all(
        "select distinct project_id from quota_limits where service = 'network' and project_id <> ''"
        " order by project_id"
    )
    return {"quotas": [{**QUOTA.limits(ctx.tx, p), "project_id": p, "tenant_id": p} for (p,) in rows]}


@NETWORK.op("GET", "/quotas/{project_id}", rule="get_quota", load=of_project)
def get_quota(ctx: Context, project_id: str) -> dict[str, Any]:
    """Show the limits of a project."""
    return {"quota": QUOTA.limits(ctx.tx, project_id)}


@NETWORK.op("GET", "/quotas/{project_id}/default", rule="get_quota", load=of_project)
def get_default_quota(ctx: Context, project_id: str) -> dict[str, Any]:
    """Show the limits that a project has when it has none of its own."""
    return {"quota": QUOTA.defaults(ctx.tx)}


def _details(ctx: Context, project_id: str) -> dict[str, Any]:
    used = QUOTA.usage(ctx.tx, project_id)
    limits = QUOTA.limits(ctx.tx, project_id)
    return {"quota": {name: {"limit": limits[name], "used": used[name], "reserved": 0} for name in limits}}


@NETWORK.op("GET", "/quotas/{project_id}/details", rule="get_quota", load=of_project)
def get_quota_details(ctx: Context, project_id: str) -> dict[str, Any]:
    """Show the limits of a project and what it uses."""
    return _details(ctx, project_id)


@NETWORK.op("GET", "/quotas/{project_id}/details.json", rule="get_quota", load=of_project)
def get_quota_details_json(ctx: Context, project_id: str) -> dict[str, Any]:
    """Show the limits of a project and what it uses, at the address that older clients ask."""
    return _details(ctx, project_id)


@NETWORK.op("PUT", "/quotas/{project_id}", rule="update_quota", allow=ADMIN, load=of_project, takes=BODY)
def update_quota(ctx: Context, project_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Set limits of a project; with check_limit not below what it uses."""
    given = body["quota"]
    limits = {name: value for name, value in given.items() if name in QUOTA.resources}
    if given.get("check_limit"):
        used = QUOTA.usage(ctx.tx, project_id)
        below = [name for name, value in limits.items() if 0 <= value < used[name]]
        if below:
            raise BadRequest(
                f"Quota limit is below what is in use: {', '.join(below)}", kind="QuotaUpdateLimitBelowUsage"
            )
    QUOTA.set_limits(ctx.tx, project_id, limits)
    return {"quota": QUOTA.limits(ctx.tx, project_id)}


@NETWORK.op("DELETE", "/quotas/{project_id}", rule="delete_quota", allow=ADMIN, load=of_project, ok=204)
def delete_quota(ctx: Context, project_id: str) -> Reply:
    """Give a project the default limits again."""
    QUOTA.reset(ctx.tx, project_id)
    return Reply()
