"""The audit trail: complete, without secrets, and nobody can change it unseen."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity_cloud import PASSWORD, IdentityCloud
from pileus.identity import facade


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


def told(cloud: IdentityCloud) -> list[dict[str, Any]]:
    """All events, in their order, after what waits was written."""
    audit = cloud.direct.app.audit
    assert audit is not None
    cloud.direct.loop.run_until_complete(audit.flush())
    rows = cloud.db.read(lambda tx: tx.all("select event from audit order by position"))
    return [json.loads(row[0]) for row in rows]


def wrong(cloud: IdentityCloud) -> list[str]:
    trail = facade.audit_trail(cloud.settings.keys_folder)
    return cloud.db.read(lambda tx: list(trail.wrong(tx)))


def test_a_write_is_recorded_in_its_own_transaction(cloud: IdentityCloud) -> None:
    before = cloud.db.read(lambda tx: tx.all("select count(*) from audit"))[0][0]
    user = cloud.make("/users", "user", name="eve", password="secret canary")
    rows = cloud.db.read(lambda tx: tx.all("select event, position from audit"))
    assert len(rows) == before + 1 and rows[-1][1] is None, "written, and not linked yet"
    event = json.loads(rows[-1][0])
    assert event["typeURI"].endswith("cloud/audit/1.0/event") and event["action"] == "create"
    assert event["outcome"] == "success" and event["reason"] == {"reasonType": "HTTP", "reasonCode": "201"}
    assert event["target"]["id"] == user["id"] and event["initiator"]["name"] == "admin"
    assert event["operation"] == "identity:create_user" and event["requestId"].startswith("req-")
    assert "canary" not in repr(told(cloud))


def test_log_ins_and_refusals_are_recorded_and_reads_are_not(cloud: IdentityCloud) -> None:
    told(cloud)
    assert cloud.by_password("admin", PASSWORD).status == 201
    assert cloud.by_password("admin", "wrong canary").status == 401
    assert cloud("GET", "/users").status == 200
    cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    assert cloud("GET", "/users", token=token).status == 403
    assert cloud("GET", "/users", token="bad canary").status == 401
    assert cloud("POST", "/users", {"user": {"name": 5}}).status == 400
    events = told(cloud)
    seen = [(e["action"], e["outcome"], e["reason"]["reasonCode"]) for e in events]
    assert seen.count(("authenticate", "failure", "401")) == 1 and ("authenticate", "success", "201") in seen
    assert ("read", "failure", "403") in seen and ("read", "failure", "401") in seen
    assert ("create", "failure", "400") in seen
    assert not [e for e in events if e["action"] == "read" and e["outcome"] == "success"]
    refused = next(e for e in events if e["reason"]["reasonCode"] == "403")
    assert refused["initiator"]["name"] == "eve" and refused["operation"] == "identity:list_users"
    assert "canary" not in repr(events)


def test_a_flood_of_equal_refusals_is_one_record(cloud: IdentityCloud) -> None:
    told(cloud)
    for _ in range(50):
        cloud.by_password("admin", "wrong")
    flood = [e for e in told(cloud) if e["outcome"] == "failure"]
    assert len(flood) == 1 and flood[0]["count"] == 50


def test_a_write_that_was_undone_left_no_success(cloud: IdentityCloud) -> None:
    cloud.make("/users", "user", name="eve")
    assert cloud("POST", "/users", {"user": {"name": "eve"}}).status == 409
    conflicts = [e for e in told(cloud) if e["reason"]["reasonCode"] == "409"]
    assert [e["outcome"] for e in conflicts] == ["failure"]


CHANGES = {
    "changed": ("update audit set event = replace(event, 'admin', 'nobody') where position = 2", "was changed"),
    "removed": ("delete from audit where position = 2", "missing"),
    "put in": ("insert into audit select 'x', at, event, mac, 1000, link from audit where position = 2", "m"),
    "swapped": ("update audit set event = (select event from audit where position = 2),"
                " mac = (select mac from audit where position = 2) where position = 3", "not the one"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_done_to_the_trail_shows(cloud: IdentityCloud, change: str) -> None:
    for name in ("ann", "ben", "cal", "dan"):
        cloud.make("/users", "user", name=name)
    told(cloud)
    assert wrong(cloud) == []
    sql, expected = CHANGES[change]
    assert cloud.db.transact(lambda tx: tx.run(sql)) == 1
    found = wrong(cloud)
    assert found and expected in found[0]


def test_the_trail_goes_on_over_restarts_and_new_keys(cloud: IdentityCloud) -> None:
    cloud.make("/users", "user", name="ann")
    told(cloud)
    facade.rotate_audit_key(cloud.settings.keys_folder, 1e9)
    cloud.make("/users", "user", name="ben")
    assert len(told(cloud)) >= 2 and wrong(cloud) == []
