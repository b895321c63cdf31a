"""The journey of issue "a cloud that boots a real server": the real clients, real guests, real packets.

Tests run in the order of the file; each leaves behind what it says.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openstack
import pytest
from keystoneauth1.exceptions import ClientException
from machine import Machine, eventually, guest_image
from websockets.sync.client import connect

REFUSED = (openstack.exceptions.SDKException, ClientException)


@pytest.fixture(scope="module")
def demo(cloud: Machine) -> Any:
    return cloud.sdk()


@pytest.fixture(scope="module")
def admin(cloud: Machine) -> Any:
    return cloud.sdk("pileus-admin")


def floating_address(server: Any) -> str:
    return next(a["addr"] for n in server.addresses.values() for a in n if a["OS-EXT-IPS:type"] == "floating")


def gone(read: Any, *words: Any) -> bool:
    try:
        return read(*words) is None
    except openstack.exceptions.NotFoundException:
        return True


# --- 0: up ------------------------------------------------------------------------------------------------


def test_status_tells_a_program_what_it_needs(cloud: Machine) -> None:
    told = json.loads(cloud.pileus("status", "--json"))
    assert told["ready"] and told["auth_url"] == f"http://127.0.0.1:{cloud.port}/identity/v3"
    assert Path(told["clouds_yaml"]).exists()
    assert {p["role"] for p in told["processes"]} == {"supervisor", "api", "worker", "agent"}
    assert sum(p["resident_bytes"] for p in told["processes"]) < 250 << 20


def test_a_second_run_changes_nothing(cloud: Machine, demo: Any) -> None:
    def everything() -> list[Any]:
        lists = (demo.compute.servers(), demo.network.ports(), demo.network.networks(), demo.image.images(),
                 demo.network.ips(), demo.network.security_group_rules(), demo.compute.keypairs(),
                 demo.block_storage.types())  # fmt: skip
        return [sorted(r.id or r.name for r in found) for found in lists]

    before = everything()
    assert "up already" in cloud.pileus("up")
    cloud.pileus("demo", "--image", str(guest_image()))
    assert everything() == before
    assert cloud.pileus("verify") == ""


# --- 1: identity ------------------------------------------------------------------------------------------


def test_people_log_in_and_others_do_not(cloud: Machine, admin: Any) -> None:
    assert cloud.openstack("token", "issue")["project_id"]
    assert {entry["Type"] for entry in cloud.openstack("catalog", "list")} >= {
        "identity",
        "compute",
        "image",
        "network",
    }
    cloud.openstack("project", "create", "journey", cloud="pileus-admin")
    cloud.openstack("user", "create", "--password", "s3cret-words", "traveller", cloud="pileus-admin")
    cloud.tell("role", "add", "--user", "traveller", "--project", "journey", "member", cloud="pileus-admin")
    assert cloud.openstack("role", "assignment", "list", "--user", "traveller", cloud="pileus-admin")
    url = f"http://127.0.0.1:{cloud.port}/identity"
    there = {"auth_url": url, "username": "traveller", "user_domain_id": "default", "project_name": "journey",
             "project_domain_id": "default", "region_name": "RegionOne"}  # fmt: skip
    traveller = openstack.connect(password="s3cret-words", **there)
    assert traveller.authorize()
    with pytest.raises(REFUSED):
        openstack.connect(password="wrong", **there).authorize()
    made = traveller.identity.create_application_credential(user=traveller.current_user_id, name="robot")
    robot = openstack.connect(auth_type="v3applicationcredential", auth={
        "auth_url": url, "application_credential_id": made.id, "application_credential_secret": made.secret,
    }, region_name="RegionOne")  # fmt: skip
    assert list(robot.compute.servers()) == []
    admin.identity.update_user(traveller.current_user_id, is_enabled=False)
    for refused in (traveller, robot):
        with pytest.raises(REFUSED):
            list(refused.compute.servers())
    cloud.tell("user", "delete", "traveller", cloud="pileus-admin")
    cloud.tell("project", "delete", "journey", cloud="pileus-admin")


# --- 2: images --------------------------------------------------------------------------------------------


def test_images_go_in_and_come_out_as_they_were(cloud: Machine, demo: Any, tmp_path: Path) -> None:
    raw = tmp_path / "small.raw"
    raw.write_bytes(bytes(range(256)) * 4096)
    made = cloud.openstack(
        "image", "create", "--file", str(raw), "--disk-format", "raw", "--property", "color=red", "raw"
    )
    assert made["status"] == "active" and made["properties"]["color"] == "red"
    assert made["properties"]["os_hash_algo"] == "sha512"
    cloud.tell("image", "save", "--file", str(tmp_path / "back.raw"), "raw")
    assert (tmp_path / "back.raw").read_bytes() == raw.read_bytes()
    cloud.tell("image", "set", "--protected", "raw")
    with pytest.raises(openstack.exceptions.ForbiddenException):
        demo.image.delete_image(made["id"])
    cloud.tell("image", "set", "--unprotected", "raw")
    cloud.tell("image", "delete", "raw")


@pytest.mark.parametrize("kind", ["backing file", "data file", "vmdk", "not what it says", "cut"])
def test_a_hostile_image_is_refused_and_leaves_nothing(cloud: Machine, demo: Any, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.raw"  # a file of ours: qemu-img empties what it is told to use as a data file
    secret.write_bytes(b"a host's secret" * 100)
    bad, options = tmp_path / "bad", {"backing file": ["-b", str(secret), "-F", "raw"],
                                      "data file": ["-o", f"data_file={secret},data_file_raw=on"]}  # fmt: skip
    if kind in options:
        subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", *options[kind][:2], *options[kind][2:],
                        str(bad), "1M"], check=False)  # fmt: skip
    elif kind == "vmdk":
        bad.write_text('# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "/etc/passwd" 0\n')
    else:
        bad.write_bytes(guest_image().read_bytes()[: 1 << 20] if kind == "cut" else b"hello" * 1000)
    image = demo.image.create_image(name="bad", disk_format="qcow2", container_format="bare")
    try:
        with bad.open("rb") as data:
            image.data = data
            answer = demo.image.put(f"/images/{image.id}/file", data=data.read(),
                                    headers={"content-type": "application/octet-stream"})  # fmt: skip
        assert answer.status_code >= 400 or eventually(lambda: demo.image.get_image(image.id).status == "killed", 10)
    finally:
        demo.image.delete_image(image.id)
    assert not list((cloud.state / "images").rglob(f"*{image.id}*"))


# --- 3 and 4: networks and servers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(cloud: Machine, demo: Any) -> Any:
    """A server that the client makes from nothing: own network, router, group, key, user data, floating address."""
    cloud.openstack("network", "create", "yard")
    cloud.openstack("subnet", "create", "--network", "yard", "--subnet-range", "10.55.0.0/24", "yard4")
    cloud.openstack("subnet", "create", "--network", "yard", "--ip-version", "6", "--ipv6-ra-mode", "slaac",
                    "--ipv6-address-mode", "slaac", "--subnet-range", "fd00:55::/64", "yard6")  # fmt: skip
    cloud.openstack("router", "create", "--external-gateway", "public", "yard-router")
    cloud.tell("router", "add", "subnet", "yard-router", "yard4")
    cloud.tell("router", "add", "subnet", "yard-router", "yard6")
    cloud.openstack("security", "group", "create", "web")
    for port in ("22", "80"):
        cloud.openstack("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", port, "web")
    script = cloud.folder / "hello.sh"
    script.write_text("#!/bin/sh\necho ran > /tmp/ran\n")
    made = cloud.openstack(
        "server", "create", "--flavor", "m1.nano", "--image", "cirros", "--network", "yard", "--security-group", "web",
        "--key-name", "demo", "--user-data", str(script), "--property", "role=test", "--wait", "traveller",
    )  # fmt: skip
    assert made["status"] == "ACTIVE"
    address = cloud.openstack("floating", "ip", "create", "public")["floating_ip_address"]
    cloud.tell("server", "add", "floating", "ip", "traveller", address)
    cloud.wait_for_ssh(address)
    return demo.compute.get_server(made["id"])


def test_a_server_knows_itself(cloud: Machine, server: Any) -> None:
    address = floating_address(server)
    assert cloud.ssh(address, "hostname") == "traveller\n"
    assert eventually(lambda: cloud.ssh(address, "cat /tmp/ran", check=False) == "ran\n", 10)
    told = json.loads(cloud.ssh(address, "curl -s http://169.254.169.254/openstack/latest/meta_data.json"))
    assert told["uuid"] == server.id and told["meta"]["role"] == "test"
    assert "traveller" in cloud.ssh(address, "curl -s http://169.254.169.254/latest/meta-data/hostname")
    assert "fd00:55::" in eventually(
        lambda: cloud.ssh(address, "ip -o -6 addr show eth0 | grep fd00:55", check=False), 20
    )
    assert "mtu 1450" in cloud.ssh(address, "ip link show eth0")


def test_a_rule_counts_from_the_moment_it_is_made(cloud: Machine, demo: Any, server: Any) -> None:
    address = floating_address(server)
    ping = ["ping", "-c", "1", "-W", "2", address]
    assert "1 received" not in cloud.beside(ping, check=False)
    group = demo.network.find_security_group("web")
    rule = demo.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="icmp", ether_type="IPv4"
    )
    assert eventually(lambda: "1 received" in cloud.beside(ping, check=False), 15)
    demo.network.delete_security_group_rule(rule)
    assert eventually(lambda: "1 received" not in cloud.beside(ping, check=False), 15)


def test_neighbours_reach_each_other_and_strangers_do_not(cloud: Machine, demo: Any, server: Any) -> None:
    """The demo's first server is on another network, behind another router: only its floating address is reached."""
    first = demo.compute.find_server("first-server", details=True)
    first = demo.compute.get_server(first.id)
    fixed = next(a["addr"] for n in first.addresses.values() for a in n if a["OS-EXT-IPS:type"] == "fixed")
    mine = floating_address(server)
    assert "1 received" in cloud.ssh(mine, f"ping -c 1 -W 3 {floating_address(first)}", check=False)
    assert "1 received" not in cloud.ssh(mine, f"ping -c 1 -W 2 {fixed} || true")


def test_power_and_pause(cloud: Machine, demo: Any, server: Any) -> None:
    address = floating_address(server)
    boots = "awk '{ print $1 }' /proc/uptime"
    cloud.tell("server", "reboot", "--wait", "traveller")
    cloud.wait_for_ssh(address)
    assert float(cloud.ssh(address, boots)) < 60
    cloud.tell("server", "reboot", "--hard", "--wait", "traveller")
    cloud.wait_for_ssh(address)
    demo.compute.pause_server(server)
    demo.compute.wait_for_server(server, status="PAUSED")
    assert "yes" not in cloud.ssh(address, "echo yes", check=False)
    demo.compute.unpause_server(server)
    demo.compute.wait_for_server(server)
    cloud.ssh(address, "echo kept > /dev/shm/memory")
    demo.compute.suspend_server(server)
    demo.compute.wait_for_server(server, status="SUSPENDED")
    demo.compute.resume_server(server)
    demo.compute.wait_for_server(server)
    cloud.wait_for_ssh(address)
    assert cloud.ssh(address, "cat /dev/shm/memory") == "kept\n"
    demo.compute.stop_server(server)
    demo.compute.wait_for_server(server, status="SHUTOFF")
    demo.compute.start_server(server)
    demo.compute.wait_for_server(server)
    cloud.wait_for_ssh(address)
    actions = {a.action for a in demo.compute.server_actions(server)}
    assert actions >= {"create", "reboot", "pause", "unpause", "suspend", "resume", "stop", "start"}


def test_resize_changes_the_machine_and_can_be_taken_back(cloud: Machine, demo: Any, admin: Any, server: Any) -> None:
    address = floating_address(server)
    bigger = admin.compute.create_flavor(name="journey", ram=256, vcpus=2, disk=2)
    cloud.ssh(address, "echo precious > ~/file; sync")
    for flavor, finish, processors in ((bigger, "revert", "1"), (bigger, "confirm", "2")):
        demo.compute.resize_server(server, flavor)
        demo.compute.wait_for_server(server, status="VERIFY_RESIZE", wait=120)
        cloud.wait_for_ssh(address)
        assert cloud.ssh(address, "grep -c ^processor /proc/cpuinfo").strip() == "2"
        assert int(cloud.ssh(address, "df -m / | awk 'END { print $2 }'")) > 1800
        getattr(demo.compute, f"{finish}_server_resize")(server)
        demo.compute.wait_for_server(server, wait=120)
        cloud.wait_for_ssh(address)
        assert cloud.ssh(address, "grep -c ^processor /proc/cpuinfo").strip() == processors
        assert cloud.ssh(address, "cat ~/file") == "precious\n"


def test_rescue_shelve_and_rebuild(cloud: Machine, demo: Any, server: Any) -> None:
    address = floating_address(server)
    cloud.ssh(address, "echo precious > ~/file; sync")
    demo.compute.rescue_server(server)
    demo.compute.wait_for_server(server, status="RESCUE", wait=120)
    cloud.wait_for_ssh(address)
    assert "vdb" in cloud.ssh(address, "cat /proc/partitions")
    demo.compute.unrescue_server(server)
    demo.compute.wait_for_server(server, wait=120)
    cloud.wait_for_ssh(address)
    demo.compute.shelve_server(server)
    assert eventually(lambda: demo.compute.get_server(server.id).status == "SHELVED_OFFLOADED", 120)
    demo.compute.unshelve_server(server)
    demo.compute.wait_for_server(server, wait=120)
    cloud.wait_for_ssh(address)
    assert cloud.ssh(address, "cat ~/file") == "precious\n"
    demo.compute.rebuild_server(server, image=demo.image.find_image("cirros"), name="traveller")
    demo.compute.wait_for_server(demo.compute.get_server(server.id), wait=120)
    cloud.wait_for_ssh(address)
    assert "No such file" in cloud.ssh(address, "cat ~/file 2>&1 || true")


def test_an_image_of_a_server_holds_its_disk(cloud: Machine, demo: Any, server: Any) -> None:
    address = floating_address(server)
    cloud.ssh(address, "echo frozen > ~/frozen; sync")
    cloud.tell("server", "image", "create", "--name", "frozen", "--wait", "traveller")
    assert demo.image.find_image("frozen").status == "active"
    twin = demo.create_server(
        "twin", image="frozen", flavor="journey", network="yard", security_groups=["web"], key_name="demo",
        wait=True, auto_ip=False,
    )  # fmt: skip
    ip = demo.network.create_ip(floating_network_id=demo.network.find_network("public").id)
    demo.network.update_ip(ip, port_id=next(iter(demo.network.ports(device_id=twin.id))).id)
    cloud.wait_for_ssh(ip.floating_ip_address)
    assert cloud.ssh(ip.floating_ip_address, "cat ~/frozen") == "frozen\n"
    demo.delete_server("twin", wait=True)
    demo.network.delete_ip(ip)
    demo.image.delete_image(demo.image.find_image("frozen"))


def test_ports_come_and_go_while_it_runs(cloud: Machine, demo: Any, server: Any) -> None:
    address = floating_address(server)
    cloud.openstack("network", "create", "second")
    cloud.openstack("subnet", "create", "--network", "second", "--subnet-range", "10.66.0.0/24", "second4")
    port = demo.network.create_port(network_id=demo.network.find_network("second").id)
    demo.compute.create_server_interface(server, port_id=port.id)
    assert eventually(lambda: port.mac_address in cloud.ssh(address, "ip -o link"), 30)
    card = cloud.ssh(address, f"ip -o link | awk '/{port.mac_address}/ {{ print $2 }}'").strip().rstrip(":")
    fixed = port.fixed_ips[0]["ip_address"]
    cloud.ssh(address, f"sudo ip addr add {fixed}/24 dev {card}; sudo ip link set {card} up; ping -c 1 -W 5 10.66.0.2")
    demo.compute.delete_server_interface(port.id, server=server)
    assert eventually(lambda: port.mac_address not in cloud.ssh(address, "ip -o link"), 30)
    assert eventually(lambda: gone(demo.network.get_port, port.id) or not demo.network.get_port(port.id).device_id, 20)
    if not gone(demo.network.get_port, port.id):
        demo.network.delete_port(port.id)
    assert eventually(lambda: not list(demo.network.ports(network_id=port.network_id, device_owner="compute:nova")), 20)
    demo.delete_network("second")


def test_the_screen_opens(cloud: Machine, demo: Any, server: Any) -> None:
    url = urlsplit(cloud.openstack("console", "url", "show", "--novnc", "traveller")["url"])
    page = cloud.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{url.netloc}{url.path}"])
    assert page.strip() == "200"
    path = parse_qs(url.query)["path"][0]  # what noVNC's page opens
    with connect(f"ws://{url.netloc}/{path.lstrip('/')}", subprotocols=["binary"]) as screen:
        assert screen.recv(timeout=10).startswith(b"RFB 003.008")
    log = cloud.tell("console", "log", "show", "--lines", "10", "traveller")
    assert len(log.splitlines()) >= 3


def test_a_config_drive_and_no_metadata_service_is_enough(cloud: Machine, demo: Any, server: Any) -> None:
    cloud.openstack(
        "server", "create", "--flavor", "m1.nano", "--image", "cirros", "--network", "yard", "--security-group", "web",
        "--key-name", "demo", "--config-drive", "True", "--wait", "driven",
    )  # fmt: skip
    driven = demo.compute.find_server("driven")
    ip = demo.network.create_ip(floating_network_id=demo.network.find_network("public").id)
    demo.network.update_ip(ip, port_id=next(iter(demo.network.ports(device_id=driven.id))).id)
    cloud.wait_for_ssh(ip.floating_ip_address)
    assert "config drive" in cloud.ssh(ip.floating_ip_address, "sudo cat /var/log/instance-data.log")
    drive = "sudo mount $(blkid -L config-2 -o device) /mnt; sudo cat /mnt/openstack/latest/meta_data.json"
    assert driven.id in cloud.ssh(ip.floating_ip_address, drive)
    demo.delete_server("driven", wait=True)
    demo.network.delete_ip(ip)


def test_what_fits_nowhere_says_why(cloud: Machine, demo: Any, admin: Any) -> None:
    huge = admin.compute.create_flavor(name="huge", ram=192, vcpus=1, disk=1 << 24)
    made = demo.compute.create_server(
        name="huge", flavor_id=huge.id, image_id=demo.image.find_image("cirros").id,
        networks=[{"uuid": demo.network.find_network("private").id}],
    )  # fmt: skip
    assert eventually(lambda: demo.compute.get_server(made.id).status == "ERROR", 30)
    assert "DISK_GB" in demo.compute.get_server(made.id).fault["message"]
    demo.delete_server("huge", wait=True)
    admin.compute.delete_flavor(huge)


# --- 5: volumes -------------------------------------------------------------------------------------------


def test_a_volume_keeps_its_bytes_from_server_to_server(cloud: Machine, demo: Any, server: Any) -> None:
    address = floating_address(server)
    first = demo.compute.find_server("first-server")
    cloud.openstack("volume", "create", "--size", "1", "keep")
    assert eventually(lambda: demo.block_storage.find_volume("keep").status == "available", 30)
    cloud.openstack("server", "add", "volume", "traveller", "keep")
    assert eventually(lambda: "vdb" in cloud.ssh(address, "cat /proc/partitions"), 30)
    volume = demo.block_storage.find_volume("keep")
    assert cloud.ssh(address, "cat /sys/block/vdb/serial").strip() == volume.id[:20]
    assert cloud.ssh(address, "sudo head -c 1048576 /dev/vdb | md5sum").startswith("b6d81b360a5672d80c27430f39153e2c")
    cloud.ssh(address, "sudo mkfs -t ext4 -q /dev/vdb; sudo mount /dev/vdb /mnt; sudo sh -c 'echo kept > /mnt/f; sync'")
    demo.block_storage.microversion = "3.59"
    cloud.tell("--os-volume-api-version", "3.42", "volume", "set", "--size", "2", "keep")
    assert eventually(lambda: cloud.ssh(address, "cat /sys/block/vdb/size").strip() == str(2 << 21), 30)
    cloud.ssh(address, "sudo umount /mnt")
    cloud.tell("server", "remove", "volume", "traveller", "keep")
    assert eventually(lambda: demo.block_storage.find_volume("keep").status == "available", 30)
    cloud.openstack("server", "add", "volume", "first-server", "keep")
    other = floating_address(demo.compute.get_server(first.id))
    assert eventually(lambda: "vdb" in cloud.ssh(other, "cat /proc/partitions"), 30)
    assert cloud.ssh(other, "sudo mount /dev/vdb /mnt; cat /mnt/f; sudo umount /mnt") == "kept\n"
    cloud.tell("server", "remove", "volume", "first-server", "keep")
    assert eventually(lambda: demo.block_storage.find_volume("keep").status == "available", 30)


def test_snapshots_clones_and_images_of_a_volume(cloud: Machine, demo: Any) -> None:
    storage = demo.block_storage
    volume = storage.find_volume("keep")
    snapshot = storage.create_snapshot(volume_id=volume.id, name="then")
    assert eventually(lambda: storage.get_snapshot(snapshot).status == "available", 30)
    clone = storage.create_volume(size=2, snapshot_id=snapshot.id, name="clone")
    assert eventually(lambda: storage.get_volume(clone).status == "available", 60)
    cloud.tell("image", "create", "--volume", "clone", "--disk-format", "raw", "of-volume")
    assert eventually(lambda: (i := demo.image.find_image("of-volume")) and i.status == "active", 90)
    other = storage.create_volume(size=1, volume_type=None, name="other")
    assert eventually(lambda: storage.get_volume(other).status == "available", 30)
    demo.image.delete_image(demo.image.find_image("of-volume"))
    for thing in (clone, other):
        storage.delete_volume(thing)
    storage.delete_snapshot(snapshot)
    assert eventually(lambda: gone(storage.get_volume, clone.id) and gone(storage.get_snapshot, snapshot.id), 60)


def test_a_type_puts_volumes_on_another_back_end(cloud: Machine, demo: Any, admin: Any, server: Any) -> None:
    """Made there, written in a guest, cloned there; what another back end would have to serve is refused."""
    storage, address = demo.block_storage, floating_address(server)
    cloud.openstack("volume", "create", "--size", "1", "--type", "second", "afar")
    cloud.openstack("volume", "create", "--size", "1", "--type", "file", "near")
    assert eventually(lambda: all(storage.find_volume(n).status == "available" for n in ("afar", "near")), 30)
    found = {name: storage.find_volume(name) for name in ("afar", "near")}
    for name, backend in (("afar", "second"), ("near", "file")):
        assert found[name].volume_type == backend
        assert admin.block_storage.get_volume(found[name].id).host.endswith(f"@{backend}#{backend}")
        assert [p.parts[-3] for p in (cloud.state / "volumes").rglob(f"{found[name].id}.raw")] == [backend]
    cloud.openstack("server", "add", "volume", "traveller", "afar")
    assert eventually(lambda: "vdb" in cloud.ssh(address, "cat /proc/partitions"), 30)
    cloud.ssh(address, "printf 'written afar' | sudo dd of=/dev/vdb bs=512 seek=7 conv=fsync")
    cloud.tell("server", "remove", "volume", "traveller", "afar")
    assert eventually(lambda: storage.find_volume("afar").status == "available", 30)
    clone = storage.create_volume(size=1, source_volume_id=found["afar"].id, name="afar-twin")
    assert eventually(lambda: storage.get_volume(clone).status == "available", 60)
    assert storage.get_volume(clone).volume_type == "second"
    for volume in (found["afar"], clone):
        with (cloud.state / "volumes" / "second" / "volumes" / f"{volume.id}.raw").open("rb") as file:
            file.seek(7 * 512)
            assert file.read(12) == b"written afar"
    with pytest.raises(openstack.exceptions.BadRequestException, match="different back ends"):
        storage.create_volume(size=1, source_volume_id=found["afar"].id, volume_type="file", name="wrong")
    with pytest.raises(openstack.exceptions.BadRequestException, match="volume_backend_name"):
        storage.retype_volume(found["afar"], "file", "never")
    assert storage.get_volume(found["afar"].id).volume_type == "second"
    storage.retype_volume(found["afar"], "file", "on-demand")
    assert eventually(lambda: storage.get_volume(found["afar"].id).status == "available", 60)
    assert admin.block_storage.get_volume(found["afar"].id).host.endswith("@file#file")
    [moved] = (cloud.state / "volumes").rglob(f"{found['afar'].id}.raw")
    assert moved.parts[-3] == "file" and moved.read_bytes()[7 * 512 :][:12] == b"written afar"
    for volume in (clone, *found.values()):
        storage.delete_volume(volume)
    assert eventually(lambda: all(gone(storage.get_volume, v.id) for v in (clone, *found.values())), 30)
    assert not [path for v in (clone, *found.values()) for path in (cloud.state / "volumes").rglob(f"{v.id}*")]


def test_boot_from_volume(cloud: Machine, demo: Any, server: Any) -> None:
    cloud.openstack(
        "server", "create", "--flavor", "m1.nano", "--image", "cirros", "--boot-from-volume", "1", "--network", "yard",
        "--security-group", "web", "--key-name", "demo", "--wait", "from-volume",
    )  # fmt: skip
    made = demo.compute.find_server("from-volume")
    ip = demo.network.create_ip(floating_network_id=demo.network.find_network("public").id)
    demo.network.update_ip(ip, port_id=next(iter(demo.network.ports(device_id=made.id))).id)
    cloud.wait_for_ssh(ip.floating_ip_address)
    demo.delete_server("from-volume", wait=True)
    demo.network.delete_ip(ip)
    for volume in demo.block_storage.volumes():
        if not volume.name:
            demo.block_storage.delete_volume(volume)


# --- 6: delete --------------------------------------------------------------------------------------------


def test_everything_removed_leaves_nothing(cloud: Machine, demo: Any, admin: Any) -> None:
    for server in demo.compute.servers():
        demo.compute.delete_server(server)
    assert eventually(lambda: not list(demo.compute.servers()), 60)
    for volume in demo.block_storage.volumes():
        demo.block_storage.delete_volume(volume)
    for ip in demo.network.ips():
        demo.network.delete_ip(ip)
    for router in demo.network.routers():
        for port in demo.network.ports(device_id=router.id):
            if port.device_owner == "network:router_interface":
                for fixed in port.fixed_ips:
                    demo.network.remove_interface_from_router(router, subnet_id=fixed["subnet_id"])
        assert eventually(lambda: not [p for p in demo.network.ports(device_id=router.id)
                                       if p.device_owner == "network:router_interface"], 30)  # fmt: skip
        demo.network.delete_router(router)
    for name in ("yard", "private", "second"):
        if demo.network.find_network(name):
            assert eventually(lambda: _delete_network(demo, name), 30)
    group = demo.network.find_security_group("web")
    if group:
        demo.network.delete_security_group(group)
    admin.network.delete_network(admin.network.find_network("public"))
    for image in admin.image.images():
        admin.image.delete_image(image)
    assert eventually(lambda: not list(demo.block_storage.volumes()) and not list(admin.network.networks()), 60)
    assert eventually(lambda: cloud.pileus("verify", check=False) == "", 30), cloud.pileus("verify", check=False)
    left = cloud.beside(["ip", "-o", "link"])
    assert not [line for line in left.splitlines() if line.split()[1].startswith(("tap", "br", "vx", "qr", "dh"))]
    assert not [p for p in cloud.traces() if "qemu" in p or "dnsmasq" in p or "-r-" in p or "-d-" in p]


def _delete_network(demo: Any, name: str) -> bool:
    try:
        demo.network.delete_network(demo.network.find_network(name))
    except openstack.exceptions.ConflictException:
        return False
    return True


def test_down_and_purge_leave_the_host_as_it_was(cloud: Machine) -> None:
    cloud.pileus("down")
    assert cloud.traces() == []
    cloud.pileus("purge")
    assert not cloud.state.exists()
    time.sleep(0.2)
    assert cloud.traces() == []
