"""The API as one ASGI application; PIPELINE is the whole way of a request, in order."""

import errno
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from pileus.core.context import ANONYMOUS, Caller, Context
from pileus.core.errors import (
    BadRequest,
    NotAcceptable,
    NotFound,
    Problem,
    RequestTimeout,
    ServiceUnavailable,
    TooLarge,
    UnsupportedMediaType,
)
from pileus.core.fields import Version, parse_version, show_version
from pileus.core.ids import new_id
from pileus.core.log import REQUEST_ID
from pileus.core.op import Operation, Reply, Service
from pileus.core.paging import Query
from pileus.core.policy import Enforcer
from pileus.core.policy_files import PolicyFiles
from pileus.core.schema import short
from pileus.db.connect import Conflict, Tx, Unavailable
from pileus.http.audit import Audit
from pileus.http.authentication import authenticate
from pileus.http.routing import Match, Router
from pileus.http.transactions import Transactions

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Authenticate = Callable[[Tx, str], Caller | None]
log = logging.getLogger("pileus.http")
_JSON = {"content-type": "application/json"}
MESSAGE_LENGTH = 1000  # characters of a refusal, which must not become as long as what is refused


class Disconnected(Exception):
    """The client went away in the middle of its own request."""


class Call:
    """One request on its way through the pipeline."""

    def __init__(self, app: "App", scope: Scope, receive: Receive, send: Send):
        self.app, self.scope, self.receive, self.send = app, scope, receive, send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[str, str] = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        self.request_id = "req-" + new_id()
        self.started = time.perf_counter()
        self.match: Match | None = None
        self.operation: Operation | None = None
        self.service: Service | None = None
        self.version: Version = (0, 0)
        self.version_asked = False
        self.caller: Caller = ANONYMOUS
        self.body: Any = None
        self.reply_headers: dict[str, str] = {}
        self.reason = ""  # why it was refused, for the audit trail alone
        self.audited = False  # whether the audit trail has it already, from its own transaction

    @property
    def query(self) -> Query:
        text = self.scope["query_string"].decode("latin-1")
        if "\0" in unquote(text):
            raise BadRequest("The query string holds a NUL character.")
        return Query(parse_qs(text, keep_blank_values=True, max_num_fields=256))

    def context(self, tx: Tx) -> Context:
        """The handler's world for this request in one transaction."""
        service = self.service
        return Context(
            tx, self.caller, now=self.app.clock(), enforcer=self.app.enforcer, request_id=self.request_id,
            url=self.base_url() + (service.root if service else ""), version=self.version, settings=self.app.settings,
            if_match=self.headers.get("if-match", ""), headers=self.headers,
        )  # fmt: skip

    def base_url(self) -> str:
        """Where the client reaches this API: the configured address, else the Host header if it is one."""
        if self.app.public_url:
            return self.app.public_url
        host = self.headers.get("host", "")
        if not re.fullmatch(r"[A-Za-z0-9.\-]+(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?", host):
            host = "localhost"
        return f"{self.scope.get('scheme', 'http')}://{host}"

    async def read(self, work: Callable[[Context], Any]) -> Any:
        """Run database work on a snapshot (streaming operations)."""
        return await self.app.transactions.read(lambda tx: work(self.context(tx)))

    async def write(self, work: Callable[[Context], Any]) -> Any:
        """Run database work in a committed transaction (streaming operations)."""
        return await self.app.transactions.write(lambda tx: work(self.context(tx)))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises Disconnected when it is cut."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return

    async def read_body(self, limit: int) -> bytes:
        """The whole body; raises TooLarge before it is buffered."""
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise TooLarge(f"The request is too large: at most {limit} bytes are allowed here.")
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"The request is too large: at most {limit} bytes are allowed here.")
            parts.append(chunk)
        return b"".join(parts)

    @property
    def gone(self) -> bool:
        """Whether the client has closed its connection (uvicorn swallows what is sent to it then)."""
        return bool(getattr(getattr(self.send, "__self__", None), "disconnected", False))

    async def stream(self, status: int, headers: Mapping[str, str], parts: AsyncIterator[bytes]) -> None:
        """Answer with bytes as they come; the length must stand in the headers if it is known."""
        await self._start(status, headers)
        async for part in parts:
            if self.gone:
                raise Disconnected
            await self.send({"type": "http.response.body", "body": part, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Answer at once; HEAD and 204 carry no body (RFC 9110 §6.4.1)."""
        bare = self.method == "HEAD" or status in (204, 205, 304)
        length = {} if status in (204, 304) else {"content-length": str(len(body))}
        await self._start(status, {**headers, **length})
        await self.send({"type": "http.response.body", "body": b"" if bare else body})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        everything = {**self.reply_headers, **headers, "x-openstack-request-id": self.request_id}
        if self.service and self.service.legacy_header:
            everything["x-compute-request-id"] = self.request_id
        coded = [(k.encode("latin-1"), v.encode("latin-1", "replace")) for k, v in everything.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": coded})
        self.app.finished(self, status)
        if self.app.audit is not None:
            self.app.audit.finished(self, status)


async def find_operation(call: Call) -> None:
    """Path and method → the operations that stand there."""
    call.service = call.app.router.service_at(call.path)
    if "\0" in call.path or (call.service and call.service.lacks_id(call.path)):
        raise NotFound("The resource could not be found.")
    call.match = call.app.router.find(call.method, call.path)
    call.service = call.match.operations[0].service


async def negotiate_version(call: Call) -> None:
    """Microversion headers → the version at which the request is read and answered."""
    service = call.service
    assert service is not None
    call.version = service.minimum
    if not service.version_header and not service.legacy_header:
        return
    asked = ""
    for part in call.headers.get("openstack-api-version", "").split(","):
        word, _, value = part.strip().partition(" ")
        if word.lower() == service.version_header:
            asked = value.strip()
    asked = asked or (call.headers.get(service.legacy_header, "").strip() if service.legacy_header else "")
    if asked == "latest":
        call.version = service.maximum
    elif asked:
        if not re.fullmatch(r"[1-9]\d{0,3}\.(0|[1-9]\d{0,4})", asked):
            raise BadRequest(
                f"API Version String {asked[:40]} is of invalid format. Must be of format MajorNum.MinorNum."
            )
        call.version = parse_version(asked)
        if not service.minimum <= call.version <= service.maximum:
            low, high = (show_version(v) for v in (service.minimum, service.maximum))
            wrong, call.version = call.version, service.minimum
            raise NotAcceptable(
                f"Version {show_version(wrong)} is not supported by the API. Minimum is {low} and maximum is {high}."
            )
    shown = show_version(call.version)
    call.reply_headers["openstack-api-version"] = f"{service.version_header} {shown}"
    call.reply_headers["vary"] = "OpenStack-API-Version"
    if service.legacy_header:
        call.reply_headers[service.legacy_header] = shown
        call.reply_headers["vary"] += f", {service.legacy_header}"


async def decode_body(call: Call) -> None:
    """Bytes → JSON for every operation that does not stream; NUL and depth are refused here."""
    assert call.match is not None
    if call.match.operations[0].streams or call.method in ("GET", "HEAD"):
        return
    limit = max(op.body_limit for op in call.match.operations)
    raw = await call.read_body(limit)
    if not raw:
        return
    content_type = call.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if (
        content_type not in ("application/json", "")
        and not content_type.endswith("+json")
        and not content_type.endswith("json-patch")
    ):
        if call.method == "DELETE":
            return
        raise UnsupportedMediaType(f"Unsupported Content-Type {content_type[:80]}: send application/json.")
    if b"\\u0000" in raw or b"\0" in raw:
        raise BadRequest("The body holds a NUL character, which no field accepts.")
    try:
        call.body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


async def choose_operation(call: Call) -> None:
    """Among the operations at one path: by microversion, and by the one key of an action body."""
    assert call.match is not None
    alive = [op for op in call.match.operations if op.first <= call.version <= op.last]
    if not alive:
        raise NotFound("The resource could not be found.")
    actions = [op for op in alive if op.action]
    if actions:
        if not isinstance(call.body, dict) or len(call.body) != 1:
            raise BadRequest("The body of an action must be an object with one key, the name of the action.")
        name = next(iter(call.body))
        alive = [op for op in actions if op.action == name]
        if not alive:
            raise BadRequest(f"There is no such action: {str(name)[:80]}")
    call.operation = alive[0]
    if call.operation.takes is not None and not isinstance(call.body, dict) and not call.operation.streams:
        if call.method in ("POST", "PUT", "PATCH") and call.body is None:
            raise BadRequest("Request body is required: it must be a JSON object.")


def encoded(row: dict[str, Any]) -> msgspec.Raw:
    """A row of a list as JSON, so that its many small objects are gone before the next row's are made."""
    return msgspec.Raw(msgspec.json.encode(row))


async def run(call: Call) -> None:
    """Load, policy, validation, handler, rendering in one transaction; answered after its commit."""
    operation, match = call.operation, call.match
    assert operation is not None and match is not None
    if operation.streams:
        await operation.run(call, **match.path)
        return
    query = call.query
    extra: Mapping[str, Any] = {}
    if operation.slow is not None:
        await call.app.transactions.read(lambda tx: operation.check(call.context(tx), call.body, match.path))
        extra = await operation.slow(call)

    audit = call.app.audit if operation.writes else None

    def work(tx: Tx) -> tuple[int, Any, Reply]:
        if audit is None:
            return operation.call(call.context(tx), call.body, query, match.path, extra, encoded)
        found = operation.call(call.context(tx), call.body, query, match.path, extra)
        audit.in_transaction(tx, call, found[0], found[1])
        return found

    begin = call.app.transactions.write if operation.writes else call.app.transactions.read
    status, body, reply = await begin(work)
    call.audited = audit is not None
    if reply.raw is not None:
        await call.answer(status, reply.raw, reply.headers)
    elif body is None:
        await call.answer(status, b"", reply.headers)
    else:
        await call.answer(status, msgspec.json.encode(body), {**_JSON, **reply.headers})


PIPELINE = (find_operation, authenticate, negotiate_version, decode_body, choose_operation, run)


class App:
    """All services behind one door."""

    def __init__(
        self,
        services: Iterable[Service],
        transactions: Transactions,
        authenticate: Authenticate,
        enforcer: Enforcer,
        *,
        public_url: str = "",
        settings: Any = None,
        aliases: Mapping[str, str] | None = None,
        pages: Callable[[Scope, Receive, Send], Awaitable[bool]] | None = None,
        finished: Callable[[Call, int], None] | None = None,
        audit: Audit | None = None,
        policy_files: PolicyFiles | None = None,
        authenticate_late: Authenticate | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.services = list(services)
        self.router = Router(self.services)
        self.transactions, self.authenticate, self.enforcer = transactions, authenticate, enforcer
        # As `authenticate`, for tokens that services use after they expired.
        self.authenticate_late = authenticate_late or authenticate
        self.public_url, self.settings = public_url.rstrip("/"), settings
        self.clock = clock  # seconds since the epoch
        self.aliases = dict(aliases or {})  # first segments of old addresses → where that lives now
        self.pages = pages  # the dashboard and console sockets: True when it answered
        self.finished = finished or (lambda call, status: None)
        self.audit = audit
        self.policy_files = policy_files
        for service in self.services:
            for name, text in service.rules.items():
                enforcer.declare(name, text, service.type)
        enforcer.check_references()
        if policy_files is not None:
            policy_files.load()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        if self.pages is not None and await self.pages(scope, receive, send):
            return None
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return None
        first, _, rest = scope["path"].lstrip("/").partition("/")
        if first in self.aliases:
            scope = {**scope, "path": f"{self.aliases[first]}/{rest}".rstrip("/")}
        if self.policy_files is not None:
            self.policy_files.refresh()
        call = Call(self, scope, receive, send)
        REQUEST_ID.set(call.request_id)
        try:
            for stage in PIPELINE:
                await stage(call)
        except Disconnected:
            return None
        except Exception as error:
            await self._refuse(call, as_problem(error))
        return None

    async def _refuse(self, call: Call, problem: Problem) -> None:
        service = call.service
        call.reason = problem.reason
        problem.message = short(problem.message, MESSAGE_LENGTH)
        body = service.problem(problem, call.request_id) if service else {"error": {"message": problem.message}}
        try:
            await call.answer(problem.status, msgspec.json.encode(body), {**_JSON, **problem.headers})
        except RuntimeError:
            log.warning("the answer was cut: %s", problem.message)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                if self.audit is not None:
                    await self.audit.flush()
                return


def as_problem(error: Exception) -> Problem:
    """What the client is told of an exception; only a defect of ours is a 500."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Unavailable):
        return ServiceUnavailable(f"{error}. Try again.", headers={"retry-after": "1"})
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ServiceUnavailable("The disk is full. Try again when there is room.", headers={"retry-after": "60"})
    if isinstance(error, OverflowError) or type(error).__name__ in ("NumericValueOutOfRange", "DataError"):
        return BadRequest("A number in the request is too large.")
    if isinstance(error, TimeoutError):
        return RequestTimeout("The request took too long to arrive.")
    if isinstance(error, Conflict):
        log.error("a unique constraint was not foreseen: %s", error)
        return Problem409(f"The request conflicts with something that exists: {error.constraint}")
    if isinstance(error, ValueError) and "Max number of fields exceeded" in str(error):
        return BadRequest("The query string holds too many parameters.")
    log.error("request failed", exc_info=error)
    return Problem("An unexpected error stopped this request; the log has it under the request id.")


class Problem409(Problem):
    """A constraint of the store that no handler translated."""

    status, title = 409, "Conflict"
