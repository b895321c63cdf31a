"""Users and groups of a domain that are in an LDAP directory: a real slapd, the whole API."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ldap_cloud import LdapCloud
from slapd import PASSWORD, PEOPLE, SUFFIX, TEAMS, Slapd


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


def test_whatever_attribute_is_the_id_users_and_members_are_found(tmp_path: Path, slapd: Slapd) -> None:
    name = 'Smith\\, \\"Jo\\" \\+ sons'
    odd = slapd.add(f"cn={name},{PEOPLE}", ["inetOrgPerson"], sn="x", uid="jo", userPassword=PASSWORD)
    slapd.team("dev", [odd, slapd.person("u1", "alice")])
    for attribute in ("entryUUID", "cn", "uid"):
        cloud = LdapCloud(tmp_path / attribute, slapd, user_id_attribute=attribute, user_name_attribute="uid",
                          group_id_attribute="entryUUID")  # fmt: skip
        group = cloud.id_of("groups", "dev")
        assert {u["name"] for u in cloud("GET", f"/groups/{group}/users").json["users"]} == {"jo", "u1"}
        cloud.let_work(f"/groups/{group}")
        token = cloud.token_of("jo", **cloud.on_work())
        cloud.pass_time()
        assert cloud.valid(token) and {g["name"] for g in cloud(
            "GET", f"/users/{cloud.id_of('users', 'jo')}/groups").json["groups"]} == {"dev"}  # fmt: skip
        cloud.close()


def test_who_stands_outside_of_the_tree_is_no_user_though_in_a_group(cloud: LdapCloud) -> None:
    cloud.slapd.add(f"ou=inner,{PEOPLE}", ["organizationalUnit"])
    far = [cloud.slapd.add(f"cn=far,{place}", ["inetOrgPerson"], sn="x", uid=f"far{n}", userPassword=PASSWORD)
           for n, place in enumerate((SUFFIX, f"ou=inner,{PEOPLE}"))]  # fmt: skip
    cloud.slapd.team("dev", [cloud.slapd.person("u1", "alice"), *far, "cn=nobody at all"])
    group = cloud.id_of("groups", "dev")
    assert [u["name"] for u in cloud("GET", f"/groups/{group}/users").json["users"]] == ["alice"]
    assert cloud.enter("far").status == 401


def test_who_manages_a_domain_sees_its_directory_and_no_other(cloud: LdapCloud) -> None:
    cloud.slapd.person("u1", "alice")
    other = cloud.make("/domains", "domain", name="other")["id"]
    cloud.configure(cloud.slapd.options(), other)
    alice = cloud.id_of("users", "alice")
    cloud.grant(f"/domains/{cloud.corp}", f"/users/{alice}", "manager")
    token = cloud.token_of("alice", domain={"id": cloud.corp})
    cloud.slapd.person("u2", "bob")
    assert {u["name"] for u in cloud("GET", "/users", token=token).json["users"]} == {"alice", "bob"}
    assert cloud("GET", f"/users?domain_id={other}", token=token).json["users"] == []
    theirs = cloud("GET", f"/users?domain_id={other}&name=bob").json["users"][0]["id"]
    assert theirs != cloud.id_of("users", "bob")
    assert cloud("GET", f"/users/{theirs}", token=token).status == 403
    assert cloud("GET", f"/domains/{cloud.corp}/config", token=token).status == 403


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
