"""What changes in an LDAP directory, and what becomes of tokens and roles here: a real slapd, the whole API."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from ldap_cloud import LdapCloud
from pileus.http.app import App
from pileus.identity.domain_options import DOMAIN_OPTIONS, DomainOption
from pileus.identity.sealing import seal
from slapd import PASSWORD, PEOPLE, READER_PASSWORD, SUFFIX, Slapd


@pytest.fixture
def slapd(tmp_path: Path) -> Iterator[Slapd]:
    made = Slapd(tmp_path / "slapd")
    yield made
    made.stop()


@pytest.fixture
def cloud(tmp_path: Path, slapd: Slapd) -> Iterator[LdapCloud]:
    made = LdapCloud(tmp_path, slapd)
    yield made
    made.close()


def test_groups_of_the_directory_give_roles_and_take_them_again(cloud: LdapCloud) -> None:
    alice, bob = cloud.slapd.person("u1", "alice"), cloud.slapd.person("u2", "bob")
    dev = cloud.slapd.team("dev", [alice, bob])
    group, user = cloud.id_of("groups", "dev"), cloud.id_of("users", "alice")
    cloud.let_work(f"/groups/{group}")
    token = cloud.token_of("alice", **cloud.on_work())
    assert {r["name"] for r in cloud("GET", "/auth/tokens", token=token, headers={"x-subject-token": token})
            .json["token"]["roles"]} >= {"member"}  # fmt: skip
    assert {u["name"] for u in cloud("GET", f"/groups/{group}/users").json["users"]} == {"alice", "bob"}
    assert [g["name"] for g in cloud("GET", f"/users/{user}/groups").json["groups"]] == ["dev"]
    assert cloud("GET", f"/groups/{group}/users/{user}").status == 204
    effective = cloud("GET", f"/role_assignments?effective&scope.project.id={cloud.project}&include_names").json
    assert {a["user"]["name"] for a in effective["role_assignments"]} == {"alice", "bob"}
    cloud.slapd.leave(dev, alice)
    assert cloud.valid(token)
    cloud.pass_time()
    assert not cloud.valid(token) and cloud.enter("alice", **cloud.on_work()).status == 401
    assert cloud("GET", f"/groups/{group}/users/{user}").status == 404
    cloud.slapd.join(dev, alice)
    assert cloud.enter("alice", **cloud.on_work()).status == 201


def test_roles_of_a_group_are_told_of_users_who_never_came(cloud: LdapCloud) -> None:
    alice = cloud.slapd.person("u1", "alice")
    dev = cloud.slapd.team("dev", [alice])
    cloud.let_work(f"/groups/{cloud.id_of('groups', 'dev')}")
    cloud.pass_time(0.1)
    question = f"/role_assignments?effective&scope.project.id={cloud.project}&include_names"

    def told() -> set[str]:
        return {a["user"]["name"] for a in cloud("GET", question).json["role_assignments"]}

    assert told() == {"alice"}
    cloud.slapd.join(dev, cloud.slapd.person("u2", "bob"))
    cloud.pass_time()
    assert told() == {"alice", "bob"}


def test_who_left_the_directory_loses_everything_and_has_it_again_on_return(cloud: LdapCloud) -> None:
    place = cloud.slapd.person("u1", "alice")
    cloud.slapd.person("u2", "bob")
    user = cloud.id_of("users", "alice")
    cloud.let_work(f"/users/{user}")
    token, bob = cloud.token_of("alice", **cloud.on_work()), cloud.token_of("bob")
    cloud.slapd.remove(place)
    assert cloud.enter("alice").status == 401
    cloud.pass_time()
    assert not cloud.valid(token) and cloud.valid(bob)
    assert cloud("GET", f"/users/{user}").status == 404 and cloud.names("users") == {"bob"}
    assert user not in {u["id"] for u in cloud("GET", "/users").json["users"]}
    cloud.slapd.person("u1", "alice")
    assert cloud.enter("alice", **cloud.on_work()).status == 201 and not cloud.valid(token)


def test_whom_a_request_finds_gone_is_gone_at_once(cloud: LdapCloud) -> None:
    place = cloud.slapd.person("u1", "alice")
    token = cloud.token_of("alice")
    cloud.slapd.remove(place)
    user = hashlib.sha256(f"{cloud.corp}useru1".encode()).hexdigest()
    assert cloud("GET", f"/users/{user}").status == 404 and not cloud.valid(token)


def test_a_directory_that_is_away_is_a_503_of_its_own_domain(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    token, user = cloud.token_of("alice"), cloud.id_of("users", "alice")
    cloud.slapd.stop()
    for answer in (cloud.enter("alice"), cloud("GET", f"/users?domain_id={cloud.corp}"), cloud("GET", f"/users/{user}"),
                   cloud("GET", f"/users/{user}/groups")):  # fmt: skip
        assert answer.status == 503 and answer.headers["retry-after"]
        message = answer.json["error"]["message"]
        assert "does not answer" in message and cloud.corp in message
        assert "127.0.0.1" not in message and READER_PASSWORD not in message
    cloud.person("local")
    assert cloud.by_password("local", "secret").status == 201
    cloud.pass_time()
    assert cloud.valid(token)  # nobody is taken for gone
    why = cloud.db.read(lambda tx: tx.one("select why from work where kind = 'directory'"))
    assert why and "does not answer" in why[0]
    cloud.slapd.start()
    time.sleep(3.1)  # how long a directory that failed is left in peace
    assert cloud.enter("alice").status == 201


def test_a_directory_that_says_nothing_is_waited_for_only_so_long(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    assert cloud.enter("alice").status == 201
    cloud.slapd.freeze()
    begun = time.monotonic()
    assert cloud.enter("alice").status == 503
    assert time.monotonic() - begun < 2 * 2 + 1
    begun = time.monotonic()
    assert cloud.enter("alice").status == 503
    assert time.monotonic() - begun < 0.5  # it is left in peace


def test_users_of_the_directory_delegate_as_others_do(cloud: LdapCloud) -> None:
    place = cloud.slapd.person("u1", "alice")
    cloud.slapd.person("u2", "bob")
    alice, bob = cloud.id_of("users", "alice"), cloud.id_of("users", "bob")
    cloud.let_work(f"/users/{alice}")
    token = cloud.token_of("alice", **cloud.on_work())
    made = cloud.make(f"/users/{alice}/application_credentials", "application_credential", token=token, name="c")
    by_key = {"application_credential": {"id": made["id"], "secret": made["secret"]}}
    assert cloud.log_in(by_key).status == 201
    trust = cloud.make("/OS-TRUST/trusts", "trust", token=token, trustor_user_id=alice, trustee_user_id=bob,
                       project_id=cloud.project, impersonation=True, roles=[{"name": "member"}])  # fmt: skip
    scope = {"OS-TRUST:trust": {"id": trust["id"]}}
    by_trust = cloud.token_of("bob", **scope)
    cloud.slapd.remove(place)
    cloud.pass_time()
    assert not cloud.valid(by_trust) and cloud.log_in(by_key).status == 401
    assert cloud.enter("bob", **scope).status == 403


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"user_enabled_attribute": "employeeType"}, {"u1": True, "u2": False, "u3": True}),
        ({"user_enabled_attribute": "employeeType", "user_enabled_invert": True, "user_enabled_default": "False"},
         {"u1": False, "u2": True, "u3": True}),
        ({"user_enabled_attribute": "employeeNumber", "user_enabled_mask": 2, "user_enabled_default": "512"},
         {"u1": True, "u2": False, "u3": True}),
    ],
)  # fmt: skip
def test_who_is_disabled_in_the_directory_is_so_here(
    tmp_path: Path, slapd: Slapd, options: dict[str, Any], wanted: dict[str, bool]
) -> None:
    slapd.person("u1", employeeType="TRUE", employeeNumber="512")
    slapd.person("u2", employeeType="FALSE", employeeNumber="514")
    slapd.person("u3")
    cloud = LdapCloud(tmp_path, slapd, **options)
    assert {u["name"]: u["enabled"] for u in cloud.list_of("users")} == wanted
    assert {name: cloud.enter(name).status == 201 for name in wanted} == wanted
    cloud.close()


def test_a_group_may_say_who_is_enabled(tmp_path: Path, slapd: Slapd) -> None:
    alice = slapd.person("u1", "alice")
    slapd.person("u2", "bob")
    allowed = slapd.add(f"cn=enabled_users,{PEOPLE}", ["groupOfNames"], member=[alice, SUFFIX])
    cloud = LdapCloud(tmp_path, slapd, user_enabled_emulation=True)
    assert {u["name"]: u["enabled"] for u in cloud.list_of("users")} == {"alice": True, "bob": False}
    token = cloud.token_of("alice")
    assert cloud.enter("bob").status == 401
    slapd.leave(allowed, alice)
    cloud.pass_time()
    assert not cloud.valid(token) and cloud.enter("alice").status == 401
    slapd.remove(allowed)
    assert not any(u["enabled"] for u in cloud.list_of("users"))
    cloud.close()


def test_disabling_in_the_directory_ends_tokens(tmp_path: Path, slapd: Slapd) -> None:
    place = slapd.person("u1", employeeType="TRUE")
    cloud = LdapCloud(tmp_path, slapd, user_enabled_attribute="employeeType")
    token = cloud.token_of("u1")
    slapd.change(place, employeeType="FALSE")
    cloud.pass_time()
    assert not cloud.valid(token)
    slapd.change(place, employeeType="TRUE")
    assert cloud.enter("u1").status == 201 and not cloud.valid(token)
    cloud.close()


def test_names_move_between_entries(cloud: LdapCloud) -> None:
    one, two = cloud.slapd.person("u1", "alice"), cloud.slapd.person("u2", "bob")
    before = {u["name"]: u["id"] for u in cloud.list_of("users")}
    cloud.slapd.change(one, cn="bob")
    cloud.slapd.change(two, cn="alice")
    after = {u["name"]: u["id"] for u in cloud.list_of("users")}
    assert after == {"alice": before["bob"], "bob": before["alice"]}
    cloud.slapd.change(one, cn="carol")
    cloud.slapd.change(two, cn="bob")
    assert cloud.enter("bob").json["token"]["user"]["id"] == before["bob"]
    cloud.slapd.person("u3", "bob")
    assert cloud.enter("bob").status == 401  # which of the two is not for us to say


def test_users_that_the_domain_had_before_stay_its_own(tmp_path: Path, slapd: Slapd) -> None:
    cloud = LdapCloud(tmp_path, slapd)
    here = f"/domains/{cloud.corp}/config"
    assert cloud("DELETE", here).status == 204
    robot = cloud.make("/users", "user", name="robot", domain_id=cloud.corp, password="local")
    cloud.configure(slapd.options())
    slapd.person("u1", "alice")
    slapd.person("u2", "robot", password="theirs")
    assert cloud.enter("robot", "local").status == 201 and cloud.enter("robot", "theirs").status == 401
    assert {u["name"]: len(u["id"]) for u in cloud.list_of("users")} == {"alice": 64, "robot": 32}
    assert cloud("PATCH", f"/users/{robot['id']}", {"user": {"password": "new"}}).status == 200
    cloud.close()


def test_without_its_directory_a_domain_has_none_of_its_users(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    cloud.let_work(f"/users/{cloud.id_of('users', 'alice')}")
    token = cloud.token_of("alice", **cloud.on_work())
    here = f"/domains/{cloud.corp}/config"
    config = cloud("GET", here).json["config"]
    assert cloud("PATCH", f"{here}/identity", {"config": {"identity": {"driver": "sql"}}}).status == 200
    assert not cloud.valid(token) and cloud.enter("alice").status == 401 and cloud.names("users") == set()
    assert not cloud.db.read(lambda tx: tx.all("select * from work where kind = 'directory'"))
    cloud("PATCH", f"{here}/identity", {"config": {"identity": config["identity"]}})
    assert cloud.enter("alice", **cloud.on_work()).status == 201 and not cloud.valid(token)


def test_a_domain_that_is_pointed_elsewhere_is_read_anew_at_once(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    token = cloud.token_of("alice")
    option = {"config": {"user_filter": "(cn=bob)"}}
    here = f"/domains/{cloud.corp}/config/ldap"
    assert cloud("PATCH", here, {"config": {"ldap": {"user_filter": "(cn=a*)"}}}).status == 200
    cloud.pass_time(0.1)
    assert cloud.valid(token)
    assert cloud("PATCH", f"{here}/user_filter", option).status == 200
    cloud.pass_time(0.1)
    assert not cloud.valid(token) and cloud.enter("alice").status == 401


def test_options_that_make_no_sense_are_a_fault_of_their_own_domain(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    other = cloud.make("/domains", "domain", name="other")["id"]
    cloud.configure(cloud.slapd.options(), other)
    sealed = seal(cloud.settings.keys_folder, '"many"')
    wrong = {"domain_id": other, "group_name": "ldap", "option_name": "page_size"}
    cloud.db.transact(lambda tx: DOMAIN_OPTIONS.insert(tx, DomainOption(**wrong, sealed_value=sealed)))
    assert cloud.enter("alice").status == 201
    answer = cloud("GET", f"/users?domain_id={other}")
    assert answer.status == 503 and "the configuration of the domain" in answer.json["error"]["message"]
    config = {"config": {"identity": {"driver": "oracle"}}}  # taken, as upstream does
    assert cloud("PATCH", f"/domains/{other}/config/identity", config).status == 200
    assert "no driver" in cloud("GET", f"/users?domain_id={other}").json["error"]["message"]
    cloud("PATCH", f"/domains/{other}/config/identity", {"config": {"identity": {"driver": "ldap"}}})
    cloud.db.transact(lambda tx: DOMAIN_OPTIONS.update(tx, {"sealed_value": "00000000:x"}, **wrong))
    assert cloud.enter("alice").status == 201 and cloud("GET", f"/users?domain_id={other}").status == 503


def test_an_entry_is_never_without_the_work_that_reads_it_again(cloud: LdapCloud) -> None:
    place = cloud.slapd.person("u1", "alice")
    cloud.db.transact(lambda tx: tx.run("delete from work"))  # as of a domain that an older version configured
    token = cloud.token_of("alice")
    cloud.slapd.remove(place)
    cloud.pass_time()
    assert not cloud.valid(token)


def test_a_wrong_tree_is_a_fault_and_nobody_is_gone(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    token = cloud.token_of("alice")
    wrong = {"config": {"ldap": {"user_tree_dn": f"ou=nowhere,{SUFFIX}"}}}
    cloud("PATCH", f"/domains/{cloud.corp}/config/ldap", wrong)
    assert cloud.enter("alice").status == 503
    cloud.pass_time()
    assert cloud.valid(token)


def test_many_who_wait_for_a_silent_directory_keep_nobody_else_waiting(
    cloud: LdapCloud, serve: Callable[[App], str]
) -> None:
    cloud.slapd.person("u1", "alice")
    cloud.person("local")
    address = serve(cloud.direct.app).removeprefix("http://")

    def enter(name: str, domain: str, password: str) -> tuple[int, float]:
        user = {"name": name, "domain": {"name": domain}, "password": password}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        connection, begun = HTTPConnection(address, timeout=30), time.monotonic()
        connection.request("POST", "/identity/v3/auth/tokens", json.dumps(body), {"content-type": "application/json"})
        return connection.getresponse().status, time.monotonic() - begun

    assert enter("alice", "corp", PASSWORD)[0] == 201
    cloud.slapd.freeze()
    with ThreadPoolExecutor(120) as pool:
        waiting = [pool.submit(enter, "alice", "corp", PASSWORD) for _ in range(100)]
        time.sleep(0.5)
        for _ in range(5):
            status, seconds = enter("local", "Default", "secret")
            assert status == 201 and seconds < 0.5
        answers = [one.result() for one in waiting]
    assert {status for status, _ in answers} == {503} and max(seconds for _, seconds in answers) < 4
