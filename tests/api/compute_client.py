"""Compute's API with a host or two and servers as rows, for the tests of what stands beside servers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from direct import ADMIN, DEMO, OTHER, Answer, Direct
from pileus.compute.facade import SERVICE
from pileus.compute.server.rows import SERVERS, Server, Size
from pileus.core.config import Config
from pileus.core.ids import new_id
from pileus.core.nodes import NODES, Node
from pileus.db.connect import Tx
from pileus.identity.rows import PROJECTS, Project
from pileus.placement import facade as placement

HOST1, HOST2 = (f"{i}abc123f-1111-4222-8333-444444444444" for i in (1, 2))


class Compute:
    """The API; `hosts` and `server` put rows in place that agents and lives would write."""

    def __init__(self, folder: Path):
        self.direct = Direct([SERVICE], folder, SimpleNamespace(config=Config(name="controller")))
        self.direct.db.transact(self._projects)

    @staticmethod
    def _projects(tx: Tx) -> None:
        domain = Project(id="default", name="Default", domain_id=None, parent_id=None, is_domain=True)
        PROJECTS.insert(tx, domain)
        for caller in (ADMIN, DEMO, OTHER):
            project = Project(
                id=caller.project_id or "", name=caller.project_name or "", domain_id="default", parent_id="default"
            )
            PROJECTS.insert(tx, project)

    def __call__(self, method: str, path: str, body: Any = None, *, at: str = "2.1", caller: str = "admin") -> Answer:
        return self.direct(method, f"/compute/v2.1{path}", body, caller=caller, version=f"compute {at}")

    def host(self, node_id: str = HOST1, name: str = "host-1", **more: Any) -> None:
        """A node that reported just now."""

        def work(tx: Tx) -> None:
            import time

            fields: dict[str, Any] = {
                "url": "unix:///x", "endpoint": "", "roles": ["compute"], "created_at": float(name[-1]),
                "capabilities": {"version": "7.2.9", "traits": ["HW_CPU_X86_AVX"], "booted_at": time.time() - 93784},
                "pools": [], "seen_at": time.time(), **more,
            }  # fmt: skip
            NODES.insert(tx, Node(id=node_id, name=name, **fields))
            have = {
                "VCPU": placement.Inventory(8, allocation_ratio=16.0),
                "MEMORY_MB": placement.Inventory(8192, reserved=512),
                "DISK_GB": placement.Inventory(100),
            }
            placement.ensure_provider(tx, provider_id=node_id, name=name, inventories=have, traits=(), now=1.0)

        self.direct.db.transact(work)

    def server(self, *, node_id: str | None = HOST1, project_id: str = "", **more: Any) -> str:
        """A server that runs since an hour, with its claim."""
        server_id = new_id()

        def work(tx: Tx) -> None:
            import time

            now = time.time()
            owner = project_id or DEMO.project_id or ""
            size = Size(id="1", name="m1.small", vcpus=2, ram_mib=1024, disk_gib=10)
            fields: dict[str, Any] = {
                "created_at": now - 3600, "changed_at": now, "moved_at": now, "launched_at": now - 3600, "task": None,
                "name": "web", "hostname": "web", "reservation_id": "r", "user_id": DEMO.user_id, **more,
            }  # fmt: skip
            SERVERS.insert(
                tx,
                Server(
                    id=server_id, project_id=owner, node_id=node_id, flavor=size, vcpus=2, ram_mib=1024, disk_gib=10,
                    **fields,
                ),
            )  # fmt: skip
            if node_id is not None:
                placement.claim(
                    tx, consumer_id=server_id, provider_id=node_id,
                    resources={"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 10}, project_id=owner, user_id="u", now=now,
                )  # fmt: skip

        self.direct.db.transact(work)
        return server_id
