"""SAML against a real identity provider: SimpleSAMLphp, by browser and by keystoneauth's own ECP client."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from keystoneauth1.exceptions import Unauthorized
from keystoneauth1.loading import get_plugin_loader
from keystoneauth1.session import Session
from openstackclient.shell import OpenStackShell

from identity_cloud import IdentityCloud
from pileus.http.app import App
from saml_cloud import DASHBOARD, FEDERATION, SamlCloud
from simplesaml import PASSWORD, USER, SimpleSaml

# Name and groups, by the attributes that the identity provider gives.
BY_UID = [{
    "remote": [{"type": "uid"}, {"type": "groups", "whitelist": ["painters"]}, {"type": "mail"}],
    "local": [{"user": {"name": "{0}", "email": "{2}"}}, {"groups": "{1}", "domain": {"id": "default"}}],
}]  # fmt: skip


@pytest.fixture(scope="module")
def simplesaml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleSaml]:
    idp = SimpleSaml(tmp_path_factory.mktemp("simplesaml"))
    yield idp
    idp.stop()


@pytest.fixture
def cloud(
    tmp_path: Path, identity_cloud: Callable[[Path], IdentityCloud], serve: Callable[[App], str], simplesaml: SimpleSaml
) -> SamlCloud:
    """A cloud and the identity provider, each of which has read the other's metadata."""
    made = SamlCloud(identity_cloud(tmp_path), serve)
    made.takes_word_of("acme", simplesaml.metadata())
    made.trusts("acme", BY_UID, remote_ids=[f"{simplesaml.url}/entity"])
    project = made.identity.make("/projects", "project", name="art")["id"]
    group = made.identity.make("/groups", "group", name="painters")["id"]
    made.identity.grant(f"/projects/{project}", f"/groups/{group}", "member")
    metadata = made.identity("GET", made.place("acme").removeprefix(made.v3), token="")
    assert metadata.status == 200, metadata
    simplesaml.knows(made.place("acme"), metadata.raw)
    return made


def test_a_browser_logs_in_by_name_and_password_at_the_provider(cloud: SamlCloud, simplesaml: SimpleSaml) -> None:
    browser = requests.Session()
    begin = f"{cloud.v3}/auth{FEDERATION}/{cloud.protocol('acme')}/websso?origin={DASHBOARD}"
    sent = browser.get(begin, allow_redirects=False, timeout=20)
    form = simplesaml.log_in(browser, sent.headers["location"])
    page = browser.post(cloud.place("acme"), data=form, timeout=20)
    assert page.status_code == 200, page.text
    found = re.search(r'name="token" id="token" value="([^"]+)"', page.text)
    assert found and f'action="{DASHBOARD}"' in page.text
    token = found[1]
    assert [p["name"] for p in cloud.identity("GET", "/auth/projects", token=token).json["projects"]] == ["art"]
    shown = cloud.identity("GET", "/auth/tokens", headers={"x-subject-token": token}).json["token"]["user"]
    assert shown["name"] == USER
    assert cloud.identity("GET", f"/users/{shown['id']}").json["user"]["email"] == f"{USER}@example.org"
    again = browser.post(cloud.place("acme"), data=form, timeout=20)
    assert again.status_code == 401


def log_in(cloud: SamlCloud, simplesaml: SimpleSaml, password: str, **scope: str) -> Session:
    """As `openstack --os-auth-type v3samlpassword` does."""
    auth = get_plugin_loader("v3samlpassword").load_from_options(
        auth_url=cloud.v3, identity_provider="acme", protocol="saml2", identity_provider_url=simplesaml.ecp_url,
        username=USER, password=password, **scope,
    )  # fmt: skip
    return Session(auth=auth)


def test_keystoneauth_logs_in_by_ecp(cloud: SamlCloud, simplesaml: SimpleSaml) -> None:
    session = log_in(cloud, simplesaml, PASSWORD, project_name="art", project_domain_id="default")
    access = session.auth.get_access(session)
    assert (access.username, access.project_name) == (USER, "art") and "member" in access.role_names
    assert cloud.identity.valid(access.auth_token)


def test_the_openstack_command_logs_in_by_ecp(cloud: SamlCloud, simplesaml: SimpleSaml, capsys: Any) -> None:
    options = {
        "auth-type": "v3samlpassword", "auth-url": cloud.v3, "identity-provider": "acme", "protocol": "saml2",
        "identity-provider-url": simplesaml.ecp_url, "username": USER, "password": PASSWORD, "project-name": "art",
        "project-domain-id": "default",
    }  # fmt: skip
    arguments = [word for name, value in options.items() for word in (f"--os-{name}", value)]
    capsys.readouterr()
    status = OpenStackShell().run([*arguments, "token", "issue", "-f", "json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert cloud.identity.valid(json.loads(said.out)["id"])


def test_a_wrong_password_at_the_provider_is_no_log_in(cloud: SamlCloud, simplesaml: SimpleSaml) -> None:
    session = log_in(cloud, simplesaml, "wrong")
    with pytest.raises(Unauthorized):
        session.auth.get_access(session)
