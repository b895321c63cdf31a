"""Every operation of every service against bodies, paths and queries that no client of good will sends.

Generated from the operation table and the schemas.  Each request must be answered: below 500, in the service's own
error format, with no trace of the program; what was refused has changed nothing, and what was accepted has put
nothing into the store that breaks a list.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from bodies import Bodies, at, places, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objects import ObjectsOfDemo, name_of
from undone import Undone

from cloud import FakeCloud
from direct import CALLERS, DEMO, Answer
from pileus.core.context import Caller
from pileus.core.op import PUBLIC, Many, Operation, Service
from pileus.db.sqlite import SqliteDatabase
from pileus.roles.controller import services

# Block storage answers at two places with the same functions: one of them is enough here.
OPERATIONS = [op for service in services() for op in service.operations if "/v3/{project_id}/" not in op.path
              or service.name == "keystone"]  # fmt: skip
BODIES = [op for op in OPERATIONS if op.takes is not None]
WRITERS = [op for op in OPERATIONS if op.method in ("POST", "PUT", "PATCH") and not op.streams]
LISTS = [op for op in OPERATIONS if op.method == "GET"]
OWNER = Caller(
    user_id=DEMO.user_id, user_name="demo", project_id=DEMO.project_id, project_name="demo",
    user_domain_id="default", project_domain_id="default", roles=("admin", "manager", "member", "reader", "service"),
)  # fmt: skip


class Target:
    """The cloud under attack; what an attack changes is undone before the next."""

    def __init__(self, cloud: FakeCloud):
        self.cloud = cloud
        self.objects = ObjectsOfDemo(cloud)
        self.bodies = Bodies(self.objects)
        assert isinstance(cloud.db, SqliteDatabase)
        self.store = cloud.api.app.transactions = Undone(cloud.db)
        self.blobs = sorted(cloud.blob.list())

    def attack(self, op: Operation, path: str, body: Any = None, raw: bytes | None = None, **headers: str) -> Answer:
        """One request as the owner, who may do everything; checked, and undone."""
        version = min(op.last, op.service.maximum)
        head = {**self.objects.version_header(op, version), **headers}
        answer = self.cloud.call(op.method, path, body, raw=raw, caller="owner", headers=head)
        check(op.service, answer)
        if self.store.written():
            if answer.status >= 400:
                self.check_nothing_changed(answer)
            else:
                self.check_lists(op)
            self.store.undo()
        return answer

    def check_nothing_changed(self, answer: Answer) -> None:
        assert not self.store.changed(), (answer, self.store.changed())
        assert sorted(self.cloud.blob.list()) == self.blobs, answer

    def check_lists(self, op: Operation) -> None:
        """What was accepted has put nothing into the store that cannot be shown."""
        for other in SHOWN[op.service.name]:
            if not op.path.startswith(other.path):
                continue
            version = self.objects.version_header(other, min(other.last, other.service.maximum))
            answer = self.cloud.call("GET", other.path, caller="owner", headers=version)
            assert answer.status < 500, (other.path, answer)


SHOWN = {
    service.name: [
        op for op in LISTS if op.service is service and isinstance(op.gives, Many) and "{" not in op.path
        and not op.path.endswith("/detail")
    ] for service in services()
}  # fmt: skip


def check(service: Service, answer: Answer) -> None:
    """The answer is the API's own."""
    assert answer.status < 500 or answer.status == 501, answer
    assert b"Traceback" not in answer.raw and b'File "' not in answer.raw, answer
    if answer.status >= 400 and answer.raw:
        assert message_of(service, answer.status, answer.json).strip(), answer
        assert len(answer.raw) < 5000, "a refusal does not repeat what was sent"


def message_of(service: Service, status: int, body: Any) -> str:
    """The message of an error body, which is in the service's own format."""
    if service.name == "neutron":
        error = body["NeutronError"]
        assert error.keys() == {"type", "message", "detail"} and error["type"]
    elif service.name == "glance":
        error = body
        assert error.keys() == {"message", "code", "title"} and error["code"].startswith(f"{status} ")
    elif service.name == "placement":
        (error,) = body["errors"]
        assert error.keys() >= {"status", "title", "detail", "code", "request_id"} and error["status"] == status
    else:
        (error,) = body.values()
        assert error["code"] == status and (service.name != "keystone" or error["title"])
    return str(error.get("message") or error["detail"])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    CALLERS["owner"] = OWNER
    cloud = FakeCloud(tmp_path_factory.mktemp("bad-input"))
    yield Target(cloud)
    cloud.close()
    del CALLERS["owner"]


def nested(depth: int) -> Any:
    """Lists in lists."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


UNKNOWN = "5e0af6d5-4b14-4b6c-9d27-2b0b8e0c4a11"
# What no client of good will sends: in any place, where a number is expected, where a text is.
ANYTHING: list[Any] = [
    None, True, -1, 1.5, "", "x" * 10_240, [], [1], [None], {}, {"a": 1}, {"": ""}, {"a": {"a": None}}, nested(900),
]  # fmt: skip
NUMBERS: list[Any] = [
    0,
    1e308,
    2**31,
    2**63,
    2**64,
    10**400,
    "10\n",
    "٣",
    "1e999",
    "NaN",
    "-0",
    "9" * 400,
    "-" + "9" * 400,
]
TEXTS: list[Any] = [
    2**63, " ", "a\nb", "\u202e💥", "\x7f", "'; drop table servers; --", "%s%n%(x)s", "../../etc/passwd", "http://[",
    UNKNOWN, "0" * 32, "not-a-uuid", "999.1.1.1", "10.0.0.0/33", "0.0.0.0/0", "10.0.0.1/-1", "fe80::1%eth0", "::/0",
    "fd00::/129", "::ffff:10.0.0.1", "zz:zz:zz:zz:zz:zz", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff",
    "00:00:00:00:00:00", "2026-13-45T99:99:99Z",
]  # fmt: skip


def hostile(usual: Any) -> list[Any]:
    """What to put in the place of a usual value."""
    if isinstance(usual, str):
        return ANYTHING + TEXTS + (NUMBERS if usual.isdigit() else [])
    return ANYTHING + NUMBERS


@pytest.mark.parametrize("op", BODIES, ids=name_of)
def test_no_value_in_a_body_breaks_an_operation(target: Target, op: Operation) -> None:
    path = target.objects.path(op)
    tried = set()
    for least, most in target.bodies.of(op):
        target.attack(op, path, least)
        target.attack(op, path, most)
        for place in places(most):
            if place in tried:
                continue
            tried.add(place)
            for value in hostile(at(most, place)):
                target.attack(op, path, put(least, most, place, value))
        for name in ("unknown", "", "x" * 10_240, "a\nb", "💥"):
            for place in ((), *(p for p in places(most) if isinstance(at(most, p), dict))):
                target.attack(op, path, put(least, most, (*place, name), {"a": [1]}))


@pytest.mark.parametrize("op", WRITERS, ids=name_of)
def test_no_bytes_break_an_operation(target: Target, op: Operation) -> None:
    path = target.objects.path(op)
    valid = json.dumps(next(target.bodies.of(op))[0] if op.takes is not None else {})
    assert target.attack(op, path, raw=b" " * (op.body_limit + 1)).status == 413
    depth = min(op.body_limit, 500_000) // 5
    for raw in (b"{", b'{"a": }', b"[" * depth, b'{"a":' * depth, b"\xff\xfe", b'{"a": "\xff"}', b"{} {}", b"NaN",
                b'{"a": "\\u0000"}', b'{"a": 1e999999}', valid.encode("utf-16"), b"--x\r\n"):  # fmt: skip
        assert target.attack(op, path, raw=raw).status == 400, raw[:40]
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/xml", "x" * 5000, "application/json2"):
        assert target.attack(op, path, raw=b"{}", **{"content-type": kind}).status == 415, kind
    for raw in (b"", b"null", b"[]", b"5", b'"x"', b"[{}]", b"true", b"\xef\xbb\xbf{}", b"9" * 5000, b"[[]]"):
        target.attack(op, path, raw=raw)
    twice = valid[:-1] + "," + valid[1:] if len(valid) > 2 else '{"a": 1, "a": 2}'
    target.attack(op, path, raw=twice.encode())
    for charset in ("utf-16", "\xff", "x" * 3000):
        target.attack(op, path, raw=valid.encode(), **{"content-type": f"application/json; charset={charset}"})


SEGMENTS = [
    "k", "0" * 32, "x" * 5000, "'", "''; --", "💥", "..", "a b", "%s", "a\nb", "%", "-1", str(2**63), "9" * 400, "a;b",
    "not-a-uuid", UNKNOWN, "٣", "0", "\u202e", "null", "*", "{}", "a:b@c#d",
]  # fmt: skip


@pytest.mark.parametrize("op", [op for op in OPERATIONS if "{" in op.path], ids=name_of)
def test_no_id_breaks_an_operation(target: Target, op: Operation) -> None:
    body = next(target.bodies.of(op))[0] if op.takes is not None else None
    for name in re.findall(r"\{(\w+)\}", op.path):
        for segment in SEGMENTS:
            target.attack(op, target.objects.fill(op, {name: segment}), body)


def filters_of(op: Operation) -> set[str]:
    """What the table of a list says can filter and sort it."""
    fields = op.gives.fields if isinstance(op.gives, Many) else None
    return set() if fields is None else {f.name for f in fields.fields if "q" in f.on or "s" in f.on}


PARAMETERS = {
    "limit", "marker", "offset", "sort_key", "sort_dir", "sort", "sort_keys", "fields", "page_reverse", "name",
    "status", "tags", "all_tenants", "changes-since", "created_at", "user_id", "project_id", "resources", "required",
    "member_of", "in_tree", "start", "end", "fixed_ips", "id", "cidr", "ip", "mac_address", "metadata", "flavor",
}  # fmt: skip
GARBAGE = [
    "", "%00", "%ff", "-1", "9" * 400, "%25%27", "x" * 3000, "%F0%9F%92%A5", "a,b,,c", "1e9", "a%0Ab", "in:a,b",
    "%7B%22a%22%3A1%7D", "%5B1%5D", "::1/200", "gt:x", UNKNOWN, "name:sideways", "(", "*",
]  # fmt: skip


@pytest.mark.parametrize("op", LISTS, ids=name_of)
def test_no_query_breaks_an_operation(target: Target, op: Operation) -> None:
    path = target.objects.path(op)
    for name in sorted(PARAMETERS | filters_of(op)) if "query" in op.wants else ("limit",):
        for value in GARBAGE:
            target.attack(op, f"{path}?{name}={value}")
    for key in sorted(filters_of(op)):
        target.attack(op, f"{path}?sort_key={key}&sort_dir=sideways&sort={key}:up,{key}&limit=1&marker={UNKNOWN}")
    for query in ("&" * 1000, "a=1&" * 5000, "=", "%", "limit=1&limit=2&limit=x", ";;", "\xe9=\xe9", "x" * 20_000):
        target.attack(op, f"{path}?{query}")


@pytest.mark.parametrize("service", services(), ids=lambda service: service.name)
def test_no_version_breaks_a_service(target: Target, service: Service) -> None:
    (op, *_) = [op for op in service.operations if op.rule != PUBLIC and op.method == "GET" and "{" not in op.path]
    for version in ("", "x", "2.", ".1", "99999.1", "1.99999", "-1.0", "2.1.1", "9" * 400, "latest", "latest ", "٣.1",
                    "2.01", "0.0", "2.1, compute 9.9", "1 1", "\x7f"):  # fmt: skip
        for header in (f"{service.version_header} {version}", version):
            head = {"openstack-api-version": header}
            if service.legacy_header:
                head[service.legacy_header] = version
            target.attack(op, op.path, **head)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=1000, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(st.data())
def test_no_combination_breaks_an_operation(target: Target, data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(BODIES))
    least, most = data.draw(st.sampled_from(list(target.bodies.of(op))))
    everywhere = list(places(most))
    body = data.draw(st.sampled_from([least, most]))
    for place in data.draw(st.lists(st.sampled_from(everywhere), max_size=3)) if everywhere else ():
        body = put(body, most, place, data.draw(JSON | st.sampled_from(ANYTHING + NUMBERS + TEXTS)))
    target.attack(op, target.objects.path(op), body)
