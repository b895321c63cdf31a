"""Limits of a project: volumes, snapshots and gigabytes, together and for each volume type; counted, not stored.

Backups and groups have limits in this API though nothing here uses them up.
Source: Block Storage API reference, "Quota sets extension (os-quota-sets)", "Quota class set extension".
"""

from collections.abc import Iterable

from pileus.core.context import Context
from pileus.core.errors import BadRequest, OverQuota, TooLarge
from pileus.core.quota import UNLIMITED, Counter, Quota
from pileus.db.connect import Tx

_VOLUMES = "select count(*), coalesce(sum(wanted_gib), 0) from volumes where project_id = ?"
_SNAPSHOTS = "select count(*), coalesce(sum(size_gib), 0) from volume_snapshots where project_id = ?"
_SNAPSHOTS_OF_TYPE = (
    "select count(*), coalesce(sum(s.size_gib), 0) from volume_snapshots s join volumes v on v.id = s.volume_id"
    " where s.project_id = ? and v.volume_type_id = ?"
)


def _number(tx: Tx, column: int, sql: str, *params: str) -> int:
    row = tx.one(sql, *params)
    return int(row[column]) if row else 0


def _nothing(_tx: Tx, _project_id: str) -> int:
    return 0


GENERAL: dict[str, tuple[int, Counter]] = {
    "volumes": (10, lambda tx, project: _number(tx, 0, _VOLUMES, project)),
    "snapshots": (10, lambda tx, project: _number(tx, 0, _SNAPSHOTS, project)),
    "gigabytes": (1000, lambda tx, p: _number(tx, 1, _VOLUMES, p) + _number(tx, 1, _SNAPSHOTS, p)),
    "per_volume_gigabytes": (UNLIMITED, _nothing),
    "backups": (10, _nothing),
    "backup_gigabytes": (1000, _nothing),
    "groups": (10, _nothing),
}


def quota(types: Iterable[tuple[str, str]] = ()) -> Quota:
    """The limits of this service, with those of the given (id, name) volume types."""
    resources = dict(GENERAL)
    for type_id, name in types:
        resources |= _of_type(type_id, name)
    return Quota("volume", resources)


def _of_type(type_id: str, name: str) -> dict[str, tuple[int, Counter]]:
    volumes = f"{_VOLUMES} and volume_type_id = ?"
    return {
        f"volumes_{name}": (UNLIMITED, lambda tx, p: _number(tx, 0, volumes, p, type_id)),
        f"snapshots_{name}": (UNLIMITED, lambda tx, p: _number(tx, 0, _SNAPSHOTS_OF_TYPE, p, type_id)),
        f"gigabytes_{name}": (
            UNLIMITED,
            lambda tx, p: _number(tx, 1, volumes, p, type_id) + _number(tx, 1, _SNAPSHOTS_OF_TYPE, p, type_id),
        ),
    }


def all_types(tx: Tx) -> list[tuple[str, str]]:
    """(id, name) of every volume type."""
    return [(row[0], row[1]) for row in tx.all("select id, name from volume_types order by name")]


def take(
    ctx: Context,
    project_id: str,
    type_: tuple[str, str],
    *,
    volumes: int = 0,
    snapshots: int = 0,
    gigabytes: int = 0,
    largest: int = 0,
) -> None:
    """Raise TooLarge (413 overLimit) unless so many more fit, in general and of this (id, name) volume type.

    `largest` is the size of the largest single volume asked for, in GiB.
    """
    limits = quota([type_])
    name = type_[1]
    wanted = {"volumes": volumes, "snapshots": snapshots, "gigabytes": gigabytes}
    try:
        limits.take(ctx.tx, project_id, **wanted, **{f"{key}_{name}": n for key, n in wanted.items()})
    except OverQuota as refusal:
        raise TooLarge(refusal.message, kind="OverQuota", headers={"retry-after": "0"}) from None
    if largest:
        limit = limits.limits(ctx.tx, project_id)["per_volume_gigabytes"]
        if limit not in (UNLIMITED, 0) and largest > limit:
            raise BadRequest(
                f"Requested size {largest}G is larger than the limit of {limit}G for one volume (per_volume_gigabytes)."
            )


def take_of_type(ctx: Context, project_id: str, type_: tuple[str, str], *, volumes: int, gigabytes: int) -> None:
    """Raise TooLarge unless so many more of a volume type fit, for volumes that exist already (retype)."""
    name = type_[1]
    try:
        quota([type_]).take(ctx.tx, project_id, **{f"volumes_{name}": volumes, f"gigabytes_{name}": gigabytes})
    except OverQuota as refusal:
        raise TooLarge(refusal.message, kind="OverQuota", headers={"retry-after": "0"}) from None
