"""The rows of limits of projects and domains."""

from msgspec import Struct

from pileus.db.rows import Table


class Limit(Struct, frozen=True, kw_only=True):
    """The limit of one project or domain."""

    id: str
    registered_limit_id: str
    project_id: str | None = None
    domain_id: str | None = None
    resource_limit: int
    description: str | None = None


LIMITS = Table(Limit, "limits")
