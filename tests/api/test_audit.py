"""The audit trail: complete, without secrets, and nobody can change it unseen."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity_cloud import PASSWORD, IdentityCloud
from pileus.core.audit import Record
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


def pruned(cloud: IdentityCloud, until: float) -> list[Record]:
    trail = facade.audit_trail(cloud.settings.keys_folder)
    old = cloud.db.transact(lambda tx: trail.old(tx, until))
    if old:
        cloud.db.transact(lambda tx: trail.prune(tx, old[-1]))
        cloud.db.transact(lambda tx: trail.prune(tx, old[-1]))  # twice is once
    return old


def aged(cloud: IdentityCloud, names: str) -> float:
    """Write a record for each name; the time before the last."""
    for name in names:
        moment = time.time()
        cloud.make("/users", "user", name=name)
        told(cloud)
    return moment


def test_old_records_are_pruned_and_the_rest_is_still_proven(cloud: IdentityCloud) -> None:
    until = aged(cloud, "abcd")
    whole = told(cloud)
    gone = pruned(cloud, until)
    assert [record.position for record in gone] == list(range(1, len(whole))) and wrong(cloud) == []
    assert [event["id"] for event in told(cloud)] == [whole[-1]["id"]]
    cloud.make("/users", "user", name="e")
    assert len(told(cloud)) == 2 and wrong(cloud) == []
    assert len(pruned(cloud, time.time() + 1)) == 2 and told(cloud) == [] and wrong(cloud) == []
    assert pruned(cloud, time.time() + 1) == []
    cloud.make("/users", "user", name="f")
    positions = (told(cloud), cloud.db.read(lambda tx: tx.all("select position from audit")))[1]
    assert positions == [(len(whole) + 2,)] and wrong(cloud) == [], "numbers go on"


PRUNED_BY_OTHERS = {
    "more was removed": ("delete from audit where position = (select min(position) from audit)", "missing"),
    "the mark was moved": ("update audit_pruned set position = position + 1", "mark"),
    "another link": ("update audit_pruned set link = '0'", "mark"),
    "another mac": ("update audit_pruned set mac = mac || '0'", "mark"),
    "no mark": ("delete from audit_pruned", "missing"),
    "a second mark": ("insert into audit_pruned select position + 1, link, mac from audit_pruned", "mark"),
}


@pytest.mark.parametrize("change", PRUNED_BY_OTHERS)
def test_nobody_else_prunes_unseen(cloud: IdentityCloud, change: str) -> None:
    pruned(cloud, aged(cloud, "abc"))
    aged(cloud, "de")
    assert wrong(cloud) == []
    sql, expected = PRUNED_BY_OTHERS[change]
    assert cloud.db.transact(lambda tx: tx.run(sql)) == 1
    found = wrong(cloud)
    assert found and any(expected in line for line in found), found
    with pytest.raises(ValueError, match="not as it was written"):
        pruned(cloud, time.time() + 1)


def test_an_older_mark_that_is_put_back_shows(cloud: IdentityCloud) -> None:
    pruned(cloud, aged(cloud, "ab"))
    [mark] = cloud.db.read(lambda tx: tx.all("select position, link, mac from audit_pruned"))
    pruned(cloud, aged(cloud, "cd"))
    sql = "update audit_pruned set position = ?, link = ?, mac = ?"
    cloud.db.transact(lambda tx: tx.run(sql, *mark))
    assert "missing" in wrong(cloud)[0]


def test_the_trail_goes_on_over_restarts_and_new_keys(cloud: IdentityCloud) -> None:
    cloud.make("/users", "user", name="ann")
    told(cloud)
    facade.rotate_audit_key(cloud.settings.keys_folder, 1e9)
    cloud.make("/users", "user", name="ben")
    assert len(told(cloud)) >= 2 and wrong(cloud) == []
