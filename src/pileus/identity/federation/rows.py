"""What identity keeps of federation: providers, their protocols, the mappings, and whom they sent."""

from typing import Any, Literal

from msgspec import Struct

from pileus.identity.watched import Watched

SchemaVersion = Literal["1.0", "2.0"]


class IdentityProvider(Struct, frozen=True, kw_only=True):
    """Somebody else who knows users and vouches for them."""

    id: str
    domain_id: str  # where its users live
    enabled: bool = False
    description: str | None = None
    authorization_ttl: int | None = None  # minutes that group memberships of a log-in last; None: the cloud's


class RemoteId(Struct, frozen=True, kw_only=True):
    """A name by which an identity provider calls itself in what it asserts (an issuer, an entity id)."""

    remote_id: str
    idp_id: str


class Protocol(Struct, frozen=True, kw_only=True):
    """A way in which an identity provider asserts, and the mapping that reads it."""

    idp_id: str
    id: str
    mapping_id: str
    remote_id_attribute: str | None = None  # the attribute that must be one of the provider's remote ids


class Mapping(Struct, frozen=True, kw_only=True):
    """Rules from what was asserted to a user, groups and projects."""

    id: str
    rules: list[dict[str, Any]]
    schema_version: SchemaVersion = "1.0"


class FederatedUser(Struct, frozen=True, kw_only=True):
    """Whom a user stands for: one for each provider, protocol and unique id."""

    user_id: str
    idp_id: str
    protocol_id: str
    unique_id: str
    display_name: str


IDENTITY_PROVIDERS = Watched(IdentityProvider, "identity_providers")
REMOTE_IDS = Watched(RemoteId, "identity_provider_remote_ids", ("remote_id",))
PROTOCOLS = Watched(Protocol, "federation_protocols", ("idp_id", "id"))
MAPPINGS = Watched(Mapping, "federation_mappings")
FEDERATED_USERS = Watched(FederatedUser, "federated_users", ("user_id",))
