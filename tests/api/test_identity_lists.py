"""Every list of identity is asked alike: filters, inexact filters, sort, pages, `links`, `truncated`.

Generated over the operation table: a new list is under test without a line here.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from msgspec import structs
from objects import OPERATIONS, ObjectsOfDemo

from cloud import FakeCloud
from direct import Answer
from pileus.core.fields import Fields
from pileus.core.op import Many, Operation
from pileus.identity.rows import USERS

LISTS = [op for op in OPERATIONS if op.service.name == "keystone" and isinstance(op.gives, Many) and op.method == "GET"]
# Lists that upstream neither filters nor pages: what is given to one thing, or stands beside another.
WHOLE = re.compile(r".*(}/roles|/inherited_to_projects|/OS-EC2|/protocols|}/endpoints|}/endpoint_groups|}/projects"
                   r"|ENDPOINT-POLICY/endpoints)")  # fmt: skip
PAGED = [op for op in LISTS if not WHOLE.fullmatch(op.path) or op.path.endswith("/users/{user_id}/projects")]
OF_THE_CALLER = re.compile(r".*(/auth|/OS-FEDERATION)/(projects|domains)")
NO_MATCH = "zzz-nothing-is-called-so"


def name_of(op: Operation) -> str:
    return op.path.removeprefix("/identity/v3")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectsOfDemo]:
    cloud = FakeCloud(tmp_path_factory.mktemp("lists"))
    made = ObjectsOfDemo(cloud)
    add_more(made)
    yield made
    cloud.close()


def add_more(objects: ObjectsOfDemo) -> None:
    """Several of what there are lists of, with names in upper and lower case."""
    base, service = "/identity/v3", objects.named("services")
    endpoint = {"service_id": service, "interface": "internal", "url": "http://x", "region_id": "RegionOne"}
    for name in ("Alpha_1", "alpha%2", "BETA"):
        for path, key, fields in (
            ("/domains", "domain", {"name": name}), ("/projects", "project", {"name": name}),
            ("/users", "user", {"name": name, "enabled": name != "BETA"}), ("/groups", "group", {"name": name}),
            ("/roles", "role", {"name": name}), ("/services", "service", {"name": name, "type": name}),
            ("/regions", "region", {"id": name.replace("%", ""), "parent_region_id": "RegionOne"}),
            ("/policies", "policy", {"type": name, "blob": "b"}), ("/endpoints", "endpoint", endpoint),
            ("/OS-OAUTH1/consumers", "consumer", {"description": name}),
            ("/OS-EP-FILTER/endpoint_groups", "endpoint_group", {"name": name, "filters": {"interface": "public"}}),
        ):  # fmt: skip
            objects.ask("POST", base + path, {key: fields}, "admin")
        demo = objects.named("users", "keystone")
        wanted = {"name": name, "access_rules": [{"path": f"/{name}", "method": "GET", "service": "compute"}]}
        path = f"{base}/users/{demo}/application_credentials"
        objects.ask("POST", path, {"application_credential": wanted})
        body = {"credential": {"user_id": demo, "type": name, "blob": "x"}}
        objects.ask("POST", f"{base}/credentials", body)
        limit = {"service_id": service, "resource_name": name, "default_limit": 1}
        objects.ask("POST", f"{base}/registered_limits", {"registered_limits": [limit]}, "admin")
        limit = {"service_id": service, "resource_name": name, "resource_limit": 1}
        body = {"limits": [{**limit, "project_id": objects.named("projects", "keystone")}]}
        objects.ask("POST", f"{base}/limits", body, "admin")


def ask(objects: ObjectsOfDemo, op: Operation, query: str = "") -> Answer:
    """The list, for who may see all there is to see in it."""
    caller = "demo" if OF_THE_CALLER.fullmatch(op.path) else "admin"
    return objects.cloud.call("GET", objects.path(op) + query, caller=caller)


def rows(objects: ObjectsOfDemo, op: Operation, query: str = "") -> list[dict[str, Any]]:
    answer = ask(objects, op, query)
    assert answer.status == 200, (op.path, query, answer)
    found: list[dict[str, Any]] = answer.json[fields_of(op).plural]
    return found


def fields_of(op: Operation) -> Fields:
    assert isinstance(op.gives, Many)
    return op.gives.fields


def filters_of(op: Operation, found: list[dict[str, Any]], kind: type) -> list[str]:
    """The names of a list's filters whose values are shown as this type."""
    return [f.name for f in fields_of(op).fields if "q" in f.on and any(type(row.get(f.name)) is kind for row in found)]


@pytest.mark.parametrize("op", LISTS, ids=name_of)
def test_every_list_has_links_and_ignores_what_it_does_not_know(objects: ObjectsOfDemo, op: Operation) -> None:
    whole = ask(objects, op)
    assert whole.status == 200 and whole.json["links"].keys() == {"self", "previous", "next"}
    assert urlsplit(whole.json["links"]["self"]).path == objects.path(op)
    assert "truncated" not in whole.json
    for unknown in (
        "?nonsense=1",
        "?name__sounds_like=x",
        "?__contains=x",
        "?enabled__contains=x",
        "?%20=%20",
        "?a__b__c",
    ):
        assert ask(objects, op, unknown).json[fields_of(op).plural] == whole.json[fields_of(op).plural], unknown


@pytest.mark.parametrize("op", PAGED, ids=name_of)
def test_filters_choose_exactly_what_they_say(objects: ObjectsOfDemo, op: Operation) -> None:
    whole = rows(objects, op)
    for name in filters_of(op, whole, str):
        for row in whole[:6]:
            value = row[name]
            if not value:
                continue
            pieces = {"": value, "__contains": value[1:-1], "__startswith": value[:3], "__endswith": value[-3:],
                      "__icontains": value[1:-1].swapcase(), "__istartswith": value[:3].swapcase(),
                      "__iendswith": value[-3:].swapcase()}  # fmt: skip
            for suffix, piece in pieces.items():
                got = rows(objects, op, f"?{name}{suffix}={quote(piece)}")
                assert got == [r for r in whole if matches(r[name], suffix, piece)], (name, suffix, piece)
            assert row in got
        for suffix in ("", "__contains", "__startswith", "__endswith", "__icontains", "__istartswith", "__iendswith"):
            assert rows(objects, op, f"?{name}{suffix}={NO_MATCH}") == []


def matches(value: str | None, suffix: str, piece: str) -> bool:
    """What the reference says that an inexact filter means; text that is not there matches nothing."""
    if value is None:
        return False
    if suffix.startswith("__i"):
        value, piece, suffix = value.lower(), piece.lower(), "__" + suffix[3:]
    found = {"": value == piece, "__contains": piece in value, "__startswith": value.startswith(piece),
             "__endswith": value.endswith(piece)}  # fmt: skip
    return found[suffix]


@pytest.mark.parametrize("op", PAGED, ids=name_of)
def test_booleans_are_true_or_false_or_refused(objects: ObjectsOfDemo, op: Operation) -> None:
    whole = rows(objects, op)
    for name in filters_of(op, whole, bool):
        for text, value in (("true", True), ("True", True), ("1", True), ("", True), ("false", False), ("0", False)):
            assert rows(objects, op, f"?{name}={text}") == [r for r in whole if r[name] is value], text
        answer = ask(objects, op, f"?{name}=perhaps")
        assert answer.status == 400 and name in answer.json["error"]["message"]


@pytest.mark.parametrize("op", PAGED, ids=name_of)
def test_pages_hold_each_row_once_in_order(objects: ObjectsOfDemo, op: Operation) -> None:
    whole, limit = rows(objects, op), 2
    found: list[dict[str, Any]] = []
    query: str | None = f"?limit={limit}"
    while query is not None:
        answer = ask(objects, op, query)
        assert answer.status == 200 and len(answer.json[fields_of(op).plural]) <= limit
        found += answer.json[fields_of(op).plural]
        following = answer.json["links"]["next"]
        assert following is None or urlsplit(following).path == objects.path(op)
        query = "?" + urlsplit(following).query if following else None
    assert found == whole


@pytest.mark.parametrize("op", PAGED, ids=name_of)
def test_sort_keys_sort_both_ways_and_other_values_are_refused_by_name(objects: ObjectsOfDemo, op: Operation) -> None:
    whole = rows(objects, op)
    for key in fields_of(op).columns("s"):
        up = [r[key] for r in rows(objects, op, f"?sort_key={key}")]
        assert up == sorted(r[key] for r in whole)
        assert [r[key] for r in rows(objects, op, f"?sort_key={key}&sort_dir=desc")] == up[::-1]
        assert [r[key] for r in rows(objects, op, f"?sort_key={key}&limit=1")] == up[:1]
    for name, value in (("limit", "0"), ("limit", "-1"), ("limit", "x"), ("limit", ""), ("limit", "9" * 30),
                        ("marker", NO_MATCH), ("sort_key", "nonsense"), ("sort_dir", "sideways")):  # fmt: skip
        answer = ask(objects, op, f"?{name}={value}")
        assert answer.status == 400 and name in answer.json["error"]["message"], (name, value, answer)


@pytest.mark.parametrize("op", PAGED, ids=name_of)
def test_a_list_is_truncated_where_the_operator_says_so(
    objects: ObjectsOfDemo, op: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = objects.cloud.api.app.settings
    whole = rows(objects, op)
    for most in (1, len(whole)):
        identity = structs.replace(settings.config.identity, list_limit=most)
        monkeypatch.setattr(settings, "config", structs.replace(settings.config, identity=identity))
        answer = ask(objects, op)
        assert answer.json[fields_of(op).plural] == whole[:most]
        assert answer.json.get("truncated", False) is (most < len(whole))
        assert len(ask(objects, op, "?limit=1000").json[fields_of(op).plural]) == len(whole), "a page is no truncation"


@pytest.mark.parametrize("path", ["/users", "/groups/{group}/users"])
def test_users_are_found_by_the_end_of_their_passwords(objects: ObjectsOfDemo, path: str) -> None:
    demo, at = objects.named("users", "keystone"), 1_900_000_000.0  # 2030-03-17T17:46:40Z
    objects.cloud.db.transact(lambda tx: USERS.update(tx, {"password_expires_at": at}, id=demo))
    path = "/identity/v3" + path.format(group=objects.named("groups", "keystone"))

    def names(condition: str) -> list[str]:
        answer = objects.cloud.call("GET", f"{path}?password_expires_at={condition}", caller="admin")
        assert answer.status == 200, answer
        return [user["id"] for user in answer.json["users"]]

    same, later = "2030-03-17T17:46:40Z", "2030-03-17T17:46:41Z"
    for condition in (f"lt:{later}", f"lte:{same}", f"gte:{same}", f"eq:{same}", f"neq:{later}"):
        assert names(condition) == [demo]
    for condition in (f"lt:{same}", f"gt:{same}", f"neq:{same}", f"eq:{later}"):
        assert names(condition) == []
    for wrong in ("", "soon", same, f"like:{same}", "lt:", "lt:tomorrow", "lt:2030-99-99T00:00:00Z"):
        answer = objects.cloud.call("GET", f"{path}?password_expires_at={wrong}", caller="admin")
        assert answer.status == 400 and "password_expires_at" in answer.json["error"]["message"], wrong
