"""This cloud as an identity provider: its word on a user, for a cloud that is one of its service providers.

Source: Identity API reference, "OS-FEDERATION", "Generate a SAML assertion".
"""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound, Unauthorized
from pileus.core.ids import new_hex
from pileus.core.op import PUBLIC, Reply, unguarded
from pileus.core.schema import Schema
from pileus.http.app import Call
from pileus.identity.auth import tokens
from pileus.identity.federation.saml_assertion import Claim, in_envelope, metadata_of, response_to
from pileus.identity.federation.saml_pool import beside
from pileus.identity.federation.service_provider import SERVICE_PROVIDERS, ServiceProvider
from pileus.identity.login import WRONG, Proven, check_rescope
from pileus.identity.passwords import MAX_LENGTH
from pileus.identity.service import IDENTITY
from pileus.identity.tokens import Known

XML = "text/xml"
_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
_TOKEN: Schema = {
    "type": "object", "required": ["id"], "properties": {"id": {"type": "string", "maxLength": MAX_LENGTH}}
}  # fmt: skip
_PROVIDER: Schema = {"type": "object", "required": ["id"], "properties": {"id": _ID}}
REQUEST: Schema = {
    "type": "object",
    "required": ["auth"],
    "properties": {"auth": {
        "type": "object",
        "required": ["identity", "scope"],
        "properties": {
            "identity": {
                "type": "object",
                "required": ["methods", "token"],
                "properties": {
                    "methods": {"type": "array", "items": {"enum": ["token"]}, "minItems": 1, "maxItems": 1},
                    "token": _TOKEN,
                },
            },
            "scope": {
                "type": "object", "required": ["service_provider"], "properties": {"service_provider": _PROVIDER}
            },
        },
    }},
}  # fmt: skip


class Told(Struct, frozen=True, kw_only=True):
    """A signed response and for whom it is."""

    xml: bytes
    provider: ServiceProvider


def entity_id(settings: Any) -> str:
    """The name of this cloud as an identity provider."""
    chosen = settings.config.federation.saml.entity_id
    return str(chosen or f"{settings.config.url}/identity/v3/OS-FEDERATION/saml2/idp")


async def tell(call: Call) -> Mapping[str, Any]:
    """`told`: the response that the caller asked for."""
    provider, claim = await asked_for(call)
    keys_folder = call.app.settings.keys_folder
    return {"told": Told(provider=provider, xml=await beside(lambda: response_to(claim, keys_folder)))}


async def tell_in_envelope(call: Call) -> Mapping[str, Any]:
    """`told`: the response in an envelope with a relay state."""
    provider, claim = await asked_for(call)
    settings, prefix = call.app.settings, provider.relay_state_prefix
    if prefix is None:
        prefix = settings.config.federation.saml.relay_state_prefix
    relay_state = prefix + new_hex()
    xml = await beside(lambda: in_envelope(response_to(claim, settings.keys_folder), relay_state))
    return {"told": Told(provider=provider, xml=xml)}


async def asked_for(call: Call) -> tuple[ServiceProvider, Claim]:
    """What the body asks to be said, and for whom; raises what claim_of raises."""
    auth = call.body["auth"]
    token, provider_id = auth["identity"]["token"]["id"], auth["scope"]["service_provider"]["id"]
    found: tuple[ServiceProvider, Claim] = await call.read(lambda ctx: claim_of(ctx, token, provider_id))
    return found


def claim_of(ctx: Context, token: str, provider_id: str) -> tuple[ServiceProvider, Claim]:
    """What is to be said of the bearer of a token to a service provider.

    Raises Unauthorized for a token that is not good, NotFound and Forbidden for a provider that is unknown or
    disabled, Forbidden for a token that is not of a user themselves on a project.
    """
    known = tokens(ctx).examine(ctx.tx, token, ctx.now)
    if known is None:
        raise Unauthorized(WRONG)
    provider = SERVICE_PROVIDERS.get(ctx.tx, id=provider_id)
    if provider is None:
        raise NotFound(f"Could not find Service Provider: {provider_id}.")
    if not provider.enabled:
        raise Forbidden(f"Service Provider {provider_id} is disabled.")
    check_bearer(known)
    saml = ctx.settings.config.federation.saml
    claim = Claim(
        issuer=entity_id(ctx.settings), audience=saml.audiences.get(provider.id, provider.sp_url),
        recipient=provider.sp_url, subject=known.standing.user.name, attributes=attributes_of(ctx, known),
        now=ctx.now, until=min(ctx.now + saml.assertion_seconds, known.payload.expires_at),
        session_until=known.payload.expires_at,
        context="Password" if "password" in known.payload.methods else "unspecified",
    )  # fmt: skip
    if unwritable := claim.unwritable():
        raise BadRequest(f"{', '.join(unwritable)}: holds characters that cannot be written in XML.")
    return provider, claim


def check_bearer(known: Known) -> None:
    """Refuse tokens without a project, and those that cannot be exchanged: delegated ones, bound ones.

    Elsewhere they would be the whole user, and anybody's.
    """
    if known.standing.scope != "project":
        raise Forbidden("Use a project scoped token when attempting to create a SAML assertion.")
    check_rescope(known.payload, Proven())


def attributes_of(ctx: Context, known: Known) -> dict[str, list[str]]:
    """A user, their project, roles and groups, by the names that the API reference gives."""
    who = known.standing
    assert who.target is not None and who.target_domain is not None, "the token is of a project"
    found = {
        "openstack_user": [who.user.name],
        "openstack_user_domain": [who.user_domain.name],
        "openstack_roles": [name for _, name in who.roles],
        "openstack_project": [who.target.name],
        "openstack_project_domain": [who.target_domain.name],
    }
    if groups := groups_of(ctx, who.user.id):
        found["openstack_groups"] = groups
    return found


def groups_of(ctx: Context, user_id: str) -> list[str]:
    """A user's groups with their domains, each as JSON behind a mark."""
    rows = ctx.tx.all(
        "select user_groups.name, projects.name from user_groups"
        " join memberships on memberships.group_id = user_groups.id"
        " join projects on projects.id = user_groups.domain_id"
        " where memberships.user_id = ? and (memberships.expires_at is null or memberships.expires_at > ?)"
        " order by user_groups.name, projects.name",
        user_id, ctx.now,
    )  # fmt: skip
    return ["JSON:" + json.dumps({"name": name, "domain": {"name": domain}}) for name, domain in rows]


def answer(told: Told) -> Reply:
    """The message, with headers by which a client learns where to go with it."""
    headers = {"content-type": XML, "x-sp-url": told.provider.sp_url, "x-auth-url": told.provider.auth_url}
    return Reply(raw=told.xml, headers=headers)


@IDENTITY.op(
    "POST", "/auth/OS-FEDERATION/saml2", rule=PUBLIC, load=unguarded, takes=REQUEST, slow=tell, body_limit=65_536
)
def create_saml_assertion(told: Told) -> Reply:
    """Give the bearer of a project's token a SAML assertion for a service provider."""
    return answer(told)


@IDENTITY.op(
    "POST", "/auth/OS-FEDERATION/saml2/ecp", rule=PUBLIC, load=unguarded, takes=REQUEST, slow=tell_in_envelope,
    body_limit=65_536,
)  # fmt: skip
def create_ecp_assertion(told: Told) -> Reply:
    """Give the bearer of a project's token a SAML assertion for a service provider, in an ECP envelope."""
    return answer(told)


@IDENTITY.op("GET", "/OS-FEDERATION/saml2/metadata", rule=PUBLIC, load=unguarded, streams=True)
async def show_idp_metadata(call: Call) -> None:
    """Show the SAML metadata of this cloud as an identity provider."""
    settings = call.app.settings
    address = f"{settings.config.url}/identity/v3/auth/OS-FEDERATION/saml2"
    metadata = await beside(lambda: metadata_of(entity_id(settings), address, settings.keys_folder))
    await call.answer(200, metadata, {"content-type": XML})
