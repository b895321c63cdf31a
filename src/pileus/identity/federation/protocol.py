"""Protocols of identity providers.  Source: Identity API reference, "OS-FEDERATION"."""

from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.fields import LATEST, Field, Fields
from pileus.core.op import Many, Page, Reply
from pileus.identity.federation.identity_provider import HERE as PROVIDERS
from pileus.identity.federation.identity_provider import delete_users, load_provider
from pileus.identity.federation.rows import MAPPINGS, PROTOCOLS, IdentityProvider, Protocol
from pileus.identity.service import ADMIN, IDENTITY, READER, links_beside, seen

HERE = PROVIDERS + "/{idp_id}/protocols"
RULE = "identity:{}_protocol".format


def links(protocol: Protocol, ctx: Context) -> dict[str, str]:
    """Where a protocol and its provider stand."""
    provider = f"{ctx.url}/v3{PROVIDERS}/{protocol.idp_id}"
    return {"self": f"{provider}/protocols/{protocol.id}", "identity_provider": provider}


_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_FIELDS = (
    Field("id", "r"),
    Field("mapping_id", "Cru", _ID),
    Field("remote_id_attribute", "cru", {"type": ["string", "null"], "maxLength": 64}),
    Field("links", "r", get=links),
)
PROTOCOL = Fields("protocol", "protocols", _FIELDS)
LISTED = Fields("protocol", "protocols", (*_FIELDS, Field("idp_id", "r")))
NEW = PROTOCOL.body_schema("c", LATEST)


def load_protocol(ctx: Context, idp_id: str, protocol_id: str) -> Protocol:
    """A protocol that the caller may see."""
    found = PROTOCOLS.get(ctx.tx, idp_id=idp_id, id=protocol_id)
    return seen(ctx, RULE("get"), "federated protocol", protocol_id, found)


@IDENTITY.op("GET", HERE, rule="identity:list_protocols", allow=READER, load=load_provider, gives=Many(LISTED))
def list_protocols(ctx: Context, provider: IdentityProvider) -> Page:
    """List the protocols of an identity provider."""
    found = PROTOCOLS.all(ctx.tx, order="id", idp_id=provider.id)
    return Page(found, links_beside(ctx, HERE.format(idp_id=provider.id)))


@IDENTITY.op("GET", HERE + "/{protocol_id}", rule=RULE("get"), allow=READER, load=load_protocol, gives=PROTOCOL)
def get_protocol(protocol: Protocol) -> Protocol:
    """Show a protocol."""
    return protocol


@IDENTITY.op(
    "PUT", HERE + "/{protocol_id}", rule=RULE("create"), allow=ADMIN, load=load_provider, takes=NEW, gives=PROTOCOL,
    ok=201,
)  # fmt: skip
def create_protocol(ctx: Context, provider: IdentityProvider, protocol_id: str, body: dict[str, Any]) -> Protocol:
    """Add a protocol to an identity provider."""
    given = body["protocol"]
    if not 1 <= len(protocol_id) <= 64:
        raise BadRequest("protocol: its id has 1 to 64 characters.")
    if PROTOCOLS.get(ctx.tx, idp_id=provider.id, id=protocol_id) is not None:
        raise Conflicted(f"Conflict occurred attempting to store federation_protocol - Duplicate entry: {protocol_id}.")
    check_mapping(ctx, given["mapping_id"])
    protocol = Protocol(
        idp_id=provider.id, id=protocol_id, mapping_id=given["mapping_id"],
        remote_id_attribute=given.get("remote_id_attribute"),
    )  # fmt: skip
    return PROTOCOLS.insert(ctx.tx, protocol)


def check_mapping(ctx: Context, mapping_id: str) -> None:
    """Refuse a mapping that does not exist."""
    if MAPPINGS.get(ctx.tx, id=mapping_id) is None:
        raise BadRequest(f"mapping_id: Invalid mapping id: {mapping_id}.")


@IDENTITY.op(
    "PATCH", HERE + "/{protocol_id}", rule=RULE("update"), allow=ADMIN, load=load_protocol, takes=PROTOCOL,
    gives=PROTOCOL,
)  # fmt: skip
def update_protocol(ctx: Context, protocol: Protocol, body: dict[str, Any]) -> Protocol:
    """Update a protocol."""
    if "mapping_id" in body:
        check_mapping(ctx, body["mapping_id"])
    PROTOCOLS.update(ctx.tx, body, idp_id=protocol.idp_id, id=protocol.id)
    return structs.replace(protocol, **body)


@IDENTITY.op("DELETE", HERE + "/{protocol_id}", rule=RULE("delete"), allow=ADMIN, load=load_protocol, ok=204)
def delete_protocol(ctx: Context, protocol: Protocol) -> Reply:
    """Remove a protocol with the users who came by it."""
    delete_users(ctx, idp_id=protocol.idp_id, protocol_id=protocol.id)
    PROTOCOLS.delete(ctx.tx, idp_id=protocol.idp_id, id=protocol.id)
    return Reply()
