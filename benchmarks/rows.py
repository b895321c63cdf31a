"""What is measured, each through the public API of a cloud with fake drivers."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.cloud import Cloud, Figure

COMPUTE, NETWORK, VOLUME = "/compute/v2.1", "/networking/v2.0", "/volume/v3"


class World:
    """What several measurements share: a network, an image, a flavor."""

    def __init__(self, cloud: Cloud):
        self.cloud = cloud
        project = cloud("GET", "/identity/v3/auth/projects")["projects"][0]["id"]
        cloud(
            "PUT", f"{COMPUTE}/os-quota-sets/{project}", {"quota_set": dict.fromkeys(("instances", "cores", "ram"), -1)}
        )
        cloud(
            "PUT",
            f"{NETWORK}/quotas/{project}",
            {"quota": dict.fromkeys(("port", "network", "security_group_rule"), -1)},
        )
        limits = dict.fromkeys(("volumes", "gigabytes", "snapshots"), -1)
        cloud("PUT", f"{VOLUME}/os-quota-sets/{project}", {"quota_set": limits})
        self.network = cloud("POST", f"{NETWORK}/networks", {"network": {"name": "bench"}})["network"]["id"]
        subnet = {"network_id": self.network, "cidr": "10.40.0.0/16", "ip_version": 4}
        cloud("POST", f"{NETWORK}/subnets", {"subnet": subnet})
        flavor = {"name": "bench", "ram": 64, "vcpus": 1, "disk": 0}
        self.flavor = cloud("POST", f"{COMPUTE}/flavors", {"flavor": flavor})["flavor"]["id"]
        self.image = self.upload("bench", b"\0" * 4096)

    def upload(self, name: str, data: bytes) -> str:
        body = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
        image_id = str(self.cloud("POST", "/image/v2/images", body)["id"])
        self.cloud("PUT", f"/image/v2/images/{image_id}/file", data, content_type="application/octet-stream")
        return image_id

    def boot(self, name: str) -> str:
        """Create a server and wait until it is ACTIVE; its id."""
        server = {"name": name, "flavorRef": self.flavor, "imageRef": self.image, "networks": [{"uuid": self.network}]}
        server_id = str(self.cloud("POST", f"{COMPUTE}/servers", {"server": server})["server"]["id"])
        while (seen := self.cloud("GET", f"{COMPUTE}/servers/{server_id}")["server"])["status"] == "BUILD":
            time.sleep(0.02)
        if seen["status"] != "ACTIVE":
            raise RuntimeError(f"{name}: {seen['status']} {seen.get('fault')}")
        return server_id

    def delete(self, server_id: str) -> None:
        """Delete a server and wait until it is gone."""
        self.cloud("DELETE", f"{COMPUTE}/servers/{server_id}")
        while self.cloud.send("GET", f"{COMPUTE}/servers/{server_id}")[0] != 404:
            time.sleep(0.02)


def identity(world: World) -> Iterator[Figure]:
    cloud, body = world.cloud, world.cloud.login_body()
    yield cloud.measure(
        "token by password, known", lambda _: cloud("POST", "/identity/v3/auth/tokens", body), range(200)
    )
    yield cloud.measure(
        "token validate",
        lambda _: cloud("GET", "/identity/v3/auth/tokens", x_subject_token=cloud.token),
        range(1000),
    )
    for i in range(100):
        user = {"name": f"bench{i}", "domain_id": "default", **({"password": "secret"} if i < 20 else {})}
        cloud("POST", "/identity/v3/users", {"user": user})
    yield cloud.measure("list 100 users", lambda _: cloud("GET", "/identity/v3/users"), range(50))
    yield cloud.measure("token by password, first", first_log_in(cloud), range(20))
    crowd(cloud)
    yield cloud.measure("list 1000 users", lambda _: cloud("GET", "/identity/v3/users?limit=1000"), range(10))
    effective = "/identity/v3/role_assignments?effective"
    one = cloud("GET", "/identity/v3/users?name=crowd7")["users"][0]["id"]
    yield cloud.measure("effective roles of one user on 200 projects",
                        lambda _: cloud("GET", f"{effective}&user.id={one}"), range(50))  # fmt: skip
    yield cloud.measure("effective roles, 200 users x 200 projects", lambda _: cloud("GET", effective), range(3))


def first_log_in(cloud: Cloud) -> Callable[[int], Any]:
    """Logs in a user whose password nobody has seen yet: the whole hash."""

    def log_in(i: int) -> Any:
        who = {"name": f"bench{i}", "domain": {"id": "default"}, "password": "secret"}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}}}
        return cloud("POST", "/identity/v3/auth/tokens", body)

    return log_in


def crowd(cloud: Cloud) -> None:
    """1,000 users; 200 of them in 20 groups with a role on all that lies below the domain, which is 200 projects."""

    def make(path: str, key: str, **fields: Any) -> str:
        return str(cloud("POST", f"/identity/v3/{path}", {key: fields})[key]["id"])

    role = next(r["id"] for r in cloud("GET", "/identity/v3/roles")["roles"] if r["name"] == "member")
    groups = [make("groups", "group", name=f"crowd{i}") for i in range(20)]
    for group in groups:
        place = f"/identity/v3/OS-INHERIT/domains/default/groups/{group}/roles/{role}/inherited_to_projects"
        cloud("PUT", place)
    for i in range(1000):
        user = make("users", "user", name=f"crowd{i}")
        if i < 200:
            cloud("PUT", f"/identity/v3/groups/{groups[i % 20]}/users/{user}")
    parents = [make("projects", "project", name=f"top{i}") for i in range(20)]
    for i in range(180):
        make("projects", "project", name=f"below{i}", parent_id=parents[i % 20])


def networks(world: World) -> Iterator[Figure]:
    cloud = world.cloud
    yield cloud.measure(
        "create network", lambda i: cloud("POST", f"{NETWORK}/networks", {"network": {"name": f"n{i}"}}), range(100)
    )
    port = {"port": {"network_id": world.network}}
    yield cloud.measure("create port", lambda _: cloud("POST", f"{NETWORK}/ports", port), range(1000))
    yield cloud.measure(
        "list 1,000 ports", lambda _: cloud("GET", f"{NETWORK}/ports?network_id={world.network}"), range(10)
    )
    group = cloud("POST", f"{NETWORK}/security-groups", {"security_group": {"name": "bench"}})["security_group"]["id"]

    def rule(i: int) -> None:
        what = {"security_group_id": group, "direction": "ingress", "protocol": "tcp", "port_range_min": i + 1,
                "port_range_max": i + 1, "ethertype": "IPv4"}  # fmt: skip
        cloud("POST", f"{NETWORK}/security-group-rules", {"security_group_rule": what})

    yield cloud.measure("create security group rule", rule, range(100))


def images(world: World) -> Iterator[Figure]:
    cloud = world.cloud
    for i in range(99):
        cloud("POST", "/image/v2/images", {"name": f"i{i}", "disk_format": "raw", "container_format": "bare"})
    yield cloud.measure("list 100 images", lambda _: cloud("GET", "/image/v2/images?limit=100"), range(50))
    data, made = os.urandom(64 << 20), []
    yield cloud.measure("upload an image of 64 MiB", lambda i: made.append(world.upload(f"big{i}", data)), range(3))
    yield cloud.measure(
        "download an image of 64 MiB", lambda _: cloud.send("GET", f"/image/v2/images/{made[0]}/file"), range(3)
    )


def volumes(world: World) -> Iterator[Figure]:
    cloud = world.cloud

    def create(i: int) -> None:
        volume_id = cloud("POST", f"{VOLUME}/volumes", {"volume": {"name": f"v{i}", "size": 1}})["volume"]["id"]
        while cloud("GET", f"{VOLUME}/volumes/{volume_id}")["volume"]["status"] == "creating":
            time.sleep(0.02)

    yield cloud.measure("create volume, until available", create, range(100))
    yield cloud.measure("list 100 volumes", lambda _: cloud("GET", f"{VOLUME}/volumes/detail?limit=100"), range(50))


def servers(world: World) -> Iterator[Figure]:
    cloud = world.cloud
    yield cloud.measure("flavors detail", lambda _: cloud("GET", f"{COMPUTE}/flavors/detail"), range(100))
    ids: list[str] = []
    for count, parallel in ((20, 1), (50, 50), (200, 50)):
        name = f"create to ACTIVE, {count} servers, {parallel} at once"
        yield cloud.measure(name, lambda i: ids.append(world.boot(f"s{i}")), range(count), parallel)
    yield cloud.measure("list 100 servers", lambda _: cloud("GET", f"{COMPUTE}/servers/detail?limit=100"), range(30))
    while len(ids) < 1000:
        with_names = [f"more-{len(ids)}-{i}" for i in range(min(100, 1000 - len(ids)))]
        cloud.measure("", lambda name: ids.append(world.boot(name)), with_names, 50)
    yield cloud.measure("list 1,000 servers", lambda _: cloud("GET", f"{COMPUTE}/servers/detail"), range(10))
    yield cloud.measure("delete a server, 50 at once", world.delete, ids[:200], 50)


ROWS: dict[str, Callable[[World], Iterator[Any]]] = {
    "identity": identity, "networks": networks, "images": images, "volumes": volumes, "servers": servers,
}  # fmt: skip
