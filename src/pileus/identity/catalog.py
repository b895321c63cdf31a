"""The catalog as tokens show it: enabled services with their enabled endpoints."""

import json
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


_GIVEN = """
select endpoint_id from project_endpoints where project_id = ?
"""
_GIVEN_GROUPS = """
select endpoint_groups.filters from endpoint_groups join project_endpoint_groups
on project_endpoint_groups.endpoint_group_id = endpoint_groups.id where project_endpoint_groups.project_id = ?
"""


class Catalog:
    """The catalog, kept in memory until identity changes."""

    def __init__(self) -> None:
        # Version and rows change together, in one assignment: threads share this.
        self._kept: tuple[int, list[tuple[Any, ...]]] = (-1, [])
        self._filters: tuple[int, bool] = (-1, False)

    def render(self, tx: Tx, *, project_id: str, user_id: str) -> list[dict[str, Any]]:
        """Services with their endpoints for one project ("" without) and user."""
        now = version(tx)
        kept = self._kept
        if kept[0] != now:
            kept = self._kept = (now, tx.all(_QUERY))
        shown = self._given(tx, project_id, kept[1]) if project_id and self._filtered(tx, now) else None
        services: dict[str, dict[str, Any]] = {}
        for service_id, type_, name, endpoint_id, interface, region, template in kept[1]:
            if shown is not None and endpoint_id not in shown:
                continue
            service = services.get(service_id)
            if service is None:
                service = services[service_id] = {"id": service_id, "type": type_, "name": name, "endpoints": []}
            url = endpoint_url(template, project_id, user_id) if endpoint_id else None
            if url is not None:
                service["endpoints"].append(
                    {"id": endpoint_id, "interface": interface, "region": region, "region_id": region, "url": url}
                )
        return list(services.values())

    def _filtered(self, tx: Tx, now: int) -> bool:
        """Whether any project was given endpoints of its own."""
        if self._filters[0] != now:
            row = tx.one("select 1 from project_endpoints union select 1 from project_endpoint_groups limit 1")
            self._filters = (now, row is not None)
        return self._filters[1]

    def _given(self, tx: Tx, project_id: str, rows: list[tuple[Any, ...]]) -> set[str] | None:
        """The endpoints that a project was given, alone or by groups; None: none, so that it sees all."""
        given = {str(row[0]) for row in tx.all(_GIVEN, project_id)}
        groups = [json.loads(row[0]) for row in tx.all(_GIVEN_GROUPS, project_id)]
        if not given and not groups:
            return None
        for service_id, _, _, endpoint_id, interface, region, _ in rows:
            facts = {"service_id": service_id, "interface": interface, "region_id": region}
            if any(filters.items() <= facts.items() for filters in groups):
                given.add(endpoint_id)
        return given
