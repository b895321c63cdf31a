"""What a project, and a user inside it, may have of compute.  Source: Compute API reference, "Quota sets"."""

from collections.abc import Mapping
from typing import Any

from pileus.compute.service import ADMIN, COMPUTE, READER, envelope, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, OverQuota
from pileus.core.fields import Version, parse_version
from pileus.core.op import Reply
from pileus.core.paging import Query
from pileus.core.quota import UNLIMITED, Quota
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


class ComputeQuota(Quota):
    """The project's limits, and narrower ones that a user may have inside the project."""

    def limits_of(self, tx: Tx, project_id: str, user_id: str | None) -> dict[str, int]:
        """All limits of a user in a project (of the project, without a user)."""
        limits = self.limits(tx, project_id)
        return limits if user_id is None else {**limits, **self._stored(tx, f"{project_id}/{user_id}")}

    def usage_of(self, tx: Tx, project_id: str, user_id: str | None) -> dict[str, int]:
        """What a user has in a project (all of it, without a user)."""
        used = self.usage(tx, project_id)
        if user_id is None:
            return used
        row = tx.one(
            "select count(*), coalesce(sum(vcpus), 0), coalesce(sum(ram_mib), 0) from servers"
            " where project_id = ? and user_id = ? and deleted = 0",
            project_id, user_id,
        )  # fmt: skip
        return {**used, **dict(zip(("instances", "cores", "ram"), map(int, row or (0, 0, 0)), strict=True))}

    def take_as(self, tx: Tx, project_id: str, user_id: str, **wanted: int) -> None:
        """Raise OverQuota unless so many more fit for the project and for the user in it."""
        self.take(tx, project_id, **wanted)
        own = self._stored(tx, f"{project_id}/{user_id}")
        used = self.usage_of(tx, project_id, user_id) if own else {}
        for name, more in wanted.items():
            limit = own.get(name, UNLIMITED)
            if limit != UNLIMITED and more > 0 and used[name] + more > limit:
                raise OverQuota(
                    f"Quota exceeded for {name}: Requested {more}, but already used {used[name]} of {limit} {name} "
                    "of this user in the project.",
                    kind="OverQuota",
                )

    def reset_all(self, tx: Tx, project_id: str, user_id: str | None) -> None:
        """Forget the limits of a user in a project, or of the project and of every user in it."""
        if user_id is not None:
            self.reset(tx, f"{project_id}/{user_id}")
            return
        self.reset(tx, project_id)
        tx.run(
            "delete from quota_limits where service = ? and substr(project_id, 1, ?) = ?",
            self.service, len(project_id) + 1, f"{project_id}/",
        )  # fmt: skip


COMPUTE_QUOTA = ComputeQuota(
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
LIMIT: Schema = {"type": ["integer", "string"], "pattern": "^-?[0-9]{1,10}$", "minimum": -1, "maximum": 0x7FFFFFFF}


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


def _user(ctx: Context, project_id: str, query: Query) -> str | None:
    """The user that a request narrows the project to; checks project and query."""
    refuse_unknown(ctx, query, "user_id", since="2.75")
    check_project(ctx, project_id)
    return query.one("user_id") or None


def _set(ctx: Context, limits: Mapping[str, Any], project_id: str | None = None) -> dict[str, Any]:
    inner = {name: limits[name] for name in shown(ctx.version)}
    return {"quota_set": inner if project_id is None else {"id": project_id, **inner}}


@COMPUTE.op("GET", "/os-quota-sets/{project_id}", rule="os_compute_api:os-quota-sets:show", allow=READER, load=_project)
def show_quota(ctx: Context, project_id: str, query: Query) -> dict[str, Any]:
    """Show a quota."""
    user_id = _user(ctx, project_id, query)
    return _set(ctx, COMPUTE_QUOTA.limits_of(ctx.tx, project_id, user_id), project_id)


@COMPUTE.op(
    "GET", "/os-quota-sets/{project_id}/detail", rule="os_compute_api:os-quota-sets:detail", allow=READER,
    load=_project,
)  # fmt: skip
def show_quota_detail(ctx: Context, project_id: str, query: Query) -> dict[str, Any]:
    """Show the detail of a quota: what is used of each limit."""
    user_id = _user(ctx, project_id, query)
    limits = COMPUTE_QUOTA.limits_of(ctx.tx, project_id, user_id)
    used = COMPUTE_QUOTA.usage_of(ctx.tx, project_id, user_id)
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
    properties: dict[str, Schema] = dict.fromkeys(shown(parse_version(version)), LIMIT)
    return envelope({**properties, "force": LOOSE_BOOLEAN}, "quota_set")


def update_quota(ctx: Context, project_id: str, query: Query, body: dict[str, Any]) -> dict[str, Any]:
    """Update quotas of a project, or of a user in it; less than is in use needs `force`."""
    user_id = _user(ctx, project_id, query)
    given = dict(body["quota_set"])
    forced = truth(given.pop("force", False))
    limits = {name: limit(value, name) for name, value in given.items()}
    if not forced:
        _check_range(ctx, project_id, user_id, limits)
    COMPUTE_QUOTA.set_limits(ctx.tx, f"{project_id}/{user_id}" if user_id else project_id, limits)
    return _set(ctx, COMPUTE_QUOTA.limits_of(ctx.tx, project_id, user_id))


def _check_range(ctx: Context, project_id: str, user_id: str | None, limits: Mapping[str, int]) -> None:
    """Raise BadRequest for limits below what is in use, or of a user above the project's."""
    used = COMPUTE_QUOTA.usage_of(ctx.tx, project_id, user_id)
    above = COMPUTE_QUOTA.limits(ctx.tx, project_id) if user_id else {}
    for name, value in limits.items():
        if value != UNLIMITED and value < used[name]:
            raise BadRequest(
                f"Quota limit {value} for {name} must be greater than or equal to already used and reserved "
                f"{used[name]}."
            )
        most = above.get(name, UNLIMITED)
        if most != UNLIMITED and not 0 <= value <= most:
            raise BadRequest(f"Quota limit {value} for {name} must be less than or equal to {most}.")


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
    """Revert quotas of a project, or of a user in it, to the defaults."""
    refuse_unknown(ctx, query, "user_id", since="2.75")
    COMPUTE_QUOTA.reset_all(ctx.tx, project_id, query.one("user_id") or None)
    return Reply()
