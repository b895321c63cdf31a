"""An image's world: the blob store, nodes whose bytes are fetched, the database under a lease."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from pileus.core.ids import new_id
from pileus.core.reconcile import GONE, Kind, Outcome
from pileus.db.connect import Database, Tx
from pileus.image import rows
from pileus.image.drivers import Blob, Broken
from pileus.image.folding import folded
from pileus.image.ingest import Ingest
from pileus.image.inspection import AS_THEY_ARE, refusal
from pileus.image.lifecycle import overdue, step
from pileus.image.rows import IMAGES, STATUS, Image

_BLOCK = 1 << 20  # bytes; one call of the hash functions and the inspector
UNCAPPED = 1 << 62


class Hub(Protocol):
    """What images need of the wiring (see roles.controller.Connect)."""

    blob: Blob

    def copy_chunks(self, node_id: str, copy_id: str) -> Iterator[bytes]: ...

    def volume_chunks(self, node_id: str, pool: str, volume_id: str) -> Iterator[bytes]: ...

    def start(self, key: str, work: Callable[[], None]) -> None: ...

    def state(self, key: str) -> Any: ...


class ImageWorld:
    """lifecycle.World over the real things."""

    def __init__(self, db: Database, hub: Hub, clock: Callable[[], float]):
        self.db, self.hub, self.now = db, hub, clock

    def is_alive(self, image: Image) -> bool:
        return self.now() - image.transfer_seen < rows.DEAD

    def new_name(self) -> str:
        return new_id()

    def remove_blob(self, name: str) -> None:
        self.hub.blob.remove(name)

    def hopeless(self, error: Exception) -> str:
        return str(error) if isinstance(error, Broken | LookupError) else ""

    def fetch(self, image: Image) -> bool:
        state = self.hub.state(image.transfer)
        if isinstance(state, Exception):
            raise state
        if state is None:
            self.hub.start(image.transfer, Fetch(self.db, self.hub, image, self.now).run)
        return bool(state == "done")


class Fetch:
    """The long part, beside all steps: copy, then make it the image's own unless nobody wants it any more."""

    def __init__(self, db: Database, hub: Hub, image: Image, clock: Callable[[], float]):
        self.db, self.hub, self.image, self.now = db, hub, image, clock

    def run(self) -> None:
        """Raises what the node or the store raised, or Broken when no retry helps."""
        ingest = Ingest(self.hub.blob, self.image.transfer, size_cap=UNCAPPED, virtual_cap=UNCAPPED)
        seen = 0.0
        try:
            for block in blocks(self._chunks()):
                ingest.write(block)
                if time.monotonic() - seen > rows.BEAT:
                    seen = time.monotonic()
                    self._beat()
            stored = ingest.finish()
            self._check(stored)
        except BaseException:
            ingest.abort()
            raise
        # When this fails nobody knows whether it was committed: the bytes stay, and a next attempt takes another name.
        if not self.db.transact(lambda tx: self._activate(tx, stored)):
            ingest.abort()
            self._unwanted()

    def _chunks(self) -> Iterator[bytes]:
        """What a node sends are a disk's own bytes; an image that shall be qcow2 is folded on the way."""
        return folded(self._bytes) if self.image.disk_format == "qcow2" else self._bytes()

    def _bytes(self) -> Iterator[bytes]:
        feed = self.image.feed
        assert feed is not None, "only images with a feed are fetched"
        if feed.copy_id:
            return self.hub.copy_chunks(feed.node_id, feed.copy_id)
        return self.hub.volume_chunks(feed.node_id, feed.pool, feed.volume_id)

    def _beat(self) -> None:
        image = self.image
        if not self.db.transact(lambda tx: rows.beat(tx, image.id, image.transfer, self.now())):
            self._unwanted()

    def _check(self, stored: rows.Stored) -> None:
        """What a node sends are a disk's own bytes, whatever a guest wrote there: raw is not compared."""
        image = self.image
        plain = image.disk_format in AS_THEY_ARE
        if not plain and (why := refusal(stored.found, image.disk_format, image.container_format)):
            raise Broken(why)

    def _activate(self, tx: Tx, stored: rows.Stored) -> bool:
        held = rows.held(tx, self.image.id, self.image.transfer)
        if held is not None:
            rows.activate(tx, held, stored, self.now())
        return held is not None

    def _unwanted(self) -> NoReturn:
        """The image is being deleted: say that the transfer has ended, so that it need not wait."""
        why = "the image is no longer wanted"
        self.db.transact(lambda tx: rows.give_up(tx, self.image.id, self.image.transfer, why, self.now()))
        raise Broken(why)


def blocks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Larger pieces, which cost less for each byte."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        if len(held) >= _BLOCK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def save(tx: Tx, image: Image, outcome: Outcome, now: float) -> None:
    """Write what the step found, unless the API moved the image meanwhile: then the next look decides."""
    if outcome == GONE:
        rows.MEMBERS.delete(tx, image_id=image.id)
        IMAGES.delete(tx, id=image.id)
        rows.tell_owner(tx, image, now)
        return
    columns: dict[str, Any] = {name: getattr(image, name) for name in STATUS}
    changes = {**columns, "generation": image.generation + 1}
    if IMAGES.update(tx, changes, id=image.id, generation=image.generation) and image.status in ("active", "killed"):
        rows.tell_owner(tx, image, now)


def kind(db: Database, hub: Hub, clock: Callable[[], float]) -> Kind[Image]:
    """How the engine handles images."""
    return Kind(
        name="image",
        load=lambda tx, image_id: IMAGES.get(tx, id=image_id),
        step=step,
        save=save,
        overdue=overdue,
        world=lambda _lease: ImageWorld(db, hub, clock),
    )
