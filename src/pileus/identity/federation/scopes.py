"""What a federated user may ask a scope for, at the addresses of OS-FEDERATION.

Source: Identity API reference, "OS-FEDERATION", "List projects a federated user can access".
"""

from pileus.core.context import Context
from pileus.core.op import Many, Page, collection
from pileus.core.paging import Query
from pileus.identity.auth import reachable
from pileus.identity.domain import DOMAIN
from pileus.identity.project import PROJECT
from pileus.identity.service import IDENTITY, listed


@IDENTITY.op(
    "GET", "/OS-FEDERATION/projects", rule="identity:get_auth_projects", allow="@", load=collection,
    gives=Many(PROJECT),
)  # fmt: skip
def list_federated_projects(ctx: Context, query: Query) -> Page:
    """List the projects to which a token of the caller could be scoped."""
    return listed(ctx, PROJECT, reachable(ctx, domains=False), query, path="/OS-FEDERATION/projects")


@IDENTITY.op(
    "GET", "/OS-FEDERATION/domains", rule="identity:get_auth_domains", allow="@", load=collection, gives=Many(DOMAIN)
)
def list_federated_domains(ctx: Context, query: Query) -> Page:
    """List the domains to which a token of the caller could be scoped."""
    return listed(ctx, DOMAIN, reachable(ctx, domains=True), query, path="/OS-FEDERATION/domains")
