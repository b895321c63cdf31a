"""Service providers: clouds that take this one's word on who its users are.

Source: Identity API reference, "OS-FEDERATION", "Service providers".
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.fields import LATEST, Field, Fields
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, LONG_TEXT, TEXT
from pileus.db.connect import Conflict, Tx
from pileus.identity.service import ADMIN, IDENTITY, READER, listed, own_domain, seen
from pileus.identity.watched import Watched

HERE = "/OS-FEDERATION/service_providers"
# The addresses go into headers of answers: no blanks, no control characters.
URL = {"type": "string", "minLength": 1, "maxLength": 225, "pattern": "^https?://[!-~]+$"}


class ServiceProvider(Struct, frozen=True, kw_only=True):
    """Another cloud to which users may log in with this cloud's word."""

    id: str
    auth_url: str  # where the other cloud gives tokens to those who logged in so
    sp_url: str  # where it takes assertions
    enabled: bool = False
    description: str | None = None
    relay_state_prefix: str | None = None


SERVICE_PROVIDERS = Watched(ServiceProvider, "service_providers")
SERVICE_PROVIDER = Fields(
    "service_provider",
    "service_providers",
    (
        Field("id", "rq"),
        Field("auth_url", "Cru", URL),
        Field("sp_url", "Cru", URL),
        Field("enabled", "cruq", BOOLEAN, default=False),
        Field("description", "cru", LONG_TEXT),
        Field("relay_state_prefix", "cru", {**TEXT, "pattern": "^[!-~]*$"}),
        Field("links", "r", get=lambda row, ctx: {"self": f"{ctx.url}/v3{HERE}/{row.id}"}),
    ),
)
NEW = SERVICE_PROVIDER.body_schema("c", LATEST)
RULE = "identity:{}_service_provider".format


def enabled_providers(tx: Tx) -> list[dict[str, str]]:
    """Those to which a user could go, as tokens show them."""
    found = SERVICE_PROVIDERS.all(tx, order="id", enabled=True)
    return [{"id": row.id, "auth_url": row.auth_url, "sp_url": row.sp_url} for row in found]


def load_provider(ctx: Context, sp_id: str) -> ServiceProvider:
    """A service provider that the caller may see."""
    return seen(ctx, RULE("get"), "Service Provider", sp_id, SERVICE_PROVIDERS.get(ctx.tx, id=sp_id))


def load_place(ctx: Context, sp_id: str) -> Mapping[str, Any]:
    """Loader of the creation: there is nothing yet."""
    return {"id": sp_id}


@IDENTITY.op(
    "GET", HERE, rule="identity:list_service_providers", allow=READER, load=own_domain, gives=Many(SERVICE_PROVIDER)
)
def list_service_providers(ctx: Context, query: Query) -> Page:
    """List service providers."""
    return listed(ctx, SERVICE_PROVIDER, Listing(SERVICE_PROVIDERS), query, path=HERE)


@IDENTITY.op("GET", HERE + "/{sp_id}", rule=RULE("get"), allow=READER, load=load_provider, gives=SERVICE_PROVIDER)
def get_service_provider(provider: ServiceProvider) -> ServiceProvider:
    """Show a service provider."""
    return provider


@IDENTITY.op(
    "PUT", HERE + "/{sp_id}", rule=RULE("create"), allow=ADMIN, load=load_place, takes=NEW, gives=SERVICE_PROVIDER,
    ok=201,
)  # fmt: skip
def create_service_provider(ctx: Context, sp_id: str, body: dict[str, Any]) -> ServiceProvider:
    """Register a service provider; it is disabled unless the body says otherwise."""
    if not 1 <= len(sp_id) <= 64:
        raise BadRequest("service_provider: its id has 1 to 64 characters.")
    given = {"relay_state_prefix": ctx.settings.config.federation.saml.relay_state_prefix, **body["service_provider"]}
    try:
        return SERVICE_PROVIDERS.insert(ctx.tx, ServiceProvider(id=sp_id, **given))
    except Conflict:
        raise Conflicted(
            f"Conflict occurred attempting to store service_provider - Duplicate entry: {sp_id}."
        ) from None


@IDENTITY.op(
    "PATCH", HERE + "/{sp_id}", rule=RULE("update"), allow=ADMIN, load=load_provider, takes=SERVICE_PROVIDER,
    gives=SERVICE_PROVIDER,
)  # fmt: skip
def update_service_provider(ctx: Context, provider: ServiceProvider, body: dict[str, Any]) -> ServiceProvider:
    """Update a service provider."""
    SERVICE_PROVIDERS.update(ctx.tx, body, id=provider.id)
    return structs.replace(provider, **body)


@IDENTITY.op("DELETE", HERE + "/{sp_id}", rule=RULE("delete"), allow=ADMIN, load=load_provider, ok=204)
def delete_service_provider(ctx: Context, provider: ServiceProvider) -> Reply:
    """Remove a service provider."""
    SERVICE_PROVIDERS.delete(ctx.tx, id=provider.id)
    return Reply()
