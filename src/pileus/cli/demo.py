"""pileus demo: what a new cloud needs to be useful, and a first server to log in to.

Everything is made through the public API and only when it is missing, so that a second run changes nothing.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from pileus.cli.client import ApiError, Client
from pileus.cli.shell import SSH
from pileus.cli.up import passwords
from pileus.core.config import Config

FLAVORS = (  # name, id, MiB of RAM, vCPUs, GiB of disk
    ("m1.nano", "42", 192, 1, 1), ("m1.micro", "84", 256, 1, 1), ("m1.tiny", "1", 512, 1, 1),
    ("m1.small", "2", 2048, 1, 20), ("m1.medium", "3", 4096, 2, 40), ("m1.large", "4", 8192, 4, 80),
    ("m1.xlarge", "5", 16384, 8, 160),
)  # fmt: skip
BOOT_SECONDS = 240


def say(text: str) -> None:
    """Progress, at once."""
    print(f"  {text}", flush=True)


def accounts(admin: Client, config: Config) -> None:
    """Projects and users demo and alt_demo; admin in demo too, as DevStack has it."""
    secret = passwords(config)
    roles = {r["name"]: r["id"] for r in admin("GET", "/identity/v3/roles")["roles"]}
    for name in ("demo", "alt_demo"):
        project = admin.ensure("/identity/v3/projects", "project", name, domain_id="default")
        user = admin.ensure("/identity/v3/users", "user", name, domain_id="default", password=secret[name])
        admin("PUT", f"/identity/v3/projects/{project['id']}/users/{user['id']}/roles/{roles['member']}")
        if name == "demo":
            boss = admin.find("/identity/v3/users", "users", "admin") or {}
            admin("PUT", f"/identity/v3/projects/{project['id']}/users/{boss['id']}/roles/{roles['admin']}")


def flavors(admin: Client) -> None:
    """The flavors that DevStack has, with its ids."""
    there = {f["name"] for f in admin("GET", "/compute/v2.1/flavors?is_public=None")["flavors"]}
    for name, flavor_id, ram, vcpus, disk in FLAVORS:
        if name not in there:
            body = {"name": name, "id": flavor_id, "ram": ram, "vcpus": vcpus, "disk": disk}
            admin("POST", "/compute/v2.1/flavors", {"flavor": body})


def volume_types(admin: Client, config: Config) -> list[str]:
    """A volume type of the name of each back end, so that users may choose where a volume lives; their names."""
    backends = list(dict.fromkeys(pool.backend for pool in config.pools.values()))
    for backend in backends:
        specs = {"volume_backend_name": backend}
        admin.ensure("/volume/v3/types", "volume_type", backend, extra_specs=specs)
    return backends


def networks(admin: Client, demo: Client, config: Config) -> dict[str, str]:
    """public (external) and private with a router between; the ids of both."""
    public = admin.ensure(
        "/networking/v2.0/networks", "network", "public",
        **{"router:external": True, "provider:network_type": "flat", "provider:physical_network": "public"},
    )  # fmt: skip
    admin.ensure(
        "/networking/v2.0/subnets", "subnet", "public-subnet", network_id=public["id"], ip_version=4,
        cidr=config.external.cidr, gateway_ip=config.external.gateway, enable_dhcp=False,
    )  # fmt: skip
    private = demo.ensure("/networking/v2.0/networks", "network", "private")
    subnet = demo.ensure(
        "/networking/v2.0/subnets",
        "subnet",
        "private-subnet",
        network_id=private["id"],
        ip_version=4,
        cidr="10.0.0.0/26",
    )
    router = demo.ensure(
        "/networking/v2.0/routers", "router", "router1", external_gateway_info={"network_id": public["id"]}
    )
    ports = demo("GET", f"/networking/v2.0/ports?device_id={router['id']}&network_id={private['id']}")["ports"]
    if not ports:
        demo("PUT", f"/networking/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})
    return {"public": public["id"], "private": private["id"]}


def image(admin: Client, path: Path) -> str:
    """The guest image, public; its id."""
    found = admin.find("/image/v2/images", "images", "cirros")
    if found is None:
        body = {"name": "cirros", "disk_format": "qcow2", "container_format": "bare", "visibility": "public"}
        found = admin("POST", "/image/v2/images", body)
    if found["status"] == "queued":
        admin.upload(found["id"], path)
    ends = time.monotonic() + BOOT_SECONDS
    while (seen := admin("GET", f"/image/v2/images/{found['id']}"))["status"] != "active":
        if seen["status"] == "killed" or time.monotonic() > ends:
            raise ApiError(f"the image cannot be used: it is {seen['status']}")
        time.sleep(0.2)
    return str(found["id"])


def keypair(demo: Client, config: Config) -> Path:
    """A key of this machine for the demo user; the path of its private half."""
    key = config.folder / "first_key"
    if not key.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pileus demo", "-f", str(key)]
        subprocess.run(command, check=True)
    names = {k["keypair"]["name"] for k in demo("GET", "/compute/v2.1/os-keypairs")["keypairs"]}
    if "demo" not in names:
        public = key.with_suffix(".pub").read_text().strip()
        demo("POST", "/compute/v2.1/os-keypairs", {"keypair": {"name": "demo", "public_key": public}})
    return key


def open_group(demo: Client) -> None:
    """Let ping and ssh in, in the default security group."""
    group = demo("GET", f"/networking/v2.0/security-groups?name=default&project_id={demo.project_id}")[
        "security_groups"
    ][0]
    there = {(r["protocol"], r["port_range_min"]) for r in group["security_group_rules"] if r["direction"] == "ingress"}
    for protocol, port in (("icmp", None), ("tcp", 22)):
        if (protocol, port) not in there:
            rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": protocol,
                    "port_range_min": port, "port_range_max": port}  # fmt: skip
            demo("POST", "/networking/v2.0/security-group-rules", {"security_group_rule": rule})


def first_server(demo: Client, where: dict[str, str], image_id: str) -> str:
    """A server with a floating address, running; the address.  Raises ApiError with the fault."""
    server = demo.find("/compute/v2.1/servers/detail", "servers", "first-server")
    if server is None:
        body = {"name": "first-server", "flavorRef": "42", "imageRef": image_id, "key_name": "demo",
                "networks": [{"uuid": where["private"]}]}  # fmt: skip
        server = demo("POST", "/compute/v2.1/servers", {"server": body})["server"]
    path, ends = f"/compute/v2.1/servers/{server['id']}", time.monotonic() + BOOT_SECONDS
    while (seen := demo("GET", path)["server"])["status"] == "BUILD" and time.monotonic() < ends:
        time.sleep(0.3)
    if seen["status"] == "ERROR":
        raise ApiError(f"the first server failed: {seen.get('fault', {}).get('message')}")
    port = demo("GET", f"/networking/v2.0/ports?device_id={server['id']}")["ports"][0]
    addresses = demo("GET", f"/networking/v2.0/floatingips?port_id={port['id']}")["floatingips"]
    if not addresses:
        wanted = {"floating_network_id": where["public"], "port_id": port["id"]}
        addresses = [demo("POST", "/networking/v2.0/floatingips", {"floatingip": wanted})["floatingip"]]
    return str(addresses[0]["floating_ip_address"])


def wait_for_ssh(config: Config, key: Path, address: str) -> str:
    """What the server says of itself over ssh; raises ApiError when it does not in time."""
    enter = [] if config.switch != "linux" else ["ip", "netns", "exec", config.namespace]
    command = [*enter, *SSH, "-o", "ConnectTimeout=3", "-i", str(key), f"cirros@{address}", "hostname; uptime"]
    ends = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < ends:
        tried = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if tried.returncode == 0:
            return tried.stdout.strip()
        time.sleep(0.5)
    raise ApiError(f"the first server does not answer over ssh at {address}: {tried.stderr.strip()[-300:]}")


def demo(config: Config, arguments: list[str]) -> int:
    """Make what is missing, step by step, and say what to type next."""
    parser = argparse.ArgumentParser("pileus demo")
    parser.add_argument("--image", type=Path, required=True, help="a qcow2 image that behaves like CirrOS")
    given = parser.parse_args(arguments)
    try:
        admin = Client.of(config, "admin")
        accounts(admin, config)
        say("projects and users: admin, demo, alt_demo")
        flavors(admin)
        say("flavors: " + ", ".join(f[0] for f in FLAVORS))
        say("volume types: " + ", ".join(volume_types(admin, config)))
        user = Client.of(config, "demo")
        where = networks(admin, user, config)
        say("networks: public, private, router1 between them")
        image_id = image(admin, given.image)
        say("image: cirros")
        key = keypair(user, config)
        open_group(user)
        say("keypair demo; ping and ssh allowed in")
        address = first_server(user, where, image_id)
        say(f"server: first-server runs at {address}; waiting for ssh")
        said = wait_for_ssh(config, key, address)
    except ApiError as error:
        print(f"pileus demo: {error}", file=sys.stderr)
        return 1
    say("it answers: " + said.replace("\n", ","))
    print(f"""
Next:
  export OS_CLIENT_CONFIG_FILE={config.folder}/clouds.yaml OS_CLOUD=pileus
  openstack server list
  pileus ssh first-server            # log in (user cirros)
  pileus shell                       # a shell beside the public network
  pileus status""")
    return 0
