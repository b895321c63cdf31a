"""The real openstacksdk logs in and administers over a real socket."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest
from openstack.connection import Connection
from openstack.exceptions import SDKException

from identity_cloud import PASSWORD, IdentityCloud
from pileus.http.app import App


@pytest.fixture
def url(tmp_path: Path, serve: Callable[[App], str]) -> Iterator[str]:
    cloud = IdentityCloud(tmp_path)
    address = serve(cloud.direct.app)
    cloud.bootstrap(url=address)
    yield address
    cloud.close()


def connect(url: str, path: str = "/identity", **auth: Any) -> Connection:
    scope = auth.pop("scope", {"project_name": "admin", "project_domain_id": "default"})
    who = {"username": "admin", "password": PASSWORD, "user_domain_id": "default", **scope}
    kind = auth.pop("auth_type", "password")
    return openstack.connection.Connection(
        auth_type=kind, auth={"auth_url": url + path, **(auth or who)}, region_name="RegionOne",
        identity_api_version="3", identity_interface="public",
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/identity", "/identity/", "/identity/v3", "/identity/v3/"])
def test_a_client_finds_the_api_from_either_address(url: str, path: str) -> None:
    cloud = connect(url, path)
    assert [p.name for p in cloud.identity.projects()] == ["admin"]
    assert cloud.session.get_endpoint(service_type="compute") == f"{url}/compute/v2.1"
    assert cloud.session.get_endpoint(service_type="block-storage") == f"{url}/volume/v3"


@pytest.mark.parametrize(
    "scope",
    [{"system_scope": "all"}, {"domain_id": "default"}, {"project_name": "admin", "project_domain_name": "Default"}],
)  # fmt: skip
def test_every_scope_opens_the_api(url: str, scope: dict[str, str]) -> None:
    assert [u.name for u in connect(url, scope=scope).identity.users()] == ["admin"]


def test_a_wrong_password_is_said_to_be_one(url: str) -> None:
    wrong = connect(url, username="admin", password="no", user_domain_id="default", project_name="admin",
                    project_domain_id="default")  # fmt: skip
    with pytest.raises(SDKException, match="HTTP 401"):
        wrong.authorize()


def test_administration_with_the_sdk(url: str) -> None:
    admin = connect(url).identity
    domain = admin.create_domain(name="shop")
    project = admin.create_project(name="till", domain_id=domain.id, description="money", tags=["a"])
    user = admin.create_user(name="clerk", domain_id=domain.id, password="secret", email="a@b.example")
    group = admin.create_group(name="staff", domain_id=domain.id)
    role = admin.find_role("member")
    admin.add_user_to_group(user, group)
    assert admin.check_user_in_group(user, group)
    admin.assign_project_role_to_group(project, group, role)
    assert admin.validate_group_has_project_role(project, group, role)
    admin.assign_project_role_to_user(project, user, admin.find_role("reader"))
    assert {a.role["name"] for a in admin.role_assignments(effective=True, include_names=True, user_id=user.id)} == {
        "member", "reader"
    }  # fmt: skip
    assert admin.find_user("clerk", domain_id=domain.id).email == "a@b.example"
    assert admin.update_user(user, is_enabled=False).is_enabled is False
    assert admin.get_project(project.id).tags == ["a"]
    assert {s.type for s in admin.services()} >= {"identity", "compute"}
    assert len(list(admin.endpoints(service_id=next(admin.services(type="image")).id))) == 3
    assert [r.id for r in admin.regions()] == ["RegionOne"]
    admin.delete_project(project)
    assert admin.find_project("till", domain_id=domain.id) is None


def test_an_application_credential_logs_in_until_it_is_deleted(url: str) -> None:
    admin = connect(url)
    me = admin.current_user_id
    made = admin.identity.create_application_credential(me, "ci", roles=[{"name": "reader"}])
    program = connect(url, auth_type="v3applicationcredential", application_credential_id=made.id,
                      application_credential_secret=made.secret)  # fmt: skip
    assert program.current_user_id == me and program.current_project_id == admin.current_project_id
    assert program.identity.get_user(me).name == "admin"
    admin.identity.delete_application_credential(me, made.id)
    with pytest.raises(SDKException, match="HTTP 401"):
        connect(url, auth_type="v3applicationcredential", application_credential_id=made.id,
                application_credential_secret=made.secret).authorize()  # fmt: skip


def test_a_revoked_token_is_refused_over_the_wire(url: str) -> None:
    cloud = connect(url)
    token = cloud.auth_token
    answer = cloud.session.delete(f"{url}/identity/v3/auth/tokens", headers={"X-Subject-Token": token})
    assert answer.status_code == 204
    other = openstack.connection.Connection(auth_type="token_endpoint", auth={"endpoint": url, "token": token})
    assert other.session.get(f"{url}/identity/v3/users", raise_exc=False).status_code == 401


def test_a_client_keeps_providers_protocols_and_mappings(url: str) -> None:
    identity = connect(url).identity
    rules = [{"remote": [{"type": "OIDC-sub"}], "local": [{"user": {"name": "{0}"}}]}]
    mapping = identity.create_mapping(id="acme", rules=rules)
    changed = [*rules, {"remote": [{"type": "GROUP"}], "local": [{"group": {"id": "g"}}]}]
    assert identity.update_mapping(mapping, rules=changed).rules == changed
    assert [m.id for m in identity.mappings()] == ["acme"] and identity.get_mapping("acme").rules == changed
    provider = identity.create_identity_provider(id="acme", remote_ids=["https://a"], is_enabled=False)
    assert identity.update_identity_provider(provider, is_enabled=True, description="d").is_enabled
    assert identity.find_identity_provider("acme").description == "d"
    assert [p.id for p in identity.identity_providers()] == ["acme"]
    protocol = identity.create_federation_protocol(provider, id="openid", mapping_id="acme")
    assert identity.get_federation_protocol(provider, "openid").mapping_id == "acme"
    assert identity.update_federation_protocol(provider, protocol, mapping_id="acme").id == "openid"
    assert [p.id for p in identity.federation_protocols(provider)] == ["openid"]
    assert identity.find_federation_protocol(provider, "openid").name == "openid"
    identity.delete_federation_protocol(provider, protocol, ignore_missing=False)
    identity.delete_identity_provider(provider, ignore_missing=False)
    identity.delete_mapping(mapping, ignore_missing=False)
    assert identity.find_identity_provider("acme") is None and identity.find_mapping("acme") is None
