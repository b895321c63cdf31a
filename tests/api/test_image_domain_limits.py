"""Where limits go by strict_two_level, the projects of a domain share its limit of images."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cloud import FakeCloud
from direct import CALLERS, DEMO, OTHER, Answer
from pileus.db.connect import Tx
from pileus.identity.registered_limit import REGISTERED_LIMITS, RegisteredLimit
from pileus.identity.rows import PROJECTS, SERVICES, Project, Service
from pileus.identity.unified_limit import LIMITS, Limit

OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[FakeCloud]:
    """demo and other are of one domain, which may have three images; any project may have two."""
    made = FakeCloud(tmp_path)
    settings = made.api.app.settings
    rules = structs.replace(settings.config.identity, enforcement_model="strict_two_level")
    settings.config = structs.replace(settings.config, identity=rules)

    def fill(tx: Tx) -> None:
        for name in ("shop", "far"):
            PROJECTS.insert(tx, Project(id=name, name=name, domain_id=None, parent_id=None, is_domain=True))
        for caller, domain in ((DEMO, "shop"), (OTHER, "shop"), (CALLERS["admin"], "far")):
            project = Project(
                id=str(caller.project_id), name=str(caller.project_id), domain_id=domain, parent_id=domain
            )
            PROJECTS.insert(tx, project)
        SERVICES.insert(tx, Service(id="glance", type="image", name="glance"))
        for name, limit in (("image_count_total", 2), ("image_size_total", -1)):
            REGISTERED_LIMITS.insert(
                tx, RegisteredLimit(id=name, service_id="glance", resource_name=name, default_limit=limit)
            )
        LIMITS.insert(tx, Limit(id="l", registered_limit_id="image_count_total", domain_id="shop", resource_limit=3))
        LIMITS.insert(tx, Limit(id="s", registered_limit_id="image_size_total", domain_id="shop", resource_limit=2))

    made.db.transact(fill)
    yield made
    made.close()


def create(cloud: FakeCloud, caller: str) -> Answer:
    body = {"name": "x", "disk_format": "raw", "container_format": "bare"}
    return cloud.call("POST", "/image/v2/images", body, caller=caller)


def test_projects_share_what_their_domain_may_have(cloud: FakeCloud) -> None:
    assert [create(cloud, "demo").status for _ in range(3)] == [201, 201, 413], "the project's own limit is two"
    first, second = create(cloud, "other"), create(cloud, "other")
    assert first.status == 201 and second.status == 413
    assert "domain shop" in second.json["message"] and "image_count_total: limit 3, used 3" in second.json["message"]
    assert create(cloud, "admin").status == 201, "another domain has room of its own"
    assert cloud.call("DELETE", f"/image/v2/images/{first.json['id']}", caller="other").status == 204
    cloud.run()
    assert create(cloud, "other").status == 201


def test_bytes_are_counted_over_the_domain(cloud: FakeCloud) -> None:
    def upload(caller: str, mib: int) -> int:
        path = f"/image/v2/images/{create(cloud, caller).json['id']}/file"
        return cloud.call("PUT", path, raw=b"x" * (mib << 20), headers=OCTETS, caller=caller).status

    assert upload("demo", 2) == 204
    announced = {**OCTETS, "x-openstack-image-size": str(1 << 20)}
    image = create(cloud, "other").json["id"]
    answer = cloud.call(
        "PUT", f"/image/v2/images/{image}/file", raw=b"x" * (1 << 20), headers=announced, caller="other"
    )
    assert answer.status == 413 and "image_size_total" in answer.json["message"]


def test_by_the_flat_model_they_share_nothing(cloud: FakeCloud) -> None:
    settings = cloud.api.app.settings
    rules = structs.replace(settings.config.identity, enforcement_model="flat")
    settings.config = structs.replace(settings.config, identity=rules)
    assert [create(cloud, caller).status for caller in ("demo", "demo", "other", "other")] == [201] * 4
