"""Domains, projects, users, groups, roles, the catalog: made, shown, listed, changed, refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_cloud import PASSWORD, IdentityCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


KINDS = {
    "domain": ("/domains", {"description": "d"}),
    "project": ("/projects", {"description": "d"}),
    "user": ("/users", {"password": "x", "email": "a@b.example"}),
    "group": ("/groups", {"description": "d"}),
    "role": ("/roles", {"description": "d"}),
    "service": ("/services", {"type": "thing", "description": "d"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_is_made_shown_listed_changed_and_deleted(cloud: IdentityCloud, kind: str) -> None:
    path, more = KINDS[kind]
    made = cloud.make(path, kind, name="böse % name", colour="blue", **more)
    assert made["links"]["self"] == f"http://cloud:5000/identity/v3{path}/{made['id']}"
    assert "password" not in made and made["colour"] == "blue"
    here = f"{path}/{made['id']}"
    assert cloud("GET", here).json[kind] == made
    assert cloud("HEAD", here).status == 200
    assert cloud("GET", f"{path}?name=b%C3%B6se%20%25%20name").json[kind + "s"] == [made]
    changed = cloud("PATCH", here, {kind: {"name": "new", "colour": "red", "taste": "sweet"}}).json[kind]
    assert changed == {**made, "name": "new", "colour": "red", "taste": "sweet"} == cloud("GET", here).json[kind]
    if kind == "domain":
        assert cloud("DELETE", here).status == 403, "a domain is disabled first"
        cloud("PATCH", here, {kind: {"enabled": False}})
    assert cloud("DELETE", here).status == 204
    assert cloud("GET", here).status == 404 and cloud("DELETE", here).status == 404


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "service"])
def test_names_are_unique_and_sane(cloud: IdentityCloud, kind: str) -> None:
    path, more = KINDS[kind]
    cloud.make(path, kind, name="twice", **more)
    assert cloud("POST", path, {kind: {"name": "twice", **more}}).status == 409
    other = cloud.make(path, kind, name="other", **more)
    assert cloud("PATCH", f"{path}/{other['id']}", {kind: {"name": "twice"}}).status == 409
    for bad in ("", "  ", "a\nb", "x" * 300, 5, None, ["a"]):
        assert cloud("POST", path, {kind: {"name": bad, **more}}).status == 400, bad
    assert cloud("POST", path, {kind: more}).status == 400
    assert cloud("POST", path, {"wrong": {"name": "a"}}).status == 400


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_of_a_project_sees_and_changes_none_of_the_clouds_objects(cloud: IdentityCloud, kind: str) -> None:
    path, more = KINDS[kind]
    made = cloud.make(path, kind, name="victim", **more)
    cloud.person("eve", "member")
    token = cloud.token("eve", "secret", project="eve")
    assert cloud("GET", path, token=token).status == 403
    assert cloud("POST", path, {kind: {"name": "new", **more}}, token=token).status == 403
    for method in ("GET", "PATCH", "DELETE"):
        foreign = cloud(method, f"{path}/{made['id']}", {kind: {}} if method == "PATCH" else None, token=token)
        random = cloud(method, f"{path}/{'0' * 32}", {kind: {}} if method == "PATCH" else None, token=token)
        assert foreign.status == 403 and foreign.raw == random.raw, (method, foreign)


def test_the_body_decides_nothing_about_the_right_to_write(cloud: IdentityCloud) -> None:
    eve = cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    keys = {"target": {"user_id": eve["id"]}, "user_id": eve["id"], "is_admin": True, "domain_id": "default",
            "enforcer": None, "project_id": eve["project_id"]}  # fmt: skip
    assert cloud("POST", "/users", {"user": {"name": "x", **keys}}, token=token).status == 403
    assert cloud("POST", "/users?is_admin=1&domain_id=default", {"user": {"name": "x"}}, token=token).status == 403
    forged = {"x-roles": "admin", "x-user-id": "admin", "x-is-admin-project": "True", "x-identity-status": "Confirmed"}
    assert cloud("GET", "/users", token=token, headers=forged).status == 403


def test_lists_compare_sort_and_page(cloud: IdentityCloud) -> None:
    for name in ("alpha_1", "alpha%2", "Beta", "gamma"):
        cloud.make("/groups", "group", name=name)

    def names(query: str) -> set[str]:
        return {g["name"] for g in cloud("GET", f"/groups?{query}").json["groups"]}

    assert names("name__contains=alpha") == {"alpha_1", "alpha%2"}
    assert names("name__startswith=alpha_") == {"alpha_1"} and names("name__endswith=%252") == {"alpha%2"}
    assert names("name__icontains=BET") == {"Beta"} and names("name__iexact=beta") == {"Beta"}
    assert names("domain_id=default&colour=1") == {"alpha_1", "alpha%2", "Beta", "gamma"}
    ordered = cloud("GET", "/groups?sort_key=name&sort_dir=desc").json["groups"]
    assert [g["name"] for g in ordered] == sorted((g["name"] for g in ordered), reverse=True)
    page = cloud("GET", "/groups?limit=3&sort_key=name").json
    assert len(page["groups"]) == 3 and page["links"]["self"].endswith("/v3/groups")
    rest = cloud("GET", page["links"]["next"].removeprefix("http://cloud:5000/identity/v3")).json
    assert [g["name"] for g in page["groups"] + rest["groups"]] == [g["name"] for g in ordered[::-1]]
    assert rest["links"]["next"] is None
    for bad in ("limit=x", "limit=0", "marker=none", "sort_key=password"):
        assert cloud("GET", f"/groups?{bad}").status == 400, bad


def test_projects_form_a_tree(cloud: IdentityCloud) -> None:
    top = cloud.make("/projects", "project", name="top", tags=["a", "b"])
    middle = cloud.make("/projects", "project", name="middle", parent_id=top["id"])
    leaf = cloud.make("/projects", "project", name="leaf", parent_id=middle["id"])
    assert top["parent_id"] == top["domain_id"] == "default" and top["tags"] == ["a", "b"]
    shown = cloud("GET", f"/projects/{middle['id']}?parents_as_ids&subtree_as_ids").json["project"]
    assert shown["parents"] == {top["id"]: {"default": None}} and shown["subtree"] == {leaf["id"]: None}
    shown = cloud("GET", f"/projects/{middle['id']}?parents_as_list&subtree_as_list").json["project"]
    assert [p["project"]["id"] for p in shown["parents"]] == [top["id"], "default"]
    assert [p["project"]["id"] for p in shown["subtree"]] == [leaf["id"]]
    assert [p["id"] for p in cloud("GET", f"/projects?parent_id={top['id']}").json["projects"]] == [middle["id"]]
    for _ in range(2):
        leaf = cloud.make("/projects", "project", name=f"below {leaf['name']}", parent_id=leaf["id"])
    deeper = {"project": {"name": "too deep", "parent_id": leaf["id"]}}
    assert cloud("POST", "/projects", deeper).status == 403
    assert cloud("DELETE", f"/projects/{top['id']}").status == 403
    assert cloud("PATCH", f"/projects/{top['id']}", {"project": {"enabled": False}}).status == 403
    assert cloud("PATCH", f"/projects/{leaf['id']}", {"project": {"parent_id": top["id"]}}).status == 403
    assert cloud("PATCH", f"/projects/{leaf['id']}", {"project": {"domain_id": "x"}}).status == 400
    assert cloud("PATCH", f"/projects/{top['id']}?cascade", {"project": {"enabled": False}}).status == 200
    assert cloud("GET", f"/projects/{leaf['id']}").json["project"]["enabled"] is False
    assert cloud("PATCH", f"/projects/{leaf['id']}", {"project": {"enabled": True}}).status == 403
    assert cloud("DELETE", f"/projects/{top['id']}?cascade").status == 204
    assert cloud("GET", f"/projects/{leaf['id']}").status == 404


def test_tags_of_projects(cloud: IdentityCloud) -> None:
    one = cloud.make("/projects", "project", name="one", tags=["red", "blue"])
    two = cloud.make("/projects", "project", name="two", tags=["red"])
    here = f"/projects/{one['id']}/tags"

    def found(query: str) -> set[str]:
        return {p["name"] for p in cloud("GET", f"/projects?{query}").json["projects"]} - {"admin"}

    assert found("tags=red,blue") == {"one"} and found("tags-any=red,blue") == {"one", "two"}
    assert found("not-tags=red,blue") == {"two"} and found("not-tags-any=blue") == {"two"}
    assert cloud("PUT", f"{here}/green").status == 201 and cloud("GET", f"{here}/green").status == 204
    assert cloud("DELETE", f"{here}/red").status == 204 and cloud("DELETE", f"{here}/red").status == 404
    assert cloud("GET", here).json["tags"] == ["blue", "green"]
    assert cloud("PUT", here, {"tags": ["x"]}).json["tags"] == ["x"]
    assert cloud("PUT", here, {"tags": ["a,b"]}).status == 400 and cloud("PUT", f"{here}/{'x' * 300}").status == 400
    assert cloud("PUT", here, {"tags": [str(i) for i in range(81)]}).status == 400
    assert cloud("DELETE", here).status == 204 and cloud("GET", f"/projects/{two['id']}/tags").json["tags"] == ["red"]


def test_a_domain_is_a_project_too(cloud: IdentityCloud) -> None:
    made = cloud.make("/projects", "project", name="acting", is_domain=True)
    assert made["is_domain"] and made["domain_id"] is None and made["parent_id"] is None
    assert cloud("GET", f"/domains/{made['id']}").json["domain"]["name"] == "acting"
    assert made["id"] in {p["id"] for p in cloud("GET", "/projects?is_domain=true").json["projects"]}
    assert made["id"] not in {p["id"] for p in cloud("GET", "/projects").json["projects"]}
    assert cloud("DELETE", f"/projects/{made['id']}").status == 403
    cloud("PATCH", f"/projects/{made['id']}", {"project": {"enabled": False}})
    assert cloud("DELETE", f"/projects/{made['id']}").status == 204


def test_users_see_their_own_projects(cloud: IdentityCloud) -> None:
    eve = cloud.person("eve")
    cloud.person("mallory")
    here = f"/users/{eve['id']}/projects"
    own, other = cloud.token("eve", "secret", project="eve"), cloud.token("mallory", "secret", project="mallory")
    assert [p["name"] for p in cloud("GET", here, token=own).json["projects"]] == ["eve"]
    assert [p["name"] for p in cloud("GET", f"{here}?name=eve").json["projects"]] == ["eve"]
    assert cloud("GET", here, token=other).status == 403


def test_regions_form_a_tree_without_rings(cloud: IdentityCloud) -> None:
    assert cloud("PUT", "/regions/earth", {"region": {"description": "all"}}).json["region"]["id"] == "earth"
    cloud.make("/regions", "region", id="europe", parent_region_id="earth")
    assert cloud("POST", "/regions", {"region": {"id": "earth"}}).status == 409
    for wrong in ("earth", "europe"):
        assert cloud("PATCH", "/regions/earth", {"region": {"parent_region_id": wrong}}).status == 400
    assert cloud("PATCH", "/regions/earth", {"region": {"parent_region_id": "mars"}}).status == 404
    assert cloud("PATCH", "/regions/earth", {"region": {"description": None}}).json["region"]["description"] == ""
    assert [r["id"] for r in cloud("GET", "/regions?parent_region_id=earth").json["regions"]] == ["europe"]
    assert cloud("DELETE", "/regions/RegionOne").status == 409, "endpoints are there"
    assert cloud("DELETE", "/regions/earth").status == 204 and cloud("GET", "/regions/europe").status == 404
    assert cloud("POST", "/regions", {"region": {"id": "a/b"}}).status == 400
    assert cloud("POST", "/regions", {"region": {}}).status == 201


def test_deleting_a_domain_takes_its_content_along(cloud: IdentityCloud) -> None:
    domain = cloud.make("/domains", "domain", name="d")
    inside = {
        path: cloud.make(path, key, name="x", domain_id=domain["id"], password="x")["id"]
        for path, key in (("/projects", "project"), ("/users", "user"), ("/groups", "group"), ("/roles", "role"))
    }
    cloud.grant(f"/projects/{inside['/projects']}", f"/users/{inside['/users']}", "member")
    cloud("PATCH", f"/domains/{domain['id']}", {"domain": {"enabled": False}})
    assert cloud("DELETE", f"/domains/{domain['id']}").status == 204
    for path, identifier in inside.items():
        assert cloud("GET", f"{path}/{identifier}").status == 404
    hashes = cloud.db.read(lambda tx: tx.all("select owner_id from password_hashes"))
    assert len(hashes) == 1, "only the administrator has a password now"
    left = cloud("GET", "/role_assignments").json["role_assignments"]
    assert all(a["user"]["id"] != inside["/users"] for a in left)


def test_the_default_domain_stays(cloud: IdentityCloud) -> None:
    cloud("PATCH", "/domains/default", {"domain": {"description": "ours"}})
    assert cloud("DELETE", "/domains/default").status == 403


def test_immutable_things_stay_as_they_are(cloud: IdentityCloud) -> None:
    for path, kind in (("/roles", "role"), ("/projects", "project"), ("/domains", "domain")):
        made = cloud.make(path, kind, name="fixed", options={"immutable": True})
        here = f"{path}/{made['id']}"
        assert cloud("PATCH", here, {kind: {"name": "loose"}}).status == 403
        assert cloud("DELETE", here).status == 403
        assert cloud("PATCH", here, {kind: {"options": {"immutable": False}}}).status == 200
        assert cloud("PATCH", here, {kind: {"name": "loose"}}).status == 200
    assert cloud("POST", "/roles", {"role": {"name": "r", "options": {"unknown": 1}}}).status == 400


def test_users_change_their_own_password_and_nothing_else(cloud: IdentityCloud) -> None:
    eve = cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    here = f"/users/{eve['id']}"
    assert cloud("GET", here, token=token).json["user"]["name"] == "eve"
    assert cloud("PATCH", here, {"user": {"enabled": False}}, token=token).status == 403
    change = {"user": {"original_password": "wrong", "password": "new"}}
    assert cloud("POST", f"{here}/password", change, token="").status == 401
    assert cloud("POST", f"/users/{'0' * 32}/password", change, token="").status == 401
    change["user"]["original_password"] = "secret"
    assert cloud("POST", f"{here}/password", change, token="").status == 204
    assert cloud.by_password("eve", "secret").status == 401 and cloud.by_password("eve", "new").status == 201
    cloud("PATCH", here, {"user": {"options": {"lock_password": True}}})
    change = {"user": {"original_password": "new", "password": "newer"}}
    assert cloud("POST", f"{here}/password", change, token="").status == 400


@pytest.mark.parametrize("password", ["", "x" * 5000, 5, ["a"]])
def test_impossible_passwords_are_refused(cloud: IdentityCloud, password: object) -> None:
    assert cloud("POST", "/users", {"user": {"name": "eve", "password": password}}).status == 400


def test_a_user_without_password_cannot_log_in_with_an_empty_one(cloud: IdentityCloud) -> None:
    cloud.make("/users", "user", name="ghost")
    assert cloud.by_password("ghost", "").status == 401


def test_no_password_is_ever_stored_or_shown(cloud: IdentityCloud) -> None:
    cloud.person("eve", password="top-secret-word")
    dump = cloud.db.read(lambda tx: [tx.all(f"select * from {t}") for t in ("users", "password_hashes", "events")])
    assert "top-secret-word" not in repr(dump) and "$argon2id$" in repr(dump)


def test_groups_hold_users(cloud: IdentityCloud) -> None:
    eve, group = cloud.person("eve"), cloud.make("/groups", "group", name="g")
    here = f"/groups/{group['id']}/users/{eve['id']}"
    assert cloud("HEAD", here).status == 404
    assert cloud("PUT", here).status == 204 and cloud("PUT", here).status == 204
    assert cloud("GET", here).status == 204 and cloud("HEAD", here).status == 204
    assert [u["id"] for u in cloud("GET", f"/groups/{group['id']}/users").json["users"]] == [eve["id"]]
    own = cloud.token("eve", "secret", project="eve")
    assert [g["id"] for g in cloud("GET", f"/users/{eve['id']}/groups", token=own).json["groups"]] == [group["id"]]
    assert cloud("GET", f"/groups/{group['id']}/users", token=own).status == 403
    assert cloud("DELETE", here).status == 204 and cloud("DELETE", here).status == 404


def test_the_manager_of_a_domain_rules_there_and_nowhere_else(cloud: IdentityCloud) -> None:
    domain = cloud.make("/domains", "domain", name="shop")
    boss = cloud.make("/users", "user", name="boss", domain_id=domain["id"], password="secret")
    cloud.grant(f"/domains/{domain['id']}", f"/users/{boss['id']}", "manager")
    given = {"password": {"user": {"id": boss["id"], "password": "secret"}}}
    token = cloud.log_in(given, {"domain": {"id": domain["id"]}}).headers["x-subject-token"]
    user = cloud.make("/users", "user", token=token, name="clerk")
    project = cloud.make("/projects", "project", token=token, name="till")
    assert user["domain_id"] == project["domain_id"] == project["parent_id"] == domain["id"]
    assert {u["name"] for u in cloud("GET", "/users", token=token).json["users"]} == {"boss", "clerk"}
    assert {p["name"] for p in cloud("GET", "/projects", token=token).json["projects"]} == {"till"}
    assert [d["id"] for d in cloud("GET", "/domains", token=token).json["domains"]] == [domain["id"]]
    place = f"/projects/{project['id']}/users/{user['id']}/roles/"
    assert cloud("PUT", place + cloud.role_id("member"), token=token).status == 204
    assert cloud("PUT", place + cloud.role_id("admin"), token=token).status == 403
    for body in ({"name": "x", "domain_id": "default"}, {"name": "x", "parent_id": "default"}):
        assert cloud("POST", "/projects", {"project": body}, token=token).status == 403
    assert cloud("POST", "/users", {"user": {"name": "x", "domain_id": "default"}}, token=token).status == 403
    outside = cloud("GET", "/users?name=admin").json["users"][0]["id"]
    foreign = cloud("DELETE", f"/users/{outside}", token=token)
    assert foreign.status == 403 and foreign.raw == cloud("DELETE", f"/users/{'0' * 32}", token=token).raw
    assert cloud("PATCH", f"/domains/{domain['id']}", {"domain": {"name": "y"}}, token=token).status == 403
    shown = cloud("GET", "/role_assignments", token=token).json["role_assignments"]
    assert {a["scope"].get("domain", a["scope"].get("project"))["id"] for a in shown} == {domain["id"], project["id"]}


def test_a_system_reader_reads_all_and_writes_nothing(cloud: IdentityCloud) -> None:
    eve = cloud.make("/users", "user", name="eve", password="secret")
    cloud.grant("/system", f"/users/{eve['id']}", "reader")
    token = cloud.token("eve", "secret", system=True)
    for path in ("/users", "/projects", "/domains", "/groups", "/roles", "/services", "/endpoints",
                 "/role_assignments", f"/users/{eve['id']}", f"/system/users/{eve['id']}/roles"):  # fmt: skip
        assert cloud("GET", path, token=token).status == 200, path
    assert cloud("GET", f"/users/{'0' * 32}", token=token).status == 404
    for path, (place, more) in KINDS.items():
        assert cloud("POST", place, {path: {"name": "x", **more}}, token=token).status == 403
    assert cloud("PUT", f"/system/users/{eve['id']}/roles/{cloud.role_id('admin')}", token=token).status == 403


def test_services_endpoints_and_regions_make_the_catalog(cloud: IdentityCloud) -> None:
    region = cloud.make("/regions", "region", id="North", description="cold")
    service = cloud.make("/services", "service", type="object-store", name="swift")
    endpoint = cloud.make(
        "/endpoints", "endpoint", service_id=service["id"], interface="public", region_id=region["id"],
        url="http://s/v1/AUTH_$(project_id)s",
    )  # fmt: skip

    def shown() -> list[dict[str, str]]:
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        token = cloud.by_password("admin", PASSWORD, scope).json["token"]
        found = [s["endpoints"] for s in token["catalog"] if s["type"] == "object-store"]
        return [{**e, "project": token["project"]["id"]} for e in found[0]] if found else []

    [found] = shown()
    assert found["url"] == f"http://s/v1/AUTH_{found['project']}" and found["region"] == "North"
    assert [e["id"] for e in cloud("GET", f"/endpoints?service_id={service['id']}").json["endpoints"]] == [
        endpoint["id"]
    ]
    cloud("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"enabled": False}})
    assert shown() == []
    older = cloud.make(
        "/endpoints", "endpoint", service_id=service["id"], interface="admin", url="http://s", region="S"
    )
    assert cloud("GET", "/regions/S").status == 200 and older["region_id"] == "S"
    for wrong in ({"service_id": "none"}, {"region_id": "none"}, {"url": "http://$(password)s"}, {"interface": "x"}):
        body = {"service_id": service["id"], "interface": "public", "url": "http://s", **wrong}
        assert cloud("POST", "/endpoints", {"endpoint": body}).status == 400, wrong
    assert cloud("DELETE", f"/services/{service['id']}").status == 204
    assert cloud("GET", f"/endpoints/{endpoint['id']}").status == 404
    assert cloud("DELETE", "/regions/North").status == 204
