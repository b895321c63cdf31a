"""Every method of openstacksdk's identity proxy is used, over a real socket; one that nobody uses is named."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openstack.exceptions import NotFoundException
from openstack.identity.v3._proxy import Proxy
from test_identity_sdk import connect

from identity_cloud import PASSWORD, IdentityCloud
from pileus.http.app import App

METHODS = {name for name, value in vars(Proxy).items() if not name.startswith("_") and inspect.isfunction(value)}
# Of the SDK itself, not of the API: they ask again and again for a status that no resource of identity has.
NOT_OF_THE_API = {"wait_for_status", "wait_for_delete"}


class Recorder:
    """The proxy; remembers which of its methods were called."""

    def __init__(self, proxy: Proxy):
        self.proxy, self.called = proxy, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self.proxy, name)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


@pytest.fixture
def admin(cloud: IdentityCloud, serve: Callable[[App], str]) -> Recorder:
    url = serve(cloud.direct.app)
    cloud.bootstrap(url=url)
    return Recorder(connect(url).identity)


def lives(admin: Recorder, kind: str, plural: str, made: dict[str, Any], changed: dict[str, Any]) -> None:
    """A resource of a kind is created, shown, listed, found, updated and deleted."""
    one = getattr(admin, f"create_{kind}")(**made)
    assert getattr(admin, f"get_{kind}")(one.id).id == one.id
    assert one.id in [x.id for x in getattr(admin, plural)()]
    if f"find_{kind}" in METHODS:
        assert getattr(admin, f"find_{kind}")(one.id).id == one.id
    updated = getattr(admin, f"update_{kind}")(one, **changed)
    assert {name: getattr(updated, name) for name in changed} == changed
    assert {name: getattr(getattr(admin, f"get_{kind}")(one.id), name) for name in changed} == changed
    getattr(admin, f"delete_{kind}")(one, ignore_missing=False)
    with pytest.raises(NotFoundException):
        getattr(admin, f"get_{kind}")(one.id)


def whatever_lives(admin: Recorder) -> None:
    compute = next(admin.services(type="compute"))
    user = admin.create_user(name="keeper")
    texts: dict[str, Any] = {"description": "d"}
    lives(admin, "domain", "domains", {"name": "x", "is_enabled": False}, texts)
    lives(admin, "project", "projects", {"name": "x"}, texts)
    lives(admin, "user", "users", {"name": "x"}, {"is_enabled": False})
    lives(admin, "group", "groups", {"name": "x"}, texts)
    lives(admin, "role", "roles", {"name": "x"}, texts)
    lives(admin, "region", "regions", {"id": "x"}, texts)
    lives(admin, "service", "services", {"name": "x", "type": "x"}, texts)
    place = {"service_id": compute.id, "interface": "public", "url": "http://x", "region_id": "RegionOne"}
    lives(admin, "endpoint", "endpoints", place, {"url": "http://y"})
    lives(admin, "endpoint_group", "endpoint_groups", {"name": "x", "filters": {"interface": "public"}}, texts)
    lives(admin, "policy", "policies", {"type": "x", "blob": "y"}, {"blob": "z"})
    lives(admin, "credential", "credentials", {"user_id": user.id, "type": "x", "blob": "y"}, {"blob": "z"})
    resource = {"service_id": compute.id, "resource_name": "x"}
    lives(admin, "registered_limit", "registered_limits", {**resource, "default_limit": 1}, {"default_limit": 2})
    registered = admin.create_registered_limit(**resource, default_limit=1)
    project = admin.find_project("admin")
    lives(admin, "limit", "limits", {**resource, "project_id": project.id, "resource_limit": 1}, {"resource_limit": 2})
    admin.delete_registered_limit(registered)
    rules = [{"remote": [{"type": "NAME"}], "local": [{"user": {"name": "{0}"}}]}]
    lives(admin, "mapping", "mappings", {"id": "x", "rules": rules}, {"rules": rules * 2})
    lives(admin, "identity_provider", "identity_providers", {"id": "x"}, texts)
    there = {"id": "x", "auth_url": "http://x", "sp_url": "http://y"}
    lives(admin, "service_provider", "service_providers", there, texts)
    admin.delete_user(user)


def federation(admin: Recorder) -> None:
    rules = [{"remote": [{"type": "NAME"}], "local": [{"user": {"name": "{0}"}}]}]
    mapping, provider = admin.create_mapping(id="x", rules=rules), admin.create_identity_provider(id="x")
    protocol = admin.create_federation_protocol(provider, id="openid", mapping_id="x")
    assert admin.get_federation_protocol(provider, "openid").mapping_id == "x"
    assert admin.update_federation_protocol(provider, protocol, mapping_id="x").id == "openid"
    assert [p.id for p in admin.federation_protocols(provider)] == ["openid"]
    assert admin.find_federation_protocol(provider, "openid").id == "openid"
    admin.delete_federation_protocol(provider, protocol, ignore_missing=False)
    admin.delete_identity_provider(provider)
    admin.delete_mapping(mapping)


def roles_of(admin: Recorder, user: Any, group: Any, project: Any, domain: Any) -> None:
    """Each role is given, seen and taken, to users and groups, on each kind of place."""
    role = admin.find_role("member")
    for actor_name, actor in (("user", user), ("group", group)):
        for place_name, place, more in (("project", project, {}), ("domain", domain, {"inherited": True}),
                                        ("domain", domain, {}), ("project", project, {"inherited": True})):  # fmt: skip
            validate = getattr(admin, f"validate_{actor_name}_has_{place_name}_role")
            assert not validate(place, actor, role, **more)
            getattr(admin, f"assign_{place_name}_role_to_{actor_name}")(place, actor, role, **more)
            assert validate(place, actor, role, **more)
            getattr(admin, f"unassign_{place_name}_role_from_{actor_name}")(place, actor, role, **more)
            assert not validate(place, actor, role, **more)
        validate = getattr(admin, f"validate_{actor_name}_has_system_role")
        assert not validate(actor, role, "all")
        getattr(admin, f"assign_system_role_to_{actor_name}")(actor, role, "all")
        assert validate(actor, role, "all")
        getattr(admin, f"unassign_system_role_from_{actor_name}")(actor, role, "all")
    admin.assign_project_role_to_user(project, user, role)
    assert [r.id for r in admin.role_assignments_filter(project=project, user=user)] == [role.id]
    [given] = admin.role_assignments(user_id=user.id)
    assert given.role["id"] == role.id and given.scope["project"]["id"] == project.id


def groups_and_catalog(admin: Recorder, user: Any, group: Any, project: Any, domain: Any) -> None:
    admin.add_user_to_group(user, group)
    assert admin.check_user_in_group(user, group)
    assert [u.id for u in admin.group_users(group)] == [user.id]
    assert [g.id for g in admin.user_groups(user)] == [group.id]
    admin.remove_user_from_group(user, group)
    assert not admin.check_user_in_group(user, group)
    assert [p.id for p in admin.user_projects(user)] == [project.id]
    config = {"ldap": {"url": "ldap://there"}, "identity": {"driver": "sql"}}
    admin.create_domain_config(domain, **config)
    assert admin.get_domain_config(domain).ldap.url == "ldap://there"
    assert admin.update_domain_config(domain, ldap={"url": "ldap://here"}).ldap.url == "ldap://here"
    admin.delete_domain_config(domain)
    with pytest.raises(NotFoundException):
        admin.get_domain_config(domain)
    endpoint = next(admin.endpoints(interface="public"))
    endpoints = admin.create_endpoint_group(name="g", filters={"interface": "public"})
    admin.associate_endpoint_with_project(project, endpoint)
    assert [p.id for p in admin.endpoint_projects(endpoint)] == [project.id]
    assert [e.id for e in admin.project_endpoints(project)] == [endpoint.id]
    admin.disassociate_endpoint_from_project(project, endpoint)
    assert endpoint.id in [e.id for e in admin.endpoint_group_endpoints(endpoints)]
    admin.associate_project_with_endpoint_group(endpoints, project)
    assert [p.id for p in admin.endpoint_group_projects(endpoints)] == [project.id]
    assert [g.id for g in admin.project_endpoint_groups(project)] == [endpoints.id]
    admin.disassociate_project_from_endpoint_group(endpoints, project)


def what_users_keep(admin: Recorder, mine: Recorder, user: Any, project: Any) -> None:
    """As the user: application credentials, their access rules, trusts, the password, tokens."""
    rule = {"service": "compute", "method": "GET", "path": "/v2.1/servers"}
    made = mine.create_application_credential(user.id, "c", access_rules=[rule])
    assert mine.get_application_credential(user.id, made.id).name == "c"
    assert [c.id for c in mine.application_credentials(user.id)] == [made.id]
    assert mine.find_application_credential(user.id, "c").id == made.id
    mine.delete_application_credential(user.id, made.id, ignore_missing=False)
    [kept] = mine.access_rules(user.id)
    assert mine.get_access_rule(user.id, kept.id).path == rule["path"]
    mine.delete_access_rule(user.id, kept.id, ignore_missing=False)
    trustee = admin.create_user(name="trustee")
    trust = mine.create_trust(trustor_user_id=user.id, trustee_user_id=trustee.id, project_id=project.id,
                              is_impersonation=True, roles=[{"name": "member"}])  # fmt: skip
    assert mine.get_trust(trust.id).trustee_user_id == trustee.id and admin.find_trust(trust.id).id == trust.id
    assert [t.id for t in admin.trusts()] == [trust.id]
    mine.delete_trust(trust, ignore_missing=False)
    token = mine.proxy.session.get_token()
    assert admin.check_token(token) and admin.validate_token(token, nocatalog=True).user["id"] == user.id
    admin.revoke_token(token)
    assert not admin.check_token(token)


def test_every_method_of_the_proxy_is_used(admin: Recorder, cloud: IdentityCloud) -> None:
    whatever_lives(admin)
    federation(admin)
    domain = admin.create_domain(name="far")
    user = admin.create_user(name="ann", password="secret")
    group, project = admin.create_group(name="g"), admin.create_project(name="ann")
    roles_of(admin, user, group, project, domain)
    groups_and_catalog(admin, user, group, project, domain)
    assert {r.name for r in admin.roles()} >= {"member"} and admin.find_domain("far").id == domain.id
    assert admin.find_service("nova").type == "compute" and admin.find_policy("nothing") is None
    url = str(admin.proxy.session.get_endpoint(service_type="identity")).partition("/identity")[0]
    who = {"username": "ann", "password": "secret", "user_domain_id": "default", "project_name": "ann",
           "project_domain_id": "default"}  # fmt: skip
    before = Recorder(connect(url, **who).identity)
    before.update_password(user.id, "secret", "another")
    assert cloud.token("ann", "another") and cloud.token("admin", PASSWORD)
    mine = Recorder(connect(url, **{**who, "password": "another"}).identity)
    what_users_keep(admin, mine, user, project)
    unused = METHODS - NOT_OF_THE_API - admin.called - mine.called - before.called
    assert not unused, sorted(unused)
