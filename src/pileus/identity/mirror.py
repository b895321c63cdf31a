"""Users and groups of directories as rows of ours, so that roles, trusts and tokens stand on them as on any others.

The directory is the truth; a row is what was last seen of an entry.  An entry that left is kept, disabled and hidden:
a directory that was configured wrongly for a minute must not cost everybody their roles.
Public ids are those that Keystone gives (its "sha256" generator), so that a cloud that moves here keeps them.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from pileus.core.errors import Forbidden
from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.identity.drivers import Entry, Kind
from pileus.identity.rows import GROUPS, MEMBERSHIPS, USERS, Group, Membership, User

log = logging.getLogger("pileus.identity")


class DirectoryEntry(Struct, frozen=True, kw_only=True):
    """Which entry of a domain's directory a user or group of ours stands for."""

    id: str
    domain_id: str
    kind: Kind
    local_id: str
    member_key: str  # what groups of the directory call it
    gone: bool = False
    seen_at: float


ENTRIES = Table(DirectoryEntry, "directory_entries")
DIRECTORY = "directory"  # the kind of work that reads entries again
GONE = "select id from directory_entries where gone = 1"
TABLES: dict[Kind, Table[Any]] = {"user": USERS, "group": GROUPS}
PARAMETERS = 5000  # of one statement, well within what both engines take


def public_id(domain_id: str, kind: Kind, local_id: str) -> str:
    """The id by which the API knows an entry: 64 hexadecimal digits, always the same."""
    return hashlib.sha256((domain_id + kind + local_id).encode()).hexdigest()


def entry_of(tx: Tx, kind: Kind, identifier: str) -> DirectoryEntry | None:
    """The entry for which a user or group stands; None for one that is our own, or nobody."""
    return ENTRIES.get(tx, id=identifier, kind=kind)


def is_gone(tx: Tx, identifier: str) -> bool:
    """Whether a user or group was in a directory, and is no longer."""
    return tx.one("select 1 from directory_entries where id = ? and gone = 1", identifier) is not None


def refuse_change(tx: Tx, kind: Kind, identifier: str) -> None:
    """Raise Forbidden for a user or group of a directory, which is only read."""
    if entry_of(tx, kind, identifier) is not None:
        raise read_only(kind)


def read_only(kind: Kind, driver: str = "ldap") -> Forbidden:
    """The refusal of every change of what is in a directory."""
    return Forbidden(
        f"The {kind}s of this domain are in a directory, which the driver {driver} only reads: change them there."
    )


def columns_of(entry: Entry) -> dict[str, Any]:
    """The columns of our row that an entry says."""
    if entry.kind == "group":
        return {"name": entry.name, "description": entry.description}
    extra = {"email": entry.email, "description": entry.description}
    return {"name": entry.name, "enabled": entry.enabled, "extra": {k: v for k, v in extra.items() if v}}


def is_news(tx: Tx, domain_id: str, entries: Sequence[Entry]) -> bool:
    """Whether any of these entries differs from what we know."""
    for kind in TABLES:
        some = unique(domain_id, (e for e in entries if e.kind == kind))
        known = {row.id: row for row in ENTRIES.all(tx, id=list(some))}
        rows = {row.id: row for row in TABLES[kind].all(tx, id=list(some))}
        for identifier, entry in some.items():
            mapped, row = known.get(identifier), rows.get(identifier)
            if mapped is None or row is None or mapped.gone or mapped.member_key != entry.key:
                return True
            if any(getattr(row, column) != value for column, value in columns_of(entry).items()):
                return True
    return False


def unique(domain_id: str, entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries of one kind by public id; of two with one name the second is left out, as names are unique here."""
    found: dict[str, Entry] = {}
    names: set[str] = set()
    for entry in sorted(entries, key=lambda e: e.key):
        identifier = public_id(domain_id, entry.kind, entry.local_id)
        if identifier in found:
            continue
        if entry.name in names:
            log.warning("domain %s: another %s is called %r already; left out", domain_id, entry.kind, entry.name)
            continue
        names.add(entry.name)
        found[identifier] = entry
    return found


def keep(tx: Tx, domain_id: str, entries: Sequence[Entry], now: float) -> None:
    """Bring our rows to what the directory says of these entries."""
    for kind in TABLES:
        table, some = TABLES[kind], unique(domain_id, (e for e in entries if e.kind == kind))
        rows = {row.id: row for row in table.all(tx, id=list(some))}
        changed = {
            i: e for i, e in some.items()
            if i not in rows or any(getattr(rows[i], c) != v for c, v in columns_of(e).items())
        }  # fmt: skip
        free_names(tx, table, domain_id, changed, rows)
        for identifier, entry in changed.items():
            if table.get(tx, domain_id=domain_id, name=entry.name) is not None:
                log.warning(
                    "domain %s: %s %r is our own already; the directory's is left out", domain_id, kind, entry.name
                )
                some.pop(identifier)
                continue
            save(tx, domain_id, identifier, entry, rows.get(identifier))
        if some.keys() - rows.keys():
            poke(tx, DIRECTORY, domain_id, now)  # no entry is without somebody who looks whether it is still there
        for identifier, entry in some.items():
            note(tx, DirectoryEntry(id=identifier, domain_id=domain_id, kind=kind, local_id=entry.local_id,
                                    member_key=entry.key, seen_at=now))  # fmt: skip


def free_names(
    tx: Tx, table: Table[Any], domain_id: str, changed: Mapping[str, Entry], rows: Mapping[str, Any]
) -> None:
    """Take names from entries that bear them no longer: what was just read is newer than what we kept."""
    wanted = [entry.name for entry in changed.values()]
    for holder in table.all(tx, domain_id=domain_id, name=wanted):
        if entry_of(tx, "user" if table is USERS else "group", holder.id) is not None:
            table.update(tx, {"name": holder.id}, id=holder.id)


def step_back(tx: Tx, domain_id: str, name: str) -> None:
    """Leave a name that a directory's user bears to a user of our own."""
    held = USERS.get(tx, domain_id=domain_id, name=name)
    if held is not None and entry_of(tx, "user", held.id) is not None:
        USERS.update(tx, {"name": held.id}, id=held.id)


def save(tx: Tx, domain_id: str, identifier: str, entry: Entry, old: User | Group | None) -> None:
    """Write the row of one entry; who is no longer enabled loses all tokens."""
    columns = columns_of(entry)
    if old is not None:
        if isinstance(old, User) and old.enabled and not entry.enabled:
            columns["generation"] = old.generation + 1
        TABLES[entry.kind].update(tx, columns, id=identifier)
    elif entry.kind == "user":
        USERS.insert(tx, User(id=identifier, domain_id=domain_id, **columns))
    else:
        GROUPS.insert(tx, Group(id=identifier, domain_id=domain_id, **columns))


def note(tx: Tx, entry: DirectoryEntry) -> None:
    """Keep which entry a row stands for, and when it was last seen."""
    tx.run(
        "insert into directory_entries (id, domain_id, kind, local_id, member_key, gone, seen_at)"
        " values (?, ?, ?, ?, ?, 0, ?) on conflict (id) do update set member_key = excluded.member_key, gone = 0,"
        " seen_at = excluded.seen_at",
        entry.id, entry.domain_id, entry.kind, entry.local_id, entry.member_key, entry.seen_at,
    )  # fmt: skip


def lose(tx: Tx, gone: Iterable[DirectoryEntry]) -> None:
    """Entries that left the directory: their tokens end, nobody is in them, their names are free."""
    for entry in gone:
        if entry.kind == "user":
            user = USERS.get(tx, id=entry.id)
            if user is not None:
                changes = {"enabled": False, "generation": user.generation + 1, "name": user.id}
                USERS.update(tx, changes, id=user.id)
            MEMBERSHIPS.delete(tx, user_id=entry.id)
        else:
            GROUPS.update(tx, {"name": entry.id}, id=entry.id)
            MEMBERSHIPS.delete(tx, group_id=entry.id)
        ENTRIES.update(tx, {"gone": True}, id=entry.id)


def make_due(tx: Tx, domain_id: str) -> None:
    """The directory was configured anew: whatever was seen of it before was seen too long ago."""
    ENTRIES.update(tx, {"seen_at": 0.0}, domain_id=domain_id)


def lose_all(tx: Tx, domain_id: str) -> None:
    """The domain has no directory any more."""
    lose(tx, ENTRIES.all(tx, domain_id=domain_id, gone=False))


def groups_known(tx: Tx, user_id: str) -> set[str]:
    """The groups of directories in which a user is, as we know it."""
    rows = tx.all(
        "select group_id from memberships join directory_entries on directory_entries.id = group_id where user_id = ?",
        user_id,
    )
    return {str(row[0]) for row in rows}


def keep_groups_of(tx: Tx, user_id: str, group_ids: set[str]) -> None:
    """The groups in which a user is, all of them kept before."""
    known = groups_known(tx, user_id)
    for group_id in known - group_ids:
        MEMBERSHIPS.delete(tx, user_id=user_id, group_id=group_id)
    for group_id in group_ids - known:
        MEMBERSHIPS.insert(tx, Membership(user_id=user_id, group_id=group_id))


def users_known(tx: Tx, group_id: str) -> set[str]:
    """The users of the directory in a group of it, as we know it; a mapping of federation may have put in others."""
    rows = tx.all(
        "select user_id from memberships join directory_entries on directory_entries.id = user_id where group_id = ?",
        group_id,
    )
    return {str(row[0]) for row in rows}


def members_kept(tx: Tx, group: Entry, domain_id: str) -> set[str]:
    """Those of the users in a group whom we know."""
    keys, found = sorted(group.members), set()
    for start in range(0, len(keys), PARAMETERS):
        some = keys[start : start + PARAMETERS]
        found |= {row.id for row in ENTRIES.all(tx, domain_id=domain_id, kind="user", gone=False, member_key=some)}
    return found


def keep_users_in(tx: Tx, domain_id: str, group: Entry) -> None:
    """Who of the users that we know is in a group, which was kept before."""
    group_id = public_id(domain_id, "group", group.local_id)
    known, there = users_known(tx, group_id), members_kept(tx, group, domain_id)
    for user_id in known - there:
        MEMBERSHIPS.delete(tx, user_id=user_id, group_id=group_id)
    for user_id in there - known:
        MEMBERSHIPS.insert(tx, Membership(user_id=user_id, group_id=group_id))
