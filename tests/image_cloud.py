"""The image service alone: its API, its step, a blob store, and nodes whose bytes a test invents."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from direct import Answer, Direct
from pileus.core.config import Config
from pileus.core.reconcile import REST, Kind, Outcome, Worker
from pileus.db.connect import Database
from pileus.drivers.blob.file import FileBlob
from pileus.image import facade
from pileus.image.rows import IMAGES, Image
from pileus.roles.controller import Connect

V20 = {"content-type": "application/openstack-images-v2.0-json-patch"}
V21 = {"content-type": "application/openstack-images-v2.1-json-patch"}
OCTETS = {"content-type": "application/octet-stream"}


class Hub(Connect):
    """The controller's hub over nodes of which only disks are known: what stands on them is in `copies`."""

    def __init__(self, db: Database, blob: FileBlob, folder: Path):
        super().__init__(db, blob, folder / "keys")
        self.copies: dict[str, bytes | Exception] = {}

    def copy_chunks(self, node_id: str, copy_id: str) -> Iterator[bytes]:
        found = self.copies.get(copy_id, LookupError(f"no copy {copy_id}"))
        if isinstance(found, Exception):
            raise found
        for at in range(0, len(found), 1 << 18):
            yield found[at : at + (1 << 18)]

    def volume_chunks(self, node_id: str, pool: str, volume_id: str) -> Iterator[bytes]:
        return self.copy_chunks(node_id, f"{pool}/{volume_id}")

    def busy(self) -> bool:
        """Whether a transfer is under way."""
        return "running" in list(self._transfers.values())

    def wait(self) -> None:
        """Until none is."""
        while self.busy():
            time.sleep(0.001)


class ImageCloud:
    """One image service."""

    def __init__(self, folder: Path, **config: Any):
        self.folder = folder
        self.blob = FileBlob(folder / "images")
        self.settings = SimpleNamespace(config=Config(**config), blob=self.blob)
        self.direct = Direct([facade.SERVICE], folder, self.settings)
        self.db = self.direct.db
        self.hub = Hub(self.db, self.blob, folder)
        self.told: list[str] = []  # owners that were poked
        self.ahead = 0.0  # seconds that the worker's clock is ahead

    def clock(self) -> float:
        return time.time() + self.ahead

    def __call__(self, method: str, path: str, body: Any = None, **how: Any) -> Answer:
        return self.direct(method, "/image/v2" + path, body, **how)

    def create(self, caller: str = "demo", **body: Any) -> dict[str, Any]:
        given = {"name": "an image", "disk_format": "raw", "container_format": "bare", **body}
        answer = self("POST", "/images", given, caller=caller)
        assert answer.status == 201, answer
        found: dict[str, Any] = answer.json
        return found

    def upload(self, image_id: str, data: bytes, *, caller: str = "demo", to: str = "file", **headers: str) -> Answer:
        how = {**OCTETS, **headers}
        return self("PUT", f"/images/{image_id}/{to}", raw=data, headers=how, caller=caller)

    def cut_upload(self, image_id: str, parts: list[bytes], *, to: str = "file") -> list[dict[str, Any]]:
        """An upload whose client goes away after some parts; what was answered (nothing, if all is well)."""
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        sent: list[dict[str, Any]] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        path = f"/image/v2/images/{image_id}/{to}"
        headers = {"host": "cloud", "x-auth-token": "demo", **OCTETS}
        scope = {
            "type": "http", "method": "PUT", "path": path, "raw_path": path.encode(), "scheme": "http",
            "query_string": b"", "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        self.direct.loop.run_until_complete(self.direct.app(scope, receive, send))
        return sent

    def active(self, data: bytes = b"data", **body: Any) -> dict[str, Any]:
        image = self.create(**body)
        assert self.upload(image["id"], data, caller=body.get("caller", "demo")).status == 204
        return self.show(image["id"], caller=body.get("caller", "demo"))

    def show(self, image_id: str, caller: str = "demo") -> dict[str, Any]:
        answer = self("GET", f"/images/{image_id}", caller=caller)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    def show_status(self, image_id: str) -> str:
        row = self.row(image_id)
        return "" if row is None else row.status

    def patch(self, image_id: str, *changes: dict[str, Any], caller: str = "demo", v20: bool = False) -> Answer:
        return self("PATCH", f"/images/{image_id}", list(changes), headers=V20 if v20 else V21, caller=caller)

    def row(self, image_id: str) -> Image | None:
        return self.db.read(lambda tx: IMAGES.get(tx, id=image_id))

    def worker(self) -> Worker:
        kinds = {kind.name: kind for kind in facade.kinds(self.db, self.hub, self.clock)}
        for owner in ("server", "volume"):
            kinds[owner] = Kind(
                owner, lambda tx, i: i, self._tell, lambda *_: None, lambda *_: REST, lambda lease: None
            )
        return Worker(self.db, kinds, clock=self.clock)

    def _tell(self, owner_id: str, _world: None) -> Outcome:
        self.told.append(owner_id)
        return REST

    def settle(self, seconds: float = 10.0) -> None:
        """Step until nothing is due now; waits of a step are not waited for, but transfers are."""
        worker = self.worker()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if worker.run_one():
                continue
            if not self.hub.busy():
                self.ahead += 0.6
                if not worker.run_one():
                    return
            time.sleep(0.01)
        raise AssertionError("the images do not come to rest")

    def leaked(self) -> set[str]:
        """Blobs and partial uploads that no row accounts for, and contradictions of the rows."""
        expected, passing = self.db.read(lambda tx: (facade.expected_blobs(tx), facade.passing_blobs(tx)))
        there = set(self.blob.list())
        partial = {path.name for path in (self.folder / "images" / "partial").iterdir()}
        wrong = set(self.db.read(facade.inconsistencies))
        return (there - expected - passing) | (expected - there) | partial | wrong

    def close(self) -> None:
        self.hub.wait()
        self.direct.loop.run_until_complete(self.direct.loop.shutdown_default_executor())
        self.direct.loop.close()
        self.db.close()
