"""The catalog as tokens show it: enabled services with their enabled endpoints."""

from typing import Any

from pileus.db.connect import Tx
from pileus.identity.watched import version

_QUERY = """
select services.id, services.type, services.name, endpoints.id, endpoints.interface, endpoints.region_id, endpoints.url
from services left join endpoints on endpoints.service_id = services.id and endpoints.enabled = 1
where services.enabled = 1 order by services.type, services.id, endpoints.interface, endpoints.id
"""
PLACEHOLDERS = frozenset(("tenant_id", "project_id", "user_id"))  # names that a URL may hold, as $(name)s
_PROJECT_NAMES = ("%(tenant_id)s", "%(project_id)s", "$(tenant_id)s", "$(project_id)s")
_USER_NAMES = ("%(user_id)s", "$(user_id)s")


def endpoint_url(template: str, project_id: str, user_id: str) -> str | None:
    """The address for this project and user; None when it needs a project and there is none."""
    if "(" not in template:
        return template
    for names, value in ((_PROJECT_NAMES, project_id), (_USER_NAMES, user_id)):
        for name in names:
            if name in template:
                if not value:
                    return None
                template = template.replace(name, value)
    return template


class Catalog:
    """The catalog, kept in memory until identity changes."""

    def __init__(self) -> None:
        # Version and rows change together, in one assignment: threads share this.
        self._kept: tuple[int, list[tuple[Any, ...]]] = (-1, [])

    def render(self, tx: Tx, *, project_id: str, user_id: str) -> list[dict[str, Any]]:
        """Services with their endpoints for one project ("" without) and user."""
        now = version(tx)
        kept = self._kept
        if kept[0] != now:
            kept = self._kept = (now, tx.all(_QUERY))
        services: dict[str, dict[str, Any]] = {}
        for service_id, type_, name, endpoint_id, interface, region, template in kept[1]:
            service = services.get(service_id)
            if service is None:
                service = services[service_id] = {"id": service_id, "type": type_, "name": name, "endpoints": []}
            url = endpoint_url(template, project_id, user_id) if endpoint_id else None
            if url is not None:
                service["endpoints"].append(
                    {"id": endpoint_id, "interface": interface, "region": region, "region_id": region, "url": url}
                )
        return list(services.values())
