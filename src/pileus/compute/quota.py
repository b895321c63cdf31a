"""What a project may have of compute, and the sets, classes and defaults in which it is set.

Source: Compute API reference, "Quota sets", "Quota class sets".  A limit of a user inside a project is
accepted and shown as the project's, since usage is counted by project.
"""

from collections.abc import Mapping
from typing import Any

from pileus.compute.service import ADMIN, COMPUTE, READER, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.fields import Version, parse_version
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.quota import DEFAULT_PROJECT, UNLIMITED, Quota
from pileus.core.schema import LOOSE_BOOLEAN, Schema, truth
from pileus.db.connect import Tx
from pileus.identity import facade as identity


def _servers(what: str) -> Any:
    """A counter over the servers of a project that are not being deleted."""

    def count(tx: Tx, project_id: str) -> int:
        row = tx.one(f"select coalesce({what}, 0) from servers where project_id = ? and deleted = 0", project_id)
        return int(row[0]) if row else 0

    return count


def _groups(tx: Tx, project_id: str) -> int:
    row = tx.one("select count(*) from server_groups where project_id = ?", project_id)
    return int(row[0]) if row else 0


def _each(_tx: Tx, _project_id: str) -> int:
    """Usage of what is limited for each server, user or group, not for the project."""
    return 0


COMPUTE_QUOTA = Quota(
    "compute",
    {
        "instances": (10, _servers("count(*)")),
        "cores": (20, _servers("sum(vcpus)")),
        "ram": (51200, _servers("sum(ram_mib)")),
        "fixed_ips": (UNLIMITED, _each),
        "floating_ips": (UNLIMITED, _each),
        "metadata_items": (128, _each),
        "injected_files": (5, _each),
        "injected_file_content_bytes": (10240, _each),
        "injected_file_path_bytes": (255, _each),
        "security_groups": (UNLIMITED, _each),
        "security_group_rules": (UNLIMITED, _each),
        "key_pairs": (100, _each),
        "server_groups": (10, _groups),
        "server_group_members": (10, _each),
    },
)
_NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")  # network's own since 2.36
_FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")  # gone since 2.57
_GROUPS = ("server_groups", "server_group_members")
_LIMIT: Schema = {"type": ["integer", "string"], "pattern": "^-?[0-9]{1,10}$", "minimum": -1, "maximum": 0x7FFFFFFF}


def shown(version: Version, *, network_until: str = "2.35") -> list[str]:
    """The resources that a version knows."""
    hidden = {*(_NETWORK if version > parse_version(network_until) else ()), *(_FILES if version >= (2, 57) else ())}
    return [name for name in COMPUTE_QUOTA.resources if name not in hidden]


def _project(ctx: Context, project_id: str) -> dict[str, str]:
    """Loader: the target is the project whose limits these are."""
    return {"project_id": project_id}


def check_project(ctx: Context, project_id: str) -> None:
    """Raise BadRequest for a project that does not exist."""
    if identity.project_view(ctx.tx, project_id) is None:
        raise BadRequest(f"Project ID {project_id[:80]} is not a valid project.")


def _set(ctx: Context, limits: Mapping[str, Any], project_id: str | None = None) -> dict[str, Any]:
    inner = {name: limits[name] for name in shown(ctx.version)}
    return {"quota_set": inner if project_id is None else {"id": project_id, **inner}}


@COMPUTE.op("GET", "/os-quota-sets/{project_id}", rule="os_compute_api:os-quota-sets:show", allow=READER, load=_project)
def show_quota(ctx: Context, project_id: str, query: Query) -> dict[str, Any]:
    """Show a quota."""
    refuse_unknown(ctx, query, "user_id", since="2.75")
    check_project(ctx, project_id)
    return _set(ctx, COMPUTE_QUOTA.limits(ctx.tx, project_id), project_id)


@COMPUTE.op(
    "GET", "/os-quota-sets/{project_id}/detail", rule="os_compute_api:os-quota-sets:detail", allow=READER,
    load=_project,
)  # fmt: skip
def show_quota_detail(ctx: Context, project_id: str, query: Query) -> dict[str, Any]:
    """Show the detail of a quota: what is used of each limit."""
    refuse_unknown(ctx, query, "user_id", since="2.75")
    check_project(ctx, project_id)
    limits, used = COMPUTE_QUOTA.limits(ctx.tx, project_id), COMPUTE_QUOTA.usage(ctx.tx, project_id)
    detail = {name: {"limit": limits[name], "in_use": used[name], "reserved": 0} for name in limits}
    return _set(ctx, detail, project_id)


@COMPUTE.op(
    "GET", "/os-quota-sets/{project_id}/defaults", rule="os_compute_api:os-quota-sets:defaults", allow="@",
    load=_project,
)  # fmt: skip
def show_quota_defaults(ctx: Context, project_id: str, query: Query) -> dict[str, Any]:
    """List default quotas for a project."""
    refuse_unknown(ctx, query)
    check_project(ctx, project_id)
    return _set(ctx, COMPUTE_QUOTA.defaults(ctx.tx), project_id)


def _update_schema(version: str) -> Schema:
    properties: dict[str, Schema] = dict.fromkeys(shown(parse_version(version)), _LIMIT)
    inner = {"type": "object", "properties": {**properties, "force": LOOSE_BOOLEAN}, "additionalProperties": False}
    return {
        "type": "object", "properties": {"quota_set": inner}, "required": ["quota_set"], "additionalProperties": False
    }  # fmt: skip


def update_quota(ctx: Context, project_id: str, query: Query, body: dict[str, Any]) -> dict[str, Any]:
    """Update quotas; less than is in use needs `force`."""
    refuse_unknown(ctx, query, "user_id", since="2.75")
    check_project(ctx, project_id)
    given = dict(body["quota_set"])
    forced = truth(given.pop("force", False))
    limits = {name: limit(value, name) for name, value in given.items() if value != ""}
    if not forced:
        used = COMPUTE_QUOTA.usage(ctx.tx, project_id)
        for name, value in limits.items():
            if value != UNLIMITED and value < used[name]:
                raise BadRequest(
                    f"Quota limit {value} for {name} must be greater than or equal to already used and reserved "
                    f"{used[name]}."
                )
    COMPUTE_QUOTA.set_limits(ctx.tx, project_id, limits)
    return _set(ctx, COMPUTE_QUOTA.limits(ctx.tx, project_id))


for _since, _until in (("2.1", "2.35"), ("2.36", "2.56"), ("2.57", "")):
    COMPUTE.op(
        "PUT", "/os-quota-sets/{project_id}", rule="os_compute_api:os-quota-sets:update", allow=ADMIN, load=_project,
        takes=_update_schema(_since), since=_since, until=_until,
    )(update_quota)  # fmt: skip


def limit(value: int | str, name: str) -> int:
    """A limit, -1 being none; raises BadRequest naming it."""
    number = int(value)
    if not UNLIMITED <= number <= 0x7FFFFFFF:
        raise BadRequest(f"Invalid input for field/attribute {name}. Value: {number}. It must be -1 or more.")
    return number


@COMPUTE.op(
    "DELETE", "/os-quota-sets/{project_id}", rule="os_compute_api:os-quota-sets:delete", allow=ADMIN, load=_project,
    ok=202,
)  # fmt: skip
def delete_quota(ctx: Context, project_id: str, query: Query) -> Reply:
    """Revert quotas to defaults; a user has none apart from the project's."""
    refuse_unknown(ctx, query, "user_id", since="2.75")
    if "user_id" not in query:
        COMPUTE_QUOTA.reset(ctx.tx, project_id)
    return Reply()


def _class_resources(version: Version) -> list[str]:
    names = shown(version, network_until="2.49")
    return [name for name in names if name not in _GROUPS or version >= (2, 50)]


def _class_limits(ctx: Context, quota_class: str) -> dict[str, int]:
    """The operator's defaults; only the class "default" has an effect, as upstream."""
    if quota_class == "default":
        return COMPUTE_QUOTA.defaults(ctx.tx)
    stored = CLASSES.limits(ctx.tx, quota_class)
    return {**COMPUTE_QUOTA.defaults(ctx.tx), **{k: v for k, v in stored.items() if v != _UNSET}}


_UNSET = -2
CLASSES = Quota("compute-class", dict.fromkeys(COMPUTE_QUOTA.resources, (_UNSET, _each)))


@COMPUTE.op(
    "GET", "/os-quota-class-sets/{quota_class}", rule="os_compute_api:os-quota-class-sets:show", allow=ADMIN,
    load=collection,
)  # fmt: skip
def show_quota_class(ctx: Context, quota_class: str, query: Query) -> dict[str, Any]:
    """Show the quota of a class."""
    refuse_unknown(ctx, query)
    limits = _class_limits(ctx, quota_class)
    return {"quota_class_set": {"id": quota_class, **{n: limits[n] for n in _class_resources(ctx.version)}}}


def update_quota_class(ctx: Context, quota_class: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create or update the quota of a class; "default" is what projects without their own have."""
    if len(quota_class) > 255:
        raise BadRequest("quota_class_name has more than 255 characters.")
    limits = {name: limit(value, name) for name, value in body["quota_class_set"].items()}
    if quota_class == "default":
        COMPUTE_QUOTA.set_limits(ctx.tx, DEFAULT_PROJECT, limits)
    else:
        CLASSES.set_limits(ctx.tx, quota_class, limits)
    now = _class_limits(ctx, quota_class)
    return {"quota_class_set": {name: now[name] for name in _class_resources(ctx.version)}}


for _since, _until in (("2.1", "2.49"), ("2.50", "2.56"), ("2.57", "")):
    COMPUTE.op(
        "PUT", "/os-quota-class-sets/{quota_class}", rule="os_compute_api:os-quota-class-sets:update", allow=ADMIN,
        load=collection, since=_since, until=_until,
        takes={
            "type": "object",
            "properties": {
                "quota_class_set": {
                    "type": "object",
                    "properties": dict.fromkeys(_class_resources(parse_version(_since)), _LIMIT),
                    "additionalProperties": False,
                }
            },
            "required": ["quota_class_set"],
            "additionalProperties": False,
        },
    )(update_quota_class)  # fmt: skip
