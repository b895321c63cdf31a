"""Users and groups of a domain that are in an LDAP directory: a real slapd, the whole API."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openstack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from openstackclient.shell import OpenStackShell
from test_identity_commands import Shell

from direct import Answer
from identity_cloud import PASSWORD as ADMIN_PASSWORD
from identity_cloud import URL, IdentityCloud
from pileus.core.reconcile import Worker
from pileus.http.app import App
from pileus.identity import facade
from slapd import PASSWORD, PEOPLE, READER_PASSWORD, SUFFIX, TEAMS, Slapd

EVERY = 60.0


class LdapCloud(IdentityCloud):
    """A cloud with domain "corp", whose users are in a directory, and a project in it."""

    def __init__(self, folder: Path, slapd: Slapd, **options: Any):
        super().__init__(folder / "cloud")
        self.slapd, self.ahead = slapd, 0.0
        self.corp: str = self.make("/domains", "domain", name="corp")["id"]
        self.project: str = self.make("/projects", "project", name="work", domain_id=self.corp)["id"]
        self.configure(slapd.options(**options))
        known = {k.name: k for k in facade.kinds(self.db, self.settings.keys_folder, EVERY, self.later)}
        self.worker = Worker(self.db, known, clock=self.later)

    def configure(self, ldap: dict[str, Any], domain_id: str = "") -> Answer:
        config = {"identity": {"driver": "ldap"}, "ldap": ldap}
        return self("PUT", f"/domains/{domain_id or self.corp}/config", {"config": config})

    def later(self) -> float:
        return time.time() + self.ahead

    def pass_time(self, seconds: float = EVERY + 1) -> None:
        """The worker does what is due after so long."""
        self.ahead += seconds
        while self.worker.run_one():
            pass

    def enter(self, name: str, password: str = PASSWORD, **scope: Any) -> Answer:
        """Log in by name."""
        user = {"name": name, "domain": {"name": "corp"}, "password": password}
        return self.log_in({"password": {"user": user}}, scope or None)

    def token_of(self, name: str, **scope: Any) -> str:
        answer = self.enter(name, **scope)
        assert answer.status == 201, answer
        return answer.headers["x-subject-token"]

    def on_work(self) -> dict[str, Any]:
        return {"project": {"id": self.project}}

    def list_of(self, plural: str, query: str = "") -> list[dict[str, Any]]:
        answer = self("GET", f"/{plural}?domain_id={self.corp}{query}")
        assert answer.status == 200, answer
        found: list[dict[str, Any]] = answer.json[plural]
        return found

    def names(self, plural: str, query: str = "") -> set[str]:
        return {one["name"] for one in self.list_of(plural, query)}

    def id_of(self, plural: str, name: str) -> str:
        [found] = self.list_of(plural, f"&name={name}")
        return str(found["id"])

    def let_work(self, actor: str, role: str = "member") -> None:
        self.grant(f"/projects/{self.project}", actor, role)


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


def test_a_user_of_the_directory_logs_in_and_nobody_else(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    answer = cloud.enter("alice")
    assert answer.status == 201
    user = answer.json["token"]["user"]
    assert user["name"] == "alice" and user["domain"] == {"id": cloud.corp, "name": "corp"}
    assert user["id"] == hashlib.sha256(f"{cloud.corp}useru1".encode()).hexdigest()  # as Keystone's own mapping
    by_id = {"password": {"user": {"id": user["id"], "password": PASSWORD}}}
    assert cloud.log_in(by_id).status == 201
    refusals = [cloud.enter("alice", "wrong"), cloud.enter("alice", ""), cloud.enter("nobody"), cloud.enter("reader")]
    refusals.append(cloud.log_in({"password": {"user": {"id": user["id"], "password": "wrong"}}}))
    assert {r.status for r in refusals} == {401} and len({r.raw for r in refusals}) == 1


def test_a_new_password_is_good_at_once_and_the_old_one_no_more(cloud: LdapCloud) -> None:
    place = cloud.slapd.person("u1", "alice")
    assert cloud.enter("alice").status == 201
    cloud.slapd.change(place, userPassword="another one")
    assert cloud.enter("alice").status == 401 and cloud.enter("alice", "another one").status == 201


def test_lists_and_filters_come_from_the_directory(cloud: LdapCloud) -> None:
    for uid, name in (("u1", "alice"), ("u2", "alina"), ("u3", "Bob"), ("u4", "Zoë")):
        cloud.slapd.person(uid, name, mail=f"{uid}@example.org")
    cloud.slapd.team("dev", [f"uid=u1,{PEOPLE}"])
    assert cloud.names("users") == {"alice", "alina", "Bob", "Zoë"}
    assert cloud.names("users", "&name=alice") == {"alice"} and cloud.names("users", "&name=ALICE") == set()
    assert cloud.names("users", "&name__iexact=BOB") == {"Bob"}
    assert cloud.names("users", "&name__contains=li") == {"alice", "alina"}
    assert cloud.names("users", "&name__startswith=al&name__endswith=na") == {"alina"}
    assert cloud.names("users", "&name=Zo%C3%AB") == {"Zoë"}
    assert cloud.names("users", "&enabled=false") == set()
    page = cloud("GET", f"/users?domain_id={cloud.corp}&sort_key=name&limit=2").json
    assert [u["name"] for u in page["users"]] == ["Bob", "Zoë"] and page["links"]["next"]
    alice = cloud.id_of("users", "alice")
    assert cloud("GET", f"/users/{alice}").json["user"]["email"] == "u1@example.org"
    group = cloud.list_of("groups")[0]
    assert group["name"] == "dev" and group["description"] == "team dev" and len(group["id"]) == 64
    assert cloud("GET", f"/groups/{group['id']}").status == 200
    assert cloud("GET", "/users?name=admin").json["users"]


INJECTIONS = ("*", "a*", "*)(uid=*", "alice)(|(uid=*", "alice)(userPassword=*", "\\61lice", "alice\\00", "(uid=u1)",
              "*)(objectClass=*))(&(uid=x", "u1,ou=people", "alice)(cn=*", "\u2a20*", "|", "&")  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_value_becomes_a_filter(cloud: LdapCloud, text: str) -> None:
    cloud.slapd.person("u1", "alice")
    assert cloud.enter(text).status == 401
    for comparison in ("", "__contains", "__startswith", "__endswith", "__iexact"):
        if text in ("a*", "*") and comparison:
            continue
        assert cloud.names("users", f"&name{comparison}={quote(text)}") == set(), comparison
        assert cloud.names("groups", f"&name{comparison}={quote(text)}") == set()
    assert cloud("GET", f"/users/{quote(text, safe='')}").status == 404


def test_a_name_full_of_filter_characters_is_a_name(cloud: LdapCloud) -> None:
    name = "o'(bri*en)\\|&"
    cloud.slapd.person("x", name)
    cloud.slapd.person("y", "other")
    assert cloud.enter(name).json["token"]["user"]["name"] == name
    assert cloud.names("users", "&name__contains=(bri*en)") == {name}


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


def test_nobody_is_the_administrator_by_their_name_in_a_directory(cloud: LdapCloud) -> None:
    cloud.configure(cloud.slapd.options(), "default")
    cloud.slapd.person("u1", "admin")
    [admin] = cloud("GET", "/users?domain_id=default&name=admin").json["users"]
    assert len(admin["id"]) == 32 and cloud.by_password("admin", PASSWORD).status == 401
    assert cloud("DELETE", f"/users/{admin['id']}").status == 204
    theirs = cloud.by_password("admin", PASSWORD)
    assert theirs.status == 201 and len(theirs.json["token"]["user"]["id"]) == 64
    rules = cloud.settings.config.identity
    password = cloud.db.transact(
        lambda tx: facade.recover_administrator(tx, rules=rules, public_url=URL, region="RegionOne", now=time.time())
    )
    everywhere = {"system": {"all": True}}
    assert cloud.by_password("admin", password, everywhere).status == 201
    assert cloud.by_password("admin", PASSWORD, everywhere).status == 401


def test_the_directory_is_only_read(cloud: LdapCloud) -> None:
    cloud.slapd.team("dev", [cloud.slapd.person("u1", "alice")])
    local = cloud.make("/users", "user", name="local", password="x")["id"]
    ours = cloud.make("/groups", "group", name="ours")["id"]
    user, group = cloud.id_of("users", "alice"), cloud.id_of("groups", "dev")
    passwords = {"user": {"password": "new one", "original_password": PASSWORD}}
    refused = [
        cloud("POST", "/users", {"user": {"name": "eve", "domain_id": cloud.corp, "password": "x"}}),
        cloud("PATCH", f"/users/{user}", {"user": {"enabled": False}}),
        cloud("PATCH", f"/users/{user}", {"user": {"password": "mine now"}}),
        cloud("DELETE", f"/users/{user}"),
        cloud("POST", f"/users/{user}/password", passwords, token=""),
        cloud("POST", "/groups", {"group": {"name": "g", "domain_id": cloud.corp}}),
        cloud("PATCH", f"/groups/{group}", {"group": {"name": "x"}}),
        cloud("DELETE", f"/groups/{group}"),
        cloud("PUT", f"/groups/{group}/users/{user}"),
        cloud("PUT", f"/groups/{group}/users/{local}"),
        cloud("PUT", f"/groups/{ours}/users/{user}"),
        cloud("DELETE", f"/groups/{group}/users/{user}"),
    ]
    assert {answer.status for answer in refused} == {403}
    assert all("driver ldap" in answer.json["error"]["message"] for answer in refused)
    passwords["user"]["original_password"] = "wrong"
    assert cloud("POST", f"/users/{user}/password", passwords, token="").status == 401
    assert cloud.enter("alice").status == 201 and cloud.names("users") == {"alice"}


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


def test_the_password_of_the_cloud_is_never_shown(cloud: LdapCloud, caplog: pytest.LogCaptureFixture) -> None:
    here = f"/domains/{cloud.corp}/config"
    said = [cloud("GET", here), cloud("GET", f"{here}/ldap"), cloud("GET", f"{here}/ldap/password"),
            cloud("PATCH", f"{here}/ldap", {"config": {"ldap": {"page_size": 5}}})]  # fmt: skip
    assert [a.status for a in said] == [200, 200, 404, 200]
    assert cloud.configure(cloud.slapd.options(password="wrong one")).status == 200
    said.append(cloud.enter("alice"))
    assert said[-1].status == 503 and "refuses the cloud's own account" in said[-1].json["error"]["message"]
    everything = caplog.text + "".join(map(repr, said)) + repr(
        cloud.db.read(lambda tx: [tx.all(f"select * from {t}") for t in ("domain_options", "audit")])
    )  # fmt: skip
    assert READER_PASSWORD not in everything and "wrong one" not in everything


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


def test_long_lists_come_page_by_page_or_say_that_they_were_cut(tmp_path: Path, slapd: Slapd) -> None:
    with slapd.as_manager() as connection:
        for n in range(120):
            attributes = {"cn": f"n{n}", "sn": "x"}
            assert connection.add(f"uid=n{n},{PEOPLE}", ["inetOrgPerson"], attributes)
    cloud = LdapCloud(tmp_path, slapd)
    cut = cloud("GET", f"/users?domain_id={cloud.corp}").json
    assert len(cut["users"]) == 100 and cut["truncated"] is True
    slapd.stop()
    conf = slapd.folder / "slapd.conf"
    conf.write_text(conf.read_text().replace("sizelimit 100", "sizelimit size.prtotal=unlimited size.soft=100"))
    slapd.start()
    cloud("PATCH", f"/domains/{cloud.corp}/config/ldap", {"config": {"ldap": {"page_size": 50}}})
    whole = cloud("GET", f"/users?domain_id={cloud.corp}").json
    assert len(whole["users"]) == 120 and "truncated" not in whole
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


def test_a_wrong_tree_is_a_fault_and_nobody_is_gone(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    token = cloud.token_of("alice")
    wrong = {"config": {"ldap": {"user_tree_dn": f"ou=nowhere,{SUFFIX}"}}}
    cloud("PATCH", f"/domains/{cloud.corp}/config/ldap", wrong)
    assert cloud.enter("alice").status == 503
    cloud.pass_time()
    assert cloud.valid(token)


def test_members_may_be_ids_and_trees_may_be_deep(tmp_path: Path, slapd: Slapd) -> None:
    slapd.add(f"ou=inner,{PEOPLE}", ["organizationalUnit"])
    slapd.add(f"uid=u1,ou=inner,{PEOPLE}", ["inetOrgPerson"], cn="alice", sn="x", userPassword=PASSWORD)
    slapd.add(f"cn=dev,{TEAMS}", ["groupOfNames"], member=[f"uid=u1,ou=inner,{PEOPLE}"],
              description="u1")  # fmt: skip
    deep = {"query_scope": "sub", "group_members_are_ids": True, "group_member_attribute": "description"}
    cloud = LdapCloud(tmp_path, slapd, **deep)
    group = cloud.id_of("groups", "dev")
    cloud.let_work(f"/groups/{group}")
    assert cloud.enter("alice", **cloud.on_work()).status == 201
    assert [u["name"] for u in cloud("GET", f"/groups/{group}/users").json["users"]] == ["alice"]
    cloud.close()


def test_the_configuration_is_checked(cloud: LdapCloud) -> None:
    here = f"/domains/{cloud.corp}/config"
    for option, value in (("page_size", "many"), ("page_size", -1), ("query_scope", "base"), ("use_tls", "perhaps"),
                          ("user_filter", "(a=b"), ("user_filter", "(a=b))(|(c=d)"), ("tls_req_cert", "x"),
                          ("user_id_attribute", "uid=*)(x"), ("alias_dereferencing", "x"), ("url", 5)):  # fmt: skip
        answer = cloud("PATCH", f"{here}/ldap", {"config": {"ldap": {option: value}}})
        assert answer.status == 400 and option in answer.json["error"]["message"], (option, answer)
    assert cloud("PATCH", f"{here}/identity", {"config": {"identity": {"driver": "oracle"}}}).status == 400
    assert cloud("PATCH", f"{here}/ldap", {"config": {"ldap": {"page_size": "20", "use_tls": "false"}}}).status == 200
    cloud.slapd.person("u1", "alice")
    assert cloud.enter("alice").status == 201


def test_the_clients_see_the_directory_as_any_domain(
    cloud: LdapCloud, serve: Callable[[App], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The openstack command and openstacksdk, against the API on a socket."""
    dev = cloud.slapd.team("dev", [cloud.slapd.person("u1", "alice")])
    cloud.slapd.person("u2", "bob")
    address = serve(cloud.direct.app)
    cloud.bootstrap(url=address)
    shell = Shell(address, capsys)
    assert {u["Name"] for u in shell("user list --domain corp")} == {"alice", "bob"}
    assert shell("user show bob --domain corp")["name"] == "bob"
    [group] = shell("group list --domain corp")
    assert group["Name"] == "dev"
    assert [u["Name"] for u in shell(f"user list --group {group['ID']}")] == ["alice"]
    shell.quietly("group contains user dev alice --group-domain corp --user-domain corp")
    shell.quietly("role add member --project work --project-domain corp --user bob --user-domain corp")
    shell.quietly("role add reader --project work --project-domain corp --group dev --group-domain corp")
    listed = shell("role assignment list --project work --project-domain corp --effective --names")
    assert {(a["Role"], a["User"]) for a in listed} >= {("member", "bob@corp"), ("reader", "alice@corp")}
    as_bob = openstack.connect(
        auth_url=f"{address}/identity/v3", username="bob", password=PASSWORD, user_domain_name="corp",
        project_name="work", project_domain_name="corp", region_name="RegionOne",
    )  # fmt: skip
    assert as_bob.identity.get_user(as_bob.current_user_id).name == "bob"
    status = OpenStackShell().run(
        ["--os-auth-url", f"{address}/identity/v3", "--os-username", "alice", "--os-password", PASSWORD,
         "--os-user-domain-name", "corp", "--os-project-name", "work", "--os-project-domain-name", "corp",
         "token", "issue", "-f", "json"]
    )  # fmt: skip
    assert status == 0 and json.loads(capsys.readouterr().out)["project_id"] == cloud.project
    cloud.slapd.remove(dev)
    with pytest.raises(openstack.exceptions.ForbiddenException, match="driver ldap"):
        openstack.connect(
            auth_url=f"{address}/identity/v3", username="admin", password=ADMIN_PASSWORD, project_name="admin",
            user_domain_id="default", project_domain_id="default", region_name="RegionOne",
        ).identity.create_user(name="eve", domain_id=cloud.corp)  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`crt` and `key` of a server on 127.0.0.1, and `ca` that signed it."""
    folder = tmp_path_factory.mktemp("certificates")
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca, own = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("ca", "directory"))
    now = datetime.now(UTC)

    def sign(subject: x509.Name, public: Any, extension: x509.ExtensionType) -> bytes:
        made = x509.CertificateBuilder(
            ca, subject, public, x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
        ).add_extension(extension, critical=True)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    contents = {"ca": sign(ca, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=0)),
                "crt": sign(own, key.public_key(), names), "key": pem}  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_over_tls_the_directory_must_prove_who_it_is(tmp_path: Path, certificates: dict[str, Path]) -> None:
    slapd = Slapd(tmp_path / "slapd", certificate=certificates)
    slapd.person("u1", "alice")
    cloud = LdapCloud(tmp_path, slapd)
    plain, secure = slapd.addresses
    other = secure.replace("127.0.0.1", "localhost")  # not in its certificate
    ca = str(certificates["ca"])
    for status, options in (
        (201, {"url": plain, "use_tls": True, "tls_cacertfile": ca}),
        (201, {"url": secure, "tls_cacertfile": ca}),
        (503, {"url": plain, "use_tls": True}),
        (503, {"url": secure}),
        (503, {"url": other, "tls_cacertfile": ca}),
        (201, {"url": secure, "tls_req_cert": "never"}),
        (201, {"url": f"ldap://127.0.0.1:9,{plain}"}),  # the first of two does not answer
    ):
        cloud.configure(slapd.options(**options))
        assert cloud.enter("alice").status == status, options
    cloud.close()
    slapd.stop()
