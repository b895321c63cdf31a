"""Sharing: who is a member, who sees what, who may accept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from direct import DEMO, OTHER
from image_cloud import ImageCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ImageCloud]:
    made = ImageCloud(tmp_path)
    yield made
    made.close()


@pytest.fixture
def shared(cloud: ImageCloud) -> str:
    """The path of the members of an image that demo shares with other."""
    image = cloud.active(name="shared", visibility="shared")
    path = f"/images/{image['id']}/members"
    assert cloud("POST", path, {"member": OTHER.project_id}).status == 200
    return path


def listed(cloud: ImageCloud, query: str = "", caller: str = "other") -> list[str]:
    return [image["name"] for image in cloud("GET", f"/images?{query}", caller=caller).json["images"]]


def test_a_member_is_pending_and_not_bothered_until_it_accepts(cloud: ImageCloud, shared: str) -> None:
    one = f"{shared}/{OTHER.project_id}"
    member = cloud("GET", one, caller="other").json
    image_id = shared.split("/")[2]
    assert member["status"] == "pending" and member["member_id"] == OTHER.project_id and member["image_id"] == image_id
    assert set(member) == {"member_id", "image_id", "status", "created_at", "updated_at", "schema"}
    assert listed(cloud) == [] and listed(cloud, "member_status=pending") == ["shared"]
    assert cloud("GET", f"/images/{image_id}", caller="other").status == 200
    assert cloud("PUT", one, {"status": "accepted"}, caller="other").json["status"] == "accepted"
    assert listed(cloud) == ["shared"] and listed(cloud, "visibility=shared") == ["shared"]
    assert cloud("GET", f"/images/{image_id}/file", caller="other").raw == b"data"
    assert cloud("PUT", one, {"status": "rejected"}, caller="other").status == 200
    assert listed(cloud) == [] and listed(cloud, "member_status=all") == ["shared"]


def test_members_use_an_image_but_do_not_change_it(cloud: ImageCloud, shared: str) -> None:
    image = "/images/" + shared.split("/")[2]
    assert cloud("DELETE", image, caller="other").status == 403
    assert cloud("POST", shared, {"member": "x"}, caller="other").status == 403
    assert cloud("DELETE", f"{shared}/{OTHER.project_id}", caller="other").status == 403
    assert cloud("POST", f"{image}/actions/deactivate", caller="other").status == 403


def test_nobody_accepts_for_another(cloud: ImageCloud, shared: str) -> None:
    assert cloud("PUT", f"{shared}/{OTHER.project_id}", {"status": "accepted"}).status == 403
    assert cloud("PUT", f"{shared}/{DEMO.project_id}", {"status": "accepted"}, caller="other").status == 404
    assert cloud("PUT", f"{shared}/{OTHER.project_id}", {"status": "accepted"}, caller="reader").status == 403


def test_bad_members_and_statuses_are_refused(cloud: ImageCloud, shared: str) -> None:
    assert cloud("PUT", f"{shared}/{OTHER.project_id}", {"status": "wrong"}, caller="other").status == 400
    assert cloud("PUT", f"{shared}/{OTHER.project_id}", {}, caller="other").status == 400
    for body in ({}, {"member": ""}, {"member": 5}, {"member": "a b\n"}, {"member": "x" * 256}):
        assert cloud("POST", shared, body).status == 400, body
    assert cloud("POST", shared, {"member": OTHER.project_id}).status == 409
    assert cloud("GET", f"{shared}/nobody").status == 404 and cloud("DELETE", f"{shared}/nobody").status == 404


def test_the_owner_sees_all_members_and_a_member_only_itself(cloud: ImageCloud, shared: str) -> None:
    assert cloud("POST", shared, {"member": "third"}).status == 200
    both = cloud("GET", shared).json
    assert [m["member_id"] for m in both["members"]] == [OTHER.project_id, "third"]
    assert both["schema"] == "/v2/schemas/members"
    assert [m["member_id"] for m in cloud("GET", shared, caller="other").json["members"]] == [OTHER.project_id]
    assert cloud("GET", f"{shared}/third", caller="other").status == 404
    assert cloud("GET", f"{shared}/third").status == 200


def test_only_shared_images_have_members(cloud: ImageCloud) -> None:
    path = f"/images/{cloud.create(visibility='private')['id']}/members"
    assert cloud("POST", path, {"member": "x"}).status == 403 and cloud("GET", path).status == 403


def test_unsharing_and_deleting_end_the_view(cloud: ImageCloud, shared: str) -> None:
    image = "/images/" + shared.split("/")[2]
    assert cloud("DELETE", f"{shared}/{OTHER.project_id}").status == 204
    assert cloud("GET", image, caller="other").status == 404
    cloud("POST", shared, {"member": OTHER.project_id})
    assert cloud("DELETE", image).status == 204
    cloud.settle()
    assert cloud.db.read(lambda tx: tx.one("select count(*) from image_members")) == (0,) and not cloud.leaked()
