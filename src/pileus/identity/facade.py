"""What the rest of the program may know of identity."""

import time
from pathlib import Path

from msgspec import Struct

from pileus.core.context import Caller
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
from pileus.identity.rows import PROJECTS, USERS
from pileus.identity.service import IDENTITY as SERVICE
from pileus.identity.tokens import ensure_keys, rotate_keys, tokens_of

# Importing these is what gives the service its operations.
OPERATIONS_FROM = (
    access_rule, application_credential, auth, catalog_service, credential, domain, domain_config, ec2_credential,
    endpoint, endpoint_filter, endpoint_group, grant, group, implied_role, limit, oauth1, oauth2, policy, project,
    project_tag, region, registered_limit, role, role_assignment, signed_request, trust, user, versions,
)  # fmt: skip
__all__ = [
    "SERVICE", "Authenticator", "ProjectView", "UserView", "bootstrap", "ensure_keys", "project_view", "rotate_keys",
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


class Authenticator:
    """Turns the token of a request into its caller; the same for every service."""

    def __init__(self, keys_folder: Path):
        self.tokens = tokens_of(keys_folder)

    def __call__(self, tx: Tx, token: str) -> Caller | None:
        """The caller, or None for a token that is wrong, expired, revoked, or of somebody who lost access."""
        known = self.tokens.examine(tx, token, time.time())
        return known.caller if known else None


def project_view(tx: Tx, project_id: str) -> ProjectView | None:
    """A project by its id; domains are no projects here."""
    found = PROJECTS.get(tx, id=project_id)
    if found is None or found.domain_id is None:
        return None
    return ProjectView(id=found.id, name=found.name, domain_id=found.domain_id, enabled=found.enabled)


def user_view(tx: Tx, user_id: str) -> UserView | None:
    """A user by their id."""
    found = USERS.get(tx, id=user_id)
    return UserView(id=found.id, name=found.name, domain_id=found.domain_id) if found else None
