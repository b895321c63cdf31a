"""The control plane, QEMU and the whole machine fail under real guests; tests run in the order of the file.

Each begins with `first-server` running and ends so; what else there is, it says.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from churn import kill
from machine import Machine, eventually, guest_image, host, missing

from pileus.roles.supervisor import processes

RUN = Path("/run/pileus-switch")
SETTLE_SECONDS = 60.0


class Stage:
    """The cloud, the clients, and how the machine was before."""

    def __init__(self) -> None:
        self.before = {**host(), "namespaces": namespaces()}
        self.machine = Machine(f"pr{os.getpid()}")
        self.machine.pileus("up")
        self.machine.pileus("demo", "--image", str(guest_image()))
        self.sdk = self.machine.sdk()
        self.first = self.sdk.compute.find_server("first-server").id
        seen = self.sdk.compute.get_server(self.first)
        self.address = next(a["addr"] for n in seen.addresses.values() for a in n if a["OS-EXT-IPS:type"] == "floating")

    def roles(self) -> dict[str, int]:
        return dict(processes(self.machine.state / "run"))

    def qemu(self, server_id: str) -> list[int]:
        """The processes that run this server."""
        return [pid for pid, words in programs() if "qemu-system" in words.split(" ")[0] and server_id in words]

    def settled(self, server_id: str) -> Any:
        """The server when nothing is being done; in ERROR it must say why."""

        def rests() -> Any:
            seen = self.sdk.compute.get_server(server_id)
            return seen if seen.status != "BUILD" and not seen.task_state else None

        seen = eventually(rests, SETTLE_SECONDS)
        assert seen, self.sdk.compute.get_server(server_id)
        assert seen.status != "ERROR", seen.fault
        return seen

    def verified(self) -> None:
        assert self.machine.pileus("verify", check=False) == ""


def programs() -> Iterator[tuple[int, str]]:
    """Every process with its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def namespaces() -> str:
    """Names of network namespaces of clouds of ours, apart from those of other test runs."""
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=False).stdout
    return "\n".join(sorted(line.split()[0] for line in listed.splitlines() if f"pr{os.getpid()}" in line))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := missing():
        pytest.skip(reason)
    found = Stage()
    try:
        yield found
    finally:
        found.machine.close()


class Ping:
    """Packets to a guest, twenty a second; how many were lost."""

    def __init__(self, stage: Stage):
        words = ["ip", "netns", "exec", stage.machine.namespace, "ping", "-n", "-i", "0.05", "-W", "2", stage.address]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def lost(self) -> tuple[int, int]:
        """(sent, lost)."""
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=10)[0]
        sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", said).groups()  # type: ignore[union-attr]  # None would fail the test here, as it should
        return int(sent), int(sent) - int(received)


def test_a_guest_and_its_traffic_do_not_notice_that_the_whole_control_plane_is_killed(stage: Stage) -> None:
    running, ping = stage.qemu(stage.first), Ping(stage)
    assert len(running) == 1
    time.sleep(1.0)
    for pid in stage.roles().values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(2.0)
    assert stage.roles() == {}
    stage.machine.pileus("up")
    eventually(lambda: stage.sdk.compute.get_server(stage.first).status == "ACTIVE")
    time.sleep(2.0)
    sent, lost = ping.lost()
    assert sent > 80 and lost == 0, f"{lost} of {sent} lost"
    assert stage.settled(stage.first).status == "ACTIVE"
    assert stage.qemu(stage.first) == running
    stage.verified()


def moment(stage: Stage, role: str, seen: Callable[[], Any]) -> threading.Thread:
    """Kill a process of the control plane as soon as something is seen."""

    def strike() -> None:
        assert eventually(seen, SETTLE_SECONDS, pause=0.01)
        kill(stage.roles()[role])

    thread = threading.Thread(target=strike, name=f"kill the {role}")
    thread.start()
    return thread


def test_a_worker_killed_in_the_middle_of_a_create_leaves_one_running_guest(stage: Stage) -> None:
    sdk = stage.sdk
    flavor, image = sdk.compute.find_flavor("m1.nano").id, sdk.image.find_image("cirros").id
    network = sdk.network.find_network("private").id
    guests = stage.machine.state / "node" / "hypervisor" / "guests"
    before = len(list(guests.iterdir()))
    striking = moment(stage, "worker", lambda: len(list(guests.iterdir())) > before)
    made = sdk.compute.create_server(
        name="second", flavor_id=flavor, image_id=image, networks=[{"uuid": network}], key_name="demo"
    )
    striking.join()
    assert stage.settled(made.id).status == "ACTIVE"
    assert len(stage.qemu(made.id)) == 1
    stage.verified()


def test_an_agent_killed_in_the_middle_of_an_attach_attaches_once(stage: Stage) -> None:
    sdk, running = stage.sdk, stage.qemu(stage.first)
    volume = sdk.block_storage.create_volume(size=1, name="v")
    assert eventually(lambda: sdk.block_storage.get_volume(volume.id).status == "available", SETTLE_SECONDS)
    sdk.compute.create_volume_attachment(stage.first, volume_id=volume.id)
    kill(stage.roles()["agent"])
    assert eventually(lambda: sdk.block_storage.get_volume(volume.id).status == "in-use", SETTLE_SECONDS)
    stage.settled(stage.first)
    disks = eventually(lambda: stage.machine.ssh(stage.address, "ls -d /sys/block/vd*", check=False))
    assert disks.split() == ["/sys/block/vda", "/sys/block/vdb"]
    assert stage.qemu(stage.first) == running
    stage.machine.ssh(stage.address, "echo kept | sudo dd of=/dev/vdb conv=sync,fsync 2>/dev/null")
    stage.verified()


def test_a_guest_whose_qemu_is_killed_is_shown_off_or_runs_again(stage: Stage) -> None:
    (running,) = stage.qemu(stage.first)
    os.kill(running, signal.SIGKILL)
    again = eventually(lambda: [pid for pid in stage.qemu(stage.first) if pid != running], 15)
    seen = stage.settled(stage.first)
    if not again:
        assert seen.status == "SHUTOFF"
        stage.sdk.compute.start_server(stage.first)
        again = eventually(lambda: stage.qemu(stage.first), SETTLE_SECONDS)
    assert len(again) == 1
    assert eventually(lambda: stage.settled(stage.first).status == "ACTIVE", SETTLE_SECONDS)
    stage.verified()


def test_a_qemu_that_does_not_answer_holds_up_nobody_and_can_be_stopped(stage: Stage) -> None:
    sdk, second = stage.sdk, stage.sdk.compute.find_server("second").id
    (frozen,) = stage.qemu(second)
    os.kill(frozen, signal.SIGSTOP)
    sdk.compute.stop_server(second)
    began = time.monotonic()
    volume = sdk.block_storage.create_volume(size=1, name="w")
    assert eventually(lambda: sdk.block_storage.get_volume(volume.id).status == "available", SETTLE_SECONDS)
    sdk.compute.create_volume_attachment(stage.first, volume_id=volume.id)
    assert eventually(lambda: sdk.block_storage.get_volume(volume.id).status == "in-use", SETTLE_SECONDS)
    sdk.compute.delete_volume_attachment(volume.id, stage.first)
    assert eventually(lambda: sdk.block_storage.get_volume(volume.id).status == "available", SETTLE_SECONDS)
    sdk.block_storage.delete_volume(volume.id)
    assert time.monotonic() - began < 30, "the other guest was served meanwhile"
    assert eventually(lambda: stage.settled(second).status == "SHUTOFF", SETTLE_SECONDS)
    assert stage.qemu(second) == []
    stage.verified()


def lose_power(stage: Stage) -> None:
    """What a power cut leaves of this cloud: its state folder.

    bubblewrap goes before its QEMU, since at a power cut nobody writes down how a guest ended.
    """
    name, folder = stage.machine.name, str(stage.machine.folder)
    for pid in stage.roles().values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ours = [(pid, words) for pid, words in programs() if folder in words or f"{RUN / name}/" in words]
    for pid, _ in sorted(ours, key=lambda one: "bwrap" not in one[1].split(" ")[0]):
        kill(pid)
    for path in Path("/run/netns").glob(f"{name}*"):
        subprocess.run(["ip", "netns", "delete", path.name], check=True)
    subprocess.run(["rm", "-rf", str(RUN / name), *map(str, (stage.machine.state / "run").iterdir())], check=True)


def test_after_a_power_cut_guests_that_ran_run_again_and_those_that_were_off_stay_off(stage: Stage) -> None:
    second = stage.sdk.compute.find_server("second").id
    assert stage.settled(second).status == "SHUTOFF"
    lose_power(stage)
    assert [words for _, words in programs() if str(stage.machine.folder) in words] == []
    stage.machine.pileus("up")
    stage.machine.wait_for_ssh(stage.address)
    assert stage.settled(stage.first).status == "ACTIVE"
    assert stage.settled(second).status == "SHUTOFF" and stage.qemu(second) == []
    assert stage.machine.ssh(stage.address, "sudo head -c 4 /dev/vdb") == "kept"
    stage.verified()


def test_down_leaves_the_machine_as_it_was(stage: Stage) -> None:
    stage.machine.pileus("down")
    assert stage.machine.traces() == []
    assert eventually(lambda: {**host(), "namespaces": namespaces()} == stage.before, 30)
    stage.verified()
