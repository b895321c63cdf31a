"""Images as records: create, show, list, update, delete, tags, deactivation, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from direct import DEMO, OTHER
from image_cloud import OCTETS, ImageCloud
from pileus.core.ids import new_id
from pileus.db.connect import Tx
from pileus.identity.registered_limit import REGISTERED_LIMITS, RegisteredLimit
from pileus.identity.rows import SERVICES, Service


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ImageCloud]:
    made = ImageCloud(tmp_path)
    yield made
    made.close()


def names(cloud: ImageCloud, query: str = "", caller: str = "demo") -> list[str]:
    answer = cloud("GET", f"/images?{query}", caller=caller)
    assert answer.status == 200, answer
    return [image["name"] for image in answer.json["images"]]


def test_a_new_image_is_queued_and_shows_every_attribute(cloud: ImageCloud) -> None:
    answer = cloud(
        "POST", "/images",
        {"name": "debian", "disk_format": "qcow2", "container_format": "bare", "min_disk": 2, "min_ram": 64,
         "tags": ["a", "b", "a"], "os_distro": "debian", "visibility": "private"},
    )  # fmt: skip
    image = answer.json
    assert answer.status == 201
    assert answer.headers["location"].endswith(f"/image/v2/images/{image['id']}")
    assert answer.headers["openstack-image-import-methods"] == "glance-direct"
    assert image == cloud.show(image["id"])
    expected = {
        "name": "debian", "status": "queued", "visibility": "private", "protected": False, "os_hidden": False,
        "owner": DEMO.project_id, "disk_format": "qcow2", "container_format": "bare", "min_disk": 2, "min_ram": 64,
        "tags": ["a", "b"], "size": None, "virtual_size": None, "checksum": None, "os_hash_algo": None,
        "os_hash_value": None, "os_distro": "debian", "self": f"/v2/images/{image['id']}",
        "file": f"/v2/images/{image['id']}/file", "schema": "/v2/schemas/image",
    }  # fmt: skip
    assert {name: image[name] for name in expected} == expected
    assert set(image) == {*expected, "id", "created_at", "updated_at"}


def test_nothing_at_all_makes_a_shared_image_and_null_names_are_fine(cloud: ImageCloud) -> None:
    image = cloud("POST", "/images", {}).json
    assert image["visibility"] == "shared" and image["name"] is None and image["disk_format"] is None
    assert cloud("POST", "/images", {"name": None}).status == 201


def test_a_given_id_is_taken_once(cloud: ImageCloud) -> None:
    chosen = new_id()
    assert cloud.create(id=chosen)["id"] == chosen
    assert cloud("POST", "/images", {"id": chosen}).status == 409
    assert cloud("POST", "/images", {"id": "no-uuid"}).status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"disk_format": "wrong"}, 400),
        ({"container_format": "wrong"}, 400),
        ({"visibility": "secret"}, 400),
        ({"min_disk": -1}, 400),
        ({"min_ram": 1 << 40}, 400),
        ({"min_disk": "5"}, 400),
        ({"name": "a\nb"}, 400),
        ({"name": "x" * 256}, 400),
        ({"name": 5}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"tags": "a"}, 400),
        ({"tags": [f"t{i}" for i in range(129)]}, 413),
        ({f"p{i}": "x" for i in range(129)}, 413),
        ({"prop": 5}, 400),
        ({"prop": None}, 400),
        ({'a"b': "x"}, 400),
        ({"protected": "yes"}, 400),
        ({"os_glance_foo": "bar"}, 403),
        ({"status": "active"}, 403),
        ({"size": 5}, 403),
        ({"checksum": "x"}, 403),
        ({"locations": []}, 403),
        ({"created_at": "2026-01-01"}, 403),
        ({"visibility": "public"}, 403),
        ({"owner": OTHER.project_id}, 403),
        ([], 400),
    ],
)
def test_bad_bodies_are_refused_and_make_nothing(cloud: ImageCloud, body: Any, status: int) -> None:
    answer = cloud("POST", "/images", body)
    assert answer.status == status and answer.json["message"] and answer.json["code"].startswith(str(status)), answer
    assert names(cloud) == []


def test_emoji_names_and_properties_live(cloud: ImageCloud) -> None:
    image = cloud.create(name="☁️ image", title='say "hi"\n', **{"hw:x.y": "ünïcode"})
    assert cloud.show(image["id"])["title"] == 'say "hi"\n'
    assert names(cloud, "hw:x.y=%C3%BCn%C3%AFcode") == ["☁️ image"]


def test_readers_see_and_do_not_write(cloud: ImageCloud) -> None:
    image = cloud.active()
    assert cloud("GET", f"/images/{image['id']}", caller="reader").status == 200
    assert cloud("POST", "/images", {"name": "x"}, caller="reader").status == 403
    assert cloud.patch(image["id"], {"op": "replace", "path": "/name", "value": "x"}, caller="reader").status == 403
    assert cloud("DELETE", f"/images/{image['id']}", caller="reader").status == 403
    assert cloud.upload(image["id"], b"x", caller="reader").status == 403
    assert cloud("GET", f"/images/{image['id']}/file", caller="reader").status == 403


def test_private_images_of_others_answer_as_images_that_never_were(cloud: ImageCloud) -> None:
    image = cloud.active(visibility="private")
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("GET", "/file"), ("PUT", "/file"), ("PUT", "/stage"), ("POST", "/import"),
        ("PUT", "/tags/x"), ("DELETE", "/tags/x"), ("GET", "/members"), ("POST", "/members"),
        ("POST", "/actions/deactivate"), ("POST", "/actions/reactivate"), ("PATCH", ""),
    ):  # fmt: skip
        foreign = cloud(method, f"/images/{image['id']}{path}", {}, caller="other")
        unknown_id = new_id()
        unknown = cloud(method, f"/images/{unknown_id}{path}", {}, caller="other")
        assert foreign.status == unknown.status == 404, (method, path)
        assert foreign.json["message"].replace(image["id"], "") == unknown.json["message"].replace(unknown_id, "")
    assert cloud("GET", "/images/not-a-uuid").status == 404
    assert cloud("GET", "/images/").status == 404 and cloud("DELETE", "/images/").status == 404
    assert cloud("GET", f"/images/{image['id']}", caller="").status == 401


def test_who_sees_what_in_lists(cloud: ImageCloud) -> None:
    cloud.create(name="private", visibility="private")
    cloud.create(name="shared", visibility="shared")
    cloud.create(name="community", visibility="community")
    cloud.create("admin", name="public", visibility="public")
    assert set(names(cloud)) == {"private", "shared", "community", "public"}
    assert names(cloud, caller="other") == ["public"]
    assert names(cloud, "visibility=community", caller="other") == ["community"]
    assert set(names(cloud, "visibility=all", caller="other")) == {"community", "public"}
    assert set(names(cloud, "visibility=private")) == {"private"}
    assert names(cloud, "visibility=private", caller="other") == []
    assert set(names(cloud, caller="admin")) == {"private", "shared", "community", "public"}
    assert names(cloud, f"owner={DEMO.project_id}", caller="other") == []


def test_a_public_image_may_be_read_but_not_changed_by_others(cloud: ImageCloud) -> None:
    image = cloud.active(caller="admin", visibility="public")
    path = f"/images/{image['id']}"
    assert cloud("GET", path, caller="other").status == 200
    assert cloud("GET", path + "/file", caller="other").raw == b"data"
    assert cloud("DELETE", path, caller="other").status == 403
    assert cloud.patch(image["id"], {"op": "replace", "path": "/name", "value": "x"}, caller="other").status == 403


def test_lists_filter(cloud: ImageCloud) -> None:
    cloud.active(b"1234", name="one", tags=["red", "big"], os_distro="debian", min_disk=1)
    cloud.active(b"12345678", name="two", tags=["red"], os_distro="Debian", protected=True)
    cloud.create(name="a,b", disk_format="qcow2", tags=['od"d'], os_hidden=False)
    cloud.create(name="hidden", os_hidden=True)
    one = next(i for i in cloud("GET", "/images").json["images"] if i["name"] == "one")
    for query, expected in {
        "": {"one", "two", "a,b"},
        "name=one": {"one"},
        'name=in:one,"a,b"': {"one", "a,b"},
        "status=active": {"one", "two"},
        "status=in:queued,active": {"one", "two", "a,b"},
        "disk_format=qcow2": {"a,b"},
        "disk_format=in:raw,qcow2": {"one", "two", "a,b"},
        "container_format=bare": {"one", "two", "a,b"},
        "container_format=ova": set(),
        "tag=red": {"one", "two"},
        "tag=red&tag=big": {"one"},
        "tag=re": set(),
        "tag=RED": set(),
        "tag=od%22d": {"a,b"},
        "os_distro=debian": {"one"},
        "os_distro=Debian": {"two"},
        "os_distro=deb": set(),
        "protected=true": {"two"},
        "protected=False": {"one", "a,b"},
        "size=4": {"one"},
        "size_min=5": {"two"},
        "size_min=1&size_max=8": {"one", "two"},
        "min_disk=1": {"one"},
        "os_hidden=true": {"hidden"},
        f"id={one['id']}": {"one"},
        f"checksum={one['checksum']}": {"one"},
        f"os_hash_value={one['os_hash_value']}": {"one"},
        f"owner={DEMO.project_id}": {"one", "two", "a,b"},
        "created_at=gt:2020-01-01T00:00:00Z": {"one", "two", "a,b"},
        "updated_at=lt:2020-01-01T00:00:00Z": set(),
        "no_such_property=x": set(),
    }.items():
        assert set(names(cloud, query)) == expected, query


@pytest.mark.parametrize(
    "query",
    ["visibility=x", "member_status=x", "limit=-1", "limit=x", "sort_key=x", "sort_dir=x", "sort=name:up", "size_min=x",
     "sort=name&sort_key=name", "marker=x", "created_at=gt:never", 'name=in:"a', "os_hidden=maybe",
     "sort_dir=asc&sort_dir=desc"],
)  # fmt: skip
def test_bad_queries_are_400(cloud: ImageCloud, query: str) -> None:
    answer = cloud("GET", f"/images?{query}")
    assert answer.status == 400, answer


def test_pages_hold_together_whatever_the_order(cloud: ImageCloud) -> None:
    for i in range(7):
        cloud.active(b"x" * (i % 3 + 1), name=f"n{i % 4}")
    for order in (
        "",
        "sort=name:asc,size:desc",
        "sort_key=size&sort_dir=asc",
        "sort_key=name&sort_key=size&sort_dir=desc",
    ):
        whole = [i["id"] for i in cloud("GET", f"/images?{order}").json["images"]]
        pages, path = [], f"/images?limit=3&{order}"
        while path:
            page = cloud("GET", path).json
            pages += [i["id"] for i in page["images"]]
            path = page.get("next", "").removeprefix("/v2")
        assert pages == whole and len(whole) == 7, order
    assert cloud("GET", "/images?limit=0").json["images"] == []
    page = cloud("GET", "/images?limit=2&tag=&sort_key=name").json
    assert page["first"].startswith("/v2/images?limit=2") and page["schema"] == "/v2/schemas/images"


def test_images_without_data_sort_and_page_with_the_others(cloud: ImageCloud) -> None:
    made = [cloud.create(name=f"q{i}")["id"] for i in range(3)] + [cloud.active()["id"]]
    first = cloud("GET", "/images?sort_key=size&sort_dir=asc&limit=2").json
    second = cloud("GET", first["next"].removeprefix("/v2")).json
    assert {i["id"] for i in first["images"] + second["images"]} == set(made)
    assert second["images"][-1]["id"] == made[-1]


def test_update_in_both_patch_languages(cloud: ImageCloud) -> None:
    image_id = cloud.create(old="x", kept="y")["id"]
    answer = cloud.patch(
        image_id,
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/a~1b~0c", "value": "odd"},
        {"op": "remove", "path": "/old"},
        {"op": "add", "path": "/kept", "value": "z"},
        {"op": "replace", "path": "/tags", "value": ["x", "y", "x"]},
        {"op": "replace", "path": "/os_hidden", "value": True},
        {"op": "replace", "path": "/disk_format", "value": "qcow2"},
    )
    assert answer.status == 200 and answer.json == cloud.show(image_id), answer
    shown = answer.json
    assert (shown["name"], shown["a/b~c"], shown["kept"], shown["tags"]) == ("new", "odd", "z", ["x", "y"])
    assert "old" not in shown and shown["os_hidden"] is True and shown["disk_format"] == "qcow2"
    answer = cloud.patch(
        image_id, {"replace": "/name", "value": "again"}, {"add": "/p", "value": "1"}, {"remove": "/kept"}, v20=True
    )
    assert answer.status == 200 and answer.json["name"] == "again" and answer.json["p"] == "1"
    assert cloud.patch(image_id, {"add": "/p", "value": "2"}, v20=True).status == 409


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"op": "replace", "path": "name", "value": "x"}, 400),
        ({"op": "replace", "path": "/", "value": "x"}, 400),
        ({"op": "replace", "path": "/a/b", "value": "x"}, 400),
        ({"op": "replace", "path": "//name", "value": "x"}, 400),
        ({"op": "replace", "path": "/na~2me", "value": "x"}, 400),
        ({"op": "replace", "path": "/name/", "value": "x"}, 400),
        ({"op": "replace", "path": 5, "value": "x"}, 400),
        ({"op": "replace", "path": "/name"}, 400),
        ({"op": "move", "path": "/name", "value": "x"}, 400),
        ({"path": "/name", "value": "x"}, 400),
        ("x", 400),
        ({"op": "replace", "path": "/name", "value": 5}, 400),
        ({"op": "replace", "path": "/visibility", "value": "x"}, 400),
        ({"op": "replace", "path": "/min_ram", "value": -5}, 400),
        ({"op": "add", "path": "/prop", "value": {"a": 1}}, 400),
        ({"op": "add", "path": '/q"', "value": "x"}, 400),
        ({"op": "replace", "path": "/nothing", "value": "x"}, 409),
        ({"op": "remove", "path": "/nothing"}, 409),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "replace", "path": "/id", "value": "x"}, 403),
        ({"op": "replace", "path": "/size", "value": 1}, 403),
        ({"op": "replace", "path": "/checksum", "value": "x"}, 403),
        ({"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/shadow", "metadata": {}}}, 403),
        ({"op": "replace", "path": "/locations", "value": []}, 403),
        ({"op": "add", "path": "/os_glance_foo", "value": "x"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "replace", "path": "/owner", "value": "somebody"}, 403),
        ({"op": "add", "path": "/deleted", "value": "x"}, 403),
    ],
)
def test_bad_changes_are_refused_and_change_nothing(cloud: ImageCloud, change: Any, status: int) -> None:
    image = cloud.active()
    first = {"op": "replace", "path": "/name", "value": "half done"}
    answer = cloud.patch(image["id"], first, change)
    assert answer.status == status and answer.json["message"], answer
    assert cloud.show(image["id"]) == image


def test_formats_are_fixed_once_there_is_data(cloud: ImageCloud) -> None:
    image_id = cloud.active()["id"]
    for name in ("disk_format", "container_format"):
        assert cloud.patch(image_id, {"op": "replace", "path": f"/{name}", "value": "ami"}).status == 403


def test_a_patch_in_no_known_language_is_415(cloud: ImageCloud) -> None:
    image_id = cloud.create()["id"]
    answer = cloud("PATCH", f"/images/{image_id}", [{"op": "replace", "path": "/name", "value": "x"}])
    assert answer.status == 415 and "openstack-images-v2.1-json-patch" in answer.headers["accept-patch"]
    assert cloud.patch(image_id).status == 200
    assert cloud("PATCH", f"/images/{image_id}", {"name": "x"}, headers={
        "content-type": "application/openstack-images-v2.1-json-patch"}).status == 400  # fmt: skip


def test_too_many_properties_and_tags_are_413(cloud: ImageCloud) -> None:
    image_id = cloud.create(**{f"p{i}": "x" for i in range(128)})["id"]
    assert cloud.patch(image_id, {"op": "add", "path": "/one_more", "value": "x"}).status == 413
    tags = {"op": "replace", "path": "/tags", "value": [f"t{i}" for i in range(129)]}
    assert cloud.patch(image_id, tags).status == 413


def test_administrators_publish_and_give_away(cloud: ImageCloud) -> None:
    image_id = cloud.create()["id"]
    public = {"op": "replace", "path": "/visibility", "value": "public"}
    owner = {"op": "replace", "path": "/owner", "value": OTHER.project_id}
    assert cloud.patch(image_id, public, caller="admin").status == 200
    assert cloud.patch(image_id, owner, caller="admin").json["owner"] == OTHER.project_id
    assert cloud.create("admin", owner=OTHER.project_id)["owner"] == OTHER.project_id


def test_protected_images_stay(cloud: ImageCloud) -> None:
    image_id = cloud.create(protected=True)["id"]
    assert cloud("DELETE", f"/images/{image_id}").status == 403
    assert cloud.patch(image_id, {"op": "replace", "path": "/protected", "value": False}).status == 200
    assert cloud("DELETE", f"/images/{image_id}").status == 204
    assert cloud("DELETE", f"/images/{image_id}").status == 404
    assert cloud("GET", f"/images/{image_id}").status == 404 and names(cloud) == []
    cloud.settle()
    assert cloud.row(image_id) is None


def test_tags(cloud: ImageCloud) -> None:
    image_id = cloud.create()["id"]
    for _ in range(2):
        assert cloud("PUT", f"/images/{image_id}/tags/red").status == 204
    assert cloud.show(image_id)["tags"] == ["red"]
    assert cloud("PUT", f"/images/{image_id}/tags/{'x' * 256}").status == 400
    assert cloud("DELETE", f"/images/{image_id}/tags/red").status == 204
    assert cloud("DELETE", f"/images/{image_id}/tags/red").status == 404
    assert cloud("PUT", f"/images/{image_id}/tags/x", caller="reader").status == 403


def test_a_deactivated_image_is_downloaded_by_nobody_but_administrators(cloud: ImageCloud) -> None:
    image_id = cloud.create()["id"]
    path = f"/images/{image_id}"
    assert cloud("POST", path + "/actions/deactivate").status == 403
    cloud.upload(image_id, b"data")
    for _ in range(2):
        assert cloud("POST", path + "/actions/deactivate").status == 204
    assert cloud.show(image_id)["status"] == "deactivated"
    assert cloud("GET", path + "/file").status == 403
    assert cloud("GET", path + "/file", caller="admin").raw == b"data"
    assert cloud("POST", path + "/actions/reactivate").status == 204
    assert cloud("GET", path + "/file").raw == b"data"
    assert cloud("POST", path + "/actions/deactivate", caller="reader").status == 403


def test_versions_schemas_and_what_the_site_can_do(cloud: ImageCloud) -> None:
    found = cloud.direct("GET", "/image", caller="")
    assert found.status == 300 and cloud.direct("GET", "/image/", caller="").status == 300
    listed = cloud.direct("GET", "/image/versions", caller="")
    assert listed.status == 200 and listed.json == found.json
    versions = listed.json["versions"]
    assert versions[0]["id"] == "v2.17" and versions[0]["status"] == "CURRENT" and versions[-1]["id"] == "v2.0"
    assert versions[0]["links"][0]["href"].endswith("/image/v2/")
    assert cloud.direct("GET", "/image/v2", caller="").status == 200
    assert cloud.direct("GET", "/image/v2/", caller="").status == 200
    for name in ("image", "images", "member", "members"):
        schema = cloud("GET", f"/schemas/{name}").json
        assert schema["name"] == name and schema["properties"]
    properties = cloud("GET", "/schemas/image").json["properties"]
    assert properties["status"]["readOnly"] is True and "readOnly" not in properties["name"]
    assert cloud("GET", "/info/import").json["import-methods"]["value"] == ["glance-direct"]
    assert cloud("GET", "/info/stores").json["stores"][0]["id"] == "file"
    assert cloud("GET", "/info/stores/detail").status == 403
    assert cloud("GET", "/info/stores/detail", caller="admin").status == 200
    cloud.active(b"x" * 100)
    assert cloud("GET", "/info/usage").json["usage"]["image_size_total"] == {"limit": -1, "usage": 1}
    assert cloud("GET", "/nothing").status == 404 and cloud("POST", "/schemas/image", {}).status == 405


def limit(cloud: ImageCloud, **limits: int) -> None:
    """What the operator would set through identity."""

    def work(tx: Tx) -> None:
        if SERVICES.get(tx, id="glance") is None:
            SERVICES.insert(tx, Service(id="glance", type="image", name="glance"))
        for name, value in limits.items():
            REGISTERED_LIMITS.delete(tx, resource_name=name)
            REGISTERED_LIMITS.insert(
                tx, RegisteredLimit(id=name, service_id="glance", resource_name=name, default_limit=value)
            )

    cloud.db.transact(work)


def test_unified_limits_hold(cloud: ImageCloud) -> None:
    limit(cloud, image_count_total=1)
    image = cloud.create()
    answer = cloud("POST", "/images", {"name": "one too many"})
    assert answer.status == 413 and "image_count_total" in answer.json["message"]
    assert cloud("GET", "/info/usage").json["usage"]["image_count_total"] == {"limit": 1, "usage": 1}
    limit(cloud, image_count_total=-1, image_stage_total=0, image_count_uploading=1)
    send = {"raw": b"x" * 100, "headers": OCTETS}
    announced = {**OCTETS, "x-openstack-image-size": "100"}
    assert cloud("PUT", f"/images/{image['id']}/stage", raw=b"x" * 100, headers=announced).status == 413
    limit(cloud, image_stage_total=1)
    assert cloud("PUT", f"/images/{image['id']}/stage", **send).status == 204
    other = cloud.create()
    assert cloud("PUT", f"/images/{other['id']}/file", **send).status == 413  # the staged one counts as uploading
    limit(cloud, image_count_uploading=2, image_size_total=0)
    assert cloud("POST", f"/images/{image['id']}/import", {"method": {"name": "glance-direct"}}).status == 413
