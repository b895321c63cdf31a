"""One declaration an operation: routing, versions, policy, validation, rendering and docs derive from it.

An operation without a rule and a loader does not register, so nothing answers unguarded.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pileus.core.context import Context
from pileus.core.errors import Problem
from pileus.core.fields import FIRST, LATEST, Fields, Version, parse_version
from pileus.core.schema import Schema, compile_schema

F = TypeVar("F", bound=Callable[..., Any])
Loader = Callable[..., Any]
Slow = Callable[[Any], Awaitable[Mapping[str, Any]]]  # of the call: what the handler gets by these names
PUBLIC = "public"  # the rule of the few operations that need no token


def collection(ctx: Context, **_path: str) -> Mapping[str, Any]:
    """Loader of operations on a whole collection: the target is the caller's own project."""
    caller = ctx.caller
    return {"project_id": caller.project_id, "tenant_id": caller.project_id, "user_id": caller.user_id,
            "domain_id": caller.domain_id}  # fmt: skip


def unguarded(_ctx: Context, **_path: str) -> None:
    """Loader of public operations: there is no object."""


@dataclass(frozen=True)
class Many:
    """Render a list of resources under the plural name."""

    fields: Fields


@dataclass
class Page:
    """What a list handler returns: rows, and what stands beside them in the body (links, total)."""

    rows: list[Any]
    beside: dict[str, Any] = field(default_factory=dict)


@dataclass
class Reply:
    """A handler's answer when more than a rendered row is needed."""

    body: Any = None  # rendered by `gives` if that is set and this is a row; None: empty
    status: int = 0  # 0: the operation's own
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None  # sent as it is, with content-type from `headers`


Pack = Callable[[dict[str, Any]], Any]


def _as_it_is(row: dict[str, Any]) -> Any:
    return row


@dataclass(eq=False)
class Operation:
    """One operation of one service."""

    service: "Service"
    method: str
    path: str  # whole path with {names}
    run: Callable[..., Any]
    rule: str
    load: Loader
    ok: int
    takes: Fields | Schema | None
    gives: Fields | Many | None
    action: str  # key of an action body ("os-start"), or ""
    first: Version
    last: Version
    writes: bool
    streams: bool  # an async function that gets the whole call: bulk bytes, slow hashes
    body_limit: int
    slow: Slow | None = None  # work that would hold up others (hashing), between the checks and the transaction
    wants: tuple[str, ...] = ()
    _validators: dict[Version, Callable[[Any], Any]] = field(default_factory=dict)
    _shapes: list[Version] = field(default_factory=list)

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.run) or ""

    def shapes(self) -> list[Version]:
        """Versions at which the shape of this operation changes, oldest first."""
        if not self._shapes:
            points = {self.first}
            if isinstance(self.takes, Fields):
                points |= {p for p in self.takes.points() if p >= self.first}
            self._shapes = sorted(points)
        return self._shapes

    def request_schema(self, version: Version) -> Schema | None:
        if isinstance(self.takes, Fields):
            return self.takes.body_schema("c" if self.method == "POST" else "u", version)
        return self.takes

    def validate(self, body: Any, version: Version) -> None:
        """Raise BadRequest unless the body fits this operation at this version."""
        if self.takes is None:
            return
        shape = max((s for s in self.shapes() if s <= version), default=self.first)
        check = self._validators.get(shape)
        if check is None:
            check = self._validators[shape] = compile_schema(self.request_schema(shape) or {})
        check(body)

    def check(self, ctx: Context, body: Any, path: Mapping[str, str]) -> Any:
        """Load, check policy, validate; the target.

        Who may do this to nothing at all is refused before anything is looked up: what exists is not told to them.
        """
        if self.rule != PUBLIC and not ctx.enforcer.looks_at_target(self.rule):
            ctx.enforce(self.rule)
        target = self.load(ctx, **path)
        if self.rule != PUBLIC:
            ctx.enforce(self.rule, target)
        self.validate(body, ctx.version)
        return target

    def call(
        self, ctx: Context, body: Any, query: Any, path: Mapping[str, str], extra: Mapping[str, Any] | None = None,
        pack: Pack = _as_it_is,
    ) -> tuple[int, Any, Reply]:  # fmt: skip
        """Check, run, render: (status, body to encode or None, reply).

        `extra` is what slow work found.  `pack` is given each row of a list as soon as it is rendered.
        """
        target = self.check(ctx, body, path)
        given = {"ctx": ctx, "body": self._inner(body), "whole": body, "query": query, **path, **(extra or {})}
        arguments = {name: given.get(name, target) for name in self.wants}
        result = self.run(**arguments)
        reply = result if isinstance(result, Reply) else Reply(result)
        return reply.status or self.ok, self._render(reply.body, ctx, pack), reply

    def _inner(self, body: Any) -> Any:
        """The inside of the envelope that `takes` or the action names."""
        if self.action and isinstance(body, dict):
            return body.get(self.action)
        if isinstance(self.takes, Fields) and isinstance(body, dict):
            return body.get(self.takes.key)
        return body

    def _render(self, result: Any, ctx: Context, pack: Pack) -> Any:
        if result is None or self.gives is None:
            return result
        if isinstance(self.gives, Many):
            page = result if isinstance(result, Page) else Page(result)
            fields = self.gives.fields
            return {fields.plural: [pack(fields.render(row, ctx)) for row in page.rows], **page.beside}
        return {self.gives.key: self.gives.render(result, ctx)}


class Service:
    """One API: its place in the URL space, its versions, its error body, its operations."""

    def __init__(
        self,
        type_: str,
        name: str,
        root: str,
        base: str,
        *,
        problem: Callable[[Problem, str], Any],
        versions: tuple[str, str] | None = None,
        version_header: str = "",
        legacy_header: str = "",
        empty_ids: bool = True,
        ends_with_tokens: bool = False,
    ):
        self.type, self.name, self.root, self.base = type_, name, root, base
        self.problem = problem
        self.minimum = parse_version(versions[0]) if versions else FIRST
        self.maximum = parse_version(versions[1]) if versions else FIRST
        self.version_header = version_header  # the word after "OpenStack-API-Version:", e.g. "compute"
        self.legacy_header = legacy_header  # "x-openstack-nova-api-version"
        self.empty_ids = empty_ids  # whether "/things/" is the collection; if not, it is a thing without an id: 404
        self.ends_with_tokens = ends_with_tokens  # whether no service may come with a user's token that has expired
        self.operations: list[Operation] = []
        self.rules: dict[str, str] = {}

    def lacks_id(self, path: str) -> bool:
        """Whether a path names a thing by an empty id, where that is not the collection."""
        inside = path.startswith(f"{self.root}{self.base}/") and path != f"{self.root}{self.base}/"
        return not self.empty_ids and inside and path.endswith("/")

    def rule(self, name: str, text: str) -> str:
        """Declare a policy rule and its default; returns the name."""
        if self.rules.setdefault(name, text) != text:
            raise ValueError(f"{self.type}: rule {name} has two defaults")
        return name

    def op(
        self,
        method: str,
        path: str,
        *,
        rule: str,
        load: Loader,
        allow: str = "",
        ok: int = 200,
        takes: Fields | Schema | None = None,
        gives: Fields | Many | None = None,
        action: str = "",
        since: str = "",
        until: str = "",
        base: str | None = None,
        reads: bool = False,
        writes: bool = False,
        streams: bool = False,
        body_limit: int = 114_688,
        slow: Slow | None = None,
    ) -> Callable[[F], F]:
        """Register the function below as an operation; `allow` is its rule's default.

        `reads`: a POST that changes nothing; `writes`: a GET that may make what every project has.
        """
        if not rule or load is None:
            raise ValueError(f"{method} {path}: an operation needs a rule and a loader")
        if allow:
            self.rule(rule, allow)
        if rule != PUBLIC and rule not in self.rules:
            raise ValueError(f"{method} {path}: rule {rule} has no default")

        def register(run: F) -> F:
            whole = self.root + (self.base if base is None else base) + path
            self.operations.append(
                Operation(
                    self,
                    method,
                    whole.rstrip("/") or "/",
                    run,
                    rule,
                    load,
                    ok,
                    takes,
                    gives,
                    action,
                    parse_version(since) if since else self.minimum,
                    parse_version(until) if until else LATEST,
                    writes or (method not in ("GET", "HEAD") and not reads),
                    streams,
                    body_limit,
                    slow,
                    tuple(inspect.signature(run).parameters),
                )
            )
            return run

        return register
