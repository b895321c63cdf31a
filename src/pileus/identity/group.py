"""Groups and who is in them.  Source: Identity API reference, "Groups"."""

from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import LONG_TEXT
from pileus.db.connect import Conflict
from pileus.identity.directories import door_of
from pileus.identity.directory_reads import (
    Listed,
    narrowed,
    refresh_group,
    refresh_groups_of_user,
    refresh_users_in_group,
    search_groups,
)
from pileus.identity.domain import RESOURCE_NAME, domain_for_new, require_domain
from pileus.identity.mirror import is_gone, read_only, refuse_change
from pileus.identity.rows import GROUPS, MEMBERSHIPS, USERS, Group, Membership, User
from pileus.identity.service import (
    DOMAIN_MANAGER,
    DOMAIN_READER,
    IDENTITY,
    READER,
    OpenFields,
    listed,
    own_domain,
    seen,
    self_link,
)
from pileus.identity.standing import LASTING
from pileus.identity.user import USER, load_user

GROUP = OpenFields(
    "group",
    "groups",
    (
        Field("id", "rq"),
        Field("name", "Cruqs", RESOURCE_NAME),
        Field("domain_id", "crqu", {"type": "string", "maxLength": 64}),
        Field("description", "cru", LONG_TEXT, default=""),
        Field("links", "r", get=self_link("groups")),
    ),
)
# Of a user in a group, both in the domain of the caller's scope.
_BOTH = "domain_id:%(domain_id)s and domain_id:%(user_domain_id)s"


class UserInGroup(Struct, frozen=True, kw_only=True):
    """A group and a user, as rules about membership see them."""

    group: Group
    user: User
    domain_id: str
    user_domain_id: str


def load_group(ctx: Context, group_id: str, **_path: str) -> Group:
    """A group that the caller may see."""
    found = GROUPS.get(ctx.tx, id=group_id)
    if found is not None and is_gone(ctx.tx, group_id):
        found = None
    return seen(ctx, "identity:get_group", "group", group_id, found)


def load_user_in_group(ctx: Context, group_id: str, user_id: str) -> UserInGroup:
    """A group and a user, both of which the caller may see."""
    group, user = load_group(ctx, group_id), load_user(ctx, user_id)
    return UserInGroup(group=group, user=user, domain_id=group.domain_id, user_domain_id=user.domain_id)


@IDENTITY.op(
    "GET", "/groups", rule="identity:list_groups", allow=DOMAIN_READER, load=own_domain, gives=Many(GROUP),
    slow=search_groups,
)  # fmt: skip
def list_groups(ctx: Context, query: Query, found: Listed | None) -> Page:
    """List groups; a caller whose scope is a domain sees those in it."""
    listing = Listing(GROUPS)
    if ctx.caller.domain_id is not None:
        listing.equals("domain_id", [ctx.caller.domain_id])
    return narrowed(ctx, GROUP, listing, query, found)


@IDENTITY.op(
    "GET", "/groups/{group_id}", rule="identity:get_group", allow=DOMAIN_READER, load=load_group, gives=GROUP,
    slow=refresh_group,
)  # fmt: skip
def get_group(group: Group) -> Group:
    """Show a group."""
    return group


@IDENTITY.op(
    "POST", "/groups", rule="identity:create_group", allow=DOMAIN_MANAGER, load=own_domain, takes=GROUP, gives=GROUP,
    ok=201,
)  # fmt: skip
def create_group(ctx: Context, body: dict[str, Any]) -> Group:
    """Create a group."""
    domain_id = domain_for_new(ctx, body)
    ctx.enforce("identity:create_group", {"domain_id": domain_id})
    require_domain(ctx, domain_id)
    if door := door_of(ctx, domain_id):
        raise read_only("group", door.directory.name)
    group = Group(
        id=new_hex(), name=body["name"], domain_id=domain_id, description=body.get("description") or "",
        extra=GROUP.extra_of(body),
    )  # fmt: skip
    try:
        return GROUPS.insert(ctx.tx, group)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store group - Duplicate name, {group.name}.") from None


@IDENTITY.op(
    "PATCH", "/groups/{group_id}", rule="identity:update_group", allow=DOMAIN_MANAGER, load=load_group, takes=GROUP,
    gives=GROUP,
)  # fmt: skip
def update_group(ctx: Context, group: Group, body: dict[str, Any]) -> Group:
    """Update a group."""
    if body.get("domain_id", group.domain_id) != group.domain_id:
        raise BadRequest("domain_id cannot be changed.")
    refuse_change(ctx.tx, "group", group.id)
    changes = GROUP.changes(group, body)
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    try:
        GROUPS.update(ctx.tx, changes, id=group.id)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store group - Duplicate name, {body['name']}.") from None
    return structs.replace(group, **changes)


@IDENTITY.op(
    "DELETE", "/groups/{group_id}", rule="identity:delete_group", allow=DOMAIN_MANAGER, load=load_group, ok=204
)
def delete_group(ctx: Context, group: Group) -> Reply:
    """Delete a group; its users lose the roles that they had by it."""
    refuse_change(ctx.tx, "group", group.id)
    GROUPS.delete(ctx.tx, id=group.id)
    return Reply()


@IDENTITY.op(
    "GET", "/groups/{group_id}/users", rule="identity:list_users_in_group", allow=DOMAIN_READER, load=load_group,
    gives=Many(USER), slow=refresh_users_in_group,
)  # fmt: skip
def list_users_in_group(ctx: Context, group: Group, query: Query) -> Page:
    """List the users in a group."""
    listing = Listing(USERS).where(
        f"users.id in (select user_id from memberships where group_id = ? and {LASTING})", group.id, ctx.now
    )
    return listed(ctx, USER, listing, query, path=f"/groups/{group.id}/users")


@IDENTITY.op(
    "GET", "/users/{user_id}/groups", rule="identity:list_groups_for_user",
    allow=f"{DOMAIN_READER} or user_id:%(id)s", load=load_user, gives=Many(GROUP),
    slow=refresh_groups_of_user,
)  # fmt: skip
def list_groups_for_user(ctx: Context, user: User, query: Query) -> Page:
    """List the groups in which a user is."""
    listing = Listing(GROUPS).where(
        f"user_groups.id in (select group_id from memberships where user_id = ? and {LASTING})", user.id, ctx.now
    )
    return listed(ctx, GROUP, listing, query, path=f"/users/{user.id}/groups")


@IDENTITY.op(
    "PUT", "/groups/{group_id}/users/{user_id}", rule="identity:add_user_to_group",
    allow=f"rule:admin_required or role:manager and {_BOTH}", load=load_user_in_group, ok=204,
)  # fmt: skip
def add_user_to_group(ctx: Context, pair: UserInGroup) -> Reply:
    """Add a user to a group; a membership that would have ended lasts from now on."""
    refuse_membership(ctx, pair)
    found = MEMBERSHIPS.get(ctx.tx, user_id=pair.user.id, group_id=pair.group.id)
    membership = Membership(user_id=pair.user.id, group_id=pair.group.id)
    if found is None:
        MEMBERSHIPS.insert(ctx.tx, membership)
    elif found.expires_at is not None:
        MEMBERSHIPS.save(ctx.tx, membership, ("expires_at", "idp_id"))
    return Reply()


@IDENTITY.op(
    "GET", "/groups/{group_id}/users/{user_id}", rule="identity:check_user_in_group",
    allow=f"{READER} or role:reader and {_BOTH}", load=load_user_in_group, ok=204,
    slow=refresh_groups_of_user,
)  # fmt: skip
def check_user_in_group(ctx: Context, pair: UserInGroup) -> Reply:
    """Check whether a user is in a group."""
    if not is_member(ctx, pair):
        raise NotFound(f"User {pair.user.id} is not in group {pair.group.id}.")
    return Reply()


@IDENTITY.op(
    "DELETE", "/groups/{group_id}/users/{user_id}", rule="identity:remove_user_from_group",
    allow=f"rule:admin_required or role:manager and {_BOTH}", load=load_user_in_group, ok=204,
)  # fmt: skip
def remove_user_from_group(ctx: Context, pair: UserInGroup) -> Reply:
    """Take a user out of a group."""
    refuse_membership(ctx, pair)
    if not MEMBERSHIPS.delete(ctx.tx, user_id=pair.user.id, group_id=pair.group.id):
        raise NotFound(f"User {pair.user.id} is not in group {pair.group.id}.")
    return Reply()


def refuse_membership(ctx: Context, pair: UserInGroup) -> None:
    """Who is in a group of a directory, and where its users are, is said there."""
    refuse_change(ctx.tx, "user", pair.user.id)
    refuse_change(ctx.tx, "group", pair.group.id)


def is_member(ctx: Context, pair: UserInGroup) -> bool:
    """Whether the user is in the group."""
    found = MEMBERSHIPS.get(ctx.tx, user_id=pair.user.id, group_id=pair.group.id)
    return found is not None and (found.expires_at is None or found.expires_at > ctx.now)
