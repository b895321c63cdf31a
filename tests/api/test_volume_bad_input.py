"""Nothing that a client sends to block storage is a 500, and what is refused leaves nothing half made."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.core.fields import show_version
from pileus.core.ids import new_id
from pileus.core.op import PUBLIC, Operation
from pileus.volume.facade import SERVICE
from volume_cloud import VolumeCloud

WEIRD: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, "", " ", "x" * 10_000, "a\nb", "🦆", "..", "%s", "-1", [], [[]], {}, {"a": {}},
    {"": ""}, {"k": None}, [None], "0" * 32, "'; drop table volumes; --",
]  # fmt: skip
WRITES = [op for op in SERVICE.operations if op.method in ("POST", "PUT") and "{project_id}" not in op.path]
NEWEST: dict[tuple[str, str, str], Operation] = {(op.method, op.path, op.action): op for op in WRITES}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeCloud]:
    made = VolumeCloud(tmp_path_factory.mktemp("bad"))
    made.made("PUT", f"/os-quota-sets/{'b' * 32}", {"quota_set": {"volumes": -1, "snapshots": -1}}, caller="admin")
    yield made
    made.close()


def path_of(cloud: VolumeCloud, op: Operation) -> str:
    """The operation's path with new things of the administrator's in it."""
    how = {"caller": "admin"}

    def one(name: str) -> str:
        volume = cloud.made("POST", "/volumes", {"volume": {"size": 1}}, **how)["id"]
        cloud.run()
        if name == "snapshot_id":
            return str(cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume}}, **how)["id"])
        if name == "attachment_id":
            return str(cloud.made("POST", "/attachments", {"attachment": {"volume_uuid": volume}}, **how)["id"])
        if name == "transfer_id":
            return str(cloud.made("POST", "/volume-transfers", {"transfer": {"volume_id": volume}}, **how)["id"])
        if name == "type_id":
            return str(cloud.made("POST", "/types", {"volume_type": {"name": new_id()}}, **how)["id"])
        if name == "qos_id":
            return str(cloud.made("POST", "/qos-specs", {"qos_specs": {"name": new_id()}}, **how)["id"])
        return {"volume_id": volume, "of_project_id": "b" * 32, "class_name": "default"}.get(name, "a")

    return re.sub(r"\{(\w+)\}", lambda m: one(m[1]), op.path).removeprefix("/volume/v3")


def bodies(op: Operation) -> Iterator[Any]:
    """Weird values in each place of a body."""
    yield from WEIRD
    schema = op.request_schema(op.shapes()[-1]) or {}
    for key, inner in schema.get("properties", {}).items():
        yield from ({key: value} for value in WEIRD)
        known = inner.get("properties", {}) if isinstance(inner, dict) else {}
        for name in known:
            yield from ({key: {**{n: new_id() for n in inner.get("required", ())}, name: value}} for value in WEIRD)
    if op.action:
        yield from ({op.action: value} for value in WEIRD)


@pytest.mark.parametrize("key", NEWEST, ids=" ".join)
def test_no_body_is_an_internal_error(cloud: VolumeCloud, key: tuple[str, str, str]) -> None:
    op = NEWEST[key]
    path, version = path_of(cloud, op), show_version(min(op.last, SERVICE.maximum))
    for body in bodies(op):
        answer = cloud.call(op.method, path, body, caller="admin", version=version)
        assert answer.status < 500, (path, body, answer)
        assert answer.status < 400 or {"code", "message"} <= next(iter(answer.json.values())).keys(), answer
    for raw in (b"{", b"\xff\xfe", b'{"a": "\\u0000"}', b"[" * 5000, json.dumps({"x" * 300: 1}).encode()):
        answer = cloud.api(op.method, f"/volume/v3{path}", raw=raw, caller="admin", version=f"volume {version}")
        assert 400 <= answer.status < 500, (path, raw[:20], answer)


@pytest.mark.parametrize("op", [op for op in SERVICE.operations if op.method == "GET" and op.rule != PUBLIC
                                and "{" not in op.path], ids=lambda op: op.path)  # fmt: skip
def test_no_query_is_an_internal_error(cloud: VolumeCloud, op: Operation) -> None:
    names = ["limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count", "name", "name~",
             "status", "size", "bootable", "metadata", "created_at", "extra_specs", "is_public", "usage", "detail",
             "resource", "volume_type", "host", "project_id", "group_id", "multiattach"]  # fmt: skip
    for name in names:
        for value in ("", "x", "-1", "99999999999999999999", "{'a': 1}", "%F0%9F%A6%86", "%00", "a" * 3000, "[" * 400):
            answer = cloud.api("GET", f"{op.path}?{name}={value}", caller="admin", version="volume 3.71")
            assert answer.status < 500, (op.path, name, value, answer)


def test_nothing_is_left_of_refused_requests(cloud: VolumeCloud) -> None:
    cloud.run(30 * 3600.0)
    assert cloud.inconsistencies() == [] and cloud.unexpected() == []
