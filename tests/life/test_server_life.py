"""Random lives of servers: minds change, workers are killed or sleep past their lease, guests and nodes fail.

Whatever happened, when it is over every server is as it was last wanted or says why not, nothing is stuck,
and when all are deleted nothing is left.
"""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cloud import FakeConnect, Killed, WatchedDatabase
from pileus.core.reconcile import LEASE, Worker
from pileus.drivers.hypervisor.fake import ROOMY
from pileus.roles.controller import kinds
from server_cloud import COMPUTE, VOLUME, ServerCloud

BODIES: dict[str, Any] = {
    "reboot": {"type": "HARD"}, "resize": {"flavorRef": "micro"}, "createImage": {"name": "snap"},
}  # fmt: skip
ANY = ["os-stop", "reboot", "rebuild", "rescue", "shelve", "createImage"]
POSSIBLE = {
    "ACTIVE": [*ANY, "pause", "suspend", "resize", "resize"], "SHUTOFF": [*ANY, "os-start", "resize"],
    "PAUSED": ["unpause", "shelve", "createImage"], "SUSPENDED": ["resume", "shelve", "createImage"],
    "RESCUE": ["unrescue"], "VERIFY_RESIZE": ["confirmResize", "revertResize"],
    "SHELVED_OFFLOADED": ["unshelve"], "ERROR": ["reboot", "rebuild", "os-stop"],
}  # fmt: skip
FULL = ROOMY.__class__(vcpus=0, ram_mib=1, disk_gib=1, accelerator="fake")


class ServerLife(RuleBasedStateMachine):
    """Two nodes, a handful of servers and volumes."""

    @initialize(backed=st.booleans())
    def start(self, backed: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.cloud = ServerCloud(Path(self.folder.name), nodes=2)
        self.before = self.cloud.leftovers()
        self.can = {node.id: node.hypervisor._capabilities for node in self.cloud.nodes.values()}
        self.volumes = [self.cloud.make_volume() for _ in range(2)]
        self.create(backed)
        self.rest()

    def servers(self) -> list[str]:
        listed = self.cloud.call("GET", f"{COMPUTE}/servers?sort_key=created_at&sort_dir=asc")
        return [one["id"] for one in listed.json["servers"]]

    def pick(self, number: int) -> str:
        there = self.servers()
        return there[number % len(there)]

    @rule(backed=st.booleans())
    def create(self, backed: bool) -> None:
        root = [{"boot_index": 0, "source_type": "image", "destination_type": "volume", "uuid": self.cloud.image,
                 "volume_size": 1, "delete_on_termination": True}]  # fmt: skip
        body = {"imageRef": None, "block_device_mapping_v2": root} if backed else {}
        assert self.cloud.ask(body).status in (202, 403)

    @precondition(lambda self: self.servers())
    @rule(number=st.integers(0, 5), choice=st.integers(0, 9))
    def act(self, number: int, choice: int) -> None:
        """Something that fits the server's status, or at least did when its owner looked."""
        server = self.pick(number)
        possible = POSSIBLE.get(self.cloud.show(server)["status"], ANY)
        action = possible[choice % len(possible)]
        body = {"imageRef": self.cloud.image} if action == "rebuild" else BODIES.get(action)
        answer = self.cloud.act(server, action, body)
        assert answer.status < 500 and answer.status != 404, answer

    @rule()
    def rest(self) -> None:
        """Time passes in peace."""
        self.cloud.run(120.0)

    @precondition(lambda self: self.servers())
    @rule(number=st.integers(0, 5), which=st.integers(0, 1), attach=st.booleans())
    def plug(self, number: int, which: int, attach: bool) -> None:
        path, volume = f"{COMPUTE}/servers/{self.pick(number)}/os-volume_attachments", self.volumes[which]
        if attach:
            answer = self.cloud.call("POST", path, {"volumeAttachment": {"volumeId": volume}})
        else:
            answer = self.cloud.call("DELETE", f"{path}/{volume}")
        assert answer.status < 500, answer

    @precondition(lambda self: self.servers())
    @rule(number=st.integers(0, 5))
    def delete(self, number: int) -> None:
        assert self.cloud.call("DELETE", f"{COMPUTE}/servers/{self.pick(number)}").status == 204

    @rule(
        node=st.integers(1, 2), how=st.sampled_from(["crash", "shut_down", "reboot", "full", "roomy", "away", "back"])
    )
    def drift(self, node: int, how: str) -> None:
        machine = next(n for n in self.cloud.nodes.values() if n.name == f"node{node}")
        if how in ("crash", "shut_down"):
            for guest_id, guest in machine.hypervisor.machine.guests.items():
                if guest.seen.pid:
                    getattr(machine.hypervisor.machine, how)(guest_id)
                    break
        elif how == "reboot":
            machine.reboot()
        elif how in ("full", "roomy"):
            machine.hypervisor._capabilities = FULL if how == "full" else self.can[machine.id]
        else:
            machine.alive = how == "back"
        self.report()

    def report(self) -> None:
        """Nodes tell what they have; what they can give stays as it was at first."""
        kept = {}
        for node in self.cloud.nodes.values():
            kept[node.id], node.hypervisor._capabilities = node.hypervisor._capabilities, self.can[node.id]
        self.cloud.report()
        for node in self.cloud.nodes.values():
            node.hypervisor._capabilities = kept[node.id]

    def another_worker(self) -> Worker:
        cloud = self.cloud
        watched: Any = WatchedDatabase(cloud.db, cloud.faults)
        hub = FakeConnect(watched, cloud.blob, cloud.nodes)
        return Worker(watched, kinds(watched, hub), clock=cloud.clock)

    @rule(
        turns=st.integers(2, 14),
        at=st.integers(1, 10),
        what=st.sampled_from(["nothing", "nothing", "kill", "takeover", "delete", "stop"]),
        steps=st.integers(1, 25),
    )
    def tick(self, turns: int, at: int, what: str, steps: int) -> None:
        """Some work is done, and in the middle of it something happens."""
        faults = self.cloud.faults
        if what == "kill":
            faults.kill_at = faults.count + at
        elif what != "nothing":
            faults.fail = self.once(faults.count + at, self.disturb(what, steps))
        try:
            for _ in range(turns):
                if not self.cloud.worker.run_one():
                    self.cloud.offset += 1.0
        except Killed:
            self.cloud.revive()
        finally:
            faults.kill_at, faults.fail = None, lambda verb: None

    def once(self, count: int, happen: Callable[[], None]) -> Callable[[str], None]:
        faults = self.cloud.faults

        def fail(verb: str) -> None:
            if faults.count >= count:
                faults.fail = lambda _verb: None
                happen()

        return fail

    def disturb(self, what: str, steps: int) -> Callable[[], None]:
        def happen() -> None:
            for server in self.servers()[:2]:
                if what == "delete":
                    self.cloud.call("DELETE", f"{COMPUTE}/servers/{server}")
                elif what == "stop":
                    self.cloud.act(server, "os-stop")
            if what == "takeover":  # the worker sleeps past its lease; another goes on, then it wakes up
                self.cloud.offset += LEASE + 1
                other = self.another_worker()
                for _ in range(steps):
                    other.run_one()

        return happen

    def calm_down(self) -> None:
        for node in self.cloud.nodes.values():
            node.alive, node.hypervisor._capabilities = True, self.can[node.id]
        for _ in range(3):
            self.report()
            self.cloud.run(1200.0)

    def teardown(self) -> None:
        if not hasattr(self, "cloud"):
            return
        with contextlib.ExitStack() as after:
            after.callback(self.folder.cleanup)
            after.callback(self.cloud.close)
            self.calm_down()
            for server in self.servers():
                self.settled(server)
            assert not self.cloud.inconsistencies()
            for server in self.servers():
                self.cloud.call("DELETE", f"{COMPUTE}/servers/{server}")
            self.calm_down()
            assert not self.servers()
            for plural in ("snapshots", "volumes"):  # images of volume-backed servers leave snapshots
                for one in self.cloud.call("GET", f"{VOLUME}/{plural}").json[plural]:
                    assert self.cloud.call("DELETE", f"{VOLUME}/{plural}/{one['id']}").status == 202
                self.cloud.run(600.0)
            for image in self.cloud.call("GET", "/image/v2/images").json["images"]:
                if image["id"] != self.cloud.image:
                    self.cloud.call("DELETE", f"/image/v2/images/{image['id']}")
            self.cloud.run(600.0)
            assert self.cloud.leftovers() == self.before
            assert not self.cloud.inconsistencies()

    def settled(self, server: str) -> None:
        """At rest as it is wanted, with exactly one guest where it says that it is."""
        shown = self.cloud.show(server)
        assert shown["OS-EXT-STS:task_state"] is None, shown
        if shown["status"] == "ERROR":
            assert shown["fault"]["message"]
            return
        holders = [n.name for n in self.cloud.nodes.values() if server in n.hypervisor.list_guests()]
        assert holders == ([shown["OS-EXT-SRV-ATTR:host"]] if shown["OS-EXT-SRV-ATTR:host"] else [])
        power = {"ACTIVE": "on", "SHUTOFF": "off", "PAUSED": "paused", "SUSPENDED": "suspended", "RESCUE": "on"}
        if shown["status"] in power:
            assert self.cloud.guest(server).power == power[shown["status"]], shown


ServerLife.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestServerLife = ServerLife.TestCase
