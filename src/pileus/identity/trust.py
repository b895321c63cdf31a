"""Trusts: a user lets another one act for them on a project, with some of their roles.

Source: Identity API reference, "OS-TRUST".  What is passed on can only shrink: fewer roles, shorter life, less depth
(OSSA-2013-032); a token of an application credential has no business with trusts (CVE-2026-43000).
"""

from typing import Any

from pileus.core.clock import iso_micro_z
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound
from pileus.core.events import record_request
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, Schema
from pileus.identity.application_credential import expiry
from pileus.identity.role import ROLE
from pileus.identity.rows import PROJECTS, ROLES, TRUSTS, USERS, Role, Trust
from pileus.identity.service import ADMIN, IDENTITY, READER, OpenFields, links_beside, listed, self_link
from pileus.identity.standing import effective_roles
from pileus.identity.token import Payload

PARTIES = "user_id:%(trustor_user_id)s or user_id:%(trustee_user_id)s"
READ = f"{READER} or {PARTIES}"
_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": 1000}
_ROLE: Schema = {
    "type": "object",
    "properties": {"id": _ID, "name": {"type": "string", "minLength": 1, "maxLength": 255}, "domain_id": _ID},
    "minProperties": 1,
}
TRUST = OpenFields(
    "trust",
    "trusts",
    (
        Field("id", "r"),
        Field("trustor_user_id", "Crq", _ID),
        Field("trustee_user_id", "Crq", _ID),
        Field("project_id", "Cr", _ID),
        Field("impersonation", "Cr", BOOLEAN),
        Field("expires_at", "cr", {"type": ["string", "null"], "maxLength": 64},
              get=lambda row, _ctx: iso_micro_z(row.expires_at)),
        Field("remaining_uses", "cr", {"type": ["integer", "null"], "minimum": 1, "maximum": 0x7FFFFFFF}),
        Field("allow_redelegation", "c", {"type": ["boolean", "null"]}),
        Field("redelegation_count", "cr", _COUNT),
        Field("redelegated_trust_id", "r"),
        Field("deleted_at", "r", get=lambda _row, _ctx: None),
        Field("roles", "C", {"type": "array", "items": _ROLE, "minItems": 1, "maxItems": 64}),
        Field("links", "r", get=self_link("OS-TRUST/trusts")),
    ),
)  # fmt: skip


def token_of(ctx: Context) -> Payload | None:
    """The caller's token; raises Forbidden for one by which nobody may deal with trusts."""
    token = ctx.caller.token
    if not isinstance(token, Payload):
        return None
    if token.application_credential_id or token.access_token_id:
        raise Forbidden("A token of an application credential or of OAuth cannot deal with trusts.")
    return token


def own_trusts(ctx: Context) -> dict[str, Any]:
    """Loader of creations and lists: the caller is who trusts, and who is trusted."""
    token_of(ctx)
    return {"trustor_user_id": ctx.user_id, "trustee_user_id": ctx.user_id}


def load_trust(ctx: Context, trust_id: str, **_path: str) -> Trust:
    """A trust that the caller may see; the others are NotFound, as those that do not exist."""
    token_of(ctx)
    found = TRUSTS.get(ctx.tx, id=trust_id)
    if found is None or not ctx.allows("identity:get_trust", found):
        raise NotFound(f"Could not find trust: {trust_id}.")
    return found


def roles_of(ctx: Context, trust: Trust) -> list[Role]:
    """What a trust delegates."""
    return ROLES.all(ctx.tx, id=trust.roles, order="roles.name")


def shown(ctx: Context, trust: Trust) -> dict[str, Any]:
    """A trust with its roles."""
    path = f"/OS-TRUST/trusts/{trust.id}/roles"
    roles = [ROLE.render(role, ctx) for role in roles_of(ctx, trust)]
    return {"trust": {**TRUST.render(trust, ctx), "roles": roles, "roles_links": links_beside(ctx, path)["links"]}}


@IDENTITY.op("GET", "/OS-TRUST/trusts", rule="identity:list_trusts", allow=READ, load=own_trusts, gives=Many(TRUST))
def list_trusts(ctx: Context, query: Query) -> Page:
    """List trusts: all for who may read all, else those of the caller by one of the two filters."""
    trustor, trustee = query.one("trustor_user_id"), query.one("trustee_user_id")
    if ctx.user_id not in (trustor, trustee):
        ctx.enforce("identity:list_trusts", {"trustor_user_id": "", "trustee_user_id": ""})
    return listed(ctx, TRUST, Listing(TRUSTS), query, path="/OS-TRUST/trusts")


@IDENTITY.op("GET", "/OS-TRUST/trusts/{trust_id}", rule="identity:get_trust", allow=READ, load=load_trust)
def get_trust(ctx: Context, trust: Trust) -> dict[str, Any]:
    """Show a trust."""
    return shown(ctx, trust)


@IDENTITY.op(
    "POST", "/OS-TRUST/trusts", rule="identity:create_trust", allow="user_id:%(trustor_user_id)s", load=own_trusts,
    takes=TRUST, ok=201,
)  # fmt: skip
def create_trust(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Create a trust; the trustor is the caller, also where they act by a trust that may be passed on."""
    if body["trustor_user_id"] != ctx.user_id:
        raise Forbidden("The authenticated user should match the trustor.")
    token = token_of(ctx)
    parent = TRUSTS.get(ctx.tx, id=token.trust_id) if token is not None and token.trust_id else None
    if USERS.get(ctx.tx, id=body["trustee_user_id"]) is None:
        raise NotFound(f"Could not find user: {body['trustee_user_id']}.")
    trust = Trust(
        id=new_hex(), trustor_user_id=ctx.user_id, trustee_user_id=body["trustee_user_id"],
        project_id=body["project_id"], impersonation=body["impersonation"], roles=chosen_roles(ctx, body),
        expires_at=life(ctx, body, parent), remaining_uses=body.get("remaining_uses"),
        redelegated_trust_id=parent.id if parent else None, redelegation_count=depth(ctx, body, parent),
        created_at=ctx.now, extra=TRUST.extra_of(body),
    )  # fmt: skip
    if parent is not None:
        check_within(trust, parent)
    TRUSTS.insert(ctx.tx, trust)
    record_request(ctx, "trust", trust.id, "create", "success", trustee_user_id=trust.trustee_user_id)
    return shown(ctx, trust)


def chosen_roles(ctx: Context, body: dict[str, Any]) -> list[str]:
    """Ids of the roles to delegate; raises Forbidden for one that the trustor does not have on the project."""
    if PROJECTS.get(ctx.tx, id=body["project_id"], is_domain=False) is None:
        raise NotFound(f"Could not find project: {body['project_id']}.")
    held: dict[str, str] = dict(effective_roles(ctx.tx, ctx.user_id, "project", body["project_id"], ctx.now))
    by_name = {name: role_id for role_id, name in held.items()}
    chosen = set()
    for role in body["roles"]:
        role_id = role.get("id") or by_name.get(role.get("name", ""), "")
        if role_id not in held:
            if ROLES.get(ctx.tx, **({"id": role["id"]} if "id" in role else {"name": role.get("name", "")})) is None:
                raise NotFound(f"Could not find role: {role.get('id') or role.get('name')}.")
            raise Forbidden("The trustor has no such role on the project, so it cannot be delegated.")
        chosen.add(role_id)
    return sorted(chosen)


def life(ctx: Context, body: dict[str, Any], parent: Trust | None) -> float | None:
    """When the trust ends: as asked, and no later than the one by which it is made."""
    wanted = expiry(ctx, body.get("expires_at"))
    if parent is None or parent.expires_at is None:
        return wanted
    if wanted is not None and wanted > parent.expires_at:
        raise Forbidden("expires_at: the trust cannot last longer than the one by which it is made.")
    return wanted or parent.expires_at


def depth(ctx: Context, body: dict[str, Any], parent: Trust | None) -> int:
    """How often the trust may be passed on; raises BadRequest or Forbidden for more than is allowed."""
    most = ctx.settings.config.identity.redelegations if parent is None else parent.redelegation_count - 1
    if not body.get("allow_redelegation"):
        if body.get("redelegation_count"):
            raise BadRequest("redelegation_count: it goes with allow_redelegation.")
        return 0
    if body.get("remaining_uses") is not None:
        raise BadRequest("remaining_uses cannot be set if redelegation is allowed.")
    wanted = most if body.get("redelegation_count") is None else int(body["redelegation_count"])
    if wanted > most:
        raise Forbidden(f"redelegation_count: at most {max(most, 0)} are allowed here.")
    return wanted


def check_within(trust: Trust, parent: Trust) -> None:
    """Refuse what gives more than the trust by which it is made."""
    if parent.redelegation_count <= 0:
        raise Forbidden("Remaining redelegation depth of 0 out of allowed range: the trust cannot be passed on.")
    if trust.project_id != parent.project_id:
        raise Forbidden("project_id: a trust can be passed on for its own project only.")
    if not set(trust.roles) <= set(parent.roles):
        raise Forbidden("Some of requested roles are not in redelegated trust.")
    if trust.impersonation and not parent.impersonation:
        raise Forbidden("Impersonation is not allowed because redelegated trust does not specify impersonation.")


@IDENTITY.op(
    "DELETE", "/OS-TRUST/trusts/{trust_id}", rule="identity:delete_trust",
    allow=f"{ADMIN} or user_id:%(trustor_user_id)s", load=load_trust, ok=204,
)  # fmt: skip
def delete_trust(ctx: Context, trust: Trust) -> Reply:
    """Delete a trust with those made by it; all their tokens end."""
    token = token_of(ctx)
    if token is not None and token.trust_id:
        raise Forbidden("A trust cannot be deleted by its own token, nor by that of another one.")
    TRUSTS.delete(ctx.tx, id=trust.id)
    record_request(ctx, "trust", trust.id, "delete", "success")
    return Reply()


@IDENTITY.op(
    "GET", "/OS-TRUST/trusts/{trust_id}/roles", rule="identity:list_roles_for_trust", allow=READ, load=load_trust,
    gives=Many(ROLE),
)  # fmt: skip
def list_roles_for_trust(ctx: Context, trust: Trust) -> Page:
    """List what a trust delegates."""
    return Page(roles_of(ctx, trust), links_beside(ctx, f"/OS-TRUST/trusts/{trust.id}/roles"))


@IDENTITY.op(
    "GET", "/OS-TRUST/trusts/{trust_id}/roles/{role_id}", rule="identity:get_role_for_trust", allow=READ,
    load=load_trust, gives=ROLE,
)  # fmt: skip
def get_role_for_trust(ctx: Context, trust: Trust, role_id: str) -> Role:
    """Show a role that a trust delegates."""
    found = ROLES.get(ctx.tx, id=role_id) if role_id in trust.roles else None
    if found is None:
        raise NotFound(f"Could not find role: {role_id}.")
    return found
