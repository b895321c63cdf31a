"""What the rest of the program may know of identity."""

import hmac
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from pileus.core.audit import Trail, equal
from pileus.core.clock import iso_micro_z
from pileus.core.context import Caller
from pileus.core.ids import new_hex
from pileus.db.connect import Tx
from pileus.identity import (
    access_rule,
    application_credential,
    auth,
    catalog_service,
    credential,
    domain,
    domain_config,
    ec2_credential,
    endpoint,
    endpoint_filter,
    endpoint_group,
    grant,
    group,
    implied_role,
    limit,
    oauth1,
    oauth2,
    policy,
    project,
    project_tag,
    region,
    registered_limit,
    role,
    role_assignment,
    signed_request,
    trust,
    user,
    versions,
)
from pileus.identity.bootstrap import bootstrap
from pileus.identity.directory_work import kinds
from pileus.identity.federation import (
    doors,
    identity_provider,
    mapping,
    oidc_door,
    protocol,
    saml_door,
    saml_idp,
    saml_login,
    scopes,
    service_provider,
)
from pileus.identity.federation.mapping import try_mapping
from pileus.identity.federation.oidc_check import check_providers
from pileus.identity.federation.rules import Unmapped
from pileus.identity.federation.saml_keys import rotate_signing_key
from pileus.identity.keys import KeyRing, rotate
from pileus.identity.limit_model import limits_above
from pileus.identity.recovery import (
    caller_as,
    forget_keys,
    recover_administrator,
    rotate_credential_key,
    set_administrators_password,
)
from pileus.identity.rows import PROJECTS, USERS
from pileus.identity.sealing import seal, unseal
from pileus.identity.service import IDENTITY as SERVICE
from pileus.identity.tokens import AUDIT_RING, ensure_keys, rotate_keys, tokens_of

# Importing these is what gives the service its operations.
OPERATIONS_FROM = (
    access_rule, application_credential, auth, catalog_service, credential, domain, domain_config, ec2_credential,
    endpoint, endpoint_filter, endpoint_group, grant, group, implied_role, limit, oauth1, oauth2, policy, project,
    project_tag, region, registered_limit, role, role_assignment, signed_request, trust, user, versions,
    # federation
    doors, identity_provider, mapping, oidc_door, protocol, saml_door, saml_idp, saml_login, scopes, service_provider,
)  # fmt: skip
__all__ = [
    "SERVICE",
    "Authenticator",
    "ProjectView",
    "Unmapped",
    "UserView",
    "audit_trail",
    "bootstrap",
    "caller_as",
    "check_providers",
    "command_event",
    "ensure_keys",
    "forget_keys",
    "kinds",
    "limits_above",
    "limits_of",
    "project_view",
    "recover_administrator",
    "rotate_audit_key",
    "rotate_credential_key",
    "rotate_keys",
    "rotate_signing_key",
    "seal",
    "set_administrators_password",
    "try_mapping",
    "unseal",
    "user_view",
]  # fmt: skip


class ProjectView(Struct, frozen=True, kw_only=True):
    """A project as other services see it."""

    id: str
    name: str
    domain_id: str
    enabled: bool


class UserView(Struct, frozen=True, kw_only=True):
    """A user as other services see them."""

    id: str
    name: str
    domain_id: str


def audit_trail(keys_folder: Path) -> Trail:
    """The audit trail under the ring of audit keys; older keys only check what they made."""
    ring = KeyRing(keys_folder / AUDIT_RING)

    def mac(content: bytes) -> str:
        key = ring.current(time.time())
        return f"{key.id}:{hmac.digest(key.secret, content, 'sha256').hex()}"

    def check(content: bytes, made: str) -> bool:
        key = ring.find(made.partition(":")[0])
        return key is not None and equal(f"{key.id}:{hmac.digest(key.secret, content, 'sha256').hex()}", made)

    return Trail(mac, check)


def rotate_audit_key(keys_folder: Path, now: float) -> None:
    """Make new records under a new key; the older ones are kept for ever, since they check what they made."""
    rotate(keys_folder / AUDIT_RING, now=now, keep_seconds=float("inf"))


def command_event(command: str, now: float) -> dict[str, Any]:
    """A CADF event of a command that the operator gave on a controller."""
    return {
        "typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event", "eventType": "activity", "id": new_hex(),
        "eventTime": iso_micro_z(now), "action": command, "outcome": "success",
        "initiator": {"id": "operator", "typeURI": "service/security/account/admin"},
        "target": {"id": "identity", "typeURI": "service/identity"},
        "observer": {"id": "pileus", "typeURI": "service/identity"},
    }  # fmt: skip


class Authenticator:
    """Turns the token of a request into its caller; the same for every service.

    `window`: for how many seconds tokens are good after they expired.
    """

    def __init__(self, keys_folder: Path, window: float = 0.0):
        self.tokens, self.window = tokens_of(keys_folder), window

    def __call__(self, tx: Tx, token: str) -> Caller | None:
        """The caller, or None for a token that is wrong, expired, revoked, or of somebody who lost access."""
        known = self.tokens.examine(tx, token, time.time(), window=self.window)
        return known.caller if known else None


def project_view(tx: Tx, project_id: str) -> ProjectView | None:
    """A project by its id; domains are no projects here."""
    found = PROJECTS.get(tx, id=project_id)
    if found is None or found.domain_id is None:
        return None
    return ProjectView(id=found.id, name=found.name, domain_id=found.domain_id, enabled=found.enabled)


def limits_of(tx: Tx, service_type: str, project_id: str) -> dict[str, int]:
    """The unified limits of a service for a project, by resource: its own, else the registered default; -1: none."""
    rows = tx.all(
        "select r.resource_name, coalesce(l.resource_limit, r.default_limit) from registered_limits r"
        " join services s on s.id = r.service_id"
        " left join limits l on l.registered_limit_id = r.id and l.project_id = ?"
        " where s.type = ? order by coalesce(r.region_id, '')",
        project_id, service_type,
    )  # fmt: skip
    return {name: int(limit) for name, limit in rows}


def user_view(tx: Tx, user_id: str) -> UserView | None:
    """A user by their id."""
    found = USERS.get(tx, id=user_id)
    return UserView(id=found.id, name=found.name, domain_id=found.domain_id) if found else None
