"""Limits: what the caller's project may have and has.  Source: Compute API reference, "Limits"."""

from typing import Any

from pileus.compute.quota import COMPUTE_QUOTA, shown
from pileus.compute.service import ADMIN, COMPUTE, refuse_unknown
from pileus.core.context import Context
from pileus.core.op import collection
from pileus.core.paging import Query

OTHER = COMPUTE.rule("os_compute_api:limits:other_project", ADMIN)
_MOST = {
    "ram": ("maxTotalRAMSize",),
    "instances": ("maxTotalInstances",),
    "cores": ("maxTotalCores",),
    "key_pairs": ("maxTotalKeypairs",),
    "floating_ips": ("maxTotalFloatingIps",),
    "metadata_items": ("maxServerMeta", "maxImageMeta"),
    "injected_files": ("maxPersonality",),
    "injected_file_content_bytes": ("maxPersonalitySize",),
    "security_groups": ("maxSecurityGroups",),
    "security_group_rules": ("maxSecurityGroupRules",),
    "server_groups": ("maxServerGroups",),
    "server_group_members": ("maxServerGroupMembers",),
}
_USED = {
    "ram": "totalRAMUsed",
    "cores": "totalCoresUsed",
    "instances": "totalInstancesUsed",
    "floating_ips": "totalFloatingIpsUsed",
    "security_groups": "totalSecurityGroupsUsed",
    "server_groups": "totalServerGroupsUsed",
}


@COMPUTE.op("GET", "/limits", rule="os_compute_api:limits", allow="@", load=collection)
def show_limits(ctx: Context, query: Query) -> dict[str, Any]:
    """Show rate and absolute limits; there are no rate limits."""
    refuse_unknown(ctx, query, "reserved", "tenant_id", since="2.75")
    project_id = query.one("tenant_id")
    if project_id is None:
        project_id = ctx.project_id
    else:
        ctx.enforce(OTHER, {"project_id": project_id})
    limits, used = COMPUTE_QUOTA.limits(ctx.tx, project_id), COMPUTE_QUOTA.usage(ctx.tx, project_id)
    absolute: dict[str, int] = {}
    for name in shown(ctx.version):
        for word in _MOST.get(name, ()):
            if word != "maxImageMeta" or ctx.version < (2, 39):
                absolute[word] = limits[name]
        if name in _USED:
            absolute[_USED[name]] = used[name]
    return {"limits": {"rate": [], "absolute": absolute}}
