"""Server groups: servers that shall stand together or apart.  Source: Compute API reference, "Server groups"."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from pileus.compute.quota import COMPUTE_QUOTA
from pileus.compute.service import ADMIN, COMPUTE, MEMBER, NAME, PAGE_LIMIT, READER, envelope, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound, OverQuota
from pileus.core.fields import Field, Fields
from pileus.core.ids import is_uuid, new_id
from pileus.core.op import Many, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import Schema
from pileus.db.connect import Tx
from pileus.db.rows import Table


class ServerGroup(Struct, frozen=True, kw_only=True):
    """A policy, and (shown only) the servers that are in it."""

    id: str
    name: str
    policy: str
    rules: dict[str, int]  # max_server_per_host, of anti-affinity alone
    project_id: str
    user_id: str
    created_at: float


class Member(Struct, frozen=True, kw_only=True):
    """A server is in one group at most."""

    server_id: str
    group_id: str


class Seen(Struct, frozen=True, kw_only=True):
    """A group with its members, as it is shown."""

    group: ServerGroup
    members: list[str]


SERVER_GROUPS = Table(ServerGroup, "server_groups")
MEMBERS = Table(Member, "server_group_members", key=("server_id",))
_RULE = "os_compute_api:os-server-groups"
ALL_PROJECTS = COMPUTE.rule(f"{_RULE}:index:all_projects", ADMIN)

SERVER_GROUP = Fields(
    "server_group",
    "server_groups",
    (
        Field("id", get="group.id"),
        Field("name", get="group.name"),
        Field("policies", get=lambda seen, _ctx: [seen.group.policy], until="2.63"),
        Field("metadata", get=lambda _seen, _ctx: {}, until="2.63"),
        Field("policy", get="group.policy", since="2.64"),
        Field("rules", get="group.rules", since="2.64"),
        Field("members"),
        Field("project_id", get="group.project_id", since="2.13"),
        Field("user_id", get="group.user_id", since="2.13"),
    ),
)


def load_group(ctx: Context, group_id: str) -> ServerGroup:
    """A group of the caller's project, of any for an administrator; raises NotFound."""
    group = SERVER_GROUPS.get(ctx.tx, id=group_id)
    if group is None or (group.project_id != ctx.caller.project_id and not ctx.allows("context_is_admin")):
        raise NotFound(f"Instance group {group_id[:80]} could not be found.")
    return group


def _seen(tx: Tx, groups: Iterable[ServerGroup]) -> list[Seen]:
    """The groups with those of their servers that are not being deleted."""
    wanted = list(groups)
    found: dict[str, list[str]] = {group.id: [] for group in wanted}
    marks = ", ".join("?" * len(found))
    rows = tx.all(
        "select m.group_id, m.server_id from server_group_members m join servers s on s.id = m.server_id"
        f" where s.deleted = 0 and m.group_id in ({marks}) order by s.created_at, s.id",
        *found,
    ) if found else []  # fmt: skip
    for group_id, server_id in rows:
        found[group_id].append(server_id)
    return [Seen(group=group, members=found[group.id]) for group in wanted]


@COMPUTE.op("GET", "/os-server-groups", rule=f"{_RULE}:index", allow=READER, load=collection, gives=Many(SERVER_GROUP))
def list_groups(ctx: Context, query: Query) -> list[Seen]:
    """List server groups."""
    refuse_unknown(ctx, query, "all_projects", "limit", "offset", since="2.75")
    listing = Listing(SERVER_GROUPS)
    if not ("all_projects" in query and ctx.allows(ALL_PROJECTS)):
        listing.equals("project_id", [ctx.project_id])
    skip, limit = query.number("offset", 0), min(query.number("limit", PAGE_LIMIT), PAGE_LIMIT)
    rows = listing.page(ctx.tx, sort=[("created_at", False), ("id", False)], limit=skip + limit)
    return _seen(ctx.tx, rows[skip:])


@COMPUTE.op("GET", "/os-server-groups/{group_id}", rule=f"{_RULE}:show", allow=READER, load=load_group,
            gives=SERVER_GROUP)  # fmt: skip
def show_group(ctx: Context, group: ServerGroup, query: Query) -> Seen:
    """Show server group details."""
    refuse_unknown(ctx, query)
    return _seen(ctx.tx, [group])[0]


@COMPUTE.op("DELETE", "/os-server-groups/{group_id}", rule=f"{_RULE}:delete", allow=MEMBER, load=load_group, ok=204)
def delete_group(ctx: Context, group: ServerGroup) -> Reply:
    """Delete a server group; its servers stay."""
    MEMBERS.delete(ctx.tx, group_id=group.id)
    SERVER_GROUPS.delete(ctx.tx, id=group.id)
    return Reply()


def _create(ctx: Context, name: str, policy: str, rules: dict[str, int]) -> Seen:
    try:
        COMPUTE_QUOTA.take(ctx.tx, ctx.project_id, server_groups=1)
    except OverQuota as error:
        raise Forbidden(error.message) from None
    group = ServerGroup(
        id=new_id(), name=name, policy=policy, rules=rules, project_id=ctx.project_id, user_id=ctx.user_id,
        created_at=ctx.now,
    )  # fmt: skip
    SERVER_GROUPS.insert(ctx.tx, group)
    return Seen(group=group, members=[])


_HARD = ["anti-affinity", "affinity"]
_ALL = [*_HARD, "soft-anti-affinity", "soft-affinity"]


def _listed(policies: list[str]) -> Schema:
    one = {"type": "array", "items": {"type": "string", "enum": policies}, "minItems": 1, "maxItems": 1}
    return envelope({"name": NAME, "policies": one}, "server_group", "name", "policies")


@COMPUTE.op("POST", "/os-server-groups", rule=f"{_RULE}:create", allow=MEMBER, load=collection, gives=SERVER_GROUP,
            takes=_listed(_HARD), until="2.14")  # fmt: skip
@COMPUTE.op("POST", "/os-server-groups", rule=f"{_RULE}:create", allow=MEMBER, load=collection, gives=SERVER_GROUP,
            takes=_listed(_ALL), since="2.15", until="2.63")  # fmt: skip
def create_group_of_policies(ctx: Context, body: dict[str, Any]) -> Seen:
    """Create a server group."""
    given = body["server_group"]
    return _create(ctx, given["name"], given["policies"][0], {})


_PER_HOST: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]{1,9}$", "minimum": 1}


@COMPUTE.op(
    "POST", "/os-server-groups", rule=f"{_RULE}:create", allow=MEMBER, load=collection, gives=SERVER_GROUP,
    since="2.64",
    takes=envelope(
        {
            "name": NAME,
            "policy": {"type": "string", "enum": _ALL},
            "rules": {
                "type": "object", "properties": {"max_server_per_host": _PER_HOST}, "additionalProperties": False
            },
        },
        "server_group", "name", "policy",
    ),
)  # fmt: skip
def create_group(ctx: Context, body: dict[str, Any]) -> Seen:
    """Create a server group with one policy and its rules."""
    given = body["server_group"]
    rules = {name: int(value) for name, value in given.get("rules", {}).items()}
    if rules and given["policy"] != "anti-affinity":
        raise BadRequest("Only anti-affinity policy supports rules.")
    if rules.get("max_server_per_host") == 0:
        raise BadRequest("Invalid input for field/attribute max_server_per_host. Value: 0. It must be 1 or more.")
    return _create(ctx, given["name"], given["policy"], rules)


def join_group(ctx: Context, server_id: str, group_id: str | None) -> None:
    """Put a new server into the group that its hint names; raises BadRequest, Forbidden (too many members)."""
    if group_id is None:
        return
    group = SERVER_GROUPS.get(ctx.tx, id=group_id) if is_uuid(group_id) else None
    if group is None or group.project_id != ctx.caller.project_id:
        raise BadRequest(f"Instance group {str(group_id)[:80]} could not be found.")
    ctx.tx.lock(f"server_group/{group.id}")
    limit = COMPUTE_QUOTA.limits(ctx.tx, group.project_id)["server_group_members"]
    if 0 <= limit <= MEMBERS.count(ctx.tx, group_id=group.id):
        raise Forbidden("Quota exceeded, too many servers in group")
    MEMBERS.insert(ctx.tx, Member(server_id=server_id, group_id=group.id))


def leave_group(tx: Tx, server_id: str) -> None:
    """Forget a server that is gone."""
    MEMBERS.delete(tx, server_id=server_id)
