"""What identity asks of the store, the same on both engines: bootstrap, effective roles, the version."""

import random

import pytest

from pileus.core.audit import RECORDS, Trail
from pileus.core.ids import new_hex
from pileus.core.paging import Listing, Query
from pileus.db.connect import Conflict, Database, Tx
from pileus.identity.bootstrap import bootstrap
from pileus.identity.listing import filters
from pileus.identity.project_tree import parents_above, subtree_below
from pileus.identity.role_assignment import Filters, effects, stored
from pileus.identity.rows import (
    ASSIGNMENTS,
    GROUPS,
    IMPLIED_ROLES,
    MEMBERSHIPS,
    PROJECTS,
    ROLES,
    USERS,
    Assignment,
    Group,
    ImpliedRole,
    Membership,
    Project,
    Role,
    User,
)
from pileus.identity.standing import Refused, effective_roles, standing
from pileus.identity.token import Payload, new_audit_id
from pileus.identity.tokens import revoke, revoked
from pileus.identity.user import USER
from pileus.identity.watched import version


def start(tx: Tx) -> None:
    bootstrap(tx, admin_password="secret", public_url="http://cloud", region="RegionOne", now=1.0)


@pytest.fixture
def ready(db: Database) -> Database:
    db.transact(start)
    return db


def everything(tx: Tx) -> list[object]:
    tables = ("projects", "users", "roles", "implied_roles", "role_assignments", "services", "endpoints", "regions")
    return [sorted(map(repr, tx.all(f"select * from {table}"))) for table in tables]


def test_bootstrap_twice_is_once(ready: Database) -> None:
    before = ready.read(lambda tx: (everything(tx), version(tx), tx.all("select * from password_hashes")))
    ready.transact(start)
    assert ready.read(lambda tx: (everything(tx), version(tx), tx.all("select * from password_hashes"))) == before


def family(tx: Tx) -> dict[str, str]:
    """A user in a group that is manager on all below project top; the user is reader on top."""
    ids = {name: new_hex() for name in ("top", "middle", "leaf", "user", "group")}
    parent = "default"
    for name in ("top", "middle", "leaf"):
        PROJECTS.insert(tx, Project(id=ids[name], name=name, domain_id="default", parent_id=parent))
        parent = ids[name]
    USERS.insert(tx, User(id=ids["user"], name="u", domain_id="default"))
    GROUPS.insert(tx, Group(id=ids["group"], name="g", domain_id="default"))
    MEMBERSHIPS.insert(tx, Membership(user_id=ids["user"], group_id=ids["group"]))
    role = {r.name: r.id for r in ROLES.all(tx)}
    ASSIGNMENTS.insert(
        tx, Assignment(role_id=role["manager"], group_id=ids["group"], target_id=ids["top"], inherited=True)
    )
    ASSIGNMENTS.insert(tx, Assignment(role_id=role["reader"], user_id=ids["user"], target_id=ids["top"]))
    return ids


def names(tx: Tx, user: str, target: str) -> list[str]:
    return [name for _, name in effective_roles(tx, user, "project", target, 0.0)]


def test_roles_come_by_group_from_above_and_by_implication(ready: Database) -> None:
    ids = ready.transact(family)
    assert ready.read(lambda tx: names(tx, ids["user"], ids["top"])) == ["reader"]
    for below in ("middle", "leaf"):
        assert ready.read(lambda tx, b=below: names(tx, ids["user"], ids[b])) == ["manager", "member", "reader"]
    assert ready.read(lambda tx: effective_roles(tx, ids["user"], "system", "", 0.0)) == []
    with pytest.raises(Refused):
        ready.read(lambda tx: standing(tx, ids["user"], "domain", "default", now=1.0))
    assert ready.read(lambda tx: standing(tx, ids["user"], "project", ids["leaf"], now=1.0)).roles


def test_the_tree_is_walked_up_and_down(ready: Database) -> None:
    ids = ready.transact(family)
    leaf = ready.read(lambda tx: PROJECTS.get(tx, id=ids["leaf"]))
    assert leaf is not None
    assert [p.name for p in ready.read(lambda tx: parents_above(tx, leaf))] == ["middle", "top", "Default"]
    assert {p.name for p in ready.read(lambda tx: subtree_below(tx, ids["top"]))} == {"middle", "leaf"}


def test_the_list_of_assignments_agrees_with_the_roles_of_tokens(ready: Database) -> None:
    ids = ready.transact(family)

    def both(tx: Tx, project: str) -> tuple[set[str], set[str]]:
        wanted = Filters(user_id=ids["user"], targets={project}, effective=True, now=0.0)
        listed = {effect.role_id for effect in effects(tx, wanted)}
        return listed, {role_id for role_id, _ in effective_roles(tx, ids["user"], "project", project, 0.0)}

    for name in ("top", "middle", "leaf"):
        listed, held = ready.read(lambda tx, n=name: both(tx, ids[n]))
        assert listed == held != set()
    assert len(ready.read(lambda tx: stored(tx, Filters(now=0.0)))) == 5


@pytest.mark.parametrize("seed", range(5))
def test_random_clouds_list_what_tokens_have(ready: Database, seed: int) -> None:
    chance = random.Random(seed)
    users, projects = ready.transact(lambda tx: crowd(tx, chance))

    def compare(tx: Tx) -> None:
        everything = {(e.user_id, e.target_id, e.role_id) for e in effects(tx, Filters(effective=True, now=0.0))}
        for user in users:
            of_user = {(user, t, r) for u, t, r in everything if u == user}
            mine = effects(tx, Filters(user_id=user, effective=True, now=0.0))
            assert {(e.user_id, e.target_id, e.role_id) for e in mine} == of_user
            for project in projects:
                held = {(user, project, role_id) for role_id, _ in effective_roles(tx, user, "project", project, 0.0)}
                assert held == {line for line in of_user if line[1] == project}
                here = effects(tx, Filters(user_id=user, targets={project}, effective=True, now=0.0))
                assert {(e.user_id, e.target_id, e.role_id) for e in here} == held

    ready.read(compare)


def crowd(tx: Tx, chance: random.Random) -> tuple[list[str], list[str]]:
    """Users in groups, projects in trees, roles that imply each other, assignments of every kind: ids."""
    users, projects, groups = [], [], []
    for i in range(5):
        users.append(USERS.insert(tx, User(id=new_hex(), name=f"u{i}", domain_id="default")).id)
        groups.append(GROUPS.insert(tx, Group(id=new_hex(), name=f"g{i}", domain_id="default")).id)
        place = {"id": new_hex(), "name": f"p{i}", "parent_id": chance.choice(["default", *projects])}
        projects.append(PROJECTS.insert(tx, Project(**place, domain_id="default")).id)
    roles = [ROLES.insert(tx, Role(id=new_hex(), name=f"r{i}", domain_id=chance.choice([None, "default"]))).id
             for i in range(4)]  # fmt: skip
    for prior, implied in chance.sample([(a, b) for a in roles for b in roles if a != b], 4):
        IMPLIED_ROLES.insert(tx, ImpliedRole(prior_role_id=prior, implied_role_id=implied))
    for user, group in chance.sample([(u, g) for u in users for g in groups], 8):
        MEMBERSHIPS.insert(tx, Membership(user_id=user, group_id=group))
    for actor, target, role in chance.sample(
        [(a, t, r) for a in (*users, *groups) for t in ("default", *projects) for r in roles], 15
    ):
        who = {"user_id": actor} if actor in users else {"group_id": actor}
        inherited = chance.random() < 0.5
        ASSIGNMENTS.insert(tx, Assignment(role_id=role, target_id=target, inherited=inherited, **who))
    return users, projects


def test_the_same_assignment_or_name_twice_is_refused(ready: Database) -> None:
    ids = ready.transact(family)

    def again(tx: Tx) -> None:
        role = next(r.id for r in ROLES.all(tx) if r.name == "reader")
        ASSIGNMENTS.insert(tx, Assignment(role_id=role, user_id=ids["user"], target_id=ids["top"]))

    with pytest.raises(Conflict):
        ready.transact(again)
    with pytest.raises(Conflict):
        ready.transact(
            lambda tx: PROJECTS.insert(
                tx, Project(id=new_hex(), name="Default", domain_id=None, parent_id=None, is_domain=True)
            )
        )


def test_every_change_on_which_tokens_rest_changes_the_version_and_a_refused_one_does_not(ready: Database) -> None:
    before = ready.read(version)
    ids = ready.transact(family)
    after = ready.read(version)
    assert before != after
    ready.transact(lambda tx: USERS.delete(tx, id=ids["user"]))
    assert ready.read(version) not in (before, after)
    now = ready.read(version)

    def refused(tx: Tx) -> None:
        USERS.delete(tx, id=ids["user"])
        raise KeyError

    with pytest.raises(KeyError):
        ready.transact(refused)
    assert ready.read(version) == now
    assert ready.read(lambda tx: MEMBERSHIPS.count(tx)) == 0, "what hangs on a row goes with it"


def test_revocations_are_kept_until_the_token_would_have_expired(ready: Database) -> None:
    def payload(parent: str = "") -> Payload:
        return Payload(
            user_id="u", methods=("password",), issued_at=1.0, expires_at=100.0, audit_id=new_audit_id(),
            parent_audit_id=parent,
        )  # fmt: skip

    first, lone = payload(), payload()
    child, other = payload(first.audit_id), payload(lone.audit_id)
    ready.transact(lambda tx: revoke(tx, first, 2.0))
    ready.transact(lambda tx: revoke(tx, lone, 2.0, cascade=False))
    found = ready.read(lambda tx: [revoked(tx, p) for p in (first, lone, child, other, payload())])
    assert found == [True, True, True, False, False]
    ready.transact(lambda tx: revoke(tx, payload(), 200.0))
    assert len(ready.read(lambda tx: tx.all("select * from revoked_tokens"))) == 0


def test_inexact_filters_mean_the_same_on_each_engine(ready: Database) -> None:
    def names(condition: str, value: str) -> set[str]:
        listing = Listing(USERS).equals("domain_id", ["far"])
        filters(USER, listing, Query({condition: [value]}))
        return {u.name for u in ready.read(lambda tx: listing.page(tx, sort=[("name", False)]))}

    def fill(tx: Tx) -> None:
        PROJECTS.insert(tx, Project(id="far", name="far", domain_id=None, parent_id=None, is_domain=True))
        for name in ("Alpha_1", "alpha%2", "BETA", "x", "O'Hara!"):
            USERS.insert(tx, User(id=new_hex(), name=name, domain_id="far", password_expires_at=100.0))

    ready.transact(fill)
    for condition, value, expected in (
        ("name", "BETA", {"BETA"}),
        ("name__contains", "lpha", {"Alpha_1", "alpha%2"}), ("name__contains", "LPHA", set()),
        ("name__icontains", "LPHA", {"Alpha_1", "alpha%2"}), ("name__startswith", "a", {"alpha%2"}),
        ("name__istartswith", "a", {"Alpha_1", "alpha%2"}), ("name__endswith", "_1", {"Alpha_1"}),
        ("name__iendswith", "eta", {"BETA"}), ("name__iexact", "beta", {"BETA"}), ("name__contains", "%", {"alpha%2"}),
        ("name__endswith", "longer than any name", set()), ("name__contains", "O'Hara!", {"O'Hara!"}),
        ("password_expires_at", "neq:1970-01-01T00:01:40Z", set()),
    ):  # fmt: skip
        assert names(condition, value) == expected, (condition, value)


def test_the_audit_trail_is_linked_and_pruned(db: Database) -> None:
    trail = Trail(lambda content: f"x:{hash(content)}", lambda content, mac: mac == f"x:{hash(content)}")
    for at in (1.0, 2.0, 3.0):
        db.transact(lambda tx, at=at: trail.write(tx, {"id": new_hex()}, at))
    assert db.transact(trail.seal) == 3 and db.transact(trail.seal) == 0
    old = db.transact(lambda tx: trail.old(tx, 3.0))
    assert [record.at for record in old] == [1.0, 2.0]
    db.transact(lambda tx: trail.prune(tx, old[-1]))
    assert db.read(lambda tx: [r.position for r in RECORDS.all(tx)]) == [3]
    assert db.read(lambda tx: list(trail.wrong(tx))) == []
    db.transact(lambda tx: tx.run("update audit_pruned set link = 'other'"))
    assert db.read(lambda tx: list(trail.wrong(tx))) != []
