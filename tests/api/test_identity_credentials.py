"""Application credentials, access rules, credentials and EC2 keys: what is delegated only shrinks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity_cloud import IdentityCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


class Eve:
    """A manager on her own project, with a token."""

    def __init__(self, cloud: IdentityCloud):
        self.cloud = cloud
        self.user = cloud.person("eve", "manager")
        self.id, self.project_id = self.user["id"], self.user["project_id"]
        self.token = cloud.token("eve", "secret", project="eve")
        self.path = f"/users/{self.id}/application_credentials"

    def credential(self, name: str = "app", **fields: Any) -> dict[str, Any]:
        return self.cloud.make(self.path, "application_credential", token=self.token, name=name, **fields)

    def log_in(self, credential: dict[str, Any], scope: Any = None) -> Any:
        given = {"id": credential["id"], "secret": credential["secret"]}
        return self.cloud.log_in({"application_credential": given}, scope)

    def token_of(self, credential: dict[str, Any]) -> str:
        return str(self.log_in(credential).headers["x-subject-token"])


@pytest.fixture
def eve(cloud: IdentityCloud) -> Eve:
    return Eve(cloud)


def test_an_application_credential_logs_in_by_id_and_by_name(cloud: IdentityCloud, eve: Eve) -> None:
    made = eve.credential(secret="s3cret", roles=[{"name": "member"}], description="for CI")
    assert made["secret"] == "s3cret" and made["project_id"] == eve.project_id and made["unrestricted"] is False
    token = eve.log_in(made).json["token"]
    assert {r["name"] for r in token["roles"]} == {"member", "reader"} and token["methods"] == [
        "application_credential"
    ]
    assert token["application_credential"] == {"id": made["id"], "name": "app", "restricted": True}
    for user in ({"id": eve.id}, {"name": "eve", "domain": {"name": "Default"}}):
        by_name = {"name": "app", "secret": "s3cret", "user": user}
        assert cloud.log_in({"application_credential": by_name}).status == 201
    assert cloud.log_in({"application_credential": {"id": made["id"], "secret": "wrong"}}).status == 401
    assert cloud.log_in({"application_credential": {"id": "0" * 32, "secret": "s3cret"}}).status == 401
    assert cloud.log_in({"application_credential": {"name": "app", "secret": "s3cret"}}).status == 400
    shown = cloud("GET", f"{eve.path}/{made['id']}", token=eve.token).json["application_credential"]
    assert "secret" not in shown and shown["roles"][0]["name"] == "member"
    assert [c["id"] for c in cloud("GET", f"{eve.path}?name=app", token=eve.token).json["application_credentials"]] == [
        made["id"]
    ]
    assert len(eve.credential("random")["secret"]) > 60


def test_a_user_beside_a_credentials_id_impersonates_nobody(cloud: IdentityCloud, eve: Eve) -> None:
    admin = cloud("GET", "/users?name=admin").json["users"][0]["id"]
    made = eve.credential()
    given = {"id": made["id"], "secret": made["secret"], "user": {"id": admin}}
    assert cloud.log_in({"application_credential": given}).json["token"]["user"]["id"] == eve.id


def test_a_credentials_token_cannot_become_another(cloud: IdentityCloud, eve: Eve) -> None:
    token = eve.token_of(eve.credential(unrestricted=True))
    project = {"project": {"id": eve.project_id}}
    for scope in (project, {"domain": {"id": "default"}}, {"system": {"all": True}}, "unscoped", None):
        assert cloud.log_in({"token": {"id": token}}, scope).status == 403
    made = eve.credential("b")
    assert eve.log_in(made, project).status == 201
    for scope in ({"project": {"name": "admin", "domain": {"id": "default"}}}, {"system": {"all": True}}, "unscoped"):
        assert eve.log_in(made, scope).status == 401


def test_a_restricted_credential_makes_no_credentials(cloud: IdentityCloud, eve: Eve) -> None:
    made = eve.credential()
    token = eve.token_of(made)
    body = {"application_credential": {"name": "child"}}
    assert cloud("POST", eve.path, body, token=token).status == 403
    assert cloud("DELETE", f"{eve.path}/{made['id']}", token=token).status == 403
    ec2 = f"/users/{eve.id}/credentials/OS-EC2"
    assert cloud("POST", ec2, {"tenant_id": eve.project_id}, token=token).status == 403
    plain = {"credential": {"user_id": eve.id, "type": "totp", "blob": "x"}}
    assert cloud("POST", "/credentials", plain, token=token).status == 403
    free = eve.token_of(eve.credential("free", unrestricted=True))
    assert cloud("POST", eve.path, body, token=free).status == 201


def test_no_role_is_delegated_that_is_not_held(cloud: IdentityCloud, eve: Eve) -> None:
    for roles in ([{"name": "admin"}], [{"id": cloud.role_id("admin")}], [{"name": "nothing"}], [{"id": "x" * 20}]):
        body = {"application_credential": {"name": "x", "roles": roles}}
        assert cloud("POST", eve.path, body, token=eve.token).status == 400
    weak = eve.token_of(eve.credential("weak", unrestricted=True, roles=[{"name": "reader"}]))
    stronger = {"application_credential": {"name": "y", "roles": [{"name": "member"}]}}
    assert cloud("POST", eve.path, stronger, token=weak).status == 400
    child = cloud("POST", eve.path, {"application_credential": {"name": "z"}}, token=weak).json
    assert [r["name"] for r in child["application_credential"]["roles"]] == ["reader"]


def test_a_credential_ends_with_the_roles_it_rests_on(cloud: IdentityCloud, eve: Eve) -> None:
    made = eve.credential()
    token = eve.token_of(made)
    assert cloud.valid(token)
    place = f"/projects/{eve.project_id}/users/{eve.id}/roles"
    cloud.grant(f"/projects/{eve.project_id}", f"/users/{eve.id}", "reader")
    assert cloud("DELETE", f"{place}/{cloud.role_id('manager')}").status == 204
    assert not cloud.valid(token) and eve.log_in(made).status == 401


@pytest.mark.parametrize("event", ["deleted", "user disabled", "project disabled", "user deleted"])
def test_its_tokens_end_with_the_credential_user_or_project(cloud: IdentityCloud, eve: Eve, event: str) -> None:
    made = eve.credential()
    token = eve.token_of(made)
    if event == "deleted":
        assert cloud("DELETE", f"{eve.path}/{made['id']}", token=eve.token).status == 204
    elif event == "user deleted":
        cloud("DELETE", f"/users/{eve.id}")
    else:
        kind = event.split()[0]
        cloud("PATCH", f"/{kind}s/{eve.id if kind == 'user' else eve.project_id}", {kind: {"enabled": False}})
    assert not cloud.valid(token) and eve.log_in(made).status == 401


def test_an_expiry_is_kept_and_caps_the_token(cloud: IdentityCloud, eve: Eve) -> None:
    for wrong in ("2001-01-01T00:00:00", "soon", "2999-13-01T00:00:00"):
        body = {"application_credential": {"name": "x", "expires_at": wrong}}
        assert cloud("POST", eve.path, body, token=eve.token).status == 400
    made = eve.credential(expires_at="2999-01-01T00:00:00")
    assert made["expires_at"] == "2999-01-01T00:00:00.000000"
    import time
    from datetime import UTC, datetime

    soon = datetime.fromtimestamp(time.time() + 60, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    token = eve.log_in(eve.credential("short", expires_at=soon)).json["token"]
    assert token["expires_at"].startswith(soon)


def test_access_rules_bind_the_token_to_its_requests(cloud: IdentityCloud, eve: Eve) -> None:
    rules = [{"service": "identity", "method": "GET", "path": "/v3/users/{user_id}/access_rules"},
             {"service": "compute", "method": "GET", "path": "/v2.1/servers/**"}]  # fmt: skip
    made = eve.credential(access_rules=rules)
    assert [{k: r[k] for k in ("service", "method", "path")} for r in made["access_rules"]]
    token = eve.token_of(made)
    listed = cloud("GET", f"/users/{eve.id}/access_rules", token=token)
    assert {r["path"] for r in listed.json["access_rules"]} == {r["path"] for r in rules}
    for method, path in (("GET", "/auth/projects"), ("GET", f"/users/{eve.id}"), ("GET", f"/users/{eve.id}/groups"),
                         ("GET", f"/users/{eve.id}/access_rules/x")):  # fmt: skip
        assert cloud(method, path, token=token).status == 401, path
    subject = {"x-subject-token": token}
    assert cloud("GET", "/auth/tokens", headers=subject).status == 404
    shown = cloud("GET", "/auth/tokens", headers={**subject, "openstack-identity-access-rules": "1.0"}).json["token"]
    assert len(shown["application_credential"]["access_rules"]) == 2
    rule = made["access_rules"][0]["id"]
    assert cloud("GET", f"/users/{eve.id}/access_rules/{rule}", token=eve.token).status == 200
    assert cloud("DELETE", f"/users/{eve.id}/access_rules/{rule}", token=eve.token).status == 403
    cloud("DELETE", f"{eve.path}/{made['id']}", token=eve.token)
    assert cloud("DELETE", f"/users/{eve.id}/access_rules/{rule}", token=eve.token).status == 204
    for wrong in ({"service": "x"}, {"id": "none"}, {"service": "x", "method": "TRACE", "path": "/"},
                  {"service": "x", "method": "GET", "path": "no"}):  # fmt: skip
        body = {"application_credential": {"name": "x", "access_rules": [wrong]}}
        assert cloud("POST", eve.path, body, token=eve.token).status == 400


def test_credentials_of_others_are_out_of_reach(cloud: IdentityCloud, eve: Eve) -> None:
    made = eve.credential()
    blob = cloud.make("/credentials", "credential", token=eve.token, user_id=eve.id, type="totp", blob="seed")
    cloud.person("mallory", "manager")
    token = cloud.token("mallory", "secret", project="mallory")
    for path in (eve.path, f"{eve.path}/{made['id']}", f"/users/{eve.id}/access_rules", f"/credentials/{blob['id']}",
                 f"/users/{eve.id}/credentials/OS-EC2"):  # fmt: skip
        assert cloud("GET", path, token=token).status == 403, path
    assert cloud("POST", eve.path, {"application_credential": {"name": "x"}}, token=token).status == 403
    assert cloud("POST", eve.path, {"application_credential": {"name": "x"}}).status == 403, "nor for the administrator"
    assert cloud("GET", "/credentials", token=token).json["credentials"] == []
    stolen = {"credential": {"user_id": eve.id, "type": "totp", "blob": "x"}}
    assert cloud("POST", "/credentials", stolen, token=token).status == 403
    for method in ("PATCH", "DELETE"):
        body = {"credential": {"blob": "x"}} if method == "PATCH" else None
        foreign = cloud(method, f"/credentials/{blob['id']}", body, token=token)
        assert foreign.status == 403 and foreign.raw == cloud(method, f"/credentials/{'0' * 32}", body, token=token).raw


def test_credentials_are_sealed_in_the_database(cloud: IdentityCloud, eve: Eve) -> None:
    made = cloud.make("/credentials", "credential", token=eve.token, user_id=eve.id, type="totp", blob="a-seed")
    assert made["blob"] == "a-seed"
    stored = cloud.db.read(lambda tx: tx.all("select * from credentials"))
    assert "a-seed" not in repr(stored)
    here = f"/credentials/{made['id']}"
    assert (
        cloud("PATCH", here, {"credential": {"blob": "b-seed"}}, token=eve.token).json["credential"]["blob"] == "b-seed"
    )
    assert [c["blob"] for c in cloud("GET", "/credentials?type=totp", token=eve.token).json["credentials"]] == [
        "b-seed"
    ]
    assert cloud("DELETE", here, token=eve.token).status == 204 and cloud("GET", here).status == 404


def test_a_credential_keeps_its_owner_and_project(cloud: IdentityCloud, eve: Eve) -> None:
    admin = cloud("GET", "/users?name=admin").json["users"][0]["id"]
    foreign = cloud("GET", "/projects?name=admin").json["projects"][0]["id"]
    made = cloud.make(
        "/credentials", "credential", token=eve.token, user_id=eve.id, project_id=eve.project_id, type="cert", blob="x"
    )
    for change in ({"user_id": admin}, {"project_id": foreign}, {"type": "ec2"}):
        assert cloud("PATCH", f"/credentials/{made['id']}", {"credential": change}, token=eve.token).status == 403
    blob = '{"access": "a", "secret": "s"}'
    ec2 = {"user_id": eve.id, "type": "ec2", "blob": blob}
    assert cloud("POST", "/credentials", {"credential": {**ec2, "project_id": foreign}}, token=eve.token).status == 403
    assert cloud("POST", "/credentials", {"credential": ec2}, token=eve.token).status == 400
    kept = cloud.make("/credentials", "credential", token=eve.token, **{**ec2, "project_id": eve.project_id})
    renamed = {"credential": {"blob": '{"access": "b", "secret": "s"}'}}
    assert cloud("PATCH", f"/credentials/{kept['id']}", renamed, token=eve.token).status == 403
    assert cloud("PATCH", f"/credentials/{kept['id']}", renamed).status == 200
    wrong = {**ec2, "project_id": eve.project_id, "blob": "no json"}
    assert cloud("POST", "/credentials", {"credential": wrong}, token=eve.token).status == 400


def test_ec2_credentials(cloud: IdentityCloud, eve: Eve) -> None:
    path = f"/users/{eve.id}/credentials/OS-EC2"
    answer = cloud("POST", path, {"tenant_id": eve.project_id}, token=eve.token)
    made = answer.json["credential"]
    assert answer.status == 201 and made["tenant_id"] == eve.project_id and made["access"] and made["secret"]
    assert cloud("GET", f"{path}/{made['access']}", token=eve.token).json["credential"] == made
    assert cloud("GET", path, token=eve.token).json["credentials"] == [made]
    foreign = cloud("GET", "/projects?name=admin").json["projects"][0]["id"]
    assert cloud("POST", path, {"tenant_id": foreign}, token=eve.token).status == 403
    assert cloud("DELETE", f"{path}/{made['access']}", token=eve.token).status == 204
    assert cloud("GET", f"{path}/{made['access']}", token=eve.token).status == 404
