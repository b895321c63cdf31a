"""The lives of networking over real bridges, namespaces and filters: they come up, change and leave nothing."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from network_lab import Lab, routed, tear_down
from pileus.drivers.switch.linux import LinuxSwitch, PhysicalNet, namespaces

NETNS = f"nln{os.getpid() % 10000}"


class LinuxLab(Lab):
    """One node with the real switch."""

    def __init__(self, folder: Path):
        outside = {"public": PhysicalNet(cidrs=("172.24.4.1/24",))}
        self.real = LinuxSwitch(folder / "state", NETNS, outside, run_dir=Path(f"/run/{NETNS}"))
        super().__init__(folder, nodes=1)

    def make_switch(self, rounds: int) -> LinuxSwitch:
        return self.real


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LinuxLab]:
    if os.geteuid() != 0 or not shutil.which("nft"):
        pytest.skip("needs root and nftables")
    tmp_path.chmod(0o755)
    made = LinuxLab(tmp_path)
    yield made
    made.real.destroy()
    assert namespaces.listed(NETNS) == []
    made.db.close()


def waiting(lab: LinuxLab) -> list[tuple[object, ...]]:
    return lab.db.read(lambda tx: tx.all("select kind, why from work where due is not null"))


def ping(lab: LinuxLab, space: str, address: str) -> bool:
    try:
        namespaces.run(["ip", "netns", "exec", space, "ping", "-c1", "-W2", address])
    except namespaces.SwitchError:
        return False
    return True


@pytest.mark.root
def test_everything_comes_up_changes_and_goes_on_a_real_switch(lab: LinuxLab) -> None:
    net, subnet, ext, router = routed(lab)
    six = lab.make("subnet", network_id=net["id"], ip_version=6, cidr="2001:db8::/64", ipv6_ra_mode="slaac",
                   ipv6_address_mode="slaac")  # fmt: skip
    lab.call("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": six["id"]})
    port_id = lab.plug(net["id"], 1, dns_name="web")
    floating = lab.make("floatingip", floating_network_id=ext["id"], port_id=port_id)
    lab.run()
    assert lab.view(port_id).up and waiting(lab) == []
    assert lab.call("GET", f"/floatingips/{floating['id']}")["floatingip"]["status"] == "ACTIVE"
    assert ping(lab, f"{NETNS}-r-{router['id']}", "10.0.0.2")  # the DHCP server answers the router
    assert ping(lab, NETNS, "172.24.4.2")  # the router answers the world outside
    group = lab.view(port_id).security_groups[0]
    lab.make("security_group_rule", security_group_id=group, direction="ingress", protocol="icmp")
    options = [{"opt_name": "bootfile-name", "opt_value": "pxelinux.0"}, {"opt_name": "66", "opt_value": "10.0.0.5"}]
    lab.call("PUT", f"/ports/{port_id}", {"port": {
        "extra_dhcp_opts": options, "allowed_address_pairs": [{"ip_address": "10.8.0.0/24"}]}})  # fmt: skip
    lab.call("PUT", f"/subnets/{subnet['id']}", {"subnet": {"dns_nameservers": ["9.9.9.9"]}})
    lab.run()
    assert waiting(lab) == []
    lab.call("PUT", f"/routers/{router['id']}/remove_router_interface", {"subnet_id": six["id"]})
    tear_down(lab, net, subnet, ext, router, [port_id])
    lab.run()
    assert not any(lab.real.list_things().values()) and lab.leftovers() == []
