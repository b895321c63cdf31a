"""A Debian with the real cloud-init configures itself from what we tell: the metadata service, a config drive alone."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from lone_guest import IMAGES, SSH
from machine import Machine, eventually

pytestmark = pytest.mark.slow
DEBIAN = IMAGES / "debian.qcow2"
BOOT_SECONDS = 900  # 100 to 150 CPU seconds for each of two guests under TCG, on a machine with other work to do
SCRIPT = '#!/bin/sh\necho "$(hostname) was told" > /var/log/user-data-ran\n'
DRY = "10.88.0"  # the network without DHCP


def inside(cloud: Machine, address: str, command: str, check: bool = True) -> str:
    """A command in a Debian guest, with the demo's key."""
    login = [*SSH, "-i", str(cloud.state / "first_key"), f"debian@{address}"]
    return cloud.beside([*login, command], check=check)


def boot(cloud: Machine, name: str, *words: str) -> None:
    cloud.openstack("server", "create", "--flavor", "debian", "--image", "debian", "--key-name", "demo",
                    "--user-data", str(cloud.folder / "script"), "--property", "role=tested", *words, name)  # fmt: skip


def reached(cloud: Machine, name: str) -> str:
    """A floating address for a server as soon as it runs, and ssh by it."""
    demo = cloud.sdk()
    server = demo.compute.wait_for_server(demo.compute.find_server(name), wait=300)
    ip = demo.network.create_ip(floating_network_id=demo.network.find_network("public").id)
    demo.network.update_ip(ip, port_id=next(iter(demo.network.ports(device_id=server.id))).id)
    address = str(ip.floating_ip_address)
    if not eventually(lambda: "yes" in inside(cloud, address, "echo yes", check=False), BOOT_SECONDS, 2):
        raise AssertionError(f"{name} does not answer: {cloud.tell('console', 'log', 'show', name)[-3000:]}")
    return address


@pytest.fixture(scope="module")
def guests(cloud: Machine) -> Mapping[str, str]:
    """Two guests, booted at the same time: the address of each."""
    if not DEBIAN.exists():
        pytest.skip("make guest-debian builds the image")
    (cloud.folder / "script").write_text(SCRIPT)
    admin = cloud.sdk("pileus-admin")
    admin.compute.create_flavor(name="debian", ram=512, vcpus=1, disk=3)
    cloud.openstack("image", "create", "--public", "--disk-format", "qcow2", "--file", str(DEBIAN), "debian",
                    cloud="pileus-admin")  # fmt: skip
    assert eventually(lambda: admin.image.find_image("debian").status == "active", 120)
    cloud.openstack("network", "create", "dry")
    cloud.openstack("subnet", "create", "--network", "dry", "--subnet-range", f"{DRY}.0/24", "--no-dhcp",
                    "--dns-nameserver", "192.0.2.53", "dry4")  # fmt: skip
    cloud.tell("router", "add", "subnet", "router1", "dry4")
    boot(cloud, "served", "--network", "private")
    boot(cloud, "driven", "--network", "dry", "--config-drive", "True")
    return {name: reached(cloud, name) for name in ("served", "driven")}


@pytest.mark.parametrize("name", ["served", "driven"])
def test_cloud_init_configures_a_debian(cloud: Machine, guests: Mapping[str, str], name: str) -> None:
    def run(command: str) -> str:
        return inside(cloud, guests[name], command)

    assert eventually(lambda: "running" not in inside(cloud, guests[name], "cloud-init status", check=False), 300, 2)
    assert run("cloud-init status") == "status: done\n"
    result = json.loads(run("cat /run/cloud-init/result.json"))["v1"]
    assert result["errors"] == []
    wanted = "OpenStackLocal" if name == "served" else "ConfigDrive"
    assert wanted in result["datasource"]
    assert run("hostname") == f"{name}\n"
    assert eventually(lambda: run("cat /var/log/user-data-ran") == f"{name} was told\n", 60)
    assert run("sudo id -u") == "0\n"
    assert int(run("df -m --output=size / | tail -n 1")) > 2600
    known = json.loads(run("sudo cat /run/cloud-init/instance-data.json"))
    assert known["v1"]["instance_id"] == cloud.sdk().compute.find_server(name).id
    assert known["ds"]["meta_data"]["hostname"] == f"{name}.novalocal"
    assert known["ds"]["meta_data"]["meta"] == {"role": "tested"}


def test_the_network_is_set_by_dhcp_where_it_is_served(cloud: Machine, guests: Mapping[str, str]) -> None:
    port = one_port(cloud, "served")
    shown = inside(cloud, guests["served"], "ip -4 -o addr show eth0; cat /etc/systemd/network/10-cloud-init-*.network")
    assert port.fixed_ips[0]["ip_address"] in shown
    assert "DHCP=ipv4" in shown and f"MACAddress={port.mac_address}" in shown


def test_the_network_is_set_from_the_config_drive_where_nothing_serves(
    cloud: Machine, guests: Mapping[str, str]
) -> None:
    def run(command: str) -> str:
        return inside(cloud, guests["driven"], command)

    port = one_port(cloud, "driven")
    shown = run("ip -4 -o addr show eth0; cat /etc/systemd/network/10-cloud-init-*.network; resolvectl dns")
    assert f"{port.fixed_ips[0]['ip_address']}/24" in shown
    assert "DHCP=no" in shown and f"MACAddress={port.mac_address}" in shown and "192.0.2.53" in shown
    assert run("ip route show default").startswith(f"default via {DRY}.1 ")
    assert "refused" in run("timeout 5 bash -c ': < /dev/tcp/169.254.169.254/80' 2>&1 || echo refused")


def one_port(cloud: Machine, name: str) -> Any:
    demo = cloud.sdk()
    return next(iter(demo.network.ports(device_id=demo.compute.find_server(name).id)))
