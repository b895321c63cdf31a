"""Our own import rule: a service shows others its facade and drivers, and nothing else."""

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class FacadeContract(Contract):
    """Broken when a module reaches past `shown` into a service, unless it is wiring or the service itself."""

    root = fields.StringField()
    services = fields.ListField(subfield=fields.StringField())
    shown = fields.ListField(subfield=fields.StringField())
    wiring = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 (the base class's signature)
        """All imports into a service's inner modules from outside of it."""
        bad = [pair for service in self.services for pair in self._intruders(graph, f"{self.root}.{service}")]
        return ContractCheck(kept=not bad, metadata={"bad": bad})

    def _intruders(self, graph: ImportGraph, home: str) -> list[tuple[str, str]]:
        allowed = (home, *self.wiring)
        open_doors = {f"{home}.{name}" for name in self.shown}
        return [
            (importer, inner)
            for inner in ({home} | graph.find_descendants(home)) - open_doors
            for importer in graph.find_modules_that_directly_import(inner)
            if not any(importer == a or importer.startswith(a + ".") for a in allowed)
        ]

    def render_broken_contract(self, check: Any) -> None:
        """Say who reaches where."""
        for importer, inner in check.metadata["bad"]:
            output.print_error(f"{importer} reaches into {inner}: use its facade")
