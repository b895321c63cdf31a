"""OpenID Connect against a real provider: the plugins of keystoneauth, unmodified, and the browser's way."""

import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from keystoneauth1.exceptions import Unauthorized
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from msgspec import structs

from identity_cloud import IdentityCloud
from openid_provider import CLIENT, PASSWORD, SECRET, USER, OpenidProvider
from pileus.core.config import Federation, OidcProvider
from pileus.http.app import App
from pileus.identity.federation import oidc_provider

DASHBOARD = "https://dashboard.example.org/auth/websso/"
RULES = [
    {"remote": [{"type": "HTTP_OIDC_SUB"}, {"type": "OIDC-name"}, {"type": "OIDC-email"}],
     "local": [{"user": {"id": "{0}", "name": "{1}", "email": "{2}"}}]},
    {"remote": [{"type": "OIDC-groups"}], "local": [{"groups": "{0}", "domain": {"id": "default"}}]},
    {"remote": [{"type": "OIDC-sub", "any_one_of": [CLIENT]}], "local": [{"user": {"name": "program"}}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenidProvider]:
    made = OpenidProvider(tmp_path_factory.mktemp("provider"))
    made.client("stranger", "another secret")
    yield made
    made.close()


class Site:
    """A served cloud that trusts the provider."""

    def __init__(self, cloud: IdentityCloud, provider: OpenidProvider, serve: Callable[[App], str]):
        self.cloud, self.provider = cloud, provider
        secret = cloud.folder / "client-secret"
        secret.write_text(SECRET + "\n")
        self.oidc = OidcProvider(
            issuer=provider.issuer, client_id=CLIENT, client_secret_file=str(secret), scopes=("openid",)
        )
        self.configure(self.oidc)
        self.project = cloud.make("/projects", "project", name="p")["id"]
        group = cloud.make("/groups", "group", name="dev")["id"]
        cloud.grant(f"/projects/{self.project}", f"/groups/{group}", "member")
        for path, key, fields in (
            ("mappings/acme", "mapping", {"rules": RULES}),
            ("identity_providers/acme", "identity_provider", {"enabled": True, "remote_ids": [provider.issuer]}),
            ("identity_providers/acme/protocols/openid", "protocol",
             {"mapping_id": "acme", "remote_id_attribute": "HTTP_OIDC_ISS"}),
        ):  # fmt: skip
            assert cloud("PUT", f"/OS-FEDERATION/{path}", {key: fields}).status == 201
        self.url = serve(cloud.direct.app)
        cloud.bootstrap(url=self.url)
        cloud.settings.public_url = self.url
        self.v3 = f"{self.url}/identity/v3"
        self.callback = f"{self.v3}/OS-FEDERATION/identity_providers/acme/protocols/openid/oidc"

    def configure(self, *providers: OidcProvider) -> None:
        federation = Federation(
            trusted_dashboards=(DASHBOARD,), oidc=dict(zip(("acme", "other"), providers, strict=False))
        )
        self.cloud.settings.config = structs.replace(self.cloud.settings.config, federation=federation)

    def session(self, kind: Any, **how: Any) -> Session:
        common = {"auth_url": self.v3, "identity_provider": "acme", "protocol": "openid", "project_id": self.project}
        return Session(auth=kind(**common, **how))

    def bearer(self, token: str) -> requests.Response:
        path = f"{self.v3}/OS-FEDERATION/identity_providers/acme/protocols/openid/auth"
        return requests.get(path, headers={"authorization": f"Bearer {token}"}, timeout=10)

    def begin(self, browser: requests.Session, path: str = "", origin: str = DASHBOARD) -> requests.Response:
        path = path or "/auth/OS-FEDERATION/identity_providers/acme/protocols/openid/websso"
        return browser.get(self.v3 + path, params={"origin": origin}, allow_redirects=False, timeout=10)


@pytest.fixture
def site(tmp_path: Path, provider: OpenidProvider, serve: Callable[[App], str]) -> Iterator[Site]:
    cloud = IdentityCloud(tmp_path)
    oidc_provider.provider_of.cache_clear()
    found = Site(cloud, provider, serve)
    provider.client(CLIENT, SECRET, found.callback)
    yield found
    cloud.close()


def check_session(site: Site, session: Session) -> None:
    access = session.auth.get_access(session)
    assert access.project_id == site.project and access.role_names == ["member", "reader"]
    assert access.is_federated and access.username == "Ann Other"


@pytest.mark.parametrize("kind", ["access_token", "id_token"])
def test_the_password_plugin_logs_in(site: Site, kind: str) -> None:
    check_session(site, site.session(
        v3.OidcPassword, client_id=CLIENT, client_secret=SECRET, access_token_endpoint=f"{site.provider.issuer}/token",
        access_token_type=kind, scope="openid", username=USER, password=PASSWORD,
    ))  # fmt: skip


def test_the_access_token_plugin_logs_in(site: Site) -> None:
    check_session(site, site.session(v3.OidcAccessToken, access_token=site.provider.tokens()["access_token"]))


def test_the_client_credentials_plugin_logs_in_a_program(site: Site) -> None:
    session = site.session(
        v3.OidcClientCredentials, client_id=CLIENT, client_secret=SECRET,
        access_token_endpoint=f"{site.provider.issuer}/token", scope="openid",
    )  # fmt: skip
    with pytest.raises(Unauthorized):
        session.get_token()  # it has no role on the project
    unscoped = session.auth.get_unscoped_auth_ref(session)
    assert unscoped.username == "program" and unscoped.is_federated


def test_the_authorization_code_plugin_logs_in(site: Site) -> None:
    begin = f"{site.provider.issuer}/auth?response_type=code&client_id={CLIENT}&scope=openid&nonce=n"
    code = parse_qs(urlsplit(site.provider.browse(f"{begin}&redirect_uri={site.callback}")).query)["code"][0]
    check_session(site, site.session(
        v3.OidcAuthorizationCode, client_id=CLIENT, client_secret=SECRET, discovery_endpoint=site.provider.discovery,
        redirect_uri=site.callback, code=code, scope="openid",
    ))  # fmt: skip


@pytest.mark.parametrize(
    "path", ["", "/auth/OS-FEDERATION/websso/openid"], ids=["at the provider named", "at the only provider"]
)
def test_a_browser_logs_in_at_a_trusted_dashboard(site: Site, path: str) -> None:
    browser = requests.Session()
    begun = site.begin(browser, path)
    assert begun.status_code == 302, begun.text
    question = parse_qs(urlsplit(begun.headers["location"]).query)
    assert question["code_challenge_method"] == ["S256"] and question["state"] and question["nonce"]
    assert question["redirect_uri"] == [site.callback]
    assert "HttpOnly" in begun.headers["set-cookie"] and "SameSite=Lax" in begun.headers["set-cookie"]
    back = site.provider.browse(begun.headers["location"])
    ended = browser.get(back, timeout=10)
    assert ended.status_code == 200, ended.text
    assert html.unescape(re.search('action="([^"]+)"', ended.text)[1]) == DASHBOARD
    token = re.search('name="token" id="token" value="([^"]+)"', ended.text)[1]
    assert "x-subject-token" not in ended.headers and ended.headers["cache-control"] == "no-store"
    shown = requests.get(f"{site.v3}/auth/projects", headers={"x-auth-token": token}, timeout=10).json()
    assert [p["id"] for p in shown["projects"]] == [site.project]
    assert browser.get(back, timeout=10).status_code == 401, "an answer is taken once"


def test_an_answer_is_taken_from_the_browser_that_asked_alone(site: Site) -> None:
    mine, theirs = requests.Session(), requests.Session()
    back = site.provider.browse(site.begin(mine).headers["location"])
    assert requests.get(back, timeout=10).status_code == 401, "no cookie"
    site.begin(theirs)
    assert theirs.get(back, timeout=10).status_code == 401, "another browser's"
    assert mine.get(back + "&iss=https://evil", timeout=10).status_code == 401, "another provider's (RFC 9207)"
    assert mine.get(back.replace("code=", "code=x"), timeout=10).status_code == 401
    assert mine.get(f"{site.callback}?error=access_denied", timeout=10).status_code == 401
    assert mine.get(back, timeout=10).status_code == 200, "all that spoilt nothing"


def test_one_browser_logs_in_twice_at_once(site: Site) -> None:
    browser = requests.Session()
    begun = [site.begin(browser).headers["location"] for _ in range(2)]
    assert [browser.get(site.provider.browse(place), timeout=10).status_code for place in begun] == [200, 200]
    assert not browser.cookies, "what ended is forgotten"


@pytest.mark.parametrize("origin", ["https://evil.example.org/", DASHBOARD + "x", DASHBOARD[:-1], ""])
def test_no_other_dashboard_gets_a_token(site: Site, origin: str) -> None:
    answer = site.begin(requests.Session(), origin=origin)
    assert answer.status_code == (401 if origin else 400) and "location" not in answer.headers


def test_tokens_of_other_clients_are_taken_only_where_configured(site: Site) -> None:
    foreign = site.provider.tokens("stranger", "another secret")
    assert site.bearer(foreign["access_token"]).status_code == 401
    assert site.bearer(foreign["id_token"]).status_code == 401
    site.configure(structs.replace(site.oidc, audiences=("stranger",)))
    assert site.bearer(foreign["access_token"]).status_code == 201
    assert site.bearer(foreign["id_token"]).status_code == 201


def test_keys_that_the_provider_changes_are_learnt(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = site.provider.tokens()["id_token"]
    assert site.bearer(before).status_code == 201
    site.provider.rotate()
    after = site.provider.tokens()["id_token"]
    assert site.bearer(after).status_code == 401, "looked for a moment ago: no stranger makes us ask without pause"
    monkeypatch.setattr(oidc_provider, "PAUSE_SECONDS", 0.0)
    assert site.bearer(after).status_code == 201
    assert site.bearer(before).status_code == 401, "the old key is gone with it"


def test_who_brings_nothing_or_nonsense_is_refused(site: Site) -> None:
    path = f"{site.v3}/OS-FEDERATION/identity_providers/acme/protocols/openid/auth"
    bare = requests.post(path, timeout=10)
    assert bare.status_code == 401 and bare.headers["www-authenticate"] == "Bearer"
    for token in ("x", "a.b.c", "é", "opaque-" + "x" * 40):
        assert site.bearer(token.encode().decode("latin-1")).status_code == 401
    other = path.replace("acme", "unknown")
    assert requests.post(other, timeout=10).status_code == 404
