"""Hostile input to every identity operation: the API's own 4xx in its own body, never a 500, nothing half made."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from identity_cloud import IdentityCloud
from pileus.core.op import Operation
from pileus.identity import facade

OPERATIONS = facade.SERVICE.operations
DEEP: Any = None
for _ in range(900):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, -1, 2**70, 1.5, "", " ", "x" * 10_000, "a\nb", "💥", "'; drop table users; --", "%", [], [1], {},
    {"a": 1}, DEEP, {"id": "x" * 300}, "\ud800", "../../etc/passwd",
]  # fmt: skip
IDS = ["x", "0" * 32, "x" * 500, "%27", "default", "💥", "..", "a b"]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path_factory.mktemp("hostile"))
    yield made
    made.close()


NAMES = (
    "name", "limit", "marker", "enabled", "sort_key", "domain_id", "parent_id", "tags", "name__contains", "id__like",
    "scope.project.id", "user.id", "effective", "parents_as_list", "include_subtree",
)  # fmt: skip


def fill(op: Operation, identifier: str) -> str:
    return re.sub(r"\{\w+\}", identifier, op.path).removeprefix("/identity/v3")


def names_of(op: Operation) -> list[str]:
    """Attributes that the body of an operation may hold."""
    schema: Any = op.request_schema((0, 0)) or {}
    found: list[str] = []
    for inner in schema.get("properties", {}).values():
        found.extend(inner.get("properties", {}) or inner.get("items", {}).get("properties", {}))
    return found


def check(answer: Any) -> None:
    assert answer.status < 500, answer
    if answer.status >= 400 and answer.raw:
        error = answer.json["error"]
        if isinstance(error, str):  # as RFC 6749 §5.2 has it
            assert set(answer.json) == {"error", "error_description"}
            return
        assert error["code"] == answer.status and error["message"] and "Traceback" not in error["message"]


def name_of(op: Operation) -> str:
    return f"{op.method} {op.path}"


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.takes is not None], ids=name_of)
def test_no_body_breaks_an_operation(cloud: IdentityCloud, op: Operation) -> None:
    path = fill(op, "default")
    raws = [b"", b"{", b"null", b"[]", b"5", b'"x"', b"\xff\xfe", b'{"a": "\\u0000"}', b"[" * 90_000, b"{}" * 60_000]
    for raw in raws:
        check(cloud(op.method, path, raw=raw))
    schema: Any = op.request_schema((0, 0))
    key = next(iter(schema["properties"]))
    for value in VALUES:
        check(cloud(op.method, path, {key: value}))
    good = {name: "x" for name in names_of(op) if name not in ("password", "secret")}
    for name in names_of(op):
        for value in VALUES:
            body = {**good, name: value}
            check(cloud(op.method, path, {key: [body] if schema["properties"][key].get("type") == "array" else body}))


@pytest.mark.parametrize("op", OPERATIONS, ids=name_of)
def test_no_id_breaks_an_operation(cloud: IdentityCloud, op: Operation) -> None:
    if op.method == "DELETE" and op.path.endswith("/regions/{region_id}"):
        return
    for identifier in IDS:
        check(cloud(op.method, fill(op, identifier)))


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.method == "GET"], ids=name_of)
def test_no_query_breaks_a_list(cloud: IdentityCloud, op: Operation) -> None:
    for name in NAMES:
        for value in ("", "%00", "%ff", "-1", "9" * 40, "%25%27", "x" * 3000, "%F0%9F%92%A5", "a,b,,c"):
            check(cloud(op.method, f"{fill(op, 'default')}?{name}={value}"))


def test_a_refused_creation_leaves_nothing(cloud: IdentityCloud) -> None:
    def counts() -> list[int]:
        tables = ("projects", "users", "password_hashes", "user_groups", "roles", "credentials", "services")
        return cloud.db.read(lambda tx: [int(tx.all(f"select count(*) from {t}")[0][0]) for t in tables])

    before = counts()
    cloud("POST", "/users", {"user": {"name": "admin", "password": "x"}})
    cloud("POST", "/users", {"user": {"name": "y", "password": "x", "domain_id": "nowhere"}})
    cloud("POST", "/projects", {"project": {"name": "y", "tags": ["a,b"]}})
    cloud("POST", "/projects", {"project": {"name": "admin", "tags": ["a"]}})
    assert counts() == before
