"""Users and their passwords.  Source: Identity API reference, "Users"."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.clock import iso_micro_z
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Unauthorized
from pileus.core.events import record_request
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import PUBLIC, Many, Page, Reply, unguarded
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, NAME, Schema
from pileus.db.connect import Conflict
from pileus.http.app import Call
from pileus.identity.directories import door_of
from pileus.identity.directory_reads import Listed, narrowed, refresh_user, search_users
from pileus.identity.domain import domain_for_new, require_domain
from pileus.identity.factors import prove_password
from pileus.identity.federation.user_link import LINKS, filter_by_link, link, links_of
from pileus.identity.login import WRONG
from pileus.identity.mirror import is_gone, read_only, refuse_change
from pileus.identity.password_rules import FAILURES, check_age, check_pattern, greet, keep_password, past_hashes
from pileus.identity.passwords import MAX_LENGTH, PASSWORD_HASHES, forget_hashes, passwords, stored_hash
from pileus.identity.rows import PROJECTS, USERS, User
from pileus.identity.service import (
    ADMIN,
    DOMAIN_MANAGER,
    DOMAIN_READER,
    IDENTITY,
    OpenFields,
    merged_options,
    own_domain,
    seen,
    self_link,
)

_FLAG: Schema = {"type": ["boolean", "null"]}
USER_OPTIONS: Schema = {
    "type": "object",
    "properties": {
        "ignore_change_password_upon_first_use": _FLAG,
        "ignore_password_expiry": _FLAG,
        "ignore_lockout_failure_attempts": _FLAG,
        "ignore_user_inactivity": _FLAG,
        "lock_password": _FLAG,
        "multi_factor_auth_enabled": _FLAG,
        "multi_factor_auth_rules": {
            "type": ["array", "null"],
            "items": {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
        },
    },
    "additionalProperties": False,
}
NEW_PASSWORD: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_LENGTH}
USER = OpenFields(
    "user",
    "users",
    (
        Field("id", "rq"),
        Field("name", "Cruqs", NAME),
        Field("domain_id", "crqu", {"type": "string", "maxLength": 64}),
        Field("enabled", "cruqs", BOOLEAN, default=True),
        Field("default_project_id", "cruq", {"type": ["string", "null"], "maxLength": 64}),
        Field("password", "cu", NEW_PASSWORD),
        Field("original_password", "u", {"type": "string", "maxLength": MAX_LENGTH}),
        Field("options", "cru", USER_OPTIONS),
        Field(
            "password_expires_at",
            "rq",
            get=lambda user, _ctx: iso_micro_z(user.password_expires_at),
            column="password_expires_at",
        ),
        Field("federated", "cu", LINKS),
        Field("links", "r", get=self_link("users")),
    ),
)


def load_user(ctx: Context, user_id: str, **_path: str) -> User:
    """A user whom the caller may see."""
    found = USERS.get(ctx.tx, id=user_id)
    if found is not None and not found.enabled and is_gone(ctx.tx, user_id):
        found = None
    return seen(ctx, "identity:get_user", "user", user_id, found)


async def hash_new_password(call: Call) -> Mapping[str, Any]:
    """`hashed`: the hash of the password in the body, None without one."""
    password, rules = call.body["user"].get("password"), call.app.settings.config.identity
    if password is None:
        return {"hashed": None}
    check_pattern(rules, password)
    return {"hashed": await passwords(rules).hash(password)}


def given_password(ctx: Context, user: User, hashed: str) -> float | None:
    """Keep a password that an administrator set; when it expires."""
    rules = ctx.settings.config.identity
    return keep_password(ctx.tx, user.id, user.options, hashed, rules, ctx.now, own=False)


@IDENTITY.op(
    "GET", "/users", rule="identity:list_users", allow=DOMAIN_READER, load=own_domain, gives=Many(USER),
    slow=search_users,
)  # fmt: skip
def list_users(ctx: Context, query: Query, found: Listed | None) -> Page:
    """List users; a caller whose scope is a domain sees those in it."""
    listing = Listing(USERS)
    if ctx.caller.domain_id is not None:
        listing.equals("domain_id", [ctx.caller.domain_id])
    filter_by_link(listing, query)
    return narrowed(ctx, USER, listing, query, found)


@IDENTITY.op(
    "GET", "/users/{user_id}", rule="identity:get_user", allow=f"{DOMAIN_READER} or user_id:%(id)s", load=load_user,
    slow=refresh_user,
)  # fmt: skip
def get_user(ctx: Context, user: User) -> dict[str, Any]:
    """Show a user; everybody may see themselves."""
    return shown(ctx, user)


def shown(ctx: Context, user: User) -> dict[str, Any]:
    """A user by themselves, with whom an identity provider means by them."""
    return {"user": {**USER.render(user, ctx), **links_of(ctx, user)}}


@IDENTITY.op(
    "POST", "/users", rule="identity:create_user", allow=DOMAIN_MANAGER, load=own_domain, takes=USER, ok=201,
    slow=hash_new_password,
)  # fmt: skip
def create_user(ctx: Context, body: dict[str, Any], hashed: str | None) -> dict[str, Any]:
    """Create a user."""
    domain_id = domain_for_new(ctx, body)
    ctx.enforce("identity:create_user", {"domain_id": domain_id})
    require_domain(ctx, domain_id)
    if door := door_of(ctx, domain_id):
        raise read_only("user", door.directory.name)
    check_default_project(ctx, body)
    user = User(
        id=new_hex(), name=body["name"], domain_id=domain_id, enabled=body.get("enabled", True),
        default_project_id=body.get("default_project_id"), options=merged_options({}, body.get("options", {})),
        extra=USER.extra_of(body),
    )  # fmt: skip
    try:
        USERS.insert(ctx.tx, user)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store user - Duplicate entry: {user.name}.") from None
    link(ctx, user, body.get("federated", []))
    if ctx.settings.config.identity.inactive_days:
        greet(ctx.tx, user.id, ctx.now)
    if hashed is not None:
        user = structs.replace(user, password_expires_at=given_password(ctx, user, hashed))
        USERS.save(ctx.tx, user, ("password_expires_at",))
    return shown(ctx, user)


def check_default_project(ctx: Context, body: Mapping[str, Any]) -> None:
    """The default project is a project, not a domain; one that does not exist is only a wish."""
    project = PROJECTS.get(ctx.tx, id=body["default_project_id"]) if body.get("default_project_id") else None
    if project is not None and project.is_domain:
        raise BadRequest("default_project_id: a domain cannot be the default project.")


@IDENTITY.op(
    "PATCH", "/users/{user_id}", rule="identity:update_user", allow=DOMAIN_MANAGER, load=load_user, takes=USER,
    slow=hash_new_password,
)  # fmt: skip
def update_user(ctx: Context, user: User, body: dict[str, Any], hashed: str | None) -> dict[str, Any]:
    """Update a user; a new password, another link to a provider, or disabling ends all their tokens."""
    if body.get("domain_id", user.domain_id) != user.domain_id:
        raise BadRequest("domain_id cannot be changed.")
    refuse_change(ctx.tx, "user", user.id)
    check_default_project(ctx, body)
    changes = USER.changes(user, body)
    if "options" in changes:
        changes["options"] = merged_options(user.options, changes["options"])
    if hashed is not None:
        changed = structs.replace(user, options=changes.get("options", user.options))
        changes["password_expires_at"] = given_password(ctx, changed, hashed)
    if changes.get("enabled") is True:
        greet(ctx.tx, user.id, ctx.now)
    if "federated" in body:
        link(ctx, user, body["federated"])
    if hashed is not None or "federated" in body or changes.get("enabled") is False:
        changes["generation"] = user.generation + 1
        record_request(ctx, "user", user.id, "end_tokens", "success")
    try:
        USERS.update(ctx.tx, changes, id=user.id)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store user - Duplicate entry: {body['name']}.") from None
    return shown(ctx, structs.replace(user, **changes))


@IDENTITY.op("DELETE", "/users/{user_id}", rule="identity:delete_user", allow=DOMAIN_MANAGER, load=load_user, ok=204)
def delete_user(ctx: Context, user: User) -> Reply:
    """Delete a user with all that is theirs alone."""
    refuse_change(ctx.tx, "user", user.id)
    forget_hashes(ctx.tx, "user_id = ?", user.id)
    FAILURES.delete(ctx.tx, user_id=user.id)
    PASSWORD_HASHES.delete(ctx.tx, owner_id=user.id)
    USERS.delete(ctx.tx, id=user.id)
    return Reply()


@IDENTITY.op(
    "DELETE", "/users/{user_id}/tokens", rule="identity:revoke_tokens_for_user",
    allow=f"{ADMIN} or user_id:%(id)s", load=load_user, ok=204,
)  # fmt: skip
def revoke_tokens_of_user(ctx: Context, user: User) -> Reply:
    """End all tokens of a user."""
    USERS.update(ctx.tx, {"generation": user.generation + 1}, id=user.id)
    record_request(ctx, "user", user.id, "end_tokens", "success")
    return Reply()


_PASSWORD: Schema = {"type": "string", "maxLength": MAX_LENGTH}
PASSWORD_CHANGE: Schema = {
    "type": "object",
    "required": ["user"],
    "properties": {"user": {
        "type": "object",
        "required": ["password", "original_password"],
        "properties": {"password": {**_PASSWORD, "minLength": 1}, "original_password": _PASSWORD},
    }},
}  # fmt: skip


async def prove_original(call: Call) -> Mapping[str, Any]:
    """`stored`: the hash that the original password fits; `hashed`: that of the new one.

    Raises Unauthorized for a wrong original, BadRequest for a new one that the user had before.
    """
    assert call.match is not None
    given, user_id, rules = call.body["user"], call.match.path["user_id"], call.app.settings.config.identity
    proof = await prove_password(call, {"id": user_id, "password": given["original_password"]}, expired=True)
    if user_id not in proof.hashes:
        raise read_only("user")
    check_pattern(rules, given["password"])
    for past in await call.read(lambda ctx: past_hashes(ctx.tx, user_id, rules)):
        if await passwords(rules).verify(user_id, past, given["password"]):
            raise BadRequest(f"password: the last {rules.unique_last} passwords cannot be chosen again.")
    return {"stored": proof.hashes[user_id], "hashed": await passwords(rules).hash(given["password"])}


@IDENTITY.op(
    "POST", "/users/{user_id}/password", rule=PUBLIC, load=unguarded, ok=204, takes=PASSWORD_CHANGE, slow=prove_original
)
def change_own_password(ctx: Context, user_id: str, body: dict[str, Any], stored: str, hashed: str) -> Reply:
    """Change one's own password; the old one is the proof of who asks, and all tokens end."""
    user = USERS.get(ctx.tx, id=user_id)
    if user is None or not user.enabled or stored_hash(ctx.tx, user_id) != stored:
        raise Unauthorized(WRONG)
    if user.options.get("lock_password") is True:
        raise BadRequest("The option lock_password of this user forbids changing the password.")
    if body["user"]["password"] == body["user"]["original_password"]:
        raise BadRequest("The new password is the old one.")
    rules = ctx.settings.config.identity
    check_age(ctx.tx, user, rules, ctx.now)
    expires = keep_password(ctx.tx, user.id, user.options, hashed, rules, ctx.now, own=True)
    USERS.update(ctx.tx, {"generation": user.generation + 1, "password_expires_at": expires}, id=user.id)
    record_request(ctx, "user", user.id, "change_password", "success")
    return Reply()
