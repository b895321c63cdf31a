"""The attribute `federated` of a user: whom an identity provider means by them.

Source: Identity API reference, "Users" (`federated`; filters idp_id, protocol_id, unique_id of the list).
"""

from collections.abc import Sequence
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden
from pileus.core.paging import Listing, Query
from pileus.core.schema import Schema
from pileus.identity.federation.rows import (
    FEDERATED_USERS,
    IDENTITY_PROVIDERS,
    PROTOCOLS,
    FederatedUser,
)
from pileus.identity.rows import User

_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
_PROTOCOL: Schema = {
    "type": "object",
    "required": ["protocol_id", "unique_id"],
    "properties": {"protocol_id": _ID, "unique_id": {"type": "string", "minLength": 1, "maxLength": 1024}},
    "additionalProperties": False,
}
_PROVIDER: Schema = {
    "type": "object",
    "required": ["idp_id", "protocols"],
    "properties": {"idp_id": _ID, "protocols": {"type": "array", "items": _PROTOCOL, "minItems": 1, "maxItems": 1}},
    "additionalProperties": False,
}
# A user is one person at one provider: upstream lets there be more of both.
LINKS: Schema = {"type": "array", "items": _PROVIDER, "maxItems": 1}
_FILTERS = ("idp_id", "protocol_id", "unique_id")


def links_of(ctx: Context, user: User) -> dict[str, Any]:
    """`federated` of a user who has it, to be shown beside the rest."""
    found = FEDERATED_USERS.get(ctx.tx, user_id=user.id)
    if found is None:
        return {}
    protocol = {"protocol_id": found.protocol_id, "unique_id": found.unique_id}
    return {"federated": [{"idp_id": found.idp_id, "protocols": [protocol]}]}


def link(ctx: Context, user: User, given: Sequence[dict[str, Any]]) -> None:
    """Let a user be whom a provider means, or nobody; raises BadRequest, Forbidden or Conflicted naming the field.

    Only administrators may do that with a provider whose users live in another domain.
    """
    FEDERATED_USERS.delete(ctx.tx, user_id=user.id)
    for one in given:
        idp_id, protocol = one["idp_id"], one["protocols"][0]
        provider = IDENTITY_PROVIDERS.get(ctx.tx, id=idp_id)
        if provider is None or PROTOCOLS.get(ctx.tx, idp_id=idp_id, id=protocol["protocol_id"]) is None:
            raise BadRequest(f"federated: there is no protocol {protocol['protocol_id']} of a provider {idp_id}.")
        if provider.domain_id != user.domain_id and not ctx.allows("admin_required"):
            raise Forbidden(f"federated: the users of {idp_id} live in another domain.")
        known = {"idp_id": idp_id, "protocol_id": protocol["protocol_id"], "unique_id": protocol["unique_id"]}
        if FEDERATED_USERS.get(ctx.tx, **known) is not None:
            raise Conflicted("federated: another user is whom the provider means by this unique_id.")
        FEDERATED_USERS.insert(ctx.tx, FederatedUser(user_id=user.id, display_name=user.name, **known))


def filter_by_link(listing: Listing[User], query: Query) -> None:
    """Keep the users whom the query names as their provider does."""
    for name in _FILTERS:
        if name in query:
            listing.where(f"users.id in (select user_id from federated_users where {name} = ?)", query.one(name))
