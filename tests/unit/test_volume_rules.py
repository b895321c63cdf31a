"""Rules of block storage that need no cloud: shown statuses, what a pool can serve, filters that are pairs."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from pileus.core.errors import BadRequest
from pileus.db.connect import Database, connect
from pileus.db.migrate import migrate
from pileus.volume import pools
from pileus.volume.attachment import api as attachment_api
from pileus.volume.attachment.rows import ATTACHMENTS, Attachment
from pileus.volume.listing import pairs_of
from pileus.volume.snapshot import rows as snapshots
from pileus.volume.snapshot.rows import SNAPSHOTS, Snapshot
from pileus.volume.volume.rows import MIGRATION_SQL, STATUS_SQL, VOLUMES, Volume, migration, status
from pileus.volume.volume_type import DEFAULT_ID, VolumeType

few = st.integers(0, 2)
faults = st.sampled_from([None, "why"])
volumes = st.builds(
    Volume, id=st.just("v"), project_id=st.just("p"), user_id=st.just("u"), zone=st.just("nova"),
    volume_type_id=st.just(DEFAULT_ID), wanted_gib=few, size_gib=few, made=st.booleans(), held=st.booleans(),
    detaching=st.booleans(), transferring=st.booleans(), upload_image_id=st.sampled_from([None, "i", "j"]),
    uploaded_image_id=st.sampled_from([None, "i"]), reverts=few, reverted=few, reimages=few, reimaged=few,
    moves=few, moved=few, pool=st.sampled_from(["file", "second"]), move_pool=st.sampled_from([None, "second"]),
    migration_status=st.sampled_from([None, None, "error"]), other_pool=st.sampled_from([None, None, "second"]),
    deleting=st.booleans(), forced_status=st.sampled_from([None, None, None, "error"]), generation=few,
    fault=faults, fault_generation=few, created_at=st.just(0.0),
)  # fmt: skip
attachments = st.lists(
    st.builds(
        Attachment, id=st.uuids().map(str), volume_id=st.just("v"), project_id=st.just("p"), server_id=st.none(),
        node_id=st.sampled_from([None, "n"]), attached=st.booleans(), released=st.booleans(),
        connector=st.sampled_from([None, {"a": "b"}]), generation=few, fault=faults, fault_generation=few,
        created_at=st.just(0.0),
    ),
    max_size=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Database:
    made = connect(f"sqlite://{tmp_path_factory.mktemp('rules')}/db")
    migrate(made)
    return made


@settings(max_examples=400, deadline=None)
@given(volume=volumes, ties=attachments)
def test_lists_filter_by_the_very_status_that_is_shown(db: Database, volume: Volume, ties: list[Attachment]) -> None:
    def both(tx: Any) -> tuple[str, list[str]]:
        tx.run("delete from volume_attachments")
        tx.run("delete from volumes")
        VOLUMES.insert(tx, volume)
        for tie in ties:
            ATTACHMENTS.insert(tx, tie)
        of_ties = tx.all(f"select id, {attachment_api.STATUS_SQL} from volume_attachments")
        assert dict(of_ties) == {t.id: t.status for t in ties}
        assert tx.one(f"select {MIGRATION_SQL} from volumes")[0] == migration(volume)
        return tx.one(f"select {STATUS_SQL} from volumes")[0]

    assert db.transact(both) == status(volume, ties)


@settings(max_examples=100, deadline=None)
@given(made=st.booleans(), deleting=st.booleans(), forced=st.sampled_from([None, "error"]), fault=faults, at=few)
def test_so_do_lists_of_snapshots(
    db: Database, made: bool, deleting: bool, forced: str | None, fault: str | None, at: int
) -> None:
    volume = Volume(
        id="s", project_id="p", user_id="u", zone="z", volume_type_id=DEFAULT_ID, wanted_gib=1, created_at=0
    )
    snapshot = Snapshot(
        id="x", volume_id="s", project_id="p", user_id="u", size_gib=1, made=made, deleting=deleting,
        forced_status=forced, fault=fault, fault_generation=at, generation=1, created_at=0.0,
    )  # fmt: skip

    def both(tx: Any) -> str:
        SNAPSHOTS.delete(tx, id="x")
        VOLUMES.delete(tx, id="s")
        VOLUMES.insert(tx, volume)
        SNAPSHOTS.insert(tx, snapshot)
        return str(tx.one(f"select {snapshots.STATUS_SQL} from volume_snapshots where id = 'x'")[0])

    assert db.transact(both) == snapshot.status
    db.transact(lambda tx: (SNAPSHOTS.delete(tx, id="x"), VOLUMES.delete(tx, id="s")))


@pytest.mark.parametrize(("value", "wanted", "fits"), [
    ("file", "file", True), ("file", "tape", False), (True, "<is> True", True), (True, "<is> false", False),
    ("abc", "<in> b", True), ("b", "<or> a <or> b", True), ("c", "<or> a <or> b", False), (10.0, ">= 5", True),
    (10.0, "<= 5", False), (3.0, "= 2", True), ("x", ">= 5", False), ("b", "s> a", True), ("a", "s== a", True),
])  # fmt: skip
def test_a_capability_is_compared_in_the_schedulers_language(value: object, wanted: str, fits: bool) -> None:
    assert pools.satisfies(value, wanted) is fits


POOL = pools.PoolSeen(
    node_id="n", node_name="one", zone="nova", name="file", backend="file", total=100.0, free=50.0, promised=1990,
    alive=True, enabled=True, seen_at=0.0,
)  # fmt: skip


def test_a_pool_names_everything_that_is_missing() -> None:
    type_ = VolumeType(id="t", name="t", extra_specs={"volume_backend_name": "second", "scoped:x": "y"}, created_at=0.0)
    lines = pools.obstacles(structs.replace(POOL, enabled=False), type_, "mars", 20)
    assert lines == [
        "volume_backend_name: 'second' wanted, 'file' there", "availability zone: mars wanted, nova there",
        "it is disabled", "gigabytes: 20 wanted, 50 free on disk, 10 left to promise",
    ]  # fmt: skip
    plain = VolumeType(id="t", name="t", created_at=0.0)
    assert pools.obstacles(POOL, plain, "nova", 10) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "{1: {2}}(", "__import__('os')", "(" * 5000, "{'a': b}"])
def test_pairs_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        pairs_of("metadata", text)


def test_pairs_are_read_as_python_and_json_write_them() -> None:
    assert pairs_of("metadata", "{'a': 'b'}") == pairs_of("metadata", '{"a": "b"}') == {"a": "b"}
