"""The contract of every switch: twice is once, kill between, restart, unknown id, concurrent calls, nothing left.

Runs against the fake and, as root, against Linux in namespaces of its own.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from msgspec import structs
from switch_lab import Guest, wait

from pileus.drivers.switch.fake import FakeMachine, FakeSwitch
from pileus.drivers.switch.linux import LinuxSwitch, PhysicalNet, dnsmasq, filters, namespaces
from pileus.network.drivers import Group, Host, Leg, Port, PortSeen, Router, Rule, Segment, Subnet

NETNS = f"swc{os.getpid() % 10000}"
NET, OUTSIDE = "aaaaaaaa-0000-4000-8000-000000000001", "eeeeeeee-0000-4000-8000-000000000001"
ROUTER, GROUP = "cccccccc-0000-4000-8000-000000000001", "99999999-0000-4000-8000-000000000001"
EMPTY = {"segment": [], "port": [], "router": [], "group": []}


def port_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000001"


def mac(number: int) -> str:
    return f"fa:16:3e:00:00:{number:02x}"


def segment() -> Segment:
    v4 = Subnet(id="s4", cidr="10.0.0.0/24", ip_version=4, gateway_ip="10.0.0.1")
    v6 = Subnet(
        id="s6", cidr="2001:db8:1::/64", ip_version=6, gateway_ip="2001:db8:1::1", ra_mode="slaac", address_mode="slaac"
    )
    return Segment(
        id=NET, kind="vxlan", vni=77, mtu=1450, serves=True, dhcp_mac="fa:16:3e:dd:00:01",
        dhcp_ips=("10.0.0.2/24", "2001:db8:1::2/64"), subnets=(v4, v6),
        endpoint="127.0.0.1", endpoints=("127.0.0.9",),
        hosts=tuple(Host(port_id=port_id(n), mac=mac(n), ips=(f"10.0.0.{n + 10}",)) for n in (1, 2)),
    )  # fmt: skip


def outside() -> Segment:
    return Segment(id=OUTSIDE, kind="flat", physical="public")


def port(number: int = 1) -> Port:
    rules = (
        Rule(direction="egress", ethertype="IPv4"),
        Rule(direction="ingress", ethertype="IPv4", protocol="tcp", port_min=22, port_max=22),
        Rule(direction="ingress", ethertype="IPv6", remote_group=GROUP),
    )
    return Port(id=port_id(number), network_id=NET, mac=mac(number), ips=(f"10.0.0.{number + 10}",), rules=rules)


def router() -> Router:
    v6 = Subnet(id="s6", cidr="2001:db8:1::/64", ip_version=6, ra_mode="slaac")
    inner = Leg(
        port_id=port_id(0xAA), network_id=NET, mac="fa:16:3e:ee:00:01",
        ips=("10.0.0.1/24", "2001:db8:1::1/64"), mtu=1450, advertise=(v6,),
    )  # fmt: skip
    outer = Leg(port_id=port_id(0xAB), network_id=OUTSIDE, mac="fa:16:3e:ee:00:02", ips=("172.24.4.10/24",))
    return Router(
        id=ROUTER, legs=(inner,), gateway=outer, next_hops=("172.24.4.1",), floating=(("172.24.4.50", "10.0.0.11"),),
        routes=(("10.9.0.0/24", "10.0.0.99"),),
    )  # fmt: skip


GROUP_WISH = Group(id=GROUP, addresses=("10.0.0.12", "2001:db8:1::12"))


class Bench(Protocol):
    """One machine on which switches of a kind start and end."""

    def switch(self) -> FakeSwitch | LinuxSwitch: ...
    def traces(self) -> object: ...
    def reboot(self) -> None: ...
    def close(self) -> None: ...


class FakeBench:
    def __init__(self, folder: Path) -> None:
        self.machine = FakeMachine()

    def switch(self) -> FakeSwitch:
        return FakeSwitch(self.machine)

    def traces(self) -> object:
        return sorted((key, repr(thing)) for key, thing in self.machine.standing.items())

    def reboot(self) -> None:
        self.machine.reboot()

    def close(self) -> None: ...


PHYSICAL = {"public": PhysicalNet(cidrs=("172.24.4.1/24",))}


def linux_switch(state: str, run: str) -> LinuxSwitch:
    return LinuxSwitch(Path(state), NETNS, PHYSICAL, run_dir=Path(run))


class LinuxBench:
    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.state, self.run = folder / "state", Path(f"/run/{NETNS}")

    def switch(self) -> LinuxSwitch:
        return linux_switch(str(self.state), str(self.run))

    def traces(self) -> object:
        """Namespaces, devices, nft rules, processes and run files, without what differs from time to time."""

        def look() -> list[str]:
            links = [str(link["ifname"]) for link in namespaces.run_json(["ip", "-json", "link", "show"])]
            addresses = (
                namespaces.run(["ip", "-br", "address"]).splitlines() + namespaces.run(["ip", "route"]).splitlines()
            )
            rules = namespaces.run(["nft", "list", "ruleset"])
            words = rules.replace(",", "\n").replace("elements = {", "\n").replace("}", "\n").splitlines()
            shown = [
                " ".join([text.split()[0].split("@")[0], *text.split()[2:]])
                for text in addresses
                if "fe80:" not in text
            ]
            return sorted(links) + sorted(shown) + sorted(line.strip() for line in words if line.strip())

        spaces = namespaces.listed(NETNS)
        folders = sorted(self.run.iterdir()) if self.run.exists() else []
        alive = [folder.name for folder in folders if dnsmasq.running(folder)]
        return {name: namespaces.inside(name, look) for name in spaces}, alive, [f.name for f in folders]

    def reboot(self) -> None:
        for folder in self.run.iterdir():
            dnsmasq.end(folder)
        for name in namespaces.listed(NETNS):
            if name == NETNS:
                switch = self.switch()
                namespaces.inside(NETNS, lambda: [namespaces.ip([f"link del {n}"]) for n in ("gp-public",)])
                del switch
            namespaces.remove(name)
        shutil.rmtree(self.run)

    def close(self) -> None:
        self.switch().destroy()


@pytest.fixture(params=["fake", pytest.param("linux", marks=pytest.mark.root)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made: Bench = FakeBench(tmp_path) if request.param == "fake" else LinuxBench(tmp_path)
    before = set(namespaces.listed(""))
    yield made
    made.close()
    assert set(namespaces.listed("")) - before == set()


def build(switch: FakeSwitch | LinuxSwitch) -> None:
    assert switch.ensure_segment(segment())
    assert switch.ensure_segment(outside())
    assert switch.ensure_group(GROUP_WISH)
    assert switch.ensure_port(port())
    assert switch.ensure_router(router())


def unbuild(switch: FakeSwitch | LinuxSwitch) -> None:
    assert switch.remove_router(ROUTER)
    assert switch.remove_port(port_id(1))
    assert switch.remove_group(GROUP)
    assert switch.remove_segment(OUTSIDE)
    assert switch.remove_segment(NET)


def test_twice_is_once(bench: Bench) -> None:
    switch = bench.switch()
    build(switch)
    once = bench.traces()
    build(switch)
    assert bench.traces() == once


def test_remove_leaves_nothing(bench: Bench) -> None:
    switch = bench.switch()
    switch.prepare()
    before = bench.traces()
    build(switch)
    assert bench.traces() != before
    unbuild(switch)
    assert bench.traces() == before
    assert switch.list_things() == EMPTY
    unbuild(switch)


def test_unknown_ids_are_gone_already(bench: Bench) -> None:
    switch = bench.switch()
    unbuild(switch)
    assert switch.list_things() == EMPTY


def test_a_port_waits_for_its_segment_and_a_router_for_its_networks(bench: Bench) -> None:
    switch = bench.switch()
    assert switch.ensure_port(port()) is None
    assert switch.ensure_router(router()) is None
    switch.ensure_segment(segment())
    seen = switch.ensure_port(port())
    assert seen == PortSeen(id=port_id(1), device="tap00000001-00", netns=switch.netns(), up=True)


def test_a_new_object_takes_over(bench: Bench) -> None:
    build(bench.switch())
    before = bench.traces()
    switch = bench.switch()
    expected = {"segment": [NET, OUTSIDE], "port": [port_id(1)], "router": [ROUTER], "group": [GROUP]}
    assert switch.list_things() == expected
    build(switch)
    assert bench.traces() == before
    unbuild(bench.switch())
    assert switch.list_things()["port"] == [port_id(1)] or bench.switch().list_things() == EMPTY


def test_after_a_reboot_all_is_made_again(bench: Bench) -> None:
    build(bench.switch())
    before = bench.traces()
    bench.reboot()
    switch = bench.switch()
    assert switch.list_things()["port"] == [port_id(1)]
    assert switch.ensure_port(port()) is None
    build(switch)
    assert bench.traces() == before


def test_concurrent_calls(bench: Bench) -> None:
    switch = bench.switch()
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            switch.ensure_segment(segment())
            for _ in range(2):
                assert switch.ensure_port(port(number))
                switch.ensure_group(GROUP_WISH)
            if number % 2:
                switch.remove_port(port_id(number))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3, 4, 2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert switch.list_things()["port"] == [port_id(2), port_id(4)]
    both = bench.traces()
    for number in (2, 4):
        switch.ensure_port(port(number))
    assert bench.traces() == both


class PortGoesBetween(LinuxSwitch):
    """The last port that names a group is removed right after the group's removal looked for such ports."""

    def _networks_naming(self, group_id: str) -> set[str]:
        found = super()._networks_naming(group_id)
        if found:
            going = threading.Thread(target=self.remove_port, args=(port_id(1),))
            going.start()
            going.join()
        return found


@pytest.mark.root
def test_a_group_goes_though_the_last_port_that_names_it_goes_at_that_moment(tmp_path: Path) -> None:
    bench = LinuxBench(tmp_path)
    try:
        build(bench.switch())
        switch = PortGoesBetween(bench.state, NETNS, PHYSICAL, run_dir=bench.run)
        assert switch.remove_group(GROUP)
        assert switch.list_things()["port"] == switch.list_things()["group"] == []
        rules = namespaces.inside(NETNS, lambda: namespaces.run(["nft", "list", "ruleset"]))
        assert filters.groups_in(rules) == set()
    finally:
        bench.close()


@pytest.mark.root
def test_sets_of_an_agent_killed_too_early_go_at_the_next_start(tmp_path: Path) -> None:
    bench = LinuxBench(tmp_path)
    try:
        bench.switch().prepare()
        before = bench.traces()
        left = filters.group(GROUP_WISH)
        namespaces.inside(NETNS, lambda: namespaces.nft(left))
        assert bench.traces() != before
        bench.switch().prepare()
        assert bench.traces() == before
    finally:
        bench.close()


def test_fake_fails_before_and_after_each_effect() -> None:
    for at in (1, 2):
        calls: list[str] = []

        def fault(verb: str, at: int = at, calls: list[str] = calls) -> None:
            calls.append(verb)
            if len(calls) == at:
                raise ConnectionError(verb)

        machine = FakeMachine()
        with pytest.raises(ConnectionError):
            FakeSwitch(machine, faults=fault).ensure_segment(segment())
        assert bool(machine.standing) == (at == 2)
        assert FakeSwitch(machine).ensure_segment(segment())


def test_fake_is_under_way_for_some_rounds() -> None:
    switch = FakeSwitch(rounds=2)
    assert [switch.ensure_segment(segment()) for _ in range(3)] == [None, None, True]


AGENT = """
import sys
sys.path.insert(0, {tests!r})
import test_switch as t
t.NETNS = {netns!r}
switch = t.linux_switch({state!r}, {run!r})
t.build(switch)
t.unbuild(switch)
"""
SHIM = """#!/bin/sh
n=$(($(cat {count}) - 1))
echo $n > {count}
if [ $n -eq 0 ]; then [ -z "$LATE" ] || {real} "$@" {late}; kill -9 $PPID; exit 1; fi
exec {real} "$@"
"""


def run_agent(bench: LinuxBench, folder: Path, kill_at: int, *, late: bool) -> tuple[int, int]:
    """Run an agent that is killed at its n-th command, before or after it; (exit code, commands left)."""
    count, shims = folder / "count", folder / "shims"
    count.write_text(str(kill_at))
    shims.mkdir(exist_ok=True)
    for program in ("ip", "nft", "bridge", "dnsmasq"):
        shim = shims / program
        late = "& sleep 0.3" if program == "dnsmasq" else ""  # it stays
        shim.write_text(SHIM.format(count=count, real=shutil.which(program), late=late))
        shim.chmod(0o755)
    code = AGENT.format(tests=str(Path(__file__).parent), netns=NETNS, state=str(bench.state), run=str(bench.run))
    env = os.environ | {"PATH": f"{shims}:{os.environ['PATH']}", "LATE": "1" if late else ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr)
    return done.returncode, int(count.read_text())


@pytest.mark.root
def test_killed_between_any_two_commands(tmp_path: Path) -> None:
    """kill -9 of the agent at every third command of a whole life; a new agent completes it and removes it."""
    bench = LinuxBench(tmp_path)
    try:
        switch = bench.switch()
        switch.prepare()
        bare = bench.traces()
        build(switch)
        built = bench.traces()
        unbuild(switch)
        exit_code, left = run_agent(bench, tmp_path, 1000, late=False)
        assert exit_code == 0
        for number, kill_at in enumerate(range(1, 1000 - left, 3)):
            exit_code, _ = run_agent(bench, tmp_path, kill_at, late=bool(number % 2))
            assert exit_code == -signal.SIGKILL
            heir = bench.switch()
            build(heir)
            assert bench.traces() == built, f"killed at command {kill_at}"
            unbuild(heir)
            assert bench.traces() == bare, f"killed at command {kill_at}"
    finally:
        bench.close()
    assert number > 10


@pytest.mark.root
def test_a_dead_dnsmasq_is_started_again_and_hosts_need_no_restart(tmp_path: Path) -> None:
    bench = LinuxBench(tmp_path)
    switch = bench.switch()
    folder = bench.run / f"d-{NET}"
    try:
        switch.ensure_segment(segment())
        first = dnsmasq.running(folder)
        assert first
        os.kill(first, signal.SIGKILL)
        switch.ensure_segment(segment())
        second = dnsmasq.running(folder)
        assert second not in (None, first)
        wish = segment()
        more = Host(port_id=port_id(7), mac=mac(7), ips=("10.0.0.17",))
        switch.ensure_segment(Segment(**{f: getattr(wish, f) for f in wish.__struct_fields__} | {"hosts": (more,)}))
        assert dnsmasq.running(folder) == second
        reused = Host(port_id=port_id(8), mac=mac(8), ips=("10.0.0.11",))
        switch.ensure_segment(Segment(**{f: getattr(wish, f) for f in wish.__struct_fields__} | {"hosts": (reused,)}))
        assert dnsmasq.running(folder) not in (None, second)
        owner = Path(f"/proc/{dnsmasq.running(folder)}").stat().st_uid
        assert owner != 0
    finally:
        bench.close()


@pytest.mark.root
def test_what_dies_by_itself_is_started_again_by_looking_after_it(tmp_path: Path) -> None:
    bench = LinuxBench(tmp_path)
    switch = bench.switch()
    try:
        build(switch)
        for name in (f"d-{NET}", f"r-{ROUTER}"):
            first = dnsmasq.running(bench.run / name)
            assert first
            switch.look_after()
            assert dnsmasq.running(bench.run / name) == first
            os.kill(first, signal.SIGKILL)
            assert wait(lambda folder=bench.run / name: dnsmasq.running(folder) is None)  # type: ignore[misc]  # a default binds the loop's value, whose type mypy does not infer
            switch.look_after()
            assert dnsmasq.running(bench.run / name) not in (None, first)
        unbuild(switch)
        switch.look_after()
        assert sorted(bench.run.iterdir()) == []
    finally:
        bench.close()


def killed(*_: object) -> None:
    """What the agent was about to do when it was killed."""
    raise KeyboardInterrupt


@pytest.mark.root
@pytest.mark.parametrize("noticed_by", ["look_after", "ensure_segment"])
def test_hosts_that_were_written_by_an_agent_that_died_before_it_said_so_get_their_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    few = structs.replace(segment(), hosts=segment().hosts[:1], endpoint="", endpoints=())
    bench = LinuxBench(tmp_path)
    switch = bench.switch()
    guest = None
    try:
        switch.ensure_segment(few)
        with monkeypatch.context() as dying:
            dying.setattr(dnsmasq.os, "kill", killed)
            with pytest.raises(KeyboardInterrupt):
                switch.ensure_segment(structs.replace(few, hosts=segment().hosts))
        heir = bench.switch()
        if noticed_by == "look_after":
            heir.look_after()
        else:
            heir.ensure_segment(structs.replace(few, hosts=segment().hosts))
        seen = heir.ensure_port(port(2))
        assert isinstance(seen, PortSeen)
        guest = Guest(f"{NETNS}-g2", seen, mac(2))
        argv = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-T", "1", "-s", "/bin/true"]
        subprocess.run(["ip", "netns", "exec", guest.netns, *argv], capture_output=True, check=True)
    finally:
        if guest:
            guest.close()
        bench.close()


@pytest.mark.root
@pytest.mark.parametrize("options", [(), (("66", "10.0.0.5", 4),)])
def test_dhcp_goes_on_when_hosts_change_beside_one_that_has_a_lease(
    tmp_path: Path, options: tuple[tuple[str, str, int], ...]
) -> None:
    def wish(*numbers: int) -> Segment:
        hosts = [Host(port_id=port_id(n), mac=mac(n), ips=(f"10.0.0.{n + 10}",), options=options) for n in numbers]
        return structs.replace(segment(), hosts=tuple(hosts), endpoint="", endpoints=())  # nobody else is there

    def gets_an_address(guest: Guest) -> bool:
        argv = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-T", "1", "-s", "/bin/true"]
        return subprocess.run(["ip", "netns", "exec", guest.netns, *argv], capture_output=True).returncode == 0

    bench = LinuxBench(tmp_path)
    switch = bench.switch()
    guests: list[Guest] = []
    try:
        for numbers in ((1,), (1, 2), (2, 3), (3,)):
            switch.ensure_segment(wish(*numbers))
            seen = switch.ensure_port(port(numbers[-1]))
            assert isinstance(seen, PortSeen)
            if len(guests) < numbers[-1]:
                guests.append(Guest(f"{NETNS}-g{numbers[-1]}", seen, mac(numbers[-1])))
            assert gets_an_address(guests[-1]), numbers
            assert dnsmasq.running(bench.run / f"d-{NET}")
    finally:
        for guest in guests:
            guest.close()
        bench.close()


@pytest.mark.root
def test_one_bad_host_does_not_keep_others_from_being_served(tmp_path: Path) -> None:
    bench = LinuxBench(tmp_path)
    switch = bench.switch()
    good = Host(port_id=port_id(1), mac=mac(1), ips=("10.0.0.11",))
    bad = Host(port_id=port_id(2), mac=mac(2), ips=("10.0.0.12",), options=(("66", "a\ndhcp-script=/bin/sh", 4),))
    wish = segment()
    poisoned = Segment(**{f: getattr(wish, f) for f in wish.__struct_fields__} | {"hosts": (bad, good)})
    try:
        with pytest.raises(ValueError, match=port_id(2)):
            switch.ensure_segment(poisoned)
        text = (bench.run / f"d-{NET}" / "hosts").read_text()
        assert mac(1) in text
        assert mac(2) not in text
        assert "dhcp-script" not in text + (bench.run / f"d-{NET}" / "options").read_text()
    finally:
        bench.close()


@pytest.mark.root
def test_filters_that_somebody_flushed_come_back(tmp_path: Path) -> None:
    bench = LinuxBench(tmp_path)
    switch = bench.switch()
    try:
        build(switch)
        before = bench.traces()
        namespaces.inside(NETNS, lambda: namespaces.nft("flush ruleset\n"))
        build(switch)
        assert bench.traces() == before
    finally:
        bench.close()
