"""The operator's hand on limits: of a project, of all projects, and what a project sees of its own.

Source: Block Storage API reference, "Quota sets extension", "Quota class set extension", "Limits".
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.quota import DEFAULT_PROJECT, Quota
from pileus.volume.quota import all_types, quota
from pileus.volume.service import ADMIN, READER, action, op

_LIMIT = {"type": ["integer", "string"], "minimum": -1, "maximum": 0x7FFFFFFF, "pattern": "^(-1|[0-9]{1,9})$"}
_LIMITS = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"minLength": 1, "maxLength": 300},
    "additionalProperties": _LIMIT,
    "properties": {"tenant_id": {"type": "string"}, "project_id": {"type": "string"}},
}


def _target(ctx: Context, of_project_id: str) -> dict[str, str]:
    return {"project_id": of_project_id}


def _all(ctx: Context) -> Quota:
    return quota(all_types(ctx.tx))


def _given(limits: Quota, body: dict[str, Any]) -> dict[str, int]:
    """The limits of a body; raises BadRequest for names that there are not."""
    given = {k: int(v) for k, v in body.items() if k not in ("tenant_id", "project_id")}
    if unknown := sorted(set(given) - set(limits.resources)):
        raise BadRequest(f"Bad key(s) in quota set: {', '.join(unknown)[:200]}")
    return given


@op("GET", "/os-quota-sets/{of_project_id}", rule="volume_extension:quotas:show", allow=READER, load=_target)
def get_quota_set(ctx: Context, of_project_id: str, query: Query) -> Reply:
    """Show a project's limits, on demand with what is used of them."""
    limits = _all(ctx)
    values = limits.limits(ctx.tx, of_project_id)
    if not query.truth("usage"):
        return Reply({"quota_set": {"id": of_project_id, **values}})
    used = limits.usage(ctx.tx, of_project_id)
    both = {k: {"limit": v, "in_use": used[k], "reserved": 0} for k, v in values.items()}
    return Reply({"quota_set": {"id": of_project_id, **both}})


@op("GET", "/os-quota-sets/{of_project_id}/defaults", rule="volume_extension:quotas:show", allow=READER,
    load=_target)  # fmt: skip
def get_defaults(ctx: Context, of_project_id: str) -> Reply:
    """Show what a project without limits of its own has."""
    return Reply({"quota_set": {"id": of_project_id, **_all(ctx).defaults(ctx.tx)}})


@op("PUT", "/os-quota-sets/{of_project_id}", rule="volume_extension:quotas:update", allow=ADMIN, load=_target,
    takes=action("quota_set", _LIMITS))  # fmt: skip
def update(ctx: Context, of_project_id: str, body: dict[str, Any]) -> Reply:
    """Set some of a project's limits, none below what it uses."""
    limits = _all(ctx)
    given = _given(limits, body["quota_set"])
    used = limits.usage(ctx.tx, of_project_id)
    for name, value in given.items():
        if -1 < value < used[name]:
            raise BadRequest(
                f"Quota {name} limit must be equal or greater than existing resources. Current usage is {used[name]}"
                f" and the requested limit is {value}."
            )
    limits.set_limits(ctx.tx, of_project_id, given)
    return Reply({"quota_set": limits.limits(ctx.tx, of_project_id)})


@op("DELETE", "/os-quota-sets/{of_project_id}", rule="volume_extension:quotas:delete", allow=ADMIN, load=_target)
def delete(ctx: Context, of_project_id: str) -> Reply:
    """Give a project the defaults again."""
    _all(ctx).reset(ctx.tx, of_project_id)
    return Reply()


def _class(ctx: Context, class_name: str) -> dict[str, str]:
    return {"class_name": class_name}


@op("GET", "/os-quota-class-sets/{class_name}", rule="volume_extension:quota_classes:get", allow=ADMIN, load=_class)
def get_class(ctx: Context, class_name: str) -> Reply:
    """Show the defaults; there is one class."""
    return Reply({"quota_class_set": {"id": class_name, **_all(ctx).defaults(ctx.tx)}})


@op("PUT", "/os-quota-class-sets/{class_name}", rule="volume_extension:quota_classes:update", allow=ADMIN,
    load=_class, takes=action("quota_class_set", _LIMITS))  # fmt: skip
def update_class(ctx: Context, class_name: str, body: dict[str, Any]) -> Reply:
    """Set the defaults of all projects."""
    if class_name != "default":
        raise BadRequest(f"There is no quota class {class_name[:80]}: the only one is default.")
    limits = _all(ctx)
    limits.set_limits(ctx.tx, DEFAULT_PROJECT, _given(limits, body["quota_class_set"]))
    return Reply({"quota_class_set": limits.defaults(ctx.tx)})


_ABSOLUTE = {
    "volumes": ("maxTotalVolumes", "totalVolumesUsed"),
    "gigabytes": ("maxTotalVolumeGigabytes", "totalGigabytesUsed"),
    "snapshots": ("maxTotalSnapshots", "totalSnapshotsUsed"),
    "backups": ("maxTotalBackups", "totalBackupsUsed"),
    "backup_gigabytes": ("maxTotalBackupGigabytes", "totalBackupGigabytesUsed"),
}


@op("GET", "/limits", rule="limits_extension:used_limits", allow=READER, load=collection)
def get_limits(ctx: Context, query: Query) -> Reply:
    """Show the limits of the caller's project and what is used; of another for an administrator (3.39)."""
    other = query.one("project_id") if ctx.version >= (3, 39) and ctx.allows("context_is_admin") else None
    project_id = other or ctx.project_id
    limits = quota()
    values, used = limits.limits(ctx.tx, project_id), limits.usage(ctx.tx, project_id)
    absolute: dict[str, int] = {}
    for name, (most, now) in _ABSOLUTE.items():
        absolute |= {most: values[name], now: used[name]}
    return Reply({"limits": {"rate": [], "absolute": absolute}})
