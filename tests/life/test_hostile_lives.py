"""What hostile requests made, where they were accepted, comes to rest, can be shown, and goes without a trace."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bodies import Bodies, at, places, put
from objects import COMPUTE, IMAGE, NETWORK, OPERATIONS, PROJECT, VOLUME, ObjectsOfDemo
from test_bad_input import hostile

from cloud import FakeCloud
from pileus.core.op import Operation

# Where things stand that live, in an order in which they can be deleted.
LIVES = {
    f"{COMPUTE}/servers": "servers", f"{VOLUME}/snapshots": "snapshots", f"{VOLUME}/volumes": "volumes",
    f"{IMAGE}/images": "images", f"{NETWORK}/floatingips": "floatingips", f"{NETWORK}/routers": "routers",
    f"{NETWORK}/ports": "ports", f"{NETWORK}/subnets": "subnets", f"{NETWORK}/networks": "networks",
    f"{NETWORK}/security-groups": "security_groups", f"{NETWORK}/security-group-rules": "security_group_rules",
}  # fmt: skip
QUOTAS = {
    f"{COMPUTE}/os-quota-sets/{PROJECT}": ("instances", "cores", "ram"),
    f"{VOLUME}/os-quota-sets/{PROJECT}": ("volumes", "snapshots", "gigabytes"),
    f"{NETWORK}/quotas/{PROJECT}": ("network", "subnet", "port", "router", "floatingip", "security_group",
                                    "security_group_rule"),
}  # fmt: skip
CREATIONS = [op for op in OPERATIONS if op.method == "POST" and op.path in LIVES and op.last >= op.service.maximum]
JSON_PATCH = {"content-type": "application/openstack-images-v2.1-json-patch"}


class Attacked:
    """A cloud in which demo may make as much as it likes."""

    def __init__(self, cloud: FakeCloud):
        self.cloud = cloud
        self.objects = ObjectsOfDemo(cloud)
        self.bodies = Bodies(self.objects)
        for path, names in QUOTAS.items():
            body = {"quota" if NETWORK in path else "quota_set": dict.fromkeys(names, -1)}
            self.objects.ask("PUT", path, body, "admin")
        self.leftovers = sorted(cloud.leftovers())
        self.there = {path: self.ids(path) for path in LIVES}

    def ids(self, path: str) -> set[str]:
        """The ids that demo sees in a list."""
        return {row["id"] for row in self.objects.ask("GET", f"{path}?limit=1000")[LIVES[path]]}

    def create(self, op: Operation) -> int:
        """Every hostile body of a creation; how many were accepted."""
        accepted = 0
        header = self.objects.version_header(op, op.service.maximum)
        for least, most in self.bodies.of(op):
            for place in places(most):
                for value in hostile(at(most, place)):
                    body = put(least, most, place, value)
                    accepted += self.cloud.call("POST", op.path, body, headers=header).status < 300
        return accepted

    def delete_all(self) -> None:
        """All that was made, whatever state it is in."""
        for path, was_there in self.there.items():
            for one in sorted(self.ids(path) - was_there):
                if path.endswith("/images"):
                    change: Any = [{"op": "replace", "path": "/protected", "value": False}]
                    self.cloud.call("PATCH", f"{path}/{one}", change, headers=JSON_PATCH)
                self.cloud.call("DELETE", f"{path}/{one}")
            self.cloud.run()


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    cloud = FakeCloud(tmp_path)
    cloud.db._writer.execute("pragma synchronous = off")  # type: ignore[attr-defined]  # of the object that is really there
    yield Attacked(cloud)
    cloud.close()


@pytest.mark.parametrize("op", CREATIONS, ids=lambda op: op.path)
def test_what_was_accepted_lives_and_goes(attacked: Attacked, op: Operation, caplog: pytest.LogCaptureFixture) -> None:
    accepted = attacked.create(op)
    assert accepted, "nothing was accepted, so nothing was tried"
    with caplog.at_level(logging.ERROR, "pileus"):
        attacked.cloud.run(600)
        for path in LIVES:
            attacked.ids(path)
        attacked.delete_all()
    assert not caplog.records, [record.getMessage() for record in caplog.records]
    assert {path: attacked.ids(path) for path in LIVES} == attacked.there
    assert sorted(attacked.cloud.leftovers()) == attacked.leftovers
    assert attacked.cloud.inconsistencies() == []
