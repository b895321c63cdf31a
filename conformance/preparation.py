"""What the configuration's placeholders stand for, made in a fresh cloud through its public API."""

import time
from collections.abc import Mapping
from pathlib import Path

from conformance.cloud import NODES, Cloud
from conformance.http_files import Files
from pileus.cli import demo
from pileus.cli.client import Client
from pileus.cli.up import passwords

GUEST = Path(".cache/guest/disk.qcow2").resolve()
IMAGES = ("cirros", "cirros-alt")
IMAGE_SECONDS = NODE_SECONDS = 60.0


def prepare(cloud: Cloud, files: Files) -> Mapping[str, str]:
    """Accounts, flavors, networks, two images, the volume type of several attachments; value of each placeholder."""
    config = cloud.config()
    admin = Client.of(config, "admin")
    wait_for_nodes(admin, len(cloud.nodes))
    demo.accounts(admin, config)
    demo.flavors(admin)
    networks = demo.networks(admin, Client.of(config, "demo"), config)
    images = [upload(admin, name) for name in IMAGES]
    multiattach = {"name": "multiattach", "extra_specs": {"multiattach": "<is> True"}}
    admin("POST", f"/volume/v3/{admin.project_id}/types", {"volume_type": multiattach})
    secret = passwords(config)
    return {
        "ADMIN_PASSWORD": secret["admin"],
        "DEMO_PASSWORD": secret["demo"],
        "IMAGE_ID": images[0],
        "IMAGE_ALT_ID": images[1],
        "IMAGE_NAME": IMAGES[0],
        "FLAVOR_ID": "42",
        "FLAVOR_ALT_ID": "84",
        "COMPUTE_HOST_1": NODES[0],
        "COMPUTE_HOST_2": NODES[1],
        "PUBLIC_NETWORK_ID": networks["public"],
        "HTTP_PORT": str(files.port),
        "SMALL_IMAGE_FILE": files.small,
        "QCOW2_FILE": files.qcow2,
        "PATH_TO_LOCAL_IMAGE_FILE": str(GUEST),
        "DNS_PORT": "53",
        "VENV": "",
    }


def wait_for_nodes(admin: Client, count: int) -> None:
    """Until all nodes have reported; raises RuntimeError."""
    ends = time.monotonic() + NODE_SECONDS
    while len(seen := admin("GET", "/compute/v2.1/os-hypervisors")["hypervisors"]) < count:
        if time.monotonic() > ends:
            raise RuntimeError(f"{len(seen)} of {count} nodes reported: see the log of the other")
        time.sleep(0.2)


def upload(admin: Client, name: str) -> str:
    """The guest image under a name of its own, public and active; its id."""
    body = {"name": name, "disk_format": "qcow2", "container_format": "bare", "visibility": "public"}
    path = f"/image/v2/images/{admin('POST', '/image/v2/images', body)['id']}"
    admin.upload(path.rpartition("/")[2], GUEST)
    ends = time.monotonic() + IMAGE_SECONDS
    while (seen := admin("GET", path))["status"] != "active":
        if time.monotonic() > ends:
            raise RuntimeError(f"image {name} is {seen['status']}")
        time.sleep(0.2)
    return str(seen["id"])
