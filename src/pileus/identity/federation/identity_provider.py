"""Identity providers.  Source: Identity API reference, "OS-FEDERATION"."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.fields import LATEST, Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, LONG_TEXT
from pileus.identity.domain import require_domain
from pileus.identity.federation.rows import (
    FEDERATED_USERS,
    IDENTITY_PROVIDERS,
    REMOTE_IDS,
    IdentityProvider,
    RemoteId,
)
from pileus.identity.passwords import forget_hashes
from pileus.identity.rows import PROJECTS, USERS, Project
from pileus.identity.service import ADMIN, IDENTITY, READER, listed, own_domain, seen

HERE = "/OS-FEDERATION/identity_providers"
TTL = {"type": ["integer", "null"], "minimum": 0, "maximum": 5_256_000}  # ten years of minutes
_REMOTE = {"type": "string", "minLength": 1, "maxLength": 255}


def links(provider: IdentityProvider, ctx: Context) -> dict[str, str]:
    """Where a provider and its protocols stand."""
    here = f"{ctx.url}/v3{HERE}/{provider.id}"
    return {"self": here, "protocols": f"{here}/protocols"}


def remote_ids(provider: IdentityProvider, ctx: Context) -> list[str]:
    """The names by which a provider calls itself."""
    return [row.remote_id for row in REMOTE_IDS.all(ctx.tx, order="remote_id", idp_id=provider.id)]


IDENTITY_PROVIDER = Fields(
    "identity_provider",
    "identity_providers",
    (
        Field("id", "rq"),
        Field("domain_id", "cr", {"type": ["string", "null"], "maxLength": 64}),
        Field("enabled", "cruq", BOOLEAN, default=False),
        Field("description", "cru", LONG_TEXT),
        Field("authorization_ttl", "cru", TTL),
        Field("remote_ids", "cru", {"type": ["array", "null"], "items": _REMOTE, "uniqueItems": True, "maxItems": 256},
              get=remote_ids),
        Field("links", "r", get=links),
    ),
)  # fmt: skip
NEW = IDENTITY_PROVIDER.body_schema("c", LATEST)
RULE = "identity:{}_identity_provider".format


def load_provider(ctx: Context, idp_id: str, **_path: str) -> IdentityProvider:
    """A provider that the caller may see."""
    found = IDENTITY_PROVIDERS.get(ctx.tx, id=idp_id)
    return seen(ctx, RULE("get"), "Identity Provider", idp_id, found)


def load_place(ctx: Context, idp_id: str, **_path: str) -> Mapping[str, Any]:
    """Loader of the creation: there is nothing yet."""
    return {"id": idp_id}


@IDENTITY.op(
    "GET", HERE, rule="identity:list_identity_providers", allow=READER, load=own_domain, gives=Many(IDENTITY_PROVIDER)
)
def list_identity_providers(ctx: Context, query: Query) -> Page:
    """List identity providers."""
    return listed(ctx, IDENTITY_PROVIDER, Listing(IDENTITY_PROVIDERS), query, path=HERE)


@IDENTITY.op("GET", HERE + "/{idp_id}", rule=RULE("get"), allow=READER, load=load_provider, gives=IDENTITY_PROVIDER)
def get_identity_provider(provider: IdentityProvider) -> IdentityProvider:
    """Show an identity provider."""
    return provider


@IDENTITY.op(
    "PUT", HERE + "/{idp_id}", rule=RULE("create"), allow=ADMIN, load=load_place, takes=NEW, gives=IDENTITY_PROVIDER,
    ok=201,
)  # fmt: skip
def create_identity_provider(ctx: Context, idp_id: str, body: dict[str, Any]) -> IdentityProvider:
    """Register an identity provider; without a domain it gets one of its own."""
    given = body["identity_provider"]
    if not 1 <= len(idp_id) <= 64:
        raise BadRequest("identity_provider: its id has 1 to 64 characters.")
    if IDENTITY_PROVIDERS.get(ctx.tx, id=idp_id) is not None:
        raise Conflicted(f"Conflict occurred attempting to store identity_provider - Duplicate entry: {idp_id}.")
    domain_id = given.get("domain_id") or domain_of_its_own(ctx, idp_id)
    require_domain(ctx, domain_id)
    provider = IdentityProvider(
        id=idp_id, domain_id=domain_id, enabled=given.get("enabled", False), description=given.get("description"),
        authorization_ttl=given.get("authorization_ttl"),
    )  # fmt: skip
    IDENTITY_PROVIDERS.insert(ctx.tx, provider)
    replace_remote_ids(ctx, idp_id, given.get("remote_ids"))
    return provider


def domain_of_its_own(ctx: Context, idp_id: str) -> str:
    """A new domain for the users of a provider."""
    domain = Project(
        id=new_hex(), name=new_hex(), domain_id=None, parent_id=None, is_domain=True,
        description=f"Auto generated federated domain for Identity Provider: {idp_id}",
    )  # fmt: skip
    return PROJECTS.insert(ctx.tx, domain).id


def replace_remote_ids(ctx: Context, idp_id: str, wanted: list[str] | None) -> None:
    """Let a provider be known by these names; raises Conflicted when another has one of them."""
    REMOTE_IDS.delete(ctx.tx, idp_id=idp_id)
    for remote_id in wanted or ():
        if REMOTE_IDS.get(ctx.tx, remote_id=remote_id) is not None:
            raise Conflicted(
                f"Conflict occurred attempting to store identity_provider - Duplicate remote ID: {remote_id}."
            )
        REMOTE_IDS.insert(ctx.tx, RemoteId(remote_id=remote_id, idp_id=idp_id))


@IDENTITY.op(
    "PATCH", HERE + "/{idp_id}", rule=RULE("update"), allow=ADMIN, load=load_provider, takes=IDENTITY_PROVIDER,
    gives=IDENTITY_PROVIDER,
)  # fmt: skip
def update_identity_provider(ctx: Context, provider: IdentityProvider, body: dict[str, Any]) -> IdentityProvider:
    """Update an identity provider; disabling it ends the tokens of its users."""
    columns = ("enabled", "description", "authorization_ttl")
    changes = {name: body[name] for name in columns if name in body}
    if changes.get("enabled") is False:
        end_tokens(ctx, provider)
    IDENTITY_PROVIDERS.update(ctx.tx, changes, id=provider.id)
    if "remote_ids" in body:
        replace_remote_ids(ctx, provider.id, body["remote_ids"])
    return structs.replace(provider, **changes)


def end_tokens(ctx: Context, provider: IdentityProvider) -> None:
    """No token of its users survives, even when the provider is enabled again."""
    ctx.tx.run(
        "update users set generation = generation + 1 where id in"
        " (select user_id from federated_users where idp_id = ?)",
        provider.id,
    )


@IDENTITY.op("DELETE", HERE + "/{idp_id}", rule=RULE("delete"), allow=ADMIN, load=load_provider, ok=204)
def delete_identity_provider(ctx: Context, provider: IdentityProvider) -> Reply:
    """Remove an identity provider with its protocols and the users that it sent."""
    delete_users(ctx, idp_id=provider.id)
    IDENTITY_PROVIDERS.delete(ctx.tx, id=provider.id)
    return Reply()


def delete_users(ctx: Context, **where: str) -> None:
    """Delete users whom a provider, or one of its protocols, sent, with all that is theirs."""
    for federated in FEDERATED_USERS.all(ctx.tx, **where):
        forget_hashes(ctx.tx, "user_id = ?", federated.user_id)
        USERS.delete(ctx.tx, id=federated.user_id)
