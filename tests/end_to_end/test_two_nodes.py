"""A second machine joins by a token: a server on each, one network, one security group, one floating address each.

Two network namespaces play the machines.  They are joined by two cables: over one controllers and agents
speak (mutual TLS), the other carries the tunnels.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from machine import Machine, eventually, guest_image, missing

Server = dict[str, Any]
Servers = tuple[Server, Server]
ADMIN = "devstack-admin-demo"  # may choose a host, in the project whose networks are used
SCREEN = """
import sys
from urllib.parse import parse_qs, urlsplit
from websockets.sync.client import connect
url = urlsplit(sys.argv[1])
with connect(f"ws://{url.netloc}/{parse_qs(url.query)['path'][0].lstrip('/')}", subprotocols=["binary"]) as screen:
    print(screen.recv(timeout=20)[:11].decode())
"""


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


class Pair:
    """Two machines and their cables."""

    def __init__(self) -> None:
        mark = os.getpid()
        self.spaces = (f"m{mark}a", f"m{mark}b")
        for space in self.spaces:
            ip(f"netns add {space}")
            ip(f"-n {space} link set lo up")
        left, right = self.spaces
        for cable in ("ctl0", "tun0"):
            ip(f"link add {cable} netns {left} type veth peer name {cable} netns {right}")
        for number, space in enumerate(self.spaces, 1):
            ip(f"-n {space} address add 10.200.0.{number}/24 dev ctl0")
            ip(f"-n {space} link set ctl0 up")
        self.one = Machine(
            f"p{mark}a", left, name="one", controller_address="10.200.0.1:5100", report_seconds=2.0,
            underlay={"device": "tun0", "cidr": "192.0.2.1/24"},
        )  # fmt: skip
        self.two = Machine(
            f"p{mark}b", right, name="two", agent_address="10.200.0.2:5200", roles=["compute", "storage"],
            report_seconds=2.0, underlay={"device": "tun0", "cidr": "192.0.2.2/24"},
        )  # fmt: skip

    def join(self) -> None:
        """What a person types: one command on the first machine, what it prints on the second."""
        printed = self.one.pileus("join-token").split()
        self.two.pileus(*printed[1:])

    def close(self) -> None:
        for machine in (self.two, self.one):
            machine.close()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "delete", space], check=False)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if reason := missing():
        pytest.skip(reason)
    found = Pair()
    try:
        found.one.pileus("up")
        found.one.pileus("demo", "--image", str(guest_image()))
        found.join()
        yield found
    finally:
        found.close()


def create(pair: Pair, name: str, host: str, group: str) -> Server:
    made: Server = pair.one.openstack(
        "--os-compute-api-version", "2.74", "server", "create", "--flavor", "m1.nano", "--image", "cirros", "--network",
        "private", "--security-group", group, "--key-name", "demo", "--host", host, "--wait", name, cloud=ADMIN,
    )  # fmt: skip
    assert made["status"] == "ACTIVE", made
    assert made["OS-EXT-SRV-ATTR:host"] == host
    address = pair.one.openstack("floating", "ip", "create", "public")["floating_ip_address"]
    pair.one.tell("server", "add", "floating", "ip", name, address)
    return {"id": made["id"], "floating": address, "fixed": made["addresses"]["private"][0]}


@pytest.fixture(scope="module")
def servers(pair: Pair) -> Servers:
    """One on each node; the group of the one far away lets in pings and ssh, nothing else."""
    pair.one.tell("keypair", "create", "--public-key", str(pair.one.state / "first_key.pub"), "demo", cloud=ADMIN)
    pair.one.openstack("security", "group", "create", "narrow")
    pair.one.openstack("security", "group", "rule", "create", "--protocol", "icmp", "narrow")
    pair.one.openstack("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22", "narrow")
    return create(pair, "near", "one", "default"), create(pair, "far", "two", "narrow")


def test_the_second_node_is_there(pair: Pair) -> None:
    def up() -> bool:
        found = pair.one.openstack("hypervisor", "list", cloud="pileus-admin")
        return sorted((h["Hypervisor Hostname"], h["State"]) for h in found) == [("one", "up"), ("two", "up")]

    assert eventually(up, 30, 1.0), pair.two.log()
    told = json.loads(pair.two.pileus("status", "--json"))
    assert told["ready"] and {p["role"] for p in told["processes"]} == {"supervisor", "agent"}
    assert "up already" in pair.two.pileus("up")
    assert "node already" in pair.two.pileus("join", "https://10.200.0.1:5100", "x.y", check=False)


def test_servers_on_two_nodes_reach_each_other(pair: Pair, servers: Servers) -> None:
    near, far = servers
    for server in servers:
        pair.one.wait_for_ssh(server["floating"])
    assert pair.one.ssh(far["floating"], "hostname") == "far\n"
    assert eventually(
        lambda: "1 received" in pair.one.ssh(near["floating"], f"ping -c 1 -W 3 {far['fixed']}", check=False)
    )
    assert eventually(
        lambda: "1 received" in pair.one.ssh(far["floating"], f"ping -c 1 -W 3 {near['fixed']}", check=False)
    )
    large = f"ping -c 1 -W 3 -M do -s 1422 {far['fixed']}"  # 1450 with its headers: exactly what fits the tunnel
    assert "1 received" in pair.one.ssh(near["floating"], large, check=False)


def test_the_group_holds_across_nodes(pair: Pair, servers: Servers) -> None:
    near, far = servers
    pair.one.ssh(far["floating"], "(nc -lk -p 8080 -e echo hello > /dev/null 2>&1 &) ; true")
    reach = f"nc -w 3 {far['fixed']} 8080 < /dev/null"
    assert "hello" not in pair.one.ssh(near["floating"], reach, check=False)
    pair.one.openstack("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "8080",
                       "--remote-group", "default", "narrow")  # fmt: skip
    assert eventually(lambda: "hello" in pair.one.ssh(near["floating"], reach, check=False), 30)


def test_metadata_and_dhcp_come_from_the_other_node(pair: Pair, servers: Servers) -> None:
    far = servers[1]
    told = pair.one.ssh(far["floating"], "curl -s http://169.254.169.254/openstack/latest/meta_data.json")
    assert json.loads(told)["uuid"] == far["id"]


def test_a_screen_of_the_other_node_opens(pair: Pair, servers: Servers) -> None:
    assert servers
    url = pair.one.openstack("console", "url", "show", "--novnc", "far")["url"]
    assert pair.one.run([sys.executable, "-c", SCREEN, url]).strip() == "RFB 003.008"
    assert "login" in pair.one.tell("console", "log", "show", "far")


def test_a_volume_is_carried_to_the_other_node(pair: Pair, servers: Servers) -> None:
    pair.one.openstack("volume", "create", "--size", "1", "carried")
    shown = eventually(
        lambda: (v := pair.one.openstack("volume", "show", "carried", cloud=ADMIN))["status"] == "available" and v, 60
    )
    host = shown["os-vol-host-attr:host"].partition("@")[0]
    reader, name = (servers[1], "far") if host == "one" else (servers[0], "near")
    pair.one.openstack("server", "add", "volume", name, "carried")
    address = reader["floating"]
    assert eventually(lambda: "vdb" in pair.one.ssh(address, "cat /proc/partitions", check=False), 60)
    pair.one.ssh(
        address, "sudo mkfs -t ext4 -q /dev/vdb; sudo mount /dev/vdb /mnt; sudo sh -c 'echo kept > /mnt/f; sync'"
    )
    pair.one.ssh(address, "sudo umount /mnt")
    pair.one.tell("server", "remove", "volume", name, "carried")
    other, name = (servers[0], "near") if name == "far" else (servers[1], "far")
    assert eventually(lambda: pair.one.openstack("volume", "show", "carried")["status"] == "available", 60)
    pair.one.openstack("server", "add", "volume", name, "carried")
    assert eventually(lambda: "vdb" in pair.one.ssh(other["floating"], "cat /proc/partitions", check=False), 60)
    assert pair.one.ssh(other["floating"], "sudo mount /dev/vdb /mnt; cat /mnt/f; sudo umount /mnt") == "kept\n"
    pair.one.tell("server", "remove", "volume", name, "carried")
    assert eventually(lambda: pair.one.openstack("volume", "show", "carried")["status"] == "available", 60)
    pair.one.tell("volume", "delete", "carried")


def test_all_of_it_goes_and_the_machines_are_as_before(pair: Pair, servers: Servers) -> None:
    assert servers
    pair.one.tell("server", "delete", "--wait", "near", "far", "first-server")
    assert eventually(lambda: pair.one.pileus("verify", check=False) == "", 60), pair.one.pileus("verify", check=False)
    for machine in (pair.two, pair.one):
        machine.pileus("down")
        assert machine.traces() == []
        assert "tun0" in machine.run(["ip", "-o", "link"])
