"""Attacks S24 and S25 on every service, generated from the operation table: another's child below one's own parent, and
filters that name another project.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from objects import OPERATIONS, PROJECT, ObjectsOfDemo, name_of
from undone import Undone

from cloud import FakeCloud
from direct import ADMIN, DEMO, OTHER, Answer
from pileus.core.ids import is_uuid, new_hex, new_id
from pileus.core.op import PUBLIC, Operation
from pileus.db.sqlite import SqliteDatabase

GUARDED = [op for op in OPERATIONS if op.rule != PUBLIC]
NESTED = [op for op in GUARDED if len(re.findall(r"\{\w+\}", op.path)) > 1]
COLLECTIONS = [op for op in GUARDED if op.method == "GET" and not op.path.endswith("}")]
FILTERS = (
    f"project_id={PROJECT}", f"tenant_id={PROJECT}", f"owner={PROJECT}", f"user_id={DEMO.user_id}",
    f"trustor_user_id={DEMO.user_id}", "all_tenants=1", "all_tenants=True", "all_projects=1", "all_projects=true",
    f"all_tenants=1&project_id={PROJECT}", f"project_id={OTHER.project_id}&project_id={PROJECT}", "project_id=",
    f"project_id__contains={PROJECT[:4]}", "visibility=all", "member_status=all&visibility=shared", "shared=true",
    f"scope.project.id={PROJECT}", f"user.id={DEMO.user_id}", "is_public=none", "fields=project_id&fields=id",
)  # fmt: skip


class Attacked:
    """The objects of demo, and other who wants them."""

    def __init__(self, cloud: FakeCloud):
        self.cloud, self.objects = cloud, ObjectsOfDemo(cloud)
        assert isinstance(cloud.db, SqliteDatabase)
        self.store = cloud.api.app.transactions = Undone(cloud.db)
        self.own = {**self.objects.others, "users": OTHER.user_id, "projects": str(OTHER.project_id)}

    def ask(self, op: Operation, path: str, query: str = "") -> Answer:
        body: Any = None if op.method in ("GET", "HEAD", "DELETE") else {op.action: None} if op.action else {}
        answer = self.cloud.call(
            op.method, path + query, body, caller="other", headers=self.objects.version_header(op)
        )  # fmt: skip
        if self.store.written():
            assert answer.status < 400 or not self.store.changed(), answer
            self.store.undo()
        return answer

    def own_parents(self, op: Operation) -> dict[str, str]:
        """The values of other's own for the placeholders of a path, by their names."""
        found = {self.objects.placeholder(op, segment): value for segment, value in self.own.items()}
        return {name: value for name, value in found.items() if name}

    def children(self, op: Operation) -> dict[str, str]:
        """What of demo's stands below one of other's own parents in a path, the parents apart."""
        own = self.own_parents(op)
        inside = re.findall(r"\{(\w+)\}", op.path)
        last = max((inside.index(name) for name in own), default=len(inside))
        return {n: self.objects.id(op, n) for n in inside[last + 1 :] if n in self.objects.private(op)}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    cloud = FakeCloud(tmp_path_factory.mktemp("tenancy-attacks"))
    yield Attacked(cloud)
    cloud.close()


def unknown(like: str) -> str:
    """An id of the same form that names nothing."""
    if re.fullmatch("[0-9a-f]{32}", like):
        return new_hex()
    return new_id() if is_uuid(like) else "k" * len(like)


@pytest.mark.parametrize("op", NESTED, ids=name_of)
def test_s24_anothers_child_below_ones_own_parent_is_not_there(attacked: Attacked, op: Operation) -> None:
    own, children = attacked.own_parents(op), attacked.children(op)
    if not own or not children:
        pytest.skip("nobody has a parent of their own here, or what stands below it is no secret")
    random = {name: unknown(value) for name, value in children.items()}
    one = attacked.ask(op, attacked.objects.fill(op, {**own, **children}))
    two = attacked.ask(op, attacked.objects.fill(op, {**own, **random}))
    assert one.status in (400, 403, 404), one
    assert one.status == two.status, (one, two)
    told = one.raw
    for name, value in children.items():
        told = told.replace(value.encode(), random[name].encode())
    assert re.sub(rb"req-[0-9a-f-]{36}", b"", told) == re.sub(rb"req-[0-9a-f-]{36}", b"", two.raw)


def test_s24_reaches_every_service_that_has_such_paths(attacked: Attacked) -> None:
    reached = {op.service.name for op in NESTED if attacked.own_parents(op) and attacked.children(op)}
    assert reached == {"keystone", "cinder", "nova"}, "members of images and tags are no secrets"


@pytest.mark.parametrize("op", COLLECTIONS, ids=name_of)
def test_s25_no_filter_shows_what_is_another_projects(attacked: Attacked, op: Operation) -> None:
    objects, own = attacked.objects, attacked.own_parents(op)
    if "{" in op.path and objects.private(op) - own.keys():
        pytest.skip("what this path names is another project's itself")
    path = objects.fill(op, own)
    secrets = {s: v for s, v in objects.everything().items() if v not in (PROJECT, DEMO.user_id) and len(v) > 8}
    for query in FILTERS:
        answer = attacked.ask(op, path, f"?{query}")
        assert answer.status < 500, (query, answer)
        for segment, value in secrets.items():
            assert value.encode() not in answer.raw, (query, segment, answer)


SEEN_BY_ALL = {"/compute/v2.1/servers": "servers", "/networking/v2.0/ports": "ports",
               "/volume/v3/{project_id}/volumes": "volumes"}  # fmt: skip


@pytest.mark.parametrize("path", SEEN_BY_ALL)
def test_s25_what_the_filters_hide_is_there(attacked: Attacked, path: str) -> None:
    """The administrator finds by the same filters what others do not: so the test above can fail."""
    op = next(op for op in COLLECTIONS if op.path == path)
    whole = attacked.objects.fill(op, {"project_id": str(ADMIN.project_id)} if "/v3/{" in path else {})
    query = f"tenant_id={PROJECT}" if "networking" in path else f"all_tenants=1&project_id={PROJECT}"
    headers = attacked.objects.version_header(op)
    answer = attacked.cloud.call("GET", f"{whole}?{query}", caller="admin", headers=headers)
    kind = SEEN_BY_ALL[path]
    assert attacked.objects.named(kind, "cinder" if kind == "volumes" else None).encode() in answer.raw, answer
