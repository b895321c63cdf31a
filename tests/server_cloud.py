"""A fake cloud in which servers can be made: flavors, an image, a network, and words for what tests do with servers."""

from pathlib import Path
from typing import Any

from cloud import FakeCloud
from direct import Answer
from pileus.compute.drivers import Capabilities, GuestSeen
from pileus.drivers.hypervisor.fake import FakeMachine

COMPUTE, NETWORK, VOLUME, IMAGE = "/compute/v2.1", "/networking/v2.0", "/volume/v3", "/image/v2"
LATEST = "compute 2.104"
OCTETS = {"content-type": "application/octet-stream"}


class ServerCloud(FakeCloud):
    """FakeCloud with flavors nano (1 GiB disk, 192 MiB) and micro (2 GiB, 256 MiB, 2 CPUs), an image and a network."""

    def __init__(self, folder: Path, nodes: int = 1, capabilities: Capabilities | None = None, rounds: int = 0):
        super().__init__(folder, nodes, capabilities, rounds)
        for name, size in (("nano", 1), ("micro", 2)):
            flavor = {"name": name, "id": name, "ram": 128 + 64 * size, "vcpus": size, "disk": size}
            self.call("POST", f"{COMPUTE}/flavors", {"flavor": flavor}, caller="admin")
        self.image = self.make_image("guest")
        self.network = self.make_network("net", "10.9.0.0/24")
        self.run()

    def make_image(self, name: str, **properties: str) -> str:
        """An active raw image of demo's that everybody may use; its id."""
        body = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "community", **properties}
        made: str = self.call("POST", f"{IMAGE}/images", body).json["id"]
        self.call("PUT", f"{IMAGE}/images/{made}/file", raw=b"\0" * 4096, headers=OCTETS)
        return made

    def make_network(self, name: str, cidr: str) -> str:
        """A network of demo's with one subnet; its id."""
        made: str = self.call("POST", f"{NETWORK}/networks", {"network": {"name": name}}).json["network"]["id"]
        subnet = {"network_id": made, "ip_version": 4, "cidr": cidr}
        assert self.call("POST", f"{NETWORK}/subnets", {"subnet": subnet}).status == 201
        return made

    def make_volume(self, size: int = 1, **more: Any) -> str:
        """A volume of demo's, available; its id."""
        made: str = self.call("POST", f"{VOLUME}/volumes", {"volume": {"size": size, **more}}).json["volume"]["id"]
        self.run()
        return made

    def volume(self, volume_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"{VOLUME}/volumes/{volume_id}").json["volume"])

    def ask(self, body: dict[str, Any] | None = None, *, beside: dict[str, Any] | None = None, **how: Any) -> Answer:
        """POST /servers of a small server, `body` over its defaults (None leaves a key out)."""
        server = {"name": "one", "flavorRef": "nano", "imageRef": self.image, "networks": "auto", **(body or {})}
        kept = {key: value for key, value in server.items() if value is not None}
        how.setdefault("version", LATEST)
        return self.call("POST", f"{COMPUTE}/servers", {"server": kept, **(beside or {})}, **how)

    def boot(self, body: dict[str, Any] | None = None, **how: Any) -> str:
        """A server that has come to rest; its id."""
        answer = self.ask(body, **how)
        assert answer.status == 202, answer
        self.run()
        return str(answer.json["server"]["id"])

    def show(self, server_id: str, *, caller: str = "admin", version: str = LATEST) -> dict[str, Any]:
        answer = self.call("GET", f"{COMPUTE}/servers/{server_id}", caller=caller, version=version)
        assert answer.status == 200, answer
        return dict(answer.json["server"])

    def status(self, server_id: str) -> str:
        """Status and task of a server, as "ACTIVE" or "ACTIVE powering-off"."""
        shown = self.show(server_id)
        return " ".join(filter(None, (shown["status"], shown["OS-EXT-STS:task_state"])))

    def act(
        self, server_id: str, action: str, body: Any = None, *, version: str = LATEST, caller: str = "demo"
    ) -> Answer:
        """POST an action, without waiting for what follows."""
        return self.call(
            "POST", f"{COMPUTE}/servers/{server_id}/action", {action: body}, version=version, caller=caller
        )

    def do(self, server_id: str, action: str, body: Any = None, **how: Any) -> str:
        """An action that is accepted, until all is at rest; the status that follows."""
        answer = self.act(server_id, action, body, **how)
        assert answer.status in (200, 202, 204), answer
        self.run()
        return self.status(server_id)

    def delete(self, server_id: str) -> None:
        """Delete a server, until it is gone."""
        assert self.call("DELETE", f"{COMPUTE}/servers/{server_id}").status == 204
        self.run()
        assert self.call("GET", f"{COMPUTE}/servers/{server_id}").status == 404

    def machine(self, node: int = 1) -> FakeMachine:
        """What a node's hypervisor really has."""
        return next(n for n in self.nodes.values() if n.name == f"node{node}").hypervisor.machine

    def guest(self, server_id: str) -> GuestSeen:
        """A server's guest on whichever node it is."""
        found = [n.hypervisor.machine.guests[server_id].seen for n in self.nodes.values()
                 if server_id in n.hypervisor.machine.guests]  # fmt: skip
        assert len(found) == 1, f"{len(found)} guests of {server_id}"
        return found[0]

    def untouched(self) -> list[str]:
        """What `verify` would complain of in the store."""
        from pileus.compute import facade as compute
        from pileus.network import facade as network
        from pileus.placement import facade as placement
        from pileus.volume import facade as volume

        return [line for m in (compute, network, placement, volume) for line in self.db.read(m.inconsistencies)]
