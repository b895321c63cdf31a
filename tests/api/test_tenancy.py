"""Every operation of every service against those who must not use it, generated from the operation table.

A cloud with one object of each kind, all of project demo's.  Then for each operation: no token and an expired one
(401), an unscoped token, a reader who writes, another project (403 or 404), and a foreign id answers exactly as a
random one does, in paths and in bodies.  What was refused has changed nothing.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from allowed import GIVEN_AWAY, OPEN_TO_ALL, OPEN_TO_READERS, PUBLIC_PATHS
from bodies import Bodies, at, places, put
from objects import OPERATIONS, ObjectsOfDemo, name_of
from undone import Undone

from cloud import FakeCloud
from direct import CALLERS, OTHER, Answer
from pileus.core.context import Caller
from pileus.core.ids import is_uuid, new_hex, new_id
from pileus.core.op import PUBLIC, Operation
from pileus.db.sqlite import SqliteDatabase
from pileus.roles.controller import services

GUARDED = [op for op in OPERATIONS if op.rule != PUBLIC]


class Guarded:
    """The cloud whose operations strangers try."""

    def __init__(self, cloud: FakeCloud):
        self.cloud = cloud
        self.objects = ObjectsOfDemo(cloud)
        self.bodies, self.others = Bodies(self.objects), Bodies(self.objects, self.objects.others)
        assert isinstance(cloud.db, SqliteDatabase)
        self.store = cloud.api.app.transactions = Undone(cloud.db)

    def body(self, op: Operation) -> Any:
        """A body that demo might send."""
        if op.takes is None:
            return None if op.method in ("GET", "HEAD", "DELETE") else {op.action: None} if op.action else {}
        return next(self.bodies.of(op))[0]

    def ask(self, op: Operation, path: str, caller: str, body: Any, version: str = "") -> Answer:
        """One request, undone; a refusal must have changed nothing."""
        headers = {"openstack-api-version": version} if version else self.objects.version_header(op)
        answer = self.cloud.call(op.method, path, body, caller=caller, headers=headers)
        if self.store.written():
            assert answer.status < 400 or not self.store.changed(), (answer, self.store.changed())
            self.store.undo()
        return answer

    def own_project(self, op: Operation, value: str = str(OTHER.project_id)) -> dict[str, str]:
        """Block storage's paths begin with the caller's own project."""
        return {"project_id": value} if op.path.startswith("/volume/v3/{project_id}/") else {}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    CALLERS["unscoped"] = Caller(user_id="9" * 32, user_name="nobody", user_domain_id="default")
    cloud = FakeCloud(tmp_path_factory.mktemp("tenancy"))
    yield Guarded(cloud)
    cloud.close()
    del CALLERS["unscoped"]


@pytest.mark.parametrize("caller", ["", "expired"])
@pytest.mark.parametrize("op", GUARDED, ids=name_of)
def test_without_a_valid_token_nothing_answers(guarded: Guarded, op: Operation, caller: str) -> None:
    assert guarded.ask(op, guarded.objects.path(op), caller, guarded.body(op)).status == 401


@pytest.mark.parametrize("op", [op for op in GUARDED if op.writes and op.rule not in OPEN_TO_READERS], ids=name_of)
def test_a_reader_writes_nothing(guarded: Guarded, op: Operation) -> None:
    answer = guarded.ask(op, guarded.objects.path(op), "reader", guarded.body(op))
    assert answer.status == 403, answer


@pytest.mark.parametrize("op", [op for op in GUARDED if op.rule not in OPEN_TO_ALL], ids=name_of)
def test_a_token_without_scope_touches_no_project(guarded: Guarded, op: Operation) -> None:
    answer = guarded.ask(op, guarded.objects.path(op), "unscoped", guarded.body(op))
    assert answer.status in (403, 404), answer


def scrubbed(answer: Answer, ids: dict[str, str]) -> tuple[int, str]:
    """Status and body with every id that was given replaced by its name."""
    text = answer.raw.decode(errors="replace")
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    return answer.status, re.sub(r"req-[0-9a-f-]{36}", "<request>", text)


def unknown(like: str) -> str:
    """An id of the same form that names nothing."""
    if re.fullmatch("[0-9a-f]{32}", like):
        return new_hex()
    return new_id() if is_uuid(like) else "k" * len(like)


@pytest.mark.parametrize("op", [op for op in GUARDED if "{" in op.path and op.rule not in GIVEN_AWAY], ids=name_of)
def test_a_foreign_id_in_a_path_answers_as_a_random_one(guarded: Guarded, op: Operation) -> None:
    objects, own = guarded.objects, guarded.own_project(op)
    foreign = {name: objects.id(op, name) for name in objects.private(op) - own.keys()}
    if not foreign:
        pytest.skip("what this path names is public, or the caller's own")
    random = {name: unknown(value) for name, value in foreign.items()}
    body = guarded.body(op)
    seen = scrubbed(guarded.ask(op, objects.fill(op, {**foreign, **own}), "other", body), foreign)
    assert seen[0] in (403, 404), seen
    assert seen == scrubbed(guarded.ask(op, objects.fill(op, {**random, **own}), "other", body), random)


@pytest.mark.parametrize("op", [op for op in GUARDED if "/v3/{project_id}/" in op.path], ids=name_of)
def test_a_path_below_another_project_is_refused(guarded: Guarded, op: Operation) -> None:
    answer = guarded.ask(op, guarded.objects.path(op), "other", guarded.body(op))
    assert answer.status in (403, 404), answer


@pytest.mark.parametrize("op", [op for op in GUARDED if op.method == "GET"], ids=name_of)
def test_nothing_shows_what_is_another_projects(guarded: Guarded, op: Operation) -> None:
    theirs = {name: value for name, value in guarded.objects.others.items() if f"/{name}/{{" in op.path}
    path = re.sub(r"/([\w-]+)/\{(\w+)\}", lambda m: f"/{m[1]}/{theirs.get(m[1], '{' + m[2] + '}')}", op.path)
    if "{" in path and guarded.objects.private(op):
        pytest.skip("what this path names is another project's itself")
    path = re.sub(r"\{(\w+)\}", lambda m: guarded.objects.id(op, m[1]), path)
    answer = guarded.ask(op, path + "?all_tenants=1&all_projects=1&shared=true&is_public=None", "other", None)
    for segment, value in guarded.objects.everything().items():
        assert value.encode() not in answer.raw, (segment, answer)


@pytest.mark.parametrize("op", [op for op in GUARDED if op.takes is not None], ids=name_of)
def test_a_foreign_id_in_a_body_answers_as_a_random_one(guarded: Guarded, op: Operation) -> None:
    """Done by another project to what is its own, where it has that, with its own things in all other places."""
    objects = guarded.objects
    own = {objects.placeholder(op, segment): value for segment, value in objects.others.items()}
    path, private = objects.fill(op, own), set(objects.everything().values())
    for (_, demos), (least, most) in zip(guarded.bodies.of(op), guarded.others.of(op), strict=True):
        for place in places(demos):
            foreign = at(demos, place)
            if not isinstance(foreign, str) or foreign not in private:
                continue
            random = unknown(foreign)
            one = guarded.ask(op, path, "other", put(least, most, place, foreign))
            two = guarded.ask(op, path, "other", put(least, most, place, random))
            if one.status < 300 or two.status < 300:  # it is not looked up, or taken as a mere word
                assert one.status == two.status, (place, one, two)
            else:
                assert scrubbed(one, {"id": foreign}) == scrubbed(two, {"id": random}), place


def disk(source: str) -> Any:
    """A server that boots from something of this kind."""
    more = {"destination_type": "volume", "volume_size": 1} if source != "volume" else {"destination_type": "volume"}
    one = {"uuid": "ID", "source_type": source, "boot_index": 0, "delete_on_termination": True, **more}
    return {"server": {"block_device_mapping_v2": [one], "imageRef": ""}}


SERVER_PARTS: dict[str, tuple[str, Any]] = {
    "image": ("images", {"server": {"imageRef": "ID"}}), "key": ("os-keypairs", {"server": {"key_name": "ID"}}),
    "network": ("networks", {"server": {"networks": [{"uuid": "ID"}]}}),
    "port": ("ports", {"server": {"networks": [{"port": "ID"}]}}),
    "group": ("os-server-groups", {"os:scheduler_hints": {"group": "ID"}}),
    "security group": ("security-groups", {"server": {"security_groups": [{"name": "ID"}], "networks": "auto"}}),
    **{f"disk from {kind}": (f"{kind}s", disk(kind)) for kind in ("image", "volume", "snapshot")},
}  # fmt: skip


@pytest.mark.parametrize("part", SERVER_PARTS)
def test_a_server_is_made_of_nothing_that_is_anothers(guarded: Guarded, part: str) -> None:
    segment, asked = SERVER_PARTS[part]
    objects, usual = guarded.objects, {"name": "n", "flavorRef": "nano", "imageRef": guarded.objects.others["images"]}
    (op,) = [op for op in OPERATIONS if name_of(op) == "POST /compute/v2.1/servers 2.1"]
    answers = []
    foreign = objects.named(segment, "cinder" if segment == "volumes" else None)
    for value in (objects.others[segment], foreign, unknown(foreign)):
        body: Any = json.loads(json.dumps(asked).replace("ID", value))
        body["server"] = {**usual, "networks": "none", **body.get("server", {})}
        answers.append(scrubbed(guarded.ask(op, op.path, "other", body, "compute 2.90"), {"id": value}))
    assert answers[0][0] == 202 and answers[1][0] in (400, 404), answers
    assert answers[1] == answers[2]


@pytest.mark.parametrize("op", [op for op in GUARDED if "{" in op.path], ids=name_of)
def test_what_only_operators_may_do_tells_others_nothing(guarded: Guarded, op: Operation) -> None:
    enforcer = guarded.cloud.api.app.enforcer
    if enforcer.looks_at_target(op.rule) or enforcer.passes(op.rule, OTHER.creds(), {}):
        pytest.skip("others may do this to things of their own")
    objects, own, body = guarded.objects, guarded.own_project(op), guarded.body(op)
    real = {name: objects.id(op, name) for name in re.findall(r"\{(\w+)\}", op.path)}
    random = {name: unknown(value) for name, value in real.items()}
    seen = scrubbed(guarded.ask(op, objects.fill(op, {**real, **own}), "other", body), real)
    assert seen[0] == 403, seen
    assert seen == scrubbed(guarded.ask(op, objects.fill(op, {**random, **own}), "other", body), random)


def test_an_operation_without_rule_or_loader_does_not_register() -> None:
    service = services()[0]
    with pytest.raises(ValueError, match="needs a rule and a loader"):
        service.op("GET", "/nowhere", rule="", load=lambda ctx: None)
    with pytest.raises(ValueError, match="has no default"):
        service.op("GET", "/nowhere", rule="no:such:rule", load=lambda ctx: None)


def test_no_rule_lets_everybody_in_but_those_listed(guarded: Guarded) -> None:
    texts = guarded.cloud.api.app.enforcer.texts
    open_rules = {op.rule for op in GUARDED if texts[op.rule].strip() in ("@", "")}
    assert open_rules <= set(OPEN_TO_ALL), sorted(open_rules - set(OPEN_TO_ALL))


def test_no_operation_is_public_but_those_listed() -> None:
    public = {f"{op.method} {op.path}" for op in OPERATIONS if op.rule == PUBLIC}
    assert public == set(PUBLIC_PATHS), public ^ set(PUBLIC_PATHS)


def test_exceptions_are_of_rules_that_there_are() -> None:
    rules = {op.rule for op in OPERATIONS}
    assert set(OPEN_TO_ALL) | set(OPEN_TO_READERS) | set(GIVEN_AWAY) <= rules
