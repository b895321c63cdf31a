"""Calls operations through the whole pipeline without a socket, as any caller one likes."""

import functools
import json
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import uvloop

from pileus.core.audit import Trail
from pileus.core.context import Caller
from pileus.core.op import Service
from pileus.core.policy import Enforcer
from pileus.db.connect import Database, Tx, connect
from pileus.db.migrate import migrate
from pileus.db.sqlite import SqliteDatabase
from pileus.http.app import App, Authenticate
from pileus.http.audit import Audit
from pileus.http.transactions import transactions


def caller(name: str, user: str, project: str, *roles: str, project_name: str = "") -> Caller:
    """Someone in the default domain; user and project are the digit of which their ids consist."""
    return Caller(
        user_id=user * 32, user_name=name, project_id=project * 32, project_name=project_name or name,
        user_domain_id="default", project_domain_id="default", roles=roles,
    )  # fmt: skip


ADMIN = caller("admin", "a", "b", "admin", "manager", "member", "reader")
DEMO = caller("demo", "c", "d", "member", "reader")
READER = caller("reader", "e", "d", "reader", project_name="demo")
OTHER = caller("other", "f", "0", "member", "reader")
SERVICE_USER = caller("nova", "9", "8", "service", project_name="service")
CALLERS = {"admin": ADMIN, "demo": DEMO, "reader": READER, "other": OTHER, "service": SERVICE_USER}


class Answer:
    """Status, headers and decoded body of one call."""

    def __init__(self, status: int, headers: Mapping[str, str], raw: bytes):
        self.status, self.headers, self.raw = status, headers, raw

    @property
    def json(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    def __repr__(self) -> str:
        return f"<{self.status} {self.raw[:500]!r}>"


def named_or(authenticate: Authenticate | None) -> Authenticate:
    """A caller by name, else by whatever the real authenticator makes of the token."""

    def find(tx: Tx, token: str) -> Caller | None:
        known = CALLERS.get(token)
        return known or (authenticate(tx, token) if authenticate else None)

    return find


@functools.cache
def migrated() -> bytes:
    """The file of a new database with its schema, which takes a while to make."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pileus.db"
        db = SqliteDatabase(str(path))
        migrate(db)
        db.close()
        return path.read_bytes()


class Direct:
    """The API of some services over a database of its own."""

    def __init__(
        self, services: Iterable[Service], folder: Path, settings: Any = None, authenticate: Authenticate | None = None,
        trail: Trail | None = None, clock: Callable[[], float] = time.time,
    ):  # fmt: skip
        """`authenticate` turns real tokens into callers; the names of CALLERS are known besides."""
        if not (folder / "pileus.db").exists():
            (folder / "pileus.db").write_bytes(migrated())
        self.db: Database = connect(f"sqlite://{folder}/pileus.db")
        migrate(self.db)
        front = transactions(self.db)
        audit = Audit(trail, front) if trail else None
        self.app = App(services, front, named_or(authenticate), Enforcer(), settings=settings, audit=audit, clock=clock)
        self.loop = uvloop.new_event_loop()  # as the server's
        weakref.finalize(self, self.loop.close)  # it holds file descriptors, and no collector closes it
        self.client = ("192.0.2.1", 50_000)  # where requests come from

    def __call__(
        self, method: str, path: str, body: Any = None, *, caller: str = "demo", version: str = "",
        headers: Mapping[str, str] | None = None, raw: bytes | None = None,
    ) -> Answer:  # fmt: skip
        """One request as a named caller of CALLERS; `version` is a whole OpenStack-API-Version header."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        head = {"host": "cloud:5000", "x-auth-token": caller, "content-type": "application/json", **(headers or {})}
        if version:
            head["openstack-api-version"] = version
        bare, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": bare,
            "raw_path": quote(bare).encode(),
            "scheme": "http",
            "query_string": query.encode(),
            "client": self.client,
            "headers": [(k.encode(), v.encode()) for k, v in head.items()],
        }
        sent: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> Any:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        self.loop.run_until_complete(self.app(scope, receive, send))
        start = next(m for m in sent if m["type"] == "http.response.start")
        got = {k.decode(): v.decode() for k, v in start["headers"]}
        return Answer(
            start["status"], got, b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
        )
