"""The real cloud-init without a machine around it: in a room of its own behind a port, a client of our metadata."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lone_guest import IMAGES
from machine import Machine
from switch_lab import Guest

from pileus.network.drivers import PortSeen

DEBIAN = IMAGES / "debian.tar.zst"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces"),
    pytest.mark.skipif(not DEBIAN.exists(), reason="make guest-debian builds the image"),
]
SCRIPT = "#!/bin/sh\necho told > /var/log/user-data-ran\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGv0vGnVtQHAj0AyqvZ5YHqLX0zTzfQ5cYQ4pXa4ZJ3G tested"
# The disk is not the guest's, and there is no systemd to restart anything.
SETTINGS = "growpart:\n  mode: off\nresize_rootfs: false\nssh_deletekeys: false\n"
STAGES = ("init --local", "init", "modules --mode=config", "modules --mode=final")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian's files."""
    found = tmp_path_factory.mktemp("debian") / "root"
    found.mkdir()
    subprocess.run(["tar", "-C", found, "--zstd", "--numeric-owner", "-xf", DEBIAN], check=True)
    (found / "etc/cloud/cloud.cfg.d/99-room.cfg").write_text(SETTINGS)
    return found


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A cloud with real networks and guests that are none."""
    found = Machine(f"pc{os.getpid()}", hypervisor="fake", block="fake")
    try:
        found.pileus("up")
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def server(machine: Machine) -> Any:
    """A server with a key and a script, ACTIVE; nothing runs behind its port yet."""
    admin = machine.sdk("pileus-admin")
    image = admin.create_image("none", data=b"\0" * 1024, disk_format="raw", container_format="bare", wait=True)
    flavor = admin.compute.create_flavor(name="small", ram=64, vcpus=1, disk=1)
    network = admin.network.create_network(name="net")
    admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.6.0.0/24")
    admin.compute.create_keypair(name="k", public_key=KEY)
    made = admin.compute.create_server(
        name="roomy", image_id=image.id, flavor_id=flavor.id, networks=[{"uuid": network.id}], key_name="k",
        user_data=base64.b64encode(SCRIPT.encode()).decode(), metadata={"role": "tested"},
    )  # fmt: skip
    return admin.compute.wait_for_server(made, wait=60)


@pytest.fixture(scope="module")
def port(machine: Machine, server: Any) -> Any:
    return next(iter(machine.sdk("pileus-admin").network.ports(device_id=server.id)))


@pytest.fixture(scope="module")
def told(machine: Machine, server: Any, port: Any, root: Path) -> str:
    """What cloud-init said in all its stages, run as at a first boot on the server's card."""
    seen = PortSeen(id=port.id, device=f"tap{port.id[:11]}", netns=machine.namespace, up=True)
    guest = Guest(f"{machine.name}-guest", seen, port.mac_address)
    room = ["bwrap", "--bind", root, "/", "--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys",
            "--tmpfs", "/run", "--unshare-pid", "--unshare-uts", "--unshare-ipc", "--as-pid-1", "--cap-add", "ALL",
            "--die-with-parent"]  # fmt: skip
    script = "\n".join(f"cloud-init {stage} 2>&1 || echo FAILED {stage}" for stage in STAGES)
    keep = "cp /run/cloud-init/*.json /var/log/; hostname > /var/log/hostname"
    try:
        done = subprocess.run(
            ["ip", "netns", "exec", guest.netns, *room, "/bin/sh", "-c", f"{script}\n{keep}\n"],
            # where there is no firmware to ask, process 1 says what kind of cloud it is in
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "product_name": "OpenStack Nova"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    finally:
        guest.close()
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_finds_us_and_every_stage_succeeds(told: str, root: Path) -> None:
    assert "FAILED" not in told and "Traceback" not in told
    result = json.loads((root / "var/log/result.json").read_text())["v1"]
    assert result["errors"] == [] and "DataSourceOpenStackLocal" in result["datasource"]


def test_it_knows_who_it_is(told: str, root: Path, server: Any) -> None:
    known = json.loads((root / "var/log/instance-data.json").read_text())
    assert known["v1"]["instance_id"] == server.id
    assert known["ds"]["meta_data"]["meta"] == {"role": "tested"}
    assert (root / "var/log/hostname").read_text() == "roomy\n"
    assert (root / "etc/hostname").read_text() == "roomy\n"


def test_it_lets_the_owner_in_and_does_as_told(told: str, root: Path) -> None:
    assert KEY in (root / "home/debian/.ssh/authorized_keys").read_text()
    assert (root / "var/log/user-data-ran").read_text() == "told\n"


def test_it_sets_its_network_by_the_card_that_it_has(told: str, root: Path, port: Any) -> None:
    found = (root / "etc/systemd/network/10-cloud-init-eth0.network").read_text()
    assert f"MACAddress={port.mac_address}" in found and "DHCP=ipv4" in found
