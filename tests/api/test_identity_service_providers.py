"""Service providers: the clouds that take this one's word, by API and by the `openstack` command."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest
from openstackclient.shell import OpenStackShell

from direct import Answer
from identity_cloud import PASSWORD, IdentityCloud
from pileus.http.app import App

HERE = "/OS-FEDERATION/service_providers"
URLS = {
    "auth_url": "https://away/v3/OS-FEDERATION/identity_providers/home/protocols/saml2/auth",
    "sp_url": "https://away/sp",
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


def put(cloud: IdentityCloud, name: str, **fields: Any) -> Answer:
    return cloud("PUT", f"{HERE}/{name}", {"service_provider": {**URLS, **fields}})


def test_service_providers_are_made_shown_listed_changed_and_removed(cloud: IdentityCloud) -> None:
    made = put(cloud, "away")
    here = f"http://cloud:5000/identity/v3{HERE}/away"
    expected = {"id": "away", **URLS, "enabled": False, "description": None, "relay_state_prefix": "ss:mem:",
                "links": {"self": here}}  # fmt: skip
    assert made.status == 201 and made.json == {"service_provider": expected}
    assert cloud("GET", f"{HERE}/away").json == made.json
    put(cloud, "other", enabled=True, description="d", relay_state_prefix="x:")
    assert [p["id"] for p in cloud("GET", HERE).json["service_providers"]] == ["away", "other"]
    assert [p["id"] for p in cloud("GET", f"{HERE}?enabled=true").json["service_providers"]] == ["other"]
    assert [p["id"] for p in cloud("GET", f"{HERE}?id=away").json["service_providers"]] == ["away"]
    changed = cloud("PATCH", f"{HERE}/away", {"service_provider": {"enabled": True, "sp_url": "http://x/y"}})
    assert changed.status == 200
    assert changed.json["service_provider"] == {**expected, "enabled": True, "sp_url": "http://x/y"}
    assert cloud("GET", f"{HERE}/away").json == changed.json
    assert cloud("DELETE", f"{HERE}/away").status == 204
    change = {"service_provider": {"enabled": True}}
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", change)):
        assert cloud(method, f"{HERE}/away", body).status == 404, method


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        ("x", {"sp_url": None}, "sp_url"),
        ("x", {"auth_url": "ftp://away"}, "auth_url"),
        ("x", {"sp_url": "http://away/\r\nx: y"}, "sp_url"),
        ("x", {"sp_url": "http://" + "a" * 225}, "sp_url"),
        ("x", {"enabled": "maybe"}, "enabled"),
        ("x", {"relay_state_prefix": "a b"}, "relay_state_prefix"),
        ("x", {"color": "red"}, "color"),
        ("x" * 65, {}, "service_provider"),
    ],
)
def test_what_service_providers_are_refused_for(
    cloud: IdentityCloud, name: str, fields: dict[str, Any], named: str
) -> None:
    answer = put(cloud, name, **fields)
    assert answer.status == 400 and named in answer.json["error"]["message"], answer
    assert cloud("GET", HERE).json["service_providers"] == []


def test_a_name_is_given_once_and_both_addresses_are_needed(cloud: IdentityCloud) -> None:
    put(cloud, "away")
    assert put(cloud, "away").status == 409
    answer = cloud("PUT", f"{HERE}/b", {"service_provider": {"sp_url": "http://x"}})
    assert answer.status == 400 and "auth_url" in answer.json["error"]["message"]


def test_only_administrators_make_them_and_only_readers_of_the_system_see_them(cloud: IdentityCloud) -> None:
    put(cloud, "away")
    cloud.person("ann", "manager")
    token = cloud.token("ann", "secret", project="ann")
    for method, path, body in (("GET", "", None), ("GET", "/away", None), ("DELETE", "/away", None),
                               ("PUT", "/b", {"service_provider": URLS}),
                               ("PATCH", "/away", {"service_provider": {"enabled": True}})):  # fmt: skip
        assert cloud(method, HERE + path, body, token=token).status == 403, method


def test_openstacksdk(cloud: IdentityCloud, serve: Callable[[App], str]) -> None:
    url = serve(cloud.direct.app)
    cloud.bootstrap(url=url)
    sdk = openstack.connect(
        auth={"auth_url": f"{url}/identity/v3", "username": "admin", "password": PASSWORD, "project_name": "admin",
              "user_domain_id": "default", "project_domain_id": "default"}, region_name="RegionOne",
    ).identity  # fmt: skip
    made = sdk.create_service_provider(id="away", is_enabled=True, **URLS)
    assert (made.id, made.auth_url, made.sp_url, made.is_enabled) == ("away", *URLS.values(), True)
    assert sdk.update_service_provider("away", description="d").description == "d"
    assert sdk.get_service_provider("away").relay_state_prefix == "ss:mem:"
    assert [provider.id for provider in sdk.service_providers()] == ["away"]
    sdk.delete_service_provider("away")
    assert sdk.find_service_provider("away") is None


def test_the_openstack_command(cloud: IdentityCloud, serve: Callable[[App], str], capsys: Any) -> None:
    url = serve(cloud.direct.app)
    cloud.bootstrap(url=url)

    def run(command: str) -> str:
        login = ["--os-auth-url", f"{url}/identity/v3", "--os-username", "admin", "--os-password", PASSWORD,
                 "--os-project-name", "admin", "--os-user-domain-id", "default", "--os-project-domain-id",
                 "default"]  # fmt: skip
        capsys.readouterr()
        status = OpenStackShell().run([*login, *f"service provider {command}".split()])
        said = capsys.readouterr()
        assert status == 0, (command, said.err)
        return str(said.out)

    urls = f"--auth-url {URLS['auth_url']} --service-provider-url {URLS['sp_url']}"
    made = json.loads(run(f"create away {urls} --description d -f json"))
    assert made["enabled"] is True and made["sp_url"] == URLS["sp_url"] and made["description"] == "d"
    run("set away --disable --description e")
    shown = json.loads(run("show away -f json"))
    assert shown["enabled"] is False and shown["description"] == "e"
    assert [line["ID"] for line in json.loads(run("list -f json"))] == ["away"]
    run("delete away")
    assert json.loads(run("list -f json")) == []
