"""A cloud starts, survives, stops and goes: processes killed, the machine rebooted, everything taken away again."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, eventually, guest_image, host, missing


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The machine's own network, before there was a cloud."""
    return host()


@pytest.fixture(scope="module")
def cloud(before: dict[str, str]) -> Iterator[Machine]:
    if reason := missing():
        pytest.skip(reason)
    machine = Machine(f"pu{os.getpid()}")
    try:
        machine.pileus("up")
        machine.pileus("demo", "--image", str(guest_image()))
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="module")
def address(cloud: Machine) -> str:
    """Where the first server answers."""
    return str(cloud.openstack("floating", "ip", "list")[0]["Floating IP Address"])


def processes(cloud: Machine) -> dict[str, int]:
    told, _ = json.JSONDecoder().raw_decode(cloud.pileus("status", "--json", check=False))
    return {p["role"]: p["pid"] for p in told["processes"]}


def guests(cloud: Machine) -> list[int]:
    """Process ids of the guests' QEMU."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else [b""]
            if words[0].endswith(b"qemu-system-x86_64") and str(cloud.folder).encode() in b" ".join(words):
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("role", ["api", "worker", "agent"])
def test_a_killed_process_comes_back_and_disturbs_nobody(cloud: Machine, address: str, role: str) -> None:
    old, running = processes(cloud), guests(cloud)
    os.kill(old[role], signal.SIGKILL)
    assert cloud.ssh(address, "echo here") == "here\n"
    assert eventually(lambda: processes(cloud).get(role, old[role]) != old[role], 20)
    fresh = processes(cloud)
    assert {name: pid for name, pid in fresh.items() if name != role} == {n: p for n, p in old.items() if n != role}
    assert guests(cloud) == running
    assert eventually(lambda: cloud.pileus("verify", check=False) == "", 30), cloud.pileus("verify", check=False)


def test_guests_outlive_all_of_pileus(cloud: Machine, address: str) -> None:
    running = guests(cloud)
    for pid in processes(cloud).values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert cloud.ssh(address, "echo here") == "here\n"
    cloud.pileus("up")
    assert guests(cloud) == running
    assert cloud.ssh(address, "echo here") == "here\n"
    assert eventually(lambda: cloud.pileus("verify", check=False) == "", 30), cloud.pileus("verify", check=False)


def test_down_leaves_the_host_as_it_was_and_up_runs_the_guests_again(
    cloud: Machine, address: str, before: dict[str, str]
) -> None:
    cloud.ssh(address, "echo kept > ~/kept")  # not even synced: the guest is shut down, not cut off
    cloud.pileus("down")
    assert cloud.traces() == []
    assert host() == before
    assert cloud.pileus("verify") == ""
    assert "nothing" not in cloud.pileus("down")
    cloud.pileus("up")
    cloud.wait_for_ssh(address)
    assert cloud.ssh(address, "cat ~/kept") == "kept\n"


def test_guests_run_again_after_the_machine_was_rebooted(cloud: Machine, address: str) -> None:
    """Every process killed, every namespace and every file in /run gone; the state folder is kept."""
    cloud.ssh(address, "sync")
    for line in cloud.traces():
        if line.startswith("process"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
    for space in Path("/run/netns").glob(f"{cloud.name}*"):
        subprocess.run(["ip", "netns", "delete", space.name], check=True)
    subprocess.run(["rm", "-rf", f"/run/pileus-switch/{cloud.name}"], check=True)
    cloud.pileus("up")
    cloud.wait_for_ssh(address)
    assert cloud.ssh(address, "cat ~/kept") == "kept\n"
    assert eventually(lambda: cloud.pileus("verify", check=False) == "", 30), cloud.pileus("verify", check=False)


def test_purge_leaves_nothing(cloud: Machine, before: dict[str, str]) -> None:
    cloud.pileus("purge")
    assert not cloud.state.exists()
    assert cloud.traces() == []
    assert host() == before
