"""Roles that imply others.  Source: Identity API reference, "Implied roles"."""

from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import Forbidden, NotFound
from pileus.core.op import Reply
from pileus.db.connect import Tx
from pileus.identity.role import load_role
from pileus.identity.rows import IMPLIED_ROLES, ROLES, ImpliedRole, Role
from pileus.identity.service import ADMIN, IDENTITY, READER, own_domain

NEVER_IMPLIED = ("admin",)  # so that nobody becomes administrator by the back door


class Inference(Struct, frozen=True, kw_only=True):
    """A prior role and one that it may imply."""

    prior: Role
    implied: Role


def load_inference(ctx: Context, role_id: str, implied_role_id: str) -> Inference:
    """Both roles, which the caller may see."""
    return Inference(prior=load_role(ctx, role_id), implied=load_role(ctx, implied_role_id))


def reference(ctx: Context, role: Role) -> dict[str, Any]:
    """A role as inferences show it."""
    return {"id": role.id, "name": role.name, "links": {"self": f"{ctx.url}/v3/roles/{role.id}"}}


def implied_by(tx: Tx, prior_role_id: str) -> list[Role]:
    """The roles that a role implies directly."""
    return ROLES.query(
        tx,
        "join implied_roles on implied_roles.implied_role_id = roles.id where prior_role_id = ? order by roles.name",
        prior_role_id,
    )  # fmt: skip


def inference_body(ctx: Context, pair: Inference) -> dict[str, Any]:
    """One inference as the API shows it."""
    here = f"{ctx.url}/v3/roles/{pair.prior.id}/implies/{pair.implied.id}"
    return {
        "role_inference": {"prior_role": reference(ctx, pair.prior), "implies": reference(ctx, pair.implied)},
        "links": {"self": here},
    }


@IDENTITY.op(
    "GET", "/role_inferences", rule="identity:list_role_inference_rules", allow=READER, load=own_domain
)  # fmt: skip
def list_inferences(ctx: Context) -> dict[str, Any]:
    """List all inferences, by prior role."""
    priors = ROLES.query(ctx.tx, "where id in (select prior_role_id from implied_roles) order by roles.name")
    found = [
        {"prior_role": reference(ctx, p), "implies": [reference(ctx, r) for r in implied_by(ctx.tx, p.id)]}
        for p in priors
    ]
    return {"role_inferences": found, "links": {"self": f"{ctx.url}/v3/role_inferences"}}


@IDENTITY.op(
    "GET", "/roles/{role_id}/implies", rule="identity:list_implied_roles", allow=READER, load=load_role
)  # fmt: skip
def list_implied(ctx: Context, prior: Role) -> dict[str, Any]:
    """List what a role implies."""
    implied = [reference(ctx, r) for r in implied_by(ctx.tx, prior.id)]
    return {
        "role_inference": {"prior_role": reference(ctx, prior), "implies": implied},
        "links": {"self": f"{ctx.url}/v3/roles/{prior.id}/implies"},
    }


@IDENTITY.op(
    "PUT", "/roles/{role_id}/implies/{implied_role_id}", rule="identity:create_implied_role", allow=ADMIN,
    load=load_inference, ok=201,
)  # fmt: skip
def create_implied(ctx: Context, pair: Inference) -> dict[str, Any]:
    """Let a role imply another."""
    if pair.implied.name in NEVER_IMPLIED:
        raise Forbidden(f"The role {pair.implied.name} cannot be implied.")
    if pair.prior.domain_id is None and pair.implied.domain_id is not None:
        raise Forbidden("A global role cannot imply a role of a domain.")
    if pair.prior.id == pair.implied.id:
        raise Forbidden("A role does not imply itself.")
    if not exists(ctx, pair):
        IMPLIED_ROLES.insert(ctx.tx, ImpliedRole(prior_role_id=pair.prior.id, implied_role_id=pair.implied.id))
    return inference_body(ctx, pair)


@IDENTITY.op(
    "GET", "/roles/{role_id}/implies/{implied_role_id}", rule="identity:get_implied_role", allow=READER,
    load=load_inference,
)  # fmt: skip
def get_implied(ctx: Context, pair: Inference) -> dict[str, Any]:
    """Show an inference."""
    if not exists(ctx, pair):
        raise NotFound(f"{pair.prior.id} does not imply {pair.implied.id}.")
    return inference_body(ctx, pair)


@IDENTITY.op(
    "HEAD", "/roles/{role_id}/implies/{implied_role_id}", rule="identity:check_implied_role", allow=READER,
    load=load_inference, ok=204,
)  # fmt: skip
def check_implied(ctx: Context, pair: Inference) -> Reply:
    """Check an inference."""
    get_implied(ctx, pair)
    return Reply()


@IDENTITY.op(
    "DELETE", "/roles/{role_id}/implies/{implied_role_id}", rule="identity:delete_implied_role", allow=ADMIN,
    load=load_inference, ok=204,
)  # fmt: skip
def delete_implied(ctx: Context, pair: Inference) -> Reply:
    """End an inference."""
    if not IMPLIED_ROLES.delete(ctx.tx, prior_role_id=pair.prior.id, implied_role_id=pair.implied.id):
        raise NotFound(f"{pair.prior.id} does not imply {pair.implied.id}.")
    return Reply()


def exists(ctx: Context, pair: Inference) -> bool:
    """Whether the prior role implies the other."""
    return IMPLIED_ROLES.get(ctx.tx, prior_role_id=pair.prior.id, implied_role_id=pair.implied.id) is not None
