"""Quota classes: the class "default" is what projects without limits of their own have.

Source: Compute API reference, "Quota class sets".
"""

from typing import Any

from pileus.compute.quota import COMPUTE_QUOTA, LIMIT, limit, shown
from pileus.compute.service import ADMIN, COMPUTE, envelope, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.fields import Version, parse_version
from pileus.core.op import collection
from pileus.core.paging import Query
from pileus.core.quota import DEFAULT_PROJECT, Quota

_UNSET = -2
_NEW = ("server_groups", "server_group_members")  # shown since 2.50
CLASSES = Quota("compute-class", dict.fromkeys(COMPUTE_QUOTA.resources, (_UNSET, lambda _tx, _project: 0)))


def _resources(version: Version) -> list[str]:
    names = shown(version, network_until="2.49")
    return [name for name in names if name not in _NEW or version >= (2, 50)]


def _limits(ctx: Context, quota_class: str) -> dict[str, int]:
    """The limits of a class; the defaults where it has none of its own."""
    defaults = COMPUTE_QUOTA.defaults(ctx.tx)
    if quota_class == "default":
        return defaults
    return {**defaults, **{k: v for k, v in CLASSES.limits(ctx.tx, quota_class).items() if v != _UNSET}}


@COMPUTE.op(
    "GET", "/os-quota-class-sets/{quota_class}", rule="os_compute_api:os-quota-class-sets:show", allow=ADMIN,
    load=collection,
)  # fmt: skip
def show_quota_class(ctx: Context, quota_class: str, query: Query) -> dict[str, Any]:
    """Show the quota of a class."""
    refuse_unknown(ctx, query)
    limits = _limits(ctx, quota_class)
    return {"quota_class_set": {"id": quota_class, **{name: limits[name] for name in _resources(ctx.version)}}}


def update_quota_class(ctx: Context, quota_class: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create or update the quota of a class."""
    if len(quota_class) > 255:
        raise BadRequest("quota_class_name has more than 255 characters.")
    limits = {name: limit(value, name) for name, value in body["quota_class_set"].items()}
    if quota_class == "default":
        COMPUTE_QUOTA.set_limits(ctx.tx, DEFAULT_PROJECT, limits)
    else:
        CLASSES.set_limits(ctx.tx, quota_class, limits)
    now = _limits(ctx, quota_class)
    return {"quota_class_set": {name: now[name] for name in _resources(ctx.version)}}


for _since, _until in (("2.1", "2.49"), ("2.50", "2.56"), ("2.57", "")):
    COMPUTE.op(
        "PUT", "/os-quota-class-sets/{quota_class}", rule="os_compute_api:os-quota-class-sets:update", allow=ADMIN,
        load=collection, since=_since, until=_until,
        takes=envelope(dict.fromkeys(_resources(parse_version(_since)), LIMIT), "quota_class_set"),
    )(update_quota_class)  # fmt: skip
