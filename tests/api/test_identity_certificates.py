"""Clients that come by a certificate (RFC 8705): their tokens are good together with that certificate alone."""

import base64
import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from keystoneauth1 import session
from keystoneauth1.exceptions import ClientException
from keystoneauth1.identity.v3 import OAuth2mTlsClientCredential
from msgspec import structs

from direct import Answer
from identity_cloud import QUICK, IdentityCloud
from pileus.core.config import Config, Identity
from pileus.http.app import App
from tls_proxy import HEADER, Certificate, tls_proxy

RULES = structs.replace(QUICK, trusted_certificate_header=HEADER, trusted_proxies=("192.0.2.0/24", "127.0.0.1"))


class Client:
    """A program that acts as eve, who keeps its certificate; another program has a certificate that nobody keeps."""

    def __init__(self, folder: Path, rules: Identity = RULES):
        self.cloud = IdentityCloud(folder, rules)
        self.user = self.cloud.person("eve")
        self.own, self.other = Certificate(folder, "own"), Certificate(folder, "other")
        token = self.cloud.token("eve", "secret", project="eve")
        kept = {"user_id": self.user["id"], "type": "cert", "blob": self.own.pem}
        self.cloud.make("/credentials", "credential", token=token, **kept)
        body = {"user": {"default_project_id": self.user["project_id"]}}
        self.cloud("PATCH", f"/users/{self.user['id']}", body)

    def ask(self, shown: str) -> Answer:
        """Ask for a token, by the certificate that a proxy says was shown."""
        form = f"grant_type=client_credentials&client_id={self.user['id']}"
        head = {"content-type": "application/x-www-form-urlencoded", HEADER: quote(shown)}
        return self.cloud("POST", "/OS-OAUTH2/token", raw=form.encode(), token="", headers=head)

    def opens(self, token: str, shown: str, **headers: str) -> bool:
        """Whether a token opens something for who shows a certificate ("" for none)."""
        head = {**({HEADER: quote(shown)} if shown else {}), **headers}
        return self.cloud("GET", "/auth/projects", token=token, headers=head).status == 200

    def token(self) -> str:
        return str(self.ask(self.own.pem).json["access_token"])


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path)
    yield made
    made.cloud.close()


def test_a_client_is_known_by_a_certificate_that_its_user_keeps(client: Client) -> None:
    answer = client.ask(client.own.pem)
    assert answer.status == 200 and answer.json["token_type"] == "Bearer"
    for wrong in (client.other.pem, "", "no certificate", client.own.pem[:-60]):
        refusal = client.ask(wrong)
        assert refusal.status == 401 and refusal.json["error"] == "invalid_client"


def test_its_token_is_nothing_without_that_certificate(client: Client) -> None:
    token = client.token()
    assert client.opens(token, client.own.pem)
    assert not client.opens(token, client.other.pem) and not client.opens(token, "")
    bearer = {"authorization": f"Bearer {token}"}
    assert client.opens("", client.own.pem, **bearer) and not client.opens("", client.other.pem, **bearer)
    assert client.opens(client.cloud.admin, client.other.pem), "other tokens are bound to nothing"


def test_the_certificate_is_shown_to_services_that_validate_the_token(client: Client) -> None:
    token = client.token()
    shown = client.cloud("GET", "/auth/tokens", headers={"x-subject-token": token}).json["token"]
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(client.own.pem)).digest()
    assert shown["oauth2_credential"] == {"x5t#S256": base64.urlsafe_b64encode(digest).decode().rstrip("=")}
    assert shown["methods"] == ["oauth2_credential"] and shown["project"]["id"] == client.user["project_id"]


def test_no_token_that_is_bound_to_nothing_is_made_from_a_bound_one(client: Client) -> None:
    cloud, token = client.cloud, client.token()
    for scope in (None, "unscoped", {"project": {"id": client.user["project_id"]}}):
        auth: dict[str, Any] = {"identity": {"methods": ["token"], "token": {"id": token}}}
        if scope is not None:
            auth["scope"] = scope
        answer = cloud("POST", "/auth/tokens", {"auth": auth}, token="", headers={HEADER: quote(client.own.pem)})
        assert answer.status == 403 and "x-subject-token" not in answer.headers


def test_a_service_token_that_is_bound_needs_its_certificate_too(client: Client) -> None:
    cloud = client.cloud
    cloud.grant(f"/projects/{client.user['project_id']}", f"/users/{client.user['id']}", "service")
    service = {"x-service-token": client.token()}
    assert client.opens(cloud.admin, client.own.pem, **service)
    assert not client.opens(cloud.admin, client.other.pem, **service) and not client.opens(cloud.admin, "", **service)


def test_the_header_is_believed_from_trusted_proxies_alone(client: Client) -> None:
    token = client.token()
    for address in ("198.51.100.7", "203.0.113.1", "2001:db8::1", "::ffff:198.51.100.7"):
        client.cloud.direct.client = (address, 1234)
        assert client.ask(client.own.pem).status == 401 and not client.opens(token, client.own.pem)
    client.cloud.direct.client = ("::ffff:192.0.2.77", 1234)
    assert client.opens(token, client.own.pem), "an IPv4 address may come in IPv6's clothes"


def test_what_the_certificate_rests_on_ends_its_token(client: Client) -> None:
    token, cloud = client.token(), client.cloud
    kept = cloud("GET", f"/credentials?user_id={client.user['id']}").json["credentials"][0]["id"]
    changes: list[tuple[str, Any]] = [
        ("PATCH", {"blob": client.other.pem}), ("PATCH", {"type": "note"}),
        ("PATCH", {"user_id": cloud.person("bob")["id"]}), ("DELETE", None),
    ]  # fmt: skip
    for method, change in changes:
        assert client.opens(token, client.own.pem)
        answer = cloud(method, f"/credentials/{kept}", change and {"credential": change})
        assert answer.status in (200, 204), answer
        assert not client.opens(token, client.own.pem) and client.ask(client.own.pem).status == 401, change
        if change:
            back = {"credential": {"blob": client.own.pem, "type": "cert", "user_id": client.user["id"]}}
            assert cloud("PATCH", f"/credentials/{kept}", back).status == 200


def test_a_certificate_alone_is_not_enough_for_who_must_prove_more(client: Client) -> None:
    options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    client.cloud("PATCH", f"/users/{client.user['id']}", {"user": {"options": options}})
    assert client.ask(client.own.pem).status == 401


MAPPED = [{
    "local": [{"user": {"name": "{0}", "email": "{1}", "domain": {"name": "{2}"}}}],
    "remote": [{"type": "SSL_CLIENT_SUBJECT_DN_CN"}, {"type": "SSL_CLIENT_SUBJECT_DN_EMAILADDRESS"},
               {"type": "SSL_CLIENT_SUBJECT_DN_O"},
               {"type": "SSL_CLIENT_ISSUER_DN_CN", "any_one_of": ["eve", "ann", "eve2"]}],
}]  # fmt: skip


def test_a_mapping_makes_a_user_of_the_names_in_a_verified_certificate(tmp_path: Path) -> None:
    rules = structs.replace(RULES, certificate_mapping="certificates")
    client = Client(tmp_path, rules)
    cloud, eve = client.cloud, {"email": "eve@x", "organization": "Default"}
    cloud("PATCH", f"/users/{client.user['id']}", {"user": {"email": "eve@x"}})
    good = Certificate(tmp_path, "eve", **eve).pem
    assert client.ask(good).status == 401, "there is no mapping"
    body = {"mapping": {"rules": MAPPED, "schema_version": "2.0"}}
    assert cloud("PUT", "/OS-FEDERATION/mappings/certificates", body).status == 201
    token = client.ask(good).json["access_token"]
    assert client.opens(token, good)
    assert not client.opens(token, client.own.pem) and not client.opens(token, "")
    other = [Certificate(tmp_path, "ann", **eve), Certificate(tmp_path, "eve", email="eve@y", organization="Default"),
             Certificate(tmp_path, "eve", email="eve@x", organization="Elsewhere"),
             Certificate(tmp_path, "eve2", **eve), Certificate(tmp_path, "eve"),
             Certificate(tmp_path, "mallory", **eve)]  # fmt: skip
    assert [client.ask(one.pem).status for one in other] == [401] * len(other)
    assert client.ask(client.own.pem).status == 200, "the one that eve keeps is good still"
    cloud("PATCH", f"/users/{client.user['id']}", {"user": {"password": "new"}})
    assert not client.opens(token, good)
    cloud.close()


@pytest.mark.parametrize("user", [{"name": "{0}"}, {"email": "{0}"}, {"name": "{0}", "domain": {"name": "{0}"}}])
def test_a_mapping_that_names_nobody_lets_nobody_in(tmp_path: Path, user: dict[str, Any]) -> None:
    client = Client(tmp_path, structs.replace(RULES, certificate_mapping="certificates"))
    rules = [{"local": [{"user": user}], "remote": [{"type": "SSL_CLIENT_SUBJECT_DN_CN"}]}]
    body = {"mapping": {"rules": rules, "schema_version": "2.0"}}
    assert client.cloud("PUT", "/OS-FEDERATION/mappings/certificates", body).status == 201
    assert client.ask(Certificate(tmp_path, "eve").pem).status == 401, "a name without a domain is nobody's"
    client.cloud.close()


def test_a_proxy_that_is_no_address_stops_the_start() -> None:
    for wrong in ("nginx", "192.0.2.1/24", "10.0.0.0/99"):
        with pytest.raises(msgspec.ValidationError, match=r"identity"):
            msgspec.convert({"identity": {"trusted_proxies": [wrong]}}, Config)


def test_keystoneauths_own_plugin_comes_by_certificate(
    client: Client, tmp_path: Path, serve: Callable[[App], str]
) -> None:
    own = Certificate(tmp_path, "server", "127.0.0.1")

    def connect(url: str, certificate: Certificate) -> session.Session:
        auth = OAuth2mTlsClientCredential(
            f"{url}/identity/v3", f"{url}/identity/v3/OS-OAUTH2/token", client.user["id"], include_catalog=False
        )
        files = (str(certificate.file), str(certificate.key_file))
        return session.Session(auth, verify=str(own.file), cert=files)

    with tls_proxy(serve(client.cloud.direct.app), own, [client.own, client.other]) as url:
        mine = connect(url, client.own)
        there = f"{url}/identity/v3/auth/projects"
        assert [p["name"] for p in mine.get(there).json()["projects"]] == ["eve"]
        stolen = {"x-auth-token": str(mine.get_token()), HEADER: quote(client.own.pem)}
        thief = session.Session(verify=str(own.file), cert=(str(client.other.file), str(client.other.key_file)))
        assert thief.get(there, authenticated=False, raise_exc=False, headers=stolen).status_code == 401
        with pytest.raises(ClientException):
            connect(url, client.other).get_token()
