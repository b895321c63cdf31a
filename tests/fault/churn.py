"""Servers that live a busy life through the public API, while somebody kills and stops what serves them."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from client import COMPUTE, IMAGE, NETWORK, VOLUME, Client
from machine import Machine

from pileus.roles.supervisor import lives, processes

SETTLED = ("ACTIVE", "SHUTOFF", "VERIFY_RESIZE")
LEASE_SECONDS = 2.0
FAKE = {"hypervisor": "fake", "switch": "fake", "block": "fake", "report_seconds": 2.0, "lease_seconds": LEASE_SECONDS}
WORKER = """
import sys
from pathlib import Path
from pileus.core import log
from pileus.core.config import load_config
from pileus.roles import all as everything, controller
from pileus.roles.supervisor import drop_privileges
config = load_config(Path(sys.argv[1]))
log.set_up("second worker", config.folder / "logs" / "pileus.log")
everything.preload()
drop_privileges(config.service_uid)
controller.run_worker(config, "second worker")
"""


def start_fake_cloud(name: str, **settings: Any) -> Machine:
    """A cloud over fake drivers that answers."""
    machine = Machine(name, **{**FAKE, **settings})
    try:
        machine.pileus("up")
    except BaseException:
        machine.close()
        raise
    return machine


def password(machine: Machine) -> str:
    """The administrator's."""
    lines = (machine.state / "passwords").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)["admin"]


class Ground:
    """What all servers stand on: a network, an image, two flavors, room enough."""

    def __init__(self, client: Client):
        self.client = client
        for path, key in ((f"{COMPUTE}/os-quota-sets/", "quota_set"), (f"{VOLUME}/os-quota-sets/", "quota_set"),
                          (f"{NETWORK}/quotas/", "quota")):  # fmt: skip
            names = {"compute": ("instances", "cores", "ram"), "volume": ("volumes", "snapshots", "gigabytes"),
                     "networking": ("port",)}[path.split("/")[1]]  # fmt: skip
            client.insist("PUT", path + client.project, {key: dict.fromkeys(names, -1)})
        self.network = client.create(f"{NETWORK}/networks", "churn", {}, "network")["id"]
        subnet = {"network_id": self.network, "cidr": "10.40.0.0/16", "ip_version": 4}
        client.create(f"{NETWORK}/subnets", "churn", subnet, "subnet")
        for name, ram in (("small", 64), ("large", 128)):
            flavor = {"id": name, "ram": ram, "vcpus": 1, "disk": 1}
            client.create(f"{COMPUTE}/flavors", name, flavor, "flavor")
        self.image = client.create(f"{IMAGE}/images", "guest", {"disk_format": "raw", "container_format": "bare"})["id"]
        data = {"content_type": "application/octet-stream"}
        sent = client.ask("PUT", f"{IMAGE}/images/{self.image}/file", b"\0" * 4096, **data)
        assert sent.status == 204, sent


class Life:
    """One server with a port and a volume; `believed` is what was acknowledged and must be so at the end."""

    def __init__(self, ground: Ground, number: int, seed: int):
        self.ground, self.client, self.name = ground, ground.client, f"s{number}"
        self.choice = random.Random(f"{seed}/{number}")
        self.server = self.volume = self.port = ""
        self.images: list[str] = []
        self.snapshots: list[str] = []
        self.flavor, self.attached = "small", False

    def look(self) -> dict[str, Any]:
        """The server as it is shown; {} when it is gone."""
        found = self.client.get(f"{COMPUTE}/servers/{self.server}")
        return dict(found["server"]) if found else {}

    def settled(self) -> dict[str, Any]:
        """The server at rest; ends the life when it is in ERROR, which must have a reason."""

        def rests() -> dict[str, Any]:
            seen = self.look()
            assert seen, f"{self.name} was acknowledged and is lost"
            return seen if seen["status"] in (*SETTLED, "ERROR") and not seen["OS-EXT-STS:task_state"] else {}

        seen: dict[str, Any] = self.client.until(f"{self.name} at rest", rests)
        if seen["status"] == "ERROR":
            raise Failed(f"{self.name}: {seen.get('fault', {}).get('message')}")
        return seen

    def act(self, action: dict[str, Any], took: Callable[[dict[str, Any]], bool]) -> Any:
        """An action on the server at rest, acknowledged or found to have been."""
        path = f"{COMPUTE}/servers/{self.server}/action"
        return self.client.insist("POST", path, action, took=lambda: took(self.look()))

    def volume_seen(self) -> dict[str, Any]:
        found = self.client.get(f"{VOLUME}/volumes/{self.volume}")
        assert found, f"the volume of {self.name} was acknowledged and is lost"
        return dict(found["volume"])

    def volume_is(self, *wanted: str) -> None:
        def rests() -> bool:
            status = self.volume_seen()["status"]
            assert "error" not in status, f"the volume of {self.name}: {status}"
            return status in wanted

        self.client.until(f"the volume of {self.name} is {wanted}", rests)

    def begin(self) -> None:
        """A server on a port of its own, and a volume."""
        ground, create = self.ground, self.client.create
        self.volume = create(f"{VOLUME}/volumes", self.name, {"size": 1}, "volume")["id"]
        self.port = create(f"{NETWORK}/ports", self.name, {"network_id": ground.network}, "port")["id"]
        wanted = {"flavorRef": "small", "imageRef": ground.image, "networks": [{"port": self.port}]}
        self.server = create(f"{COMPUTE}/servers", self.name, wanted, "server")["id"]
        self.settled()
        self.volume_is("available")

    def attach(self) -> None:
        path = f"{COMPUTE}/servers/{self.server}/os-volume_attachments"

        def there() -> Any:
            return self.client.get(path)["volumeAttachments"]

        self.client.insist("POST", path, {"volumeAttachment": {"volumeId": self.volume}}, took=there)
        self.volume_is("in-use")
        self.attached = True
        self.settled()

    def detach(self) -> None:
        if not self.attached:
            return
        self.client.delete(f"{COMPUTE}/servers/{self.server}/os-volume_attachments/{self.volume}")
        self.volume_is("available")
        self.attached = False
        self.settled()

    def resize(self) -> None:
        larger = "large" if self.flavor == "small" else "small"
        self.act({"resize": {"flavorRef": larger}}, lambda seen: seen["status"] in ("RESIZE", "VERIFY_RESIZE"))
        assert self.settled()["status"] == "VERIFY_RESIZE"
        answer = self.choice.choice(("confirmResize", "revertResize"))
        self.act({answer: None}, lambda seen: seen["status"] != "VERIFY_RESIZE")
        self.client.until(f"{self.name} has answered", lambda: self.settled()["status"] == "ACTIVE")
        self.flavor = larger if answer == "confirmResize" else self.flavor

    def snapshot(self) -> None:
        name = f"{self.name}-{len(self.images)}"

        def made() -> Any:
            found = self.client.get(f"{IMAGE}/images?name={name}")["images"]
            assert len(found) <= 1, f"asked once, done {len(found)} times: {found}"
            return found

        self.act({"createImage": {"name": name}}, lambda _: bool(made()))
        image = self.client.until(f"the record of image {name}", made)[0]["id"]

        def active() -> bool:
            status = self.client.get(f"{IMAGE}/images/{image}")["status"]
            assert status in ("queued", "saving", "active"), f"image {name} is {status}"
            return bool(status == "active")

        self.client.until(f"image {name}", active)
        self.images.append(image)
        self.settled()

    def snapshot_volume(self) -> None:
        name = f"{self.name}-{len(self.snapshots)}"
        wanted = {"volume_id": self.volume, "force": True}
        found = self.client.create(f"{VOLUME}/snapshots", name, wanted, "snapshot")["id"]
        self.snapshots.append(found)

        def there() -> bool:
            status = self.client.get(f"{VOLUME}/snapshots/{found}")["snapshot"]["status"]
            assert status in ("creating", "available"), f"snapshot {name}: {status}"
            return bool(status == "available")

        self.client.until(f"snapshot {name}", there)

    def stop_and_start(self) -> None:
        self.act({"os-stop": None}, lambda seen: seen["status"] == "SHUTOFF" or bool(seen["OS-EXT-STS:task_state"]))
        self.client.until(f"{self.name} off", lambda: self.settled()["status"] == "SHUTOFF")
        self.act({"os-start": None}, lambda seen: seen["status"] == "ACTIVE" or bool(seen["OS-EXT-STS:task_state"]))
        self.client.until(f"{self.name} on", lambda: self.settled()["status"] == "ACTIVE")

    def reboot(self) -> None:
        self.act({"reboot": {"type": "HARD"}}, lambda seen: True)
        self.settled()

    def end(self) -> None:
        """The server deleted, and its volume not."""
        self.client.delete(f"{COMPUTE}/servers/{self.server}")
        self.client.until(f"{self.name} gone", lambda: not self.look())
        self.volume_is("available")
        self.server, self.attached = "", False

    def live(self) -> None:
        """From the first day to the last, in an order that the seed chooses."""
        self.begin()
        days = [self.attach, self.resize, self.snapshot, self.snapshot_volume, self.stop_and_start, self.reboot]
        for day in self.choice.sample(days, len(days)):
            day()
        if self.choice.random() < 0.5:
            self.detach()
        if self.choice.random() < 0.4:
            self.end()

    def check(self) -> None:
        """What was acknowledged is so."""
        if self.server:
            seen = self.settled()
            assert seen["flavor"]["id"] == self.flavor, seen
            ports = self.client.get(f"{NETWORK}/ports?device_id={self.server}")["ports"]
            assert [port["id"] for port in ports] == [self.port], ports
        assert self.volume_seen()["status"] == ("in-use" if self.attached else "available")
        for image in self.images:
            assert self.client.get(f"{IMAGE}/images/{image}")["status"] == "active"
        for snapshot in self.snapshots:
            assert self.client.get(f"{VOLUME}/snapshots/{snapshot}")["snapshot"]["status"] == "available"

    def clear(self) -> None:
        """Everything deleted, in an order that the API allows."""
        if self.server:
            self.client.delete(f"{COMPUTE}/servers/{self.server}")
            self.client.until(f"{self.name} gone", lambda: not self.look())
        for snapshot in self.snapshots:
            self.client.delete(f"{VOLUME}/snapshots/{snapshot}")
        for image in self.images:
            self.client.delete(f"{IMAGE}/images/{image}")
        for snapshot in self.snapshots:
            self.client.until("snapshot gone", lambda s=snapshot: not self.client.get(f"{VOLUME}/snapshots/{s}"))
        self.client.delete(f"{VOLUME}/volumes/{self.volume}")
        self.client.delete(f"{NETWORK}/ports/{self.port}")


def kill(pid: int) -> None:
    """End a process at once, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while lives(pid):
        time.sleep(0.005)


class Failed(Exception):
    """The server is in ERROR, with its reason."""


class Villain:
    """Kills and stops what serves the cloud, at most so many times, at moments and by ways that the seed chooses."""

    def __init__(self, machine: Machine, seed: int, most: int):
        self.machine, self.choice, self.most = machine, random.Random(seed), most
        self.over = threading.Event()
        self.deeds: list[str] = []
        self.failure = ""
        self.second = self.start_second()
        self.thread = threading.Thread(target=self.run, name="villain")

    def start_second(self) -> subprocess.Popen[bytes]:
        """Another worker on the same database, as a second controller has one."""
        argv = [sys.executable, "-c", WORKER, str(self.machine.config)]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, cwd="/")

    def run(self) -> None:
        try:
            while len(self.deeds) < self.most and not self.over.wait(self.choice.uniform(0.05, 0.7)):
                self.deed()
        except BaseException as error:
            self.failure = f"after {self.deeds}: {error!r}"
            raise

    def deed(self) -> None:
        role = self.choice.choice(("api", "worker", "worker", "agent", "agent", "second"))
        if len(self.deeds) % 12 == 11:
            role = "supervisor"
        pid = self.second.pid if role == "second" else processes(self.machine.state / "run").get(role, 0)
        if not pid:
            return  # it is down already
        if role != "supervisor" and self.choice.random() < 0.35:
            self.freeze(role, pid, self.choice.uniform(0.3, LEASE_SECONDS + 1.5))
        else:
            self.kill(role, pid)

    def freeze(self, role: str, pid: int, seconds: float) -> None:
        self.deeds.append(f"{role} stopped for {seconds:.1f} s")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self.over.wait(seconds)
            os.kill(pid, signal.SIGCONT)

    def kill(self, role: str, pid: int) -> None:
        self.deeds.append(f"{role} killed")
        kill(pid)
        if role == "second":
            self.second.wait()
            self.second = self.start_second()
        if role == "supervisor":
            self.machine.pileus("up")

    def __enter__(self) -> "Villain":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.second.kill()
        self.second.wait()


def churn(machine: Machine, seed: int, deeds: int, servers: int = 20, hands: int = 5) -> list[str]:
    """Let servers live under attack, check what was acknowledged, delete all; what the villain did."""
    client = Client(machine.port, password(machine))
    ground = Ground(client)
    lives = [Life(ground, number, seed) for number in range(servers)]
    failed: list[str] = []

    def live(life: Life) -> None:
        try:
            life.live()
        except Failed as reason:
            failed.append(str(reason))

    with Villain(machine, seed, deeds) as villain, ThreadPoolExecutor(hands) as pool:
        running = [pool.submit(live, life) for life in lives]
        for one in running:
            one.result()
    assert not villain.failure, villain.failure
    return settle(machine, client, lives, failed, villain.deeds)


def settle(machine: Machine, client: Client, lives: list[Life], failed: list[str], deeds: list[str]) -> list[str]:
    """After the last fault: all is as acknowledged, all can be deleted, nothing is left."""
    began = time.monotonic()
    assert not client.defects, client.defects
    assert not [reason for reason in failed if reason.endswith("None")], f"ERROR without a reason: {failed}"
    assert not failed, failed
    for life in lives:
        life.check()
    assert machine.pileus("verify", check=False) == ""
    for life in lives:
        life.clear()
    client.delete(f"{IMAGE}/images/{lives[0].ground.image}")
    for path in (f"{COMPUTE}/servers", f"{VOLUME}/volumes", f"{VOLUME}/snapshots", f"{IMAGE}/images"):
        client.until(f"{path} empty", lambda path=path: not client.get(path)[path.rpartition("/")[2]])
    client.delete(f"{NETWORK}/networks/{lives[0].ground.network}")
    assert machine.pileus("verify", check=False) == ""
    assert not client.defects, client.defects
    return [*deeds, f"{client.refusals} times 503", f"settled and deleted in {time.monotonic() - began:.0f} s"]
