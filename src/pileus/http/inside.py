"""One service asks another's API in the same transaction, for the old operations that do nothing but forward.

The other service's own policy, validation and rendering apply, to the same caller; nothing goes over a wire.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.fields import parse_version
from pileus.core.op import Operation, Service
from pileus.core.paging import Query
from pileus.http.routing import Router


class Inside:
    """The API of `service` for the caller of `ctx`, who asked the service `asked`."""

    def __init__(self, ctx: Context, asked: Service, service: Service, version: str = ""):
        self.ctx, self.service = ctx, service
        self.base = ctx.url.removesuffix(asked.root)
        self.version = parse_version(version) if version else service.minimum

    def __call__(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None, content_type: str = ""
    ) -> Any:
        """The decoded answer; `path` is below the service's base, values of `query` that are None are left out.

        Raises what the operation raises.
        """
        match = _router(self.service).find(method, self.service.root + self.service.base + path)
        operation = self._chosen(match.operations)
        asked = Query({name: [str(value)] for name, value in (query or {}).items() if value is not None})
        _, answer, _ = operation.call(self._context(content_type), body, asked, match.path)
        return answer

    def _chosen(self, operations: list[Operation]) -> Operation:
        for operation in operations:
            if operation.first <= self.version <= operation.last and not operation.streams and not operation.action:
                return operation
        raise NotFound("The resource could not be found.")

    def _context(self, content_type: str) -> Context:
        ctx = self.ctx
        return Context(
            ctx.tx, ctx.caller, now=ctx.now, enforcer=ctx.enforcer, request_id=ctx.request_id,
            url=self.base + self.service.root, version=self.version, settings=ctx.settings,
            headers={"content-type": content_type} if content_type else {},
        )  # fmt: skip


@cache
def _router(service: Service) -> Router:
    return Router([service])
