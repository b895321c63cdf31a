"""Which projects may use a flavor that is not public.  Source: Compute API reference, "Flavors access"."""

from typing import Any

from pileus.compute.flavor import Flavor, get_flavor
from pileus.compute.quota import check_project
from pileus.compute.service import ADMIN, COMPUTE, PROJECT, envelope, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import Conflicted, NotFound
from pileus.core.paging import Query
from pileus.db.connect import Conflict

_RULE = "os_compute_api:os-flavor-access"


def _access(ctx: Context, flavor: Flavor) -> dict[str, Any]:
    rows = ctx.tx.all("select project_id from flavor_access where flavor_id = ? order by project_id", flavor.id)
    return {"flavor_access": [{"flavor_id": flavor.id, "tenant_id": project_id} for (project_id,) in rows]}


@COMPUTE.op("GET", "/flavors/{flavor_id}/os-flavor-access", rule=_RULE, allow=ADMIN, load=get_flavor)
def list_access(ctx: Context, flavor: Flavor, query: Query) -> dict[str, Any]:
    """List flavor access information for a flavor that is not public."""
    refuse_unknown(ctx, query)
    if flavor.is_public:
        raise NotFound("Access list not available for public flavors.")
    return _access(ctx, flavor)


@COMPUTE.op(
    "POST", "/flavors/{flavor_id}/action", action="addTenantAccess", rule=f"{_RULE}:add_tenant_access", allow=ADMIN,
    load=get_flavor, takes=envelope({"tenant": PROJECT}, "addTenantAccess", "tenant"),
)  # fmt: skip
def add_access(ctx: Context, flavor: Flavor, body: dict[str, Any]) -> dict[str, Any]:
    """Add flavor access to a project."""
    check_project(ctx, body["tenant"])
    if flavor.is_public and ctx.version >= (2, 7):
        raise Conflicted("Can not add access to a public flavor.")
    try:
        ctx.tx.run("insert into flavor_access (flavor_id, project_id) values (?, ?)", flavor.id, body["tenant"])
    except Conflict:
        raise Conflicted(f"Flavor access already exists for flavor {flavor.id} and project {body['tenant']}.") from None
    return _access(ctx, flavor)


@COMPUTE.op(
    "POST", "/flavors/{flavor_id}/action", action="removeTenantAccess", rule=f"{_RULE}:remove_tenant_access",
    allow=ADMIN, load=get_flavor, takes=envelope({"tenant": PROJECT}, "removeTenantAccess", "tenant"),
)  # fmt: skip
def remove_access(ctx: Context, flavor: Flavor, body: dict[str, Any]) -> dict[str, Any]:
    """Remove flavor access from a project, which need not exist any more."""
    gone = ctx.tx.run("delete from flavor_access where flavor_id = ? and project_id = ?", flavor.id, body["tenant"])
    if not gone:
        raise NotFound(f"Flavor access not found for {flavor.id} / {body['tenant']} combination.")
    return _access(ctx, flavor)
