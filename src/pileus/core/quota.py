"""Limits of projects: the limit is stored, the usage is counted, so nothing can drift."""

from collections.abc import Callable, Mapping

from pileus.core.errors import OverQuota
from pileus.db.connect import Tx

Counter = Callable[[Tx, str], int]  # usage of one resource by one project
UNLIMITED = -1
DEFAULT_PROJECT = ""  # rows of this "project" are the operator's own defaults


class Quota:
    """The resources of one service that are limited, each with its default and the way to count it."""

    def __init__(self, service: str, resources: Mapping[str, tuple[int, Counter]]):
        self.service = service
        self.resources = dict(resources)

    def defaults(self, tx: Tx) -> dict[str, int]:
        built_in = {name: default for name, (default, _) in self.resources.items()}
        return {**built_in, **self._stored(tx, DEFAULT_PROJECT)}

    def limits(self, tx: Tx, project_id: str) -> dict[str, int]:
        """All limits of a project; -1 is unlimited."""
        return {**self.defaults(tx), **self._stored(tx, project_id)}

    def _stored(self, tx: Tx, project_id: str) -> dict[str, int]:
        rows = tx.all(
            "select resource, value from quota_limits where service = ? and project_id = ?",
            self.service,
            project_id,
        )
        return {name: int(value) for name, value in rows if name in self.resources}

    def usage(self, tx: Tx, project_id: str) -> dict[str, int]:
        return {name: count(tx, project_id) for name, (_, count) in self.resources.items()}

    def set_limits(self, tx: Tx, project_id: str, limits: Mapping[str, int]) -> None:
        for name, value in limits.items():
            tx.run(
                "insert into quota_limits (service, project_id, resource, value) values (?, ?, ?, ?)"
                " on conflict (service, project_id, resource) do update set value = excluded.value",
                self.service, project_id, name, value,
            )  # fmt: skip

    def reset(self, tx: Tx, project_id: str) -> None:
        """Give a project the defaults again."""
        tx.run("delete from quota_limits where service = ? and project_id = ?", self.service, project_id)

    def take(self, tx: Tx, project_id: str, **wanted: int) -> None:
        """Raise OverQuota unless so many more fit; call it in the transaction that creates them."""
        tx.lock(f"quota/{self.service}/{project_id}")
        limits = self.limits(tx, project_id)
        for name, more in wanted.items():
            limit = limits[name]
            if limit == UNLIMITED or more <= 0:
                continue
            used = self.resources[name][1](tx, project_id)
            if used + more > limit:
                raise OverQuota(
                    f"Quota exceeded for {name}: Requested {more}, but already used {used} of {limit} {name}. "
                    "Delete some, or ask the administrator for a higher limit.",
                    kind="OverQuota",
                )
