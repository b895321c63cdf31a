"""From method and path to the operations that may answer, by a tree of path segments."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pileus.core.errors import MethodNotAllowed, NotFound
from pileus.core.op import Operation, Service


@dataclass
class Node:
    """One segment of the URL space."""

    fixed: dict[str, "Node"] = field(default_factory=dict)
    any: "Node | None" = None
    name: str = ""  # of the placeholder that led here
    methods: dict[str, list[Operation]] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """The operations that stand at a path for a method, and the values of its placeholders."""

    operations: list[Operation]
    path: dict[str, str]


class Router:
    """All operations of all services."""

    def __init__(self, services: Iterable[Service]):
        self.root = Node()
        self.services = sorted(services, key=lambda s: -len(s.root))
        for service in self.services:
            for operation in service.operations:
                self._add(operation)

    def _add(self, operation: Operation) -> None:
        node = self.root
        for part in operation.path.strip("/").split("/"):
            if part.startswith("{"):
                node.any = node.any or Node()
                node.any.name = node.any.name or part[1:-1]
                if node.any.name != part[1:-1]:
                    raise ValueError(f"{operation.path}: {part} is called {node.any.name} elsewhere")
                node = node.any
            else:
                node = node.fixed.setdefault(part, Node())
        node.methods.setdefault(operation.method, []).append(operation)

    def find(self, method: str, path: str) -> Match:
        """Raises NotFound for an unknown path, MethodNotAllowed for a known one."""
        values: list[str] = []
        node = self._walk(self.root, path.strip("/").split("/"), 0, values)
        if node is None:
            raise NotFound("The resource could not be found.")
        found = node.methods.get(method)
        if found is None and method == "HEAD":
            found = node.methods.get("GET")
        if found is None:
            allowed = ", ".join(sorted(node.methods))
            raise MethodNotAllowed(
                f"The method {method} is not allowed here; allowed: {allowed}.", headers={"allow": allowed}
            )
        names = [p[1:-1] for p in found[0].path.strip("/").split("/") if p.startswith("{")]
        return Match(found, dict(zip(names, values, strict=True)))

    def _walk(self, node: Node, parts: list[str], at: int, values: list[str]) -> Node | None:
        """A fixed segment wins over a placeholder; back up where that leads nowhere."""
        if at == len(parts):
            return node if node.methods else None
        if (below := node.fixed.get(parts[at])) is not None:
            if (found := self._walk(below, parts, at + 1, values)) is not None:
                return found
        if node.any is not None and parts[at]:
            values.append(parts[at])
            if (found := self._walk(node.any, parts, at + 1, values)) is not None:
                return found
            values.pop()
        return None

    def service_at(self, path: str) -> Service | None:
        """The service whose error body a refused path gets."""
        for service in self.services:
            if path == service.root or path.startswith(service.root + "/"):
                return service
        return None
