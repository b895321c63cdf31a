"""Trusts and OAuth: what one user lets another do, and no more."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import oauthlib.oauth1 as oauth
import pytest

from direct import Answer
from identity_cloud import URL, IdentityCloud

ROLES = ("member", "painter")


class Friends:
    """Ann trusts Ben; Cal is a third."""

    def __init__(self, cloud: IdentityCloud):
        self.cloud = cloud
        cloud.make("/roles", "role", name="painter")
        self.ann = cloud.person("ann", "member")
        cloud.grant(f"/projects/{self.project}", f"/users/{self.ann['id']}", "painter")
        self.ben, self.cal = cloud.person("ben", "reader"), cloud.person("cal", "reader")
        self.token = cloud.token("ann", "secret", project="ann")

    @property
    def project(self) -> str:
        return str(self.ann["project_id"])

    def asked(self, **fields: Any) -> dict[str, Any]:
        wanted = {"trustor_user_id": self.ann["id"], "trustee_user_id": self.ben["id"], "project_id": self.project,
                  "impersonation": True, "roles": [{"name": "painter"}]}  # fmt: skip
        return {"trust": {**wanted, **fields}}

    def create(self, *, token: str | None = None, **fields: Any) -> Answer:
        return self.cloud("POST", "/OS-TRUST/trusts", self.asked(**fields), token=token or self.token)

    def trust(self, **fields: Any) -> dict[str, Any]:
        answer = self.create(**fields)
        assert answer.status == 201, answer
        return dict(answer.json["trust"])

    def use(self, trust_id: str, who: str = "ben") -> Answer:
        return self.cloud.by_password(who, "secret", {"OS-TRUST:trust": {"id": trust_id}})

    def used(self, trust_id: str, who: str = "ben") -> str:
        answer = self.use(trust_id, who)
        assert answer.status == 201, answer
        return answer.headers["x-subject-token"]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


@pytest.fixture
def friends(cloud: IdentityCloud) -> Friends:
    return Friends(cloud)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


@pytest.mark.parametrize("impersonation", [True, False])
def test_a_trustee_acts_with_the_delegated_roles_alone(friends: Friends, impersonation: bool) -> None:
    trust = friends.trust(impersonation=impersonation)
    token = friends.use(trust["id"]).json["token"]
    bearer = friends.ann if impersonation else friends.ben
    assert token["user"]["id"] == bearer["id"] and token["project"]["id"] == friends.project
    assert [r["name"] for r in token["roles"]] == ["painter"]
    assert token["OS-TRUST:trust"] == {
        "id": trust["id"], "impersonation": impersonation, "trustor_user": {"id": friends.ann["id"]},
        "trustee_user": {"id": friends.ben["id"]},
    }  # fmt: skip


def test_a_trust_is_shown_to_its_parties_and_to_readers_of_all(friends: Friends, cloud: IdentityCloud) -> None:
    trust = friends.trust(expires_at="2999-01-01T00:00:00.000000Z", note="x")
    assert trust["expires_at"] == "2999-01-01T00:00:00.000000Z" and trust["note"] == "x"
    assert trust["redelegation_count"] == 0 and trust["deleted_at"] is None and trust["roles_links"]["self"]
    here, role = f"/OS-TRUST/trusts/{trust['id']}", trust["roles"][0]["id"]
    ben, cal = cloud.token("ben", "secret", project="ben"), cloud.token("cal", "secret", project="cal")
    for token in (friends.token, ben, cloud.admin):
        assert cloud("GET", here, token=token).json["trust"]["roles"][0]["name"] == "painter"
        assert cloud("GET", f"{here}/roles", token=token).json["roles"][0]["id"] == role
        assert cloud("GET", f"{here}/roles/{role}", token=token).json["role"]["name"] == "painter"
    assert cloud("GET", f"{here}/roles/{cloud.role_id('member')}", token=ben).status == 404
    assert cloud("HEAD", f"{here}/roles/{role}", token=ben).status == 200
    foreign = cloud("GET", here, token=cal)
    unknown = cloud("GET", f"/OS-TRUST/trusts/{'0' * 32}", token=cal)
    assert foreign.status == unknown.status == 404
    assert foreign.raw == unknown.raw.replace(b"0" * 32, trust["id"].encode())
    for query, token, count in (
        (f"?trustor_user_id={friends.ann['id']}", friends.token, 1),
        (f"?trustee_user_id={friends.ben['id']}", ben, 1), ("", cloud.admin, 1),
        (f"?trustee_user_id={friends.cal['id']}", cal, 0),
    ):  # fmt: skip
        assert len(cloud("GET", f"/OS-TRUST/trusts{query}", token=token).json["trusts"]) == count
    assert cloud("GET", "/OS-TRUST/trusts", token=cal).status == 403
    assert cloud("GET", f"/OS-TRUST/trusts?trustor_user_id={friends.ann['id']}", token=cal).status == 403
    assert cloud("DELETE", here, token=ben).status == 403
    assert cloud("DELETE", here, token=friends.token).status == 204 and cloud("GET", here).status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"trustor_user_id": "0" * 32}, 403),
        ({"trustee_user_id": "0" * 32}, 404),
        ({"project_id": "0" * 32}, 404),
        ({"roles": []}, 400),
        ({"roles": [{"name": "admin"}]}, 403),
        ({"roles": [{"name": "no such role"}]}, 404),
        ({"expires_at": "bad.123Z"}, 400),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400),
        ({"remaining_uses": 0}, 400),
        ({"remaining_uses": 1, "allow_redelegation": True}, 400),
        ({"redelegation_count": 1}, 400),
        ({"allow_redelegation": True, "redelegation_count": 99}, 403),
        ({"impersonation": "yes"}, 400),
    ],
)
def test_trusts_that_cannot_be(friends: Friends, fields: dict[str, Any], status: int) -> None:
    assert friends.create(**fields).status == status


def test_only_the_trustee_uses_a_trust(friends: Friends) -> None:
    trust = friends.trust()
    assert friends.use(trust["id"], "cal").status == 403
    assert friends.use(trust["id"], "ann").status == 403
    assert friends.use("0" * 32).status == 401


def test_uses_are_counted(friends: Friends, cloud: IdentityCloud) -> None:
    trust = friends.trust(remaining_uses=2)
    assert friends.use(trust["id"], "cal").status == 403
    assert cloud.by_password("ben", "wrong", {"OS-TRUST:trust": {"id": trust["id"]}}).status == 401
    tokens = [friends.used(trust["id"]) for _ in range(2)]
    assert friends.use(trust["id"]).status == 403
    assert all(cloud.valid(token) for token in tokens)
    assert cloud("GET", f"/OS-TRUST/trusts/{trust['id']}").json["trust"]["remaining_uses"] == 0


def test_life_is_capped_by_the_trust(friends: Friends, cloud: IdentityCloud) -> None:
    trust = friends.trust(expires_at=moment(60))
    token = friends.use(trust["id"]).json["token"]
    assert token["expires_at"] == trust["expires_at"]
    cloud.db.transact(lambda tx: tx.run("update trusts set expires_at = ?", time.time() - 1))
    assert friends.use(trust["id"]).status == 403


ENDINGS = {
    "trust deleted": lambda f, c, t: c("DELETE", f"/OS-TRUST/trusts/{t}", token=f.token),
    "trustor disabled": lambda f, c, t: c("PATCH", f"/users/{f.ann['id']}", {"user": {"enabled": False}}),
    "trustee disabled": lambda f, c, t: c("PATCH", f"/users/{f.ben['id']}", {"user": {"enabled": False}}),
    "trustor's password reset": lambda f, c, t: c("PATCH", f"/users/{f.ann['id']}", {"user": {"password": "n"}}),
    "trustee's password reset": lambda f, c, t: c("PATCH", f"/users/{f.ben['id']}", {"user": {"password": "n"}}),
    "trustee deleted": lambda f, c, t: c("DELETE", f"/users/{f.ben['id']}"),
    "project disabled": lambda f, c, t: c("PATCH", f"/projects/{f.project}", {"project": {"enabled": False}}),
    "role taken": lambda f, c, t: c(
        "DELETE", f"/projects/{f.project}/users/{f.ann['id']}/roles/{c.role_id('painter')}"
    ),
}


@pytest.mark.parametrize("impersonation", [True, False])
@pytest.mark.parametrize("event", ENDINGS)
def test_its_tokens_end_with_what_they_rest_on(
    friends: Friends, cloud: IdentityCloud, event: str, impersonation: bool
) -> None:
    trust = friends.trust(impersonation=impersonation)
    token = friends.used(trust["id"])
    assert cloud.valid(token)
    assert ENDINGS[event](friends, cloud, trust["id"]).status in (200, 204)
    assert not cloud.valid(token)


def test_what_is_passed_on_shrinks(friends: Friends, cloud: IdentityCloud) -> None:
    first = friends.trust(allow_redelegation=True, redelegation_count=1, expires_at=moment(600))
    token = friends.used(first["id"])
    passed = {"trustee_user_id": friends.cal["id"]}
    deeper = {"allow_redelegation": True, "redelegation_count": 1}
    for wrong in ({"roles": [{"name": "member"}]}, {"expires_at": moment(900)}, deeper,
                  {"project_id": friends.ben["project_id"]}):  # fmt: skip
        assert friends.create(token=token, **passed, **wrong).status in (403, 404), wrong
    second = friends.trust(token=token, **passed)
    assert second["redelegated_trust_id"] == first["id"] and second["redelegation_count"] == 0
    assert second["expires_at"] == first["expires_at"]
    third = friends.used(second["id"], "cal")
    assert friends.create(token=third, **passed).status == 403
    cloud("PATCH", f"/users/{friends.ben['id']}", {"user": {"enabled": False}})
    assert not cloud.valid(third), "who passed it on has no access any more"
    cloud("PATCH", f"/users/{friends.ben['id']}", {"user": {"enabled": True}})
    third = friends.used(second["id"], "cal")
    assert cloud("DELETE", f"/OS-TRUST/trusts/{first['id']}", token=friends.token).status == 204
    assert not cloud.valid(third) and cloud("GET", f"/OS-TRUST/trusts/{second['id']}").status == 404


def test_without_impersonation_nobody_is_impersonated_further_on(friends: Friends, cloud: IdentityCloud) -> None:
    cloud.grant(f"/projects/{friends.project}", f"/users/{friends.ben['id']}", "painter")
    first = friends.trust(allow_redelegation=True, impersonation=False)
    token = friends.used(first["id"])
    passed = {"trustor_user_id": friends.ben["id"], "trustee_user_id": friends.cal["id"]}
    assert friends.create(token=token, **passed, impersonation=True).status == 403
    assert friends.create(token=token, **passed, impersonation=False).status == 201


def test_a_trust_token_makes_nothing_that_outlives_it(friends: Friends, cloud: IdentityCloud) -> None:
    trust = friends.trust()
    token = friends.used(trust["id"])
    home = f"/users/{friends.ann['id']}"
    assert cloud("POST", f"{home}/application_credentials", {"application_credential": {"name": "x"}},
                 token=token).status == 403  # fmt: skip
    body = {"credential": {"user_id": friends.ann["id"], "type": "cert", "blob": "x"}}
    assert cloud("POST", "/credentials", body, token=token).status == 403
    foreign = {"tenant_id": friends.ben["project_id"]}
    assert cloud("POST", f"{home}/credentials/OS-EC2", foreign, token=token).status == 403
    made = cloud("POST", f"{home}/credentials/OS-EC2", {"tenant_id": friends.project}, token=token)
    assert made.status == 201 and made.json["credential"]["trust_id"] == trust["id"]
    for scope in ({"project": {"id": friends.project}}, {"project": {"id": friends.ben["project_id"]}}, None):
        assert cloud.log_in({"token": {"id": token}}, scope).status == 403
    assert friends.create(token=token).status == 403, "it may not be passed on"


def test_an_application_credential_has_no_business_with_trusts(friends: Friends, cloud: IdentityCloud) -> None:
    trust = friends.trust()
    body = {"application_credential": {"name": "x", "unrestricted": True}}
    made = cloud("POST", f"/users/{friends.ann['id']}/application_credentials", body, token=friends.token).json
    credential = made["application_credential"]
    given = {"application_credential": {"id": credential["id"], "secret": credential["secret"]}}
    token = cloud.log_in(given).headers["x-subject-token"]
    here = f"/OS-TRUST/trusts/{trust['id']}"
    calls = [("GET", "/OS-TRUST/trusts", None), ("POST", "/OS-TRUST/trusts", friends.asked()), ("GET", here, None),
             ("DELETE", here, None), ("GET", f"{here}/roles", None),
             ("GET", f"{here}/roles/{trust['roles'][0]['id']}", None)]  # fmt: skip
    assert [cloud(method, path, body, token=token).status for method, path, body in calls] == [403] * 6


class Consumer:
    """A program that speaks OAuth with oauthlib's own client."""

    def __init__(self, cloud: IdentityCloud):
        self.cloud = cloud
        made = cloud.make("/OS-OAUTH1/consumers", "consumer", description="a printer")
        self.id, self.secret = made["id"], made["secret"]

    def post(self, path: str, client: Any, body: Any = None, **headers: str) -> Answer:
        _, signed, _ = client.sign(f"{URL}/identity/v3{path}", "POST")
        return self.cloud("POST", path, body, token="", headers={"authorization": signed["Authorization"], **headers})

    def client(self, key: str = "", secret: str = "", **more: Any) -> Any:
        return oauth.Client(self.id, client_secret=self.secret, resource_owner_key=key or None,
                            resource_owner_secret=secret or None, **more)  # fmt: skip

    def ask(self, project_id: str) -> dict[str, str]:
        client = self.client(callback_uri="oob")
        answer = self.post("/OS-OAUTH1/request_token", client, **{"requested-project-id": project_id})
        assert answer.status == 201, answer
        return dict(part.split("=") for part in answer.raw.decode().split("&"))

    def fetch(self, asked: dict[str, str], verifier: str) -> Answer:
        client = self.client(asked["oauth_token"], asked["oauth_token_secret"], verifier=verifier)
        return self.post("/OS-OAUTH1/access_token", client)

    def log_in(self, access: dict[str, str]) -> Answer:
        client = self.client(access["oauth_token"], access["oauth_token_secret"])
        body = {"auth": {"identity": {"methods": ["oauth1"], "oauth1": {}}}}
        return self.post("/auth/tokens", client, body)


def test_a_consumer_gets_the_roles_that_a_user_gave_and_no_more(friends: Friends, cloud: IdentityCloud) -> None:
    printer = Consumer(cloud)
    asked = printer.ask(friends.project)
    assert asked["oauth_callback_confirmed"] == "true" and asked["oauth_expires_at"]
    authorize = f"/OS-OAUTH1/authorize/{asked['oauth_token']}"
    assert printer.fetch(asked, "x" * 16).status == 401, "nobody said yes"
    too_much = {"roles": [{"id": cloud.role_id("admin")}]}
    assert cloud("PUT", authorize, too_much, token=friends.token).status == 401
    roles = {"roles": [{"id": cloud.role_id("painter")}]}
    verifier = cloud("PUT", authorize, roles, token=friends.token).json["token"]["oauth_verifier"]
    assert cloud("PUT", authorize, roles, token=friends.token).status == 403
    assert printer.fetch(asked, "wrong" * 3).status == 401
    answer = printer.fetch(asked, verifier)
    access = dict(part.split("=") for part in answer.raw.decode().split("&"))
    assert answer.status == 201 and printer.fetch(asked, verifier).status == 401, "once"
    shown = printer.log_in(access)
    token = shown.json["token"]
    assert shown.status == 201 and [r["name"] for r in token["roles"]] == ["painter"]
    assert token["user"]["id"] == friends.ann["id"] and token["OS-OAUTH1"]["consumer_id"] == printer.id
    bearer = shown.headers["x-subject-token"]
    assert cloud.valid(bearer) and cloud.log_in({"token": {"id": bearer}}).status == 403
    assert friends.create(token=bearer).status == 403
    here = f"/users/{friends.ann['id']}/OS-OAUTH1/access_tokens"
    [listed] = cloud("GET", here, token=friends.token).json["access_tokens"]
    assert listed["id"] == access["oauth_token"] and "secret" not in repr(listed)
    assert cloud("GET", f"{here}/{listed['id']}", token=friends.token).json["access_token"] == listed
    assert cloud("GET", f"{here}/{listed['id']}/roles", token=friends.token).json["roles"][0]["name"] == "painter"
    assert cloud("GET", f"{here}/{listed['id']}/roles/{cloud.role_id('painter')}", token=friends.token).status == 200
    assert cloud("DELETE", f"{here}/{listed['id']}", token=cloud.token("cal", "secret", project="cal")).status == 403
    assert cloud("DELETE", f"{here}/{listed['id']}", token=friends.token).status == 204
    assert not cloud.valid(bearer) and printer.log_in(access).status == 401


def test_signatures_that_are_wrong_old_or_seen_before_open_nothing(friends: Friends, cloud: IdentityCloud) -> None:
    printer = Consumer(cloud)
    path, project = "/OS-OAUTH1/request_token", {"requested-project-id": friends.project}
    wrong = oauth.Client(printer.id, client_secret="0" * 32, callback_uri="oob")
    unknown = oauth.Client("0" * 32, client_secret=printer.secret, callback_uri="oob")
    old = printer.client(callback_uri="oob", timestamp=str(int(time.time()) - 3600))
    refused = [printer.post(path, client, **project) for client in (wrong, unknown, old)]
    assert [r.status for r in refused] == [401, 401, 400]
    assert refused[0].json == refused[1].json
    again = printer.client(callback_uri="oob", nonce="n" * 24, timestamp=str(int(time.time())))
    assert [printer.post(path, again, **project).status for _ in range(2)] == [201, 401]
    assert printer.post(path, printer.client(callback_uri="oob")).status == 400, "no project is named"


def test_consumers_are_administrated(cloud: IdentityCloud) -> None:
    made = cloud.make("/OS-OAUTH1/consumers", "consumer", description="a", note="b")
    here = f"/OS-OAUTH1/consumers/{made['id']}"
    assert made["secret"] and made["note"] == "b"
    assert "secret" not in cloud("GET", here).json["consumer"]
    assert cloud("PATCH", here, {"consumer": {"description": "c"}}).json["consumer"]["description"] == "c"
    assert cloud("PATCH", here, {"consumer": {"secret": "x"}}).status == 400
    assert [c["id"] for c in cloud("GET", "/OS-OAUTH1/consumers").json["consumers"]] == [made["id"]]
    cloud.person("eve")
    assert cloud("GET", here, token=cloud.token("eve", "secret", project="eve")).status == 403
    assert cloud("DELETE", here).status == 204 and cloud("GET", here).status == 404
