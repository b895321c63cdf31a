"""Logging in, tokens and what ends them."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_cloud import PASSWORD, IdentityCloud
from pileus.core.config import Identity
from pileus.db.connect import connect
from pileus.identity import facade, tokens
from pileus.identity.token import TOKEN_SECONDS

PROJECT_ADMIN = {"project": {"name": "admin", "domain": {"id": "default"}}}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


def test_a_project_token_shows_user_project_roles_and_catalog(cloud: IdentityCloud) -> None:
    answer = cloud.by_password("admin", PASSWORD, PROJECT_ADMIN)
    token = answer.json["token"]
    assert answer.status == 201 and len(answer.headers["x-subject-token"]) <= 255
    assert token["methods"] == ["password"] and len(token["audit_ids"]) == 1
    assert token["project"]["name"] == "admin" and token["project"]["domain"] == {"id": "default", "name": "Default"}
    assert {r["name"] for r in token["roles"]} == {"admin", "manager", "member", "reader"}
    compute = next(s for s in token["catalog"] if s["type"] == "compute")
    assert {(e["interface"], e["url"], e["region"]) for e in compute["endpoints"]} == {
        (i, "http://cloud:5000/compute/v2.1", "RegionOne") for i in ("public", "internal", "admin")
    }
    assert "catalog" not in cloud.by_password("admin", PASSWORD, PROJECT_ADMIN, "?nocatalog").json["token"]


def test_each_scope_gives_its_own_token(cloud: IdentityCloud) -> None:
    unscoped = cloud.by_password("admin", PASSWORD).json["token"]
    assert not {"project", "roles", "catalog", "domain", "system"} & unscoped.keys()
    domain = cloud.by_password("admin", PASSWORD, {"domain": {"id": "default"}}).json["token"]
    assert domain["domain"] == {"id": "default", "name": "Default"} and domain["roles"]
    system = cloud.by_password("admin", PASSWORD, {"system": {"all": True}}).json["token"]
    assert system["system"] == {"all": True} and system["roles"]
    assert cloud.by_password("admin", PASSWORD, "unscoped").status == 201


def test_a_default_project_is_the_scope_when_none_is_asked_for(cloud: IdentityCloud) -> None:
    user = cloud.person("eve")
    cloud("PATCH", f"/users/{user['id']}", {"user": {"default_project_id": user["project_id"]}})
    assert cloud.by_password("eve", "secret").json["token"]["project"]["id"] == user["project_id"]
    assert "project" not in cloud.by_password("eve", "secret", "unscoped").json["token"]
    cloud("PATCH", f"/projects/{user['project_id']}", {"project": {"enabled": False}})
    assert "project" not in cloud.by_password("eve", "secret").json["token"]


@pytest.mark.parametrize(
    ("name", "password", "scope"),
    [
        ("admin", "wrong", PROJECT_ADMIN),
        ("admin", "", PROJECT_ADMIN),
        ("nobody", PASSWORD, PROJECT_ADMIN),
        ("admin", PASSWORD, {"project": {"name": "nowhere", "domain": {"id": "default"}}}),
        ("admin", PASSWORD, {"project": {"id": "0" * 32}}),
        ("admin", PASSWORD, {"domain": {"id": "0" * 32}}),
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(
    cloud: IdentityCloud, name: str, password: str, scope: object
) -> None:
    answer = cloud.by_password(name, password, scope)
    assert answer.status == 401
    assert answer.json["error"]["message"] == "The request you have made requires authentication."


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"identity": {}},
        {"identity": {"methods": []}},
        {"identity": {"methods": ["password"], "password": {}}},
        {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "password": "x"}}}},
        {"identity": {"methods": ["password"], "password": {"user": {"id": "a", "password": "x" * 5000}}}},
        {"identity": {"methods": ["password"] * 1000}},
        {"identity": {"methods": ["token"], "token": {"id": 5}}},
        {"identity": {"methods": ["password"]}, "scope": {"project": "admin"}},
        [],
    ],
)
def test_malformed_log_ins_are_bad_requests(cloud: IdentityCloud, auth: object) -> None:
    assert cloud("POST", "/auth/tokens", {"auth": auth}, token="").status == 400


def test_a_token_that_is_no_longer_one_cannot_be_exchanged(cloud: IdentityCloud) -> None:
    token = cloud.token("admin", PASSWORD)
    cloud("DELETE", "/auth/tokens", headers={"x-subject-token": token})
    for wrong in (token, "nonsense"):
        assert cloud.log_in({"token": {"id": wrong}}, PROJECT_ADMIN).status == 404


def test_two_methods_must_be_of_one_user(cloud: IdentityCloud) -> None:
    cloud.person("eve")
    mine, other = cloud.token("eve", "secret"), cloud.token("admin", PASSWORD)
    password = {"user": {"name": "eve", "domain": {"id": "default"}, "password": "secret"}}
    both = cloud.log_in(
        {"password": password, "token": {"id": mine}}, {"project": {"name": "eve", "domain": {"id": "default"}}}
    )
    assert both.status == 201 and set(both.json["token"]["methods"]) == {"password", "token"}
    assert cloud.log_in({"password": password, "token": {"id": other}}).status == 401


def test_unknown_methods_are_refused(cloud: IdentityCloud) -> None:
    assert cloud.log_in({"saml3": {}}).status == 401


def test_a_disabled_user_gets_in_neither_with_password_nor_with_token(cloud: IdentityCloud) -> None:
    user = cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    assert cloud.valid(token)
    cloud("PATCH", f"/users/{user['id']}", {"user": {"enabled": False}})
    assert not cloud.valid(token)
    assert cloud.by_password("eve", "secret").status == 401
    cloud("PATCH", f"/users/{user['id']}", {"user": {"enabled": True}})
    assert not cloud.valid(token), "enabling does not revive what was ended"
    assert cloud.by_password("eve", "secret").status == 201


ENDINGS = {
    "user deleted": lambda c, u: c("DELETE", f"/users/{u['id']}"),
    "user disabled": lambda c, u: c("PATCH", f"/users/{u['id']}", {"user": {"enabled": False}}),
    "password reset": lambda c, u: c("PATCH", f"/users/{u['id']}", {"user": {"password": "other"}}),
    "tokens revoked": lambda c, u: c("DELETE", f"/users/{u['id']}/tokens"),
    "project disabled": lambda c, u: c("PATCH", f"/projects/{u['project_id']}", {"project": {"enabled": False}}),
    "project deleted": lambda c, u: c("DELETE", f"/projects/{u['project_id']}"),
    "domain disabled": lambda c, u: c("PATCH", f"/domains/{u['domain_id']}", {"domain": {"enabled": False}}),
    "role taken": lambda c, u: c("DELETE", f"/projects/{u['project_id']}/users/{u['id']}/roles/{c.role_id('member')}"),
    "own password changed": lambda c, u: c(
        "POST", f"/users/{u['id']}/password", {"user": {"password": "new", "original_password": "secret"}}, token=""
    ),
}


@pytest.mark.parametrize("event", ENDINGS)
def test_a_token_ends_with_the_next_request_after(cloud: IdentityCloud, event: str) -> None:
    domain = cloud.make("/domains", "domain", name="elsewhere")
    project = cloud.make("/projects", "project", name="p", domain_id=domain["id"])
    user = cloud.make("/users", "user", name="eve", domain_id=domain["id"], password="secret")
    cloud.grant(f"/projects/{project['id']}", f"/users/{user['id']}", "member")
    given = {"password": {"user": {"id": user["id"], "password": "secret"}}}
    token = cloud.log_in(given, {"project": {"id": project["id"]}}).headers["x-subject-token"]
    assert cloud.valid(token)
    assert ENDINGS[event](cloud, {**user, "project_id": project["id"]}).status in (200, 204)
    assert not cloud.valid(token)


def test_leaving_a_group_takes_its_roles_from_tokens(cloud: IdentityCloud) -> None:
    project = cloud.make("/projects", "project", name="p")
    user = cloud.make("/users", "user", name="eve", password="secret")
    group = cloud.make("/groups", "group", name="g")
    cloud("PUT", f"/groups/{group['id']}/users/{user['id']}")
    cloud.grant(f"/projects/{project['id']}", f"/groups/{group['id']}", "member")
    token = cloud.token("eve", "secret", project="p")
    assert cloud.valid(token)
    cloud("DELETE", f"/groups/{group['id']}/users/{user['id']}")
    assert not cloud.valid(token)


def test_a_role_added_later_shows_in_the_token_at_once(cloud: IdentityCloud) -> None:
    user = cloud.person("eve", "reader")
    token = cloud.token("eve", "secret", project="eve")
    cloud.grant(f"/projects/{user['project_id']}", f"/users/{user['id']}", "manager")
    shown = cloud("GET", "/auth/tokens", token=token, headers={"x-subject-token": token}).json["token"]
    assert {r["name"] for r in shown["roles"]} == {"manager", "member", "reader"}


def test_validate_check_and_revoke(cloud: IdentityCloud) -> None:
    cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    subject = {"x-subject-token": token}
    answer = cloud("GET", "/auth/tokens", headers=subject)
    assert answer.status == 200 and answer.json["token"]["user"]["name"] == "eve"
    assert answer.headers["x-subject-token"] == token and answer.json["token"]["catalog"]
    assert "catalog" not in cloud("GET", "/auth/tokens?nocatalog", headers=subject).json["token"]
    head = cloud("HEAD", "/auth/tokens", headers=subject)
    assert head.status == 200 and head.raw == b""
    assert cloud("DELETE", "/auth/tokens", headers=subject).status == 204
    assert cloud("GET", "/auth/tokens", headers=subject).status == 404
    assert cloud("HEAD", "/auth/tokens", headers=subject).status == 404
    assert not cloud.valid(token)


def test_others_may_not_ask_about_a_token(cloud: IdentityCloud) -> None:
    cloud.person("eve")
    cloud.person("mallory")
    eve, mallory = cloud.token("eve", "secret", project="eve"), cloud.token("mallory", "secret", project="mallory")
    for method in ("GET", "HEAD", "DELETE"):
        assert cloud(method, "/auth/tokens", token=mallory, headers={"x-subject-token": eve}).status == 403
    assert cloud.valid(eve)
    assert cloud("GET", "/auth/tokens", token=eve, headers={"x-subject-token": eve}).status == 200


CHANGES = {
    "cut": lambda t: t[:-1],
    "longer": lambda t: t + "A",
    "another format": lambda t: "B" + t[1:],
    "another user": lambda t: t[:40] + ("A" if t[40] != "A" else "B") + t[41:],
    "not ASCII": lambda t: "é" + t,
    "huge": lambda t: "x" * 9999,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_token_opens_nothing(cloud: IdentityCloud, change: str) -> None:
    assert not cloud.valid(CHANGES[change](cloud.admin))


def test_a_revoked_token_stays_revoked_in_every_process_and_after_a_restart(cloud: IdentityCloud) -> None:
    cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    another = tokens.Tokens(cloud.settings.keys_folder)  # as another process keeps them
    db = connect(f"sqlite://{cloud.folder}/pileus.db")
    assert db.read(lambda tx: another.examine(tx, token, time.time())) is not None
    cloud("DELETE", "/auth/tokens", token=token, headers={"x-subject-token": token})
    assert db.read(lambda tx: another.examine(tx, token, time.time())) is None
    restarted = tokens.Tokens(cloud.settings.keys_folder)
    assert db.read(lambda tx: restarted.examine(tx, token, time.time())) is None
    db.close()


def test_an_expired_token_is_refused_even_from_memory(cloud: IdentityCloud) -> None:
    keeper = tokens.Tokens(cloud.settings.keys_folder)
    later = time.time() + TOKEN_SECONDS + 1
    assert cloud.db.read(lambda tx: keeper.examine(tx, cloud.admin, time.time())) is not None
    assert cloud.db.read(lambda tx: keeper.examine(tx, cloud.admin, later)) is None


def test_rescoping_never_lengthens_life_and_keeps_the_chain(cloud: IdentityCloud) -> None:
    first = cloud.by_password("admin", PASSWORD)
    token, body = first.headers["x-subject-token"], first.json["token"]
    for _ in range(5):
        answer = cloud.log_in({"token": {"id": token}}, PROJECT_ADMIN)
        assert answer.json["token"]["expires_at"] == body["expires_at"]
        assert answer.json["token"]["audit_ids"][1:] == [body["audit_ids"][0]]
        assert set(answer.json["token"]["methods"]) == {"token", "password"}
        token = answer.headers["x-subject-token"]


def test_revoking_the_first_token_ends_those_made_from_it_unless_told_otherwise(cloud: IdentityCloud) -> None:
    for query, survives in (("", False), ("?cascade=false", True)):
        first = cloud.token("admin", PASSWORD)
        child = cloud.log_in({"token": {"id": first}}, PROJECT_ADMIN).headers["x-subject-token"]
        assert cloud("DELETE", f"/auth/tokens{query}", headers={"x-subject-token": first}).status == 204
        assert cloud.valid(child) is survives
    first = cloud.token("admin", PASSWORD)
    child = cloud.log_in({"token": {"id": first}}, PROJECT_ADMIN).headers["x-subject-token"]
    cloud("DELETE", "/auth/tokens", headers={"x-subject-token": child})
    assert cloud.valid(first) and not cloud.valid(child)


def test_a_rotated_key_ring_reads_old_tokens_and_signs_with_the_new_key(cloud: IdentityCloud) -> None:
    old = cloud.admin
    cloud.db.transact(lambda tx: facade.rotate_keys(tx, cloud.settings.keys_folder, time.time()))
    fresh = cloud.token("admin", PASSWORD, project="admin")
    assert cloud.valid(old) and cloud.valid(fresh) and old[:7] != fresh[:7]
    cloud.db.transact(lambda tx: facade.rotate_keys(tx, cloud.settings.keys_folder, time.time() + TOKEN_SECONDS + 60))
    assert not cloud.valid(old), "a key goes when the last token under it has expired"


def test_what_a_token_could_be_scoped_to(cloud: IdentityCloud) -> None:
    user = cloud.person("eve")
    token = cloud.token("eve", "secret")
    below = cloud.make("/projects", "project", name="below", parent_id=user["project_id"])
    cloud("PUT", f"/OS-INHERIT/projects/{user['project_id']}/users/{user['id']}/roles/{cloud.role_id('reader')}"
                 "/inherited_to_projects")  # fmt: skip
    listed = cloud("GET", "/auth/projects", token=token).json["projects"]
    assert {p["id"] for p in listed} == {user["project_id"], below["id"]}
    assert cloud("GET", "/auth/domains", token=token).json["domains"] == []
    assert cloud("GET", "/auth/system", token=token).json["system"] == []
    assert cloud("GET", "/auth/catalog", token=token).status == 403
    assert [d["id"] for d in cloud("GET", "/auth/domains").json["domains"]] == ["default"]
    assert cloud("GET", "/auth/system").json["system"] == [{"all": True}]
    assert {s["type"] for s in cloud("GET", "/auth/catalog").json["catalog"]} >= {"identity", "compute", "image"}


def test_without_a_token_nothing_but_the_versions_answers(cloud: IdentityCloud) -> None:
    assert cloud.direct("GET", "/identity", caller="").status == 300
    version = cloud.direct("GET", "/identity/v3", caller="").json["version"]
    assert version["id"] == "v3.14" and version["links"][0]["href"] == "http://cloud:5000/identity/v3/"
    refused = cloud("GET", "/users", token="")
    assert refused.status == 401 and refused.headers["www-authenticate"] == 'Keystone uri="http://cloud:5000/identity"'


def test_bootstrap_again_keeps_a_changed_password_and_follows_the_url(cloud: IdentityCloud) -> None:
    admin = cloud("GET", "/users?name=admin").json["users"][0]
    cloud("PATCH", f"/users/{admin['id']}", {"user": {"password": "changed"}})
    before = cloud.db.read(lambda tx: tx.all("select * from role_assignments"))
    cloud.bootstrap(password="another", url="https://new.example")
    assert cloud.by_password("admin", "another").status == 401
    answer = cloud.by_password("admin", "changed", PROJECT_ADMIN)
    urls = {e["url"] for s in answer.json["token"]["catalog"] for e in s["endpoints"]}
    assert "https://new.example/identity" in urls and all(u.startswith("https://new.example/") for u in urls)
    assert cloud.db.read(lambda tx: tx.all("select * from role_assignments")) == before


def test_a_password_that_was_right_a_moment_ago_needs_no_second_hash(tmp_path: Path) -> None:
    cloud = IdentityCloud(tmp_path, Identity())
    cloud.person("eve")

    def seconds(password: str) -> float:
        began = time.process_time()
        cloud.by_password("eve", password)
        return time.process_time() - began

    seconds("secret")
    assert min(seconds("secret") for _ in range(5)) * 3 < min(seconds(f"wrong{i}") for i in range(3))
    cloud.close()


def test_the_key_files_are_for_their_owner_alone(cloud: IdentityCloud) -> None:
    for name in ("tokens.json", "credentials.json"):
        assert (cloud.settings.keys_folder / name).stat().st_mode & 0o777 == 0o600
