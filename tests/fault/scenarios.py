"""Long operations as a user asks for them, for the fault suites."""

from collections.abc import Callable
from dataclasses import dataclass

from cloud import FakeCloud

COMPUTE, NETWORK, VOLUME, IMAGE = "/compute/v2.1", "/networking/v2.0", "/volume/v3", "/image/v2"
ADMIN = {"caller": "admin"}


@dataclass(frozen=True)
class Scenario:
    """What stands before, what is asked, and how it must look when all is at rest."""

    prepare: Callable[[FakeCloud], None]
    act: Callable[[FakeCloud], None]
    check: Callable[[FakeCloud], None]


def basics(cloud: FakeCloud) -> None:
    """Two flavors, an image, a network with a subnet, all usable by demo."""
    for name, disk in (("small", 1), ("large", 2)):
        flavor = {"name": name, "id": name, "ram": 64 * disk, "vcpus": disk, "disk": disk}
        assert cloud.call("POST", f"{COMPUTE}/flavors", {"flavor": flavor}, **ADMIN).status == 200
    body = {"name": "guest", "disk_format": "raw", "container_format": "bare"}
    image = cloud.call("POST", f"{IMAGE}/images", body).json["id"]
    stream = {"content-type": "application/octet-stream"}
    sent = cloud.call("PUT", f"{IMAGE}/images/{image}/file", raw=b"\0" * 4096, headers=stream)
    assert sent.status == 204, sent
    network = cloud.call("POST", f"{NETWORK}/networks", {"network": {"name": "net"}}).json["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.9.0.0/24"}
    assert cloud.call("POST", f"{NETWORK}/subnets", {"subnet": subnet}).status == 201
    cloud.run()


def the(cloud: FakeCloud, path: str, plural: str) -> dict[str, object]:
    """The one resource of this kind."""
    found = cloud.call("GET", path).json[plural]
    assert len(found) == 1, found
    return dict(found[0])


def server(cloud: FakeCloud) -> dict[str, object]:
    return the(cloud, f"{COMPUTE}/servers/detail", "servers")


def create_server(cloud: FakeCloud) -> None:
    image = the(cloud, f"{IMAGE}/images", "images")["id"]
    network = the(cloud, f"{NETWORK}/networks", "networks")["id"]
    wanted = {"name": "s", "flavorRef": "small", "imageRef": image, "networks": [{"uuid": network}]}
    answer = cloud.call("POST", f"{COMPUTE}/servers", {"server": wanted})
    assert answer.status == 202, answer


def running_server(cloud: FakeCloud) -> None:
    basics(cloud)
    create_server(cloud)
    cloud.run()
    check_settled(cloud)


def act_on_server(action: dict[str, object]) -> Callable[[FakeCloud], None]:
    def act(cloud: FakeCloud) -> None:
        answer = cloud.call("POST", f"{COMPUTE}/servers/{server(cloud)['id']}/action", action)
        assert answer.status in (200, 202, 204), answer

    return act


def check_status(*wanted: str) -> Callable[[FakeCloud], None]:
    """The server rests in one of these, or in ERROR with a reason."""

    def check(cloud: FakeCloud) -> None:
        seen = server(cloud)
        if seen["status"] == "ERROR":
            assert seen["fault"]["message"], seen  # type: ignore[index]  # None or another shape would fail the test here
        else:
            assert seen["status"] in wanted and seen["OS-EXT-STS:task_state"] is None, seen

    return check


check_settled = check_status("ACTIVE")


def delete_server(cloud: FakeCloud) -> None:
    assert cloud.call("DELETE", f"{COMPUTE}/servers/{server(cloud)['id']}").status == 204


def check_no_server(cloud: FakeCloud) -> None:
    assert cloud.call("GET", f"{COMPUTE}/servers").json["servers"] == []


def server_and_volume(cloud: FakeCloud) -> None:
    running_server(cloud)
    assert cloud.call("POST", f"{VOLUME}/volumes", {"volume": {"size": 1, "name": "v"}}).status == 202
    cloud.run()


def attach(cloud: FakeCloud) -> None:
    volume = the(cloud, f"{VOLUME}/volumes", "volumes")["id"]
    path = f"{COMPUTE}/servers/{server(cloud)['id']}/os-volume_attachments"
    assert cloud.call("POST", path, {"volumeAttachment": {"volumeId": volume}}).status == 200


def check_attached(cloud: FakeCloud) -> None:
    check_settled(cloud)
    volume = the(cloud, f"{VOLUME}/volumes/detail", "volumes")
    assert volume["status"] == "in-use", volume
    guests = [node.hypervisor.observe_guest(server(cloud)["id"]) for node in cloud.nodes.values()]
    assert volume["id"] in guests[0].disks


def attached(cloud: FakeCloud) -> None:
    server_and_volume(cloud)
    attach(cloud)
    cloud.run()
    check_attached(cloud)


def detach(cloud: FakeCloud) -> None:
    volume = the(cloud, f"{VOLUME}/volumes", "volumes")["id"]
    path = f"{COMPUTE}/servers/{server(cloud)['id']}/os-volume_attachments/{volume}"
    assert cloud.call("DELETE", path).status == 202


def check_detached(cloud: FakeCloud) -> None:
    check_settled(cloud)
    assert the(cloud, f"{VOLUME}/volumes/detail", "volumes")["status"] == "available"


def check_snapshot(cloud: FakeCloud) -> None:
    check_settled(cloud)
    found = {image["name"]: image for image in cloud.call("GET", f"{IMAGE}/images").json["images"]}
    assert found["snap"]["status"] == "active" and found["snap"]["size"] > 0, found


def outside(cloud: FakeCloud) -> None:
    """A running server, and an external network that the operator made."""
    running_server(cloud)
    wanted = {"name": "public", "router:external": True}
    network = cloud.call("POST", f"{NETWORK}/networks", {"network": wanted}, **ADMIN).json["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "172.30.0.0/24", "enable_dhcp": False}
    assert cloud.call("POST", f"{NETWORK}/subnets", {"subnet": subnet}, **ADMIN).status == 201
    cloud.run()


def external(cloud: FakeCloud) -> str:
    return str(the(cloud, f"{NETWORK}/networks?router:external=true", "networks")["id"])


def give_floating_address(cloud: FakeCloud) -> None:
    gateway = {"name": "r", "external_gateway_info": {"network_id": external(cloud)}}
    router = cloud.call("POST", f"{NETWORK}/routers", {"router": gateway}).json["router"]["id"]
    subnet = the(cloud, f"{NETWORK}/subnets?cidr=10.9.0.0/24", "subnets")["id"]
    plugged = cloud.call("PUT", f"{NETWORK}/routers/{router}/add_router_interface", {"subnet_id": subnet})
    assert plugged.status == 200, plugged
    port = the(cloud, f"{NETWORK}/ports?device_id={server(cloud)['id']}", "ports")["id"]
    wanted = {"floating_network_id": external(cloud), "port_id": port}
    assert cloud.call("POST", f"{NETWORK}/floatingips", {"floatingip": wanted}).status == 201


def check_floating_address(cloud: FakeCloud) -> None:
    check_settled(cloud)
    assert the(cloud, f"{NETWORK}/floatingips", "floatingips")["status"] == "ACTIVE"


def reached_from_outside(cloud: FakeCloud) -> None:
    outside(cloud)
    give_floating_address(cloud)
    cloud.run()
    check_floating_address(cloud)


def take_network_down(cloud: FakeCloud) -> None:
    """Floating address, interface and router, in the order that the API demands."""
    floating = the(cloud, f"{NETWORK}/floatingips", "floatingips")["id"]
    assert cloud.call("DELETE", f"{NETWORK}/floatingips/{floating}").status == 204
    router = the(cloud, f"{NETWORK}/routers", "routers")["id"]
    subnet = the(cloud, f"{NETWORK}/subnets?cidr=10.9.0.0/24", "subnets")["id"]
    left = cloud.call("PUT", f"{NETWORK}/routers/{router}/remove_router_interface", {"subnet_id": subnet})
    assert left.status == 200, left
    assert cloud.call("DELETE", f"{NETWORK}/routers/{router}").status == 204


def check_no_router(cloud: FakeCloud) -> None:
    check_settled(cloud)
    assert cloud.call("GET", f"{NETWORK}/routers").json["routers"] == []


resize = act_on_server({"resize": {"flavorRef": "large"}})


def resized(cloud: FakeCloud) -> None:
    running_server(cloud)
    resize(cloud)
    cloud.run()
    check_status("VERIFY_RESIZE")(cloud)


SCENARIOS = {
    "create": Scenario(basics, create_server, check_settled),
    "delete": Scenario(running_server, delete_server, check_no_server),
    "attach": Scenario(server_and_volume, attach, check_attached),
    "detach": Scenario(attached, detach, check_detached),
    "delete with a volume": Scenario(attached, delete_server, check_no_server),
    "resize": Scenario(running_server, resize, check_status("VERIFY_RESIZE")),
    "confirm": Scenario(resized, act_on_server({"confirmResize": None}), check_settled),
    "revert": Scenario(resized, act_on_server({"revertResize": None}), check_settled),
    "snapshot": Scenario(running_server, act_on_server({"createImage": {"name": "snap"}}), check_snapshot),
    "shelve": Scenario(
        running_server, act_on_server({"shelve": None}), check_status("SHELVED", "SHELVED_OFFLOADED")
    ),
    "floating address": Scenario(outside, give_floating_address, check_floating_address),
    "no router": Scenario(reached_from_outside, take_network_down, check_no_router),
    "stop": Scenario(running_server, act_on_server({"os-stop": None}), check_status("SHUTOFF")),
    "reboot": Scenario(running_server, act_on_server({"reboot": {"type": "HARD"}}), check_settled),
}  # fmt: skip


def delete_all(cloud: FakeCloud) -> None:
    """Everything that demo has, in an order that the API allows."""
    for one in cloud.call("GET", f"{COMPUTE}/servers").json["servers"]:
        cloud.call("DELETE", f"{COMPUTE}/servers/{one['id']}")
    cloud.run_killed()
    if cloud.call("GET", f"{NETWORK}/routers").json["routers"]:
        take_network_down(cloud)
        cloud.run_killed()
    for path, plural in (
        (f"{VOLUME}/snapshots", "snapshots"), (f"{VOLUME}/volumes", "volumes"), (f"{IMAGE}/images", "images"),
        (f"{NETWORK}/ports", "ports"), (f"{NETWORK}/networks", "networks"),
    ):  # fmt: skip
        for one in cloud.call("GET", path).json[plural]:
            if one.get("device_owner", "") != "network:dhcp":
                cloud.call("DELETE", f"{path}/{one['id']}", **ADMIN)
        cloud.run_killed()
