"""Requests signed with access keys, and OAuth 2.0 clients, checked with the signers that clients use."""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from keystoneclient.contrib.ec2.utils import Ec2Signer

from direct import Answer
from identity_cloud import IdentityCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


class Eve:
    """A user with an access key, and a service that asks about her requests."""

    def __init__(self, cloud: IdentityCloud):
        self.cloud = cloud
        self.user = cloud.person("eve")
        self.token = cloud.token("eve", "secret", project="eve")
        self.key = self.ec2(self.token)
        cloud.person("swift", "service")
        self.service = cloud.token("swift", "secret", project="swift")

    def ec2(self, token: str) -> dict[str, Any]:
        path, body = f"/users/{self.user['id']}/credentials/OS-EC2", {"tenant_id": self.user["project_id"]}
        made: dict[str, Any] = self.cloud("POST", path, body, token=token).json["credential"]
        return made

    def version_2(self, at: float | None = None, **more: Any) -> dict[str, Any]:
        stamp = datetime.fromtimestamp(at or time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        params = {"Action": "Describe Things", "SignatureVersion": "2", "SignatureMethod": "HmacSHA256",
                  "Timestamp": stamp, "AWSAccessKeyId": self.key["access"]}  # fmt: skip
        given = {"access": self.key["access"], "host": "cloud:8000", "verb": "GET", "path": "/", "params": params}
        given["signature"] = Ec2Signer(self.key["secret"]).generate({**given, **more})
        return {**given, **more}

    def version_4(self, at: float | None = None) -> dict[str, Any]:
        now = datetime.fromtimestamp(at or time.time(), UTC)
        date, scope = now.strftime("%Y%m%dT%H%M%SZ"), f"{now:%Y%m%d}/RegionOne/ec2/aws4_request"
        authorization = f"AWS4-HMAC-SHA256 Credential={self.key['access']}/{scope}, SignedHeaders=host;x-amz-date"
        given = {"access": self.key["access"], "host": "cloud:8000", "verb": "GET", "path": "/x",
                 "params": {"b": "1 2"}, "headers": {"X-Amz-Date": date, "Authorization": authorization},
                 "body_hash": hashlib.sha256(b"").hexdigest()}  # fmt: skip
        given["headers"]["Host"] = given["host"]
        given["signature"] = Ec2Signer(self.key["secret"]).generate(given)
        return given

    def ask(self, given: dict[str, Any], path: str = "/ec2tokens", token: str | None = None) -> Answer:
        return self.cloud("POST", path, {"credentials": given}, token=self.service if token is None else token)

    def text(self, *lines: str, secret: str = "", digest: str = "sha1") -> dict[str, Any]:
        whole = "\n".join(lines)
        mac = hmac.digest((secret or self.key["secret"]).encode(), whole.encode(), digest)
        return {"access": self.key["access"], "signature": base64.b64encode(mac).decode(),
                "token": base64.urlsafe_b64encode(whole.encode()).decode()}  # fmt: skip


@pytest.fixture
def eve(cloud: IdentityCloud) -> Eve:
    return Eve(cloud)


@pytest.mark.parametrize("version", ["version_2", "version_4"])
def test_a_signature_is_exchanged_for_a_token_on_the_project_of_the_key(eve: Eve, version: str) -> None:
    sign = getattr(eve, version)
    answer = eve.ask(sign())
    assert answer.status == 200, answer
    token = answer.json["token"]
    assert token["project"]["id"] == eve.user["project_id"] and token["user"]["id"] == eve.user["id"]
    assert token["methods"] == ["ec2credential"] and eve.cloud.valid(answer.headers["x-subject-token"])
    assert eve.cloud.log_in({"token": {"id": answer.headers["x-subject-token"]}}).status == 403
    bent = {**sign(), "path": "/other"}
    unknown = {**sign(), "access": "0" * 32}
    old, future = sign(time.time() - 16 * 60), sign(time.time() + 16 * 60)
    for wrong in (bent, unknown, old, future, {**sign(), "signature": "x"}):
        assert eve.ask(wrong).status == 401
    key = f"/users/{eve.user['id']}/credentials/OS-EC2/{eve.key['access']}"
    assert eve.cloud("DELETE", key, token=eve.token).status == 204
    assert not eve.cloud.valid(answer.headers["x-subject-token"])
    assert eve.ask(sign()).status == 401


def test_a_date_cannot_be_altered(eve: Eve) -> None:
    two = eve.version_2(time.time() - 3600)
    fresh = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert eve.ask({**two, "params": {**two["params"], "Timestamp": fresh}}).status == 401
    four = eve.version_4(time.time() - 3600)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    assert eve.ask({**four, "headers": {**four["headers"], "X-Amz-Date": stamp}}).status == 401


@pytest.mark.parametrize("path", ["/ec2tokens", "/s3tokens"])
def test_only_services_may_ask(eve: Eve, path: str) -> None:
    given = eve.version_2() if path == "/ec2tokens" else eve.text("GET", "", "", http_date(time.time()), "/b/o")
    assert eve.ask(given, path, token="").status == 401
    assert eve.ask(given, path, token=eve.token).status == 403
    assert eve.ask(given, path).status == 200


def http_date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_what_an_object_store_was_asked(eve: Eve) -> None:
    now = time.time()
    assert eve.ask(eve.text("GET", "", "", http_date(now), "/b/o"), "/s3tokens").json["token"]["user"]["name"] == "eve"
    assert eve.ask(eve.text("GET", "", "", str(int(now) + 60), "/b/o"), "/s3tokens").status == 200, "presigned"
    assert eve.ask(eve.text("GET", "", "", "", f"x-amz-date:{http_date(now)}", "/b"), "/s3tokens").status == 200
    for wrong in (eve.text("GET", "", "", http_date(now - 1000), "/b/o"), eve.text("GET", "", "", "never", "/"),
                  eve.text("GET", "", "", str(int(now) - 1), "/"), eve.text("GET"),
                  eve.text("GET", "", "", "9" * 400, "/"),
                  eve.text("GET", "", "", http_date(now), "/b/o", secret="x" * 32)):  # fmt: skip
        assert eve.ask(wrong, "/s3tokens").status == 401, wrong
    assert eve.ask({**eve.text("x"), "token": "é"}, "/s3tokens").status in (400, 401)


def test_a_text_of_version_4(eve: Eve) -> None:
    def signed(at: float) -> dict[str, Any]:
        now = datetime.fromtimestamp(at, UTC)
        scope = f"{now:%Y%m%d}/us-east-1/s3/aws4_request"
        whole = "\n".join(("AWS4-HMAC-SHA256", now.strftime("%Y%m%dT%H%M%SZ"), scope, "ab" * 32))
        key = f"AWS4{eve.key['secret']}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return {"access": eve.key["access"], "signature": hmac.digest(key, whole.encode(), "sha256").hex(),
                "token": base64.urlsafe_b64encode(whole.encode()).decode()}  # fmt: skip

    assert eve.ask(signed(time.time()), "/s3tokens").status == 200
    assert eve.ask(signed(time.time() - 1000), "/s3tokens").status == 401


def test_a_key_does_no_more_than_what_it_was_made_by(eve: Eve) -> None:
    cloud, user = eve.cloud, eve.user
    cloud.grant(f"/projects/{user['project_id']}", f"/users/{user['id']}", "manager")
    body = {"application_credential": {"name": "x", "unrestricted": True, "roles": [{"name": "reader"}]}}
    path = f"/users/{user['id']}/application_credentials"
    made = cloud("POST", path, body, token=eve.token).json["application_credential"]
    given = {"application_credential": {"id": made["id"], "secret": made["secret"]}}
    eve.key = eve.ec2(cloud.log_in(given).headers["x-subject-token"])
    token = eve.ask(eve.version_2()).json["token"]
    assert [r["name"] for r in token["roles"]] == ["reader"]
    row = cloud("GET", f"/credentials/{hashlib.sha256(eve.key['access'].encode()).hexdigest()}").json["credential"]
    free = {"credential": {"blob": f'{{"access": "{eve.key["access"]}", "secret": "s"}}'}}
    assert made["id"] in row["blob"]
    assert cloud("PATCH", f"/credentials/{row['id']}", free, token=eve.token).status == 403
    cloud("DELETE", f"{path}/{made['id']}", token=eve.token)
    assert eve.ask(eve.version_2()).status == 401


def test_a_key_made_by_a_trust_ends_with_it(eve: Eve) -> None:
    cloud = eve.cloud
    bob = cloud.person("bob")
    trust = {"trustor_user_id": eve.user["id"], "trustee_user_id": bob["id"], "impersonation": True,
             "project_id": eve.user["project_id"], "roles": [{"name": "reader"}], "remaining_uses": 3}  # fmt: skip
    made = cloud("POST", "/OS-TRUST/trusts", {"trust": trust}, token=eve.token).json["trust"]
    token = cloud.by_password("bob", "secret", {"OS-TRUST:trust": {"id": made["id"]}}).headers["x-subject-token"]
    eve.key = eve.ec2(token)
    first = eve.ask(eve.version_2())
    assert [r["name"] for r in first.json["token"]["roles"]] == ["reader"]
    assert [eve.ask(eve.version_2()).status for _ in range(2)] == [200, 403], "its uses are counted"


class Client:
    """A program that speaks OAuth 2.0."""

    def __init__(self, eve: Eve):
        self.cloud = eve.cloud
        path, body = f"/users/{eve.user['id']}/application_credentials", {"application_credential": {"name": "x"}}
        self.made = eve.cloud("POST", path, body, token=eve.token).json["application_credential"]

    def ask(self, form: str = "grant_type=client_credentials", secret: str = "", **headers: str) -> Answer:
        basic = base64.b64encode(f"{self.made['id']}:{secret or self.made['secret']}".encode()).decode()
        head = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Basic {basic}", **headers}
        return self.cloud("POST", "/OS-OAUTH2/token", raw=form.encode(), token="", headers=head)


def test_an_application_credential_is_a_client_of_oauth_2(eve: Eve) -> None:
    client = Client(eve)
    answer = client.ask()
    assert answer.status == 200 and answer.json["token_type"] == "Bearer" and 3590 < answer.json["expires_in"] <= 3600
    bearer = {"authorization": f"Bearer {answer.json['access_token']}"}
    assert eve.cloud("GET", "/auth/projects", token="", headers=bearer).status == 200
    assert eve.cloud("GET", "/auth/projects", token="", headers={"authorization": "Bearer x"}).status == 401
    refusals = [client.ask(secret="wrong"), client.ask(authorization="Basic ?"), client.ask(authorization="")]
    assert {(r.status, r.json["error"]) for r in refusals} == {(401, "invalid_client")}
    assert client.ask("grant_type=password").json["error"] == "unsupported_grant_type"
    assert client.ask("").json["error"] == "invalid_request"
    assert client.ask("&".join(f"a{i}=1" for i in range(99))).status == 400
    assert client.ask(**{"content-type": "application/json"}).json["error"] == "invalid_request"
