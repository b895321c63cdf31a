"""Rows that mirror the entries of a directory, the same on both engines."""

import random

import pytest

from pileus.db.connect import Database, Tx
from pileus.identity.bootstrap import bootstrap
from pileus.identity.drivers import Entry
from pileus.identity.mirror import (
    ENTRIES,
    is_news,
    keep,
    keep_groups_of,
    keep_users_in,
    lose,
    lose_all,
    members_kept,
    public_id,
    users_known,
)
from pileus.identity.rows import GROUPS, MEMBERSHIPS, USERS, User
from pileus.identity.watched import version

HOME = "default"


def person(number: int, name: str = "", *, enabled: bool = True) -> Entry:
    return Entry(kind="user", local_id=f"u{number}", name=name or f"n{number}", place=f"uid=u{number}",
                 key=f"uid=u{number}", enabled=enabled)  # fmt: skip


def team(name: str, *members: Entry) -> Entry:
    return Entry(kind="group", local_id=name, name=name, place=f"cn={name}", key=f"cn={name}",
                 members=frozenset(m.key for m in members))  # fmt: skip


def id_of(entry: Entry) -> str:
    return public_id(HOME, entry.kind, entry.local_id)


@pytest.fixture
def ready(db: Database) -> Database:
    db.transact(
        lambda tx: bootstrap(tx, admin_password="secret", public_url="http://c", region="RegionOne", now=1.0)
    )  # fmt: skip
    return db


def shown(tx: Tx) -> dict[str, tuple[str, bool]]:
    """Id → name and whether enabled, of those who are in the directory."""
    there = [row.id for row in ENTRIES.all(tx, kind="user", gone=False)]
    return {user.id: (user.name, user.enabled) for user in USERS.all(tx, id=there)}


def test_what_is_kept_is_no_news_and_changes_nothing(ready: Database) -> None:
    entries = [person(1), person(2), team("dev", person(1))]
    assert ready.read(lambda tx: is_news(tx, HOME, entries))
    ready.transact(lambda tx: keep(tx, HOME, entries, 1.0))
    assert not ready.read(lambda tx: is_news(tx, HOME, entries))
    before = ready.read(version)
    ready.transact(lambda tx: keep(tx, HOME, entries, 2.0))
    assert ready.read(version) == before  # every token that is known stays known
    assert ready.read(lambda tx: is_news(tx, HOME, [person(1, "other")]))


def test_members_are_those_of_the_directory_and_no_others_are_touched(ready: Database) -> None:
    one, two = person(1), person(2)

    def work(tx: Tx) -> None:
        keep(tx, HOME, [one, two, team("dev"), team("ops")], 1.0)
        USERS.insert(tx, User(id="ours", name="ours", domain_id=HOME))
        dev, ops = id_of(team("dev")), id_of(team("ops"))
        tx.run("insert into memberships (user_id, group_id) values (?, ?)", "ours", dev)
        keep_users_in(tx, HOME, team("dev", one, two, person(3)))
        assert users_known(tx, dev) == members_kept(tx, team("dev", one, two), HOME) == {id_of(one), id_of(two)}
        keep_groups_of(tx, id_of(one), {ops})
        keep_users_in(tx, HOME, team("dev", two))
        rows = {(m.user_id, m.group_id) for m in MEMBERSHIPS.all(tx)}
        assert rows == {("ours", dev), (id_of(two), dev), (id_of(one), ops)}

    ready.transact(work)


def test_whoever_is_lost_is_disabled_and_out_of_everything(ready: Database) -> None:
    one = person(1)

    def work(tx: Tx) -> None:
        keep(tx, HOME, [one, team("dev")], 1.0)
        keep_users_in(tx, HOME, team("dev", one))
        lose(tx, ENTRIES.all(tx, kind="user"))
        user = USERS.get(tx, id=id_of(one))
        assert user is not None and not user.enabled and user.generation == 1 and not MEMBERSHIPS.all(tx)
        keep(tx, HOME, [one], 2.0)
        assert shown(tx) == {id_of(one): ("n1", True)}
        lose_all(tx, HOME)
        assert shown(tx) == {} and GROUPS.get(tx, id=id_of(team("dev"))) is not None

    ready.transact(work)


def test_whatever_the_directory_does_the_last_look_is_what_we_have(ready: Database) -> None:
    """Random renames, swaps, disablings and departures, looked at in random parts, then as a whole."""
    chance = random.Random(3)
    for _ in range(40):
        names = chance.sample([f"x{n}" for n in range(6)], 6)
        there = [person(n, names[n], enabled=chance.random() < 0.8) for n in range(6) if chance.random() < 0.8]

        def look(tx: Tx, there: list[Entry] = there) -> None:
            for _ in range(3):
                keep(tx, HOME, chance.sample(there, chance.randint(0, len(there))), 1.0)
            keep(tx, HOME, there, 2.0)
            ids = {id_of(entry) for entry in there}
            lose(tx, [row for row in ENTRIES.all(tx, gone=False) if row.id not in ids])

        ready.transact(look)
        assert ready.read(shown) == {id_of(e): (e.name, e.enabled) for e in there}
