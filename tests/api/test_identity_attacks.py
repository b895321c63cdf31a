"""Attacks on identity that worked elsewhere, each by its number in the catalogue of our threat model.

Those on all services run over one object of each kind (objects.py).  docs/attacks.md says where each stands.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from objects import ObjectsOfDemo

from cloud import FakeCloud
from direct import Answer
from identity_cloud import IdentityCloud
from pileus.core.errors import Unauthorized
from pileus.core.op import PUBLIC, Operation
from pileus.roles.controller import services

OPERATIONS = [op for service in services() for op in service.operations if op.rule != PUBLIC]


def name_of(op: Operation) -> str:
    return f"{op.method} {op.path} {op.action} {op.first[0]}.{op.first[1]}"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectsOfDemo]:
    cloud = FakeCloud(tmp_path_factory.mktemp("attacks"))
    yield ObjectsOfDemo(cloud)
    cloud.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


class Eve:
    """A member of her own project, with a token and an application credential."""

    def __init__(self, cloud: IdentityCloud):
        self.cloud = cloud
        self.user = cloud.person("eve")
        self.id, self.project = self.user["id"], self.user["project_id"]
        self.token = cloud.token("eve", "secret", project="eve")

    def credential(self, **fields: Any) -> dict[str, Any]:
        body = {"application_credential": {"name": str(time.time_ns()), **fields}}
        path = f"/users/{self.id}/application_credentials"
        made: dict[str, Any] = self.cloud("POST", path, body, token=self.token).json["application_credential"]
        return made

    def by_credential(self, made: dict[str, Any], scope: Any = None) -> Answer:
        given = {"application_credential": {"id": made["id"], "secret": made["secret"]}}
        return self.cloud.log_in(given, scope)


@pytest.fixture
def eve(cloud: IdentityCloud) -> Eve:
    return Eve(cloud)


FORGED = {
    "x-roles": "admin", "x-role": "admin", "x-user-id": "a" * 32, "x-user-name": "admin", "x-user": "admin",
    "x-project-id": "b" * 32, "x-tenant-id": "b" * 32, "x-tenant": "admin", "x-domain-id": "default",
    "x-user-domain-id": "default", "x-is-admin-project": "True", "x-service-roles": "service,admin",
    "x-identity-status": "Confirmed", "x-service-identity-status": "Confirmed", "openstack-system-scope": "all",
    "x-auth-project-id": "b" * 32, "x-service-catalog": "[]", "remote-user": "admin", "x-forwarded-user": "admin",
}  # fmt: skip


def ask(
    objects: ObjectsOfDemo, op: Operation, caller: str, *, body: Any = None, query: str = "", **headers: str
) -> int:
    sent = None if op.method in ("GET", "HEAD", "DELETE") else {op.action: None} if op.action else {}
    if sent is not None and body and not op.action:
        sent = body
    head = {**objects.version_header(op), **{k.replace("_", "-"): v for k, v in headers.items()}}
    return objects.cloud.call(op.method, objects.path(op) + query, sent, caller=caller, headers=head).status


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.writes], ids=name_of)
def test_s01_headers_that_claim_an_identity_are_nothing(objects: ObjectsOfDemo, op: Operation) -> None:
    plain = ask(objects, op, "other")
    assert ask(objects, op, "other", **FORGED) == plain
    assert ask(objects, op, "", **FORGED) == 401


OVERRIDES = {"target": {"user_id": "f" * 32, "project_id": "0" * 32}, "user_id": "f" * 32, "project_id": "0" * 32,
             "tenant_id": "0" * 32, "is_admin": True, "enforcer": "x", "domain_id": "default"}  # fmt: skip


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.writes and not op.action and "{" in op.path], ids=name_of)
def test_s02_bodies_and_queries_do_not_reach_the_policy(objects: ObjectsOfDemo, op: Operation) -> None:
    plain = ask(objects, op, "other")
    query = "?user_id=" + "f" * 32 + "&project_id=" + "0" * 32 + "&is_admin=true&target=x"
    if plain in (403, 404):
        assert ask(objects, op, "other", body=OVERRIDES, query=query) == plain


def test_s03_an_application_credential_is_of_its_owner_alone(cloud: IdentityCloud, eve: Eve) -> None:
    made, admin = eve.credential(), cloud("GET", "/users?name=admin").json["users"][0]["id"]
    for user in ({"id": admin}, {"name": "admin", "domain": {"id": "default"}}):
        given = {"application_credential": {"id": made["id"], "secret": made["secret"], "user": user}}
        answer = cloud.log_in(given)
        assert answer.status == 401 or answer.json["token"]["user"]["id"] == eve.id
        named = {"application_credential": {"name": made["name"], "secret": made["secret"], "user": user}}
        assert cloud.log_in(named).status == 401


@pytest.mark.parametrize("unrestricted", [True, False])
def test_s04_application_credentials_use_no_trusts(cloud: IdentityCloud, eve: Eve, unrestricted: bool) -> None:
    admin = cloud("GET", "/users?name=admin").json["users"][0]["id"]
    wanted = {"trustor_user_id": eve.id, "trustee_user_id": admin, "project_id": eve.project, "impersonation": True,
              "roles": [{"name": "member"}]}  # fmt: skip
    trust = cloud("POST", "/OS-TRUST/trusts", {"trust": wanted}, token=eve.token).json["trust"]
    token = eve.by_credential(eve.credential(unrestricted=unrestricted)).headers["x-subject-token"]
    here = f"/OS-TRUST/trusts/{trust['id']}"
    calls = (("GET", "/OS-TRUST/trusts", None), ("POST", "/OS-TRUST/trusts", {"trust": wanted}), ("GET", here, None),
             ("DELETE", here, None), ("GET", f"{here}/roles", None),
             ("GET", f"{here}/roles/{trust['roles'][0]['id']}", None))  # fmt: skip
    assert [cloud(method, path, body, token=token).status for method, path, body in calls] == [403] * 6


def test_s05_no_access_key_for_a_foreign_project(cloud: IdentityCloud, eve: Eve) -> None:
    foreign = cloud("GET", "/projects?name=admin").json["projects"][0]["id"]
    blob = '{"access": "mine", "secret": "mine"}'
    body = {"credential": {"user_id": eve.id, "project_id": foreign, "type": "ec2", "blob": blob}}
    assert cloud("POST", "/credentials", body, token=eve.token).status == 403
    path = f"/users/{eve.id}/credentials/OS-EC2"
    assert cloud("POST", path, {"tenant_id": foreign}, token=eve.token).status == 403
    key = cloud("POST", path, {"tenant_id": eve.project}, token=eve.token).json["credential"]
    cloud.db.transact(lambda tx: tx.run("update credentials set project_id = ?", foreign))
    cloud.person("swift", "service")
    from test_identity_chains import signed

    given = {"credentials": signed(key["access"], key["secret"])}
    assert cloud("POST", "/ec2tokens", given, token=cloud.token("swift", "secret", project="swift")).status == 401


def test_s06_a_restricted_credential_makes_no_access_keys(cloud: IdentityCloud, eve: Eve) -> None:
    token = eve.by_credential(eve.credential(roles=[{"name": "reader"}])).headers["x-subject-token"]
    path = f"/users/{eve.id}/credentials/OS-EC2"
    assert cloud("POST", path, {"tenant_id": eve.project}, token=token).status == 403
    body = {"user_id": eve.id, "project_id": eve.project, "type": "ec2", "blob": '{"access": "a", "secret": "b"}'}
    assert cloud("POST", "/credentials", {"credential": body}, token=token).status == 403


def test_s07_a_credential_keeps_its_owner_and_project(cloud: IdentityCloud, eve: Eve) -> None:
    body = {"user_id": eve.id, "project_id": eve.project, "type": "ec2", "blob": '{"access": "a", "secret": "b"}'}
    made = cloud("POST", "/credentials", {"credential": body}, token=eve.token).json["credential"]
    before = cloud.db.read(lambda tx: tx.all("select * from credentials"))
    other = cloud("GET", "/projects?name=admin").json["projects"][0]["id"]
    admin = cloud("GET", "/users?name=admin").json["users"][0]["id"]
    for change in ({"user_id": admin}, {"project_id": other}, {"blob": '{"access": "c", "secret": "b"}'},
                   {"blob": '{"access": "a", "secret": "b", "trust_id": "x"}'}, {"type": "cert"}):  # fmt: skip
        assert cloud("PATCH", f"/credentials/{made['id']}", {"credential": change}, token=eve.token).status == 403
    assert cloud.db.read(lambda tx: tx.all("select * from credentials")) == before


def test_s08_and_s09_signatures_are_exchanged_by_services_and_soon(cloud: IdentityCloud, eve: Eve) -> None:
    from test_identity_chains import signed

    key = cloud("POST", f"/users/{eve.id}/credentials/OS-EC2", {"tenant_id": eve.project}, token=eve.token).json
    given = {"credentials": signed(key["credential"]["access"], key["credential"]["secret"])}
    for path in ("/ec2tokens", "/s3tokens"):
        assert cloud("POST", path, given, token="").status == 401
        assert cloud("POST", path, given, token=eve.token).status == 403
    cloud.person("swift", "service")
    service = cloud.token("swift", "secret", project="swift")
    from pileus.identity.request_signatures import BadSignature, check_request

    secret = key["credential"]["secret"]
    check_request(given["credentials"], secret, time.time())
    with pytest.raises(BadSignature):
        check_request(given["credentials"], secret, time.time() + 16 * 60)
    altered = {**given["credentials"], "headers": {**given["credentials"]["headers"], "X-Amz-Date": "20990101T000000Z"}}
    assert cloud("POST", "/ec2tokens", {"credentials": altered}, token=service).status == 401


def test_s10_the_token_of_a_credential_gets_no_other_scope(cloud: IdentityCloud, eve: Eve) -> None:
    token = eve.by_credential(eve.credential(unrestricted=True)).headers["x-subject-token"]
    scopes = ({"project": {"id": eve.project}}, {"domain": {"id": "default"}}, {"system": {"all": True}}, "unscoped")
    assert [cloud.log_in({"token": {"id": token}}, scope).status for scope in scopes] == [403] * 4


def test_s11_a_trust_gives_nothing_beyond_itself(cloud: IdentityCloud, eve: Eve) -> None:
    bob = cloud.person("bob")
    wanted = {"trustor_user_id": eve.id, "trustee_user_id": bob["id"], "project_id": eve.project,
              "impersonation": True, "roles": [{"name": "reader"}]}  # fmt: skip
    trust = cloud("POST", "/OS-TRUST/trusts", {"trust": wanted}, token=eve.token).json["trust"]
    token = cloud.by_password("bob", "secret", {"OS-TRUST:trust": {"id": trust["id"]}}).headers["x-subject-token"]
    other = cloud.make("/projects", "project", name="second")["id"]
    cloud.grant(f"/projects/{other}", f"/users/{eve.id}", "member")
    assert cloud("POST", "/OS-TRUST/trusts", {"trust": wanted}, token=token).status == 403
    assert cloud("POST", "/OS-TRUST/trusts", {"trust": {**wanted, "project_id": other}}, token=token).status == 403
    path = f"/users/{eve.id}/credentials/OS-EC2"
    assert cloud("POST", path, {"tenant_id": other}, token=token).status == 403
    assert cloud.log_in({"token": {"id": token}}, {"project": {"id": other}}).status == 403
    assert cloud("PUT", f"/OS-OAUTH1/authorize/{'0' * 32}", {"roles": [{"name": "x"}]}, token=token).status == 403


def test_s12_oauth_gives_the_roles_that_were_chosen(cloud: IdentityCloud) -> None:
    from test_identity_trusts import Consumer, Friends

    friends, printer = Friends(cloud), Consumer(cloud)
    asked = printer.ask(friends.project)
    roles = {"roles": [{"id": cloud.role_id("painter")}]}
    answer = cloud("PUT", f"/OS-OAUTH1/authorize/{asked['oauth_token']}", roles, token=friends.token)
    got = printer.fetch(asked, answer.json["token"]["oauth_verifier"]).raw.decode()
    token = printer.log_in(dict(part.split("=") for part in got.split("&"))).json["token"]
    assert {role["name"] for role in token["roles"]} == {"painter"}


def test_s13_a_federated_user_has_the_roles_of_the_mapping_alone(cloud: IdentityCloud, eve: Eve) -> None:
    from test_identity_federation import GROUPS, USER, Federated

    federated = Federated(cloud)
    federated.group("dev", eve.project, role="reader")
    federated.group("ops", eve.project, role="admin")
    federated.provider("acme", USER, GROUPS)
    token = federated.token("acme", NAME=["eve"], GROUPS=["dev"])
    scoped = federated.scoped(token, eve.project).json["token"]
    assert [role["name"] for role in scoped["roles"]] == ["reader"] and scoped["user"]["id"] != eve.id
    nobody = federated.token("acme", NAME=["bob"], GROUPS=["unknown"])
    assert cloud("GET", "/auth/projects", token=nobody).json["projects"] == []
    assert federated.scoped(nobody, eve.project).status == 401


def test_s14_no_provider_speaks_for_anothers_users_and_names_are_whole(cloud: IdentityCloud) -> None:
    from test_identity_federation import USER, Federated, user_of

    federated = Federated(cloud)
    for idp in ("acme", "evil"):
        federated.provider(idp, USER, remote_ids=[f"https://{idp}"], remote_id_attribute="ISS", domain_id="default")
    acme, evil = {"ISS": ["https://acme"]}, {"ISS": ["https://evil"]}
    for idp, said in (("evil", acme), ("acme", evil), ("acme", {"ISS": [*acme["ISS"], *evil["ISS"]]})):
        with pytest.raises(Unauthorized):
            federated.log_in(idp, **said)
    names = ("ann", "ann@evil", "ann ", "Ann", "ann\u200b")
    found = [user_of(federated.log_in("acme", NAME=[name], **acme))["id"] for name in names]
    found.append(user_of(federated.log_in("evil", NAME=["ann"], **evil))["id"])
    assert len(set(found)) == len(found), "distinct names, distinct people"


def test_s15_exchanging_a_token_never_lengthens_its_life(cloud: IdentityCloud, eve: Eve) -> None:
    first = cloud.by_password("eve", "secret")
    expires, token = first.json["token"]["expires_at"], first.headers["x-subject-token"]
    for i in range(100):
        scope = {"project": {"id": eve.project}} if i % 2 else "unscoped"
        methods: dict[str, Any] = {"token": {"id": token}}
        if i % 3 == 0:
            methods["password"] = {"user": {"id": eve.id, "password": "secret"}}
        answer = cloud.log_in(methods, scope)
        assert answer.status == 201 and answer.json["token"]["expires_at"] <= expires
        token = answer.headers["x-subject-token"]


def test_s18_an_empty_password_opens_nothing(cloud: IdentityCloud, eve: Eve) -> None:
    cloud.make("/users", "user", name="nopass")
    for name in ("eve", "nopass"):
        for password in ("", " ", "\t\n", "null", "None"):
            assert cloud.by_password(name, password).status == 401
        for wrong in (None, [], {}, 5, False):
            given = {"password": {"user": {"name": name, "domain": {"id": "default"}, "password": wrong}}}
            assert cloud.log_in(given).status == 400
        missing = {"password": {"user": {"name": name, "domain": {"id": "default"}}}}
        assert cloud.log_in(missing).status == 400
    assert cloud("POST", "/users", {"user": {"name": "x", "password": ""}}).status == 400
    cloud("PATCH", f"/users/{eve.id}", {"user": {"enabled": False}})
    assert cloud.by_password("eve", "secret").status == 401


def test_s20_a_giant_password_is_refused_before_it_costs_anything(cloud: IdentityCloud, eve: Eve) -> None:
    began = time.process_time()
    assert cloud.by_password("eve", "x" * 1_000_000).status in (400, 413)
    assert cloud("PATCH", f"/users/{eve.id}", {"user": {"password": "x" * 100_000}}).status in (400, 413)
    assert time.process_time() - began < 0.1
    hashes = cloud.db.read(lambda tx: tx.all("select hash from password_hashes"))
    assert all(row[0].startswith("$argon2id$") for row in hashes)


def test_s21_a_thousand_methods_and_endless_revocations_cost_little(cloud: IdentityCloud, eve: Eve) -> None:
    body = {"auth": {"identity": {"methods": ["password"] * 1000}}}
    assert cloud("POST", "/auth/tokens", body, token="").status == 400
    for _ in range(30):
        token = cloud.token("eve", "secret")
        cloud("DELETE", "/auth/tokens", headers={"x-subject-token": token}, token=token)
    cloud.db.transact(lambda tx: tx.run("update revoked_tokens set expires_at = ?", time.time() - 200_000))
    token = cloud.token("eve", "secret")
    cloud("DELETE", "/auth/tokens", headers={"x-subject-token": token}, token=token)
    assert cloud.db.read(lambda tx: tx.all("select count(*) from revoked_tokens"))[0][0] == 1, "the table is bounded"


OWN_LISTS = ("credentials", "OS-TRUST/trusts?trustor_user_id={eve}", "users/{eve}/application_credentials",
             "users/{eve}/access_rules", "users/{eve}/credentials/OS-EC2", "users/{eve}/OS-OAUTH1/access_tokens",
             "users/{eve}/projects", "users/{eve}/groups", "limits", "auth/projects")  # fmt: skip
FOREIGN = ("user_id={eve}", "project_id={project}", "tenant_id={project}", "all_tenants=1", "all_projects=1",
           "trustor_user_id={eve}", "domain_id=default")  # fmt: skip


def test_s22_and_s25_lists_hold_ones_own_rows_whatever_the_filter(cloud: IdentityCloud, eve: Eve) -> None:
    cloud.person("mallory")
    token = cloud.token("mallory", "secret", project="mallory")
    cloud.make("/credentials", "credential", token=eve.token, user_id=eve.id, type="cert", blob="canary")
    eve.credential()
    cloud("POST", f"/users/{eve.id}/credentials/OS-EC2", {"tenant_id": eve.project}, token=eve.token)
    for listing in OWN_LISTS:
        for given in ("", *FOREIGN):
            path = f"/{listing}{'&' if '?' in listing else '?'}{given}".format(eve=eve.id, project=eve.project)
            answer = cloud("GET", path, token=token)
            assert answer.status in (200, 403), (path, answer)
            assert eve.project.encode() not in answer.raw.replace(path.encode(), b""), path
            assert b"canary" not in answer.raw


def test_s23_what_a_stolen_token_made_is_recorded_and_a_new_password_ends_the_token(
    cloud: IdentityCloud, eve: Eve
) -> None:
    eve.credential()
    stories = cloud.db.read(lambda tx: tx.all("select kind, action from events where user_id = ?", eve.id))
    assert ("application_credential", "create") in stories
    audited = cloud.db.read(lambda tx: tx.all("select event from audit where event like '%application_credential%'"))
    assert any(eve.id in row[0] for row in audited)
    cloud("POST", f"/users/{eve.id}/password", {"user": {"original_password": "secret", "password": "n"}}, token="")
    assert not cloud.valid(eve.token)


def test_s24_a_foreign_child_under_ones_own_parent_is_not_there(cloud: IdentityCloud, eve: Eve) -> None:
    mallory = cloud.person("mallory")
    token = cloud.token("mallory", "secret", project="mallory")
    made = eve.credential(access_rules=[{"service": "compute", "method": "GET", "path": "/v2.1/servers"}])
    rule = cloud("GET", f"/users/{eve.id}/access_rules", token=eve.token).json["access_rules"][0]["id"]
    body = {"tenant_id": eve.project}
    key = cloud("POST", f"/users/{eve.id}/credentials/OS-EC2", body, token=eve.token).json["credential"]["access"]
    mine = f"/users/{mallory['id']}"
    for path in (f"{mine}/application_credentials/{made['id']}", f"{mine}/access_rules/{rule}",
                 f"{mine}/credentials/OS-EC2/{key}"):  # fmt: skip
        for method in ("GET", "DELETE"):
            assert cloud(method, path, token=token).status == 404, (method, path)
            assert cloud(method, path).status in (403, 404), (method, path)
    assert cloud("GET", f"/users/{eve.id}/application_credentials/{made['id']}", token=eve.token).status == 200
