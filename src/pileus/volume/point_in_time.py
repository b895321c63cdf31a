"""Reading a volume as it was at one instant, though its user goes on writing.

Who reads (a snapshot, a clone, an upload in the making) has a row in `volume_readers`.  A volume that no
node has open is read as it is, and is not opened by anybody until the reader is done.  One that is open
is copied by the hypervisor of its server, at one instant, and the copy is read.
"""

import functools
from collections.abc import Callable

from msgspec import Struct

from pileus.core.reconcile import Lease, Transient, poke, transact
from pileus.db.connect import Database, Tx
from pileus.db.rows import Table
from pileus.volume.attachment.rows import ATTACHMENTS
from pileus.volume.drivers import Broken
from pileus.volume.hub import Hub


class Reader(Struct, frozen=True, kw_only=True):
    """One reader of a volume; server and node are empty when it reads the volume itself."""

    thing_id: str
    reader_id: str
    server_id: str
    node_id: str


READERS = Table(Reader, "volume_readers", key=("thing_id", "reader_id"))


class Frozen(Struct, frozen=True, kw_only=True):
    """Where the bytes of one instant stand: in a copy on a node, or (no copy) in the volume itself."""

    node_id: str = ""
    copy_id: str = ""
    path: str = ""

    def path_on(self, node_id: str) -> str:
        """The copy's file on the node of the volume, "" when there is no copy; raises Broken for one elsewhere."""
        if self.copy_id and self.node_id != node_id:
            raise Broken(
                "the volume is open on another node than its own, where no copy of one instant can be taken over:"
                " detach it, or stop its server and detach it, and try again"
            )
        return self.path


def readers(tx: Tx, volume_id: str) -> list[Reader]:
    """Who reads a volume now."""
    return READERS.all(tx, thing_id=volume_id)


def claim(tx: Tx, volume_id: str, reader_id: str) -> Reader:
    """The reader's row, made if need be: by whom the volume is open decides how it is read."""
    tx.lock(f"volume/{volume_id}")
    found = READERS.get(tx, thing_id=volume_id, reader_id=reader_id)
    if found is not None:
        return found
    exports = [a for a in ATTACHMENTS.all(tx, volume_id=volume_id) if a.export_node_id is not None]
    if any(a.leaving or a.server_id is None for a in exports):
        raise Transient("the volume is just being detached")
    first = min(exports, key=lambda a: not a.attached, default=None)
    server_id, node_id = (first.server_id, first.export_node_id) if first else ("", "")
    assert server_id is not None and node_id is not None
    reader = Reader(thing_id=volume_id, reader_id=reader_id, server_id=server_id, node_id=node_id)
    return READERS.insert(tx, reader)


def claim_alone(tx: Tx, volume_id: str, reader_id: str) -> bool:
    """Become the only reader of a volume that nobody has open (before its bytes are replaced)."""
    tx.lock(f"volume/{volume_id}")
    if any(r.reader_id != reader_id for r in readers(tx, volume_id)):
        return False
    if any(a.export_node_id is not None for a in ATTACHMENTS.all(tx, volume_id=volume_id)):
        return False
    if READERS.get(tx, thing_id=volume_id, reader_id=reader_id) is None:
        READERS.insert(tx, Reader(thing_id=volume_id, reader_id=reader_id, server_id="", node_id=""))
    return True


class PointInTime:
    """Freezes volumes for one reader, under the reader's lease."""

    def __init__(self, db: Database, hub: Hub, lease: Lease, clock: Callable[[], float]):
        self.db, self.hub, self.lease, self.clock = db, hub, lease, clock

    def freeze(self, volume_id: str, reader_id: str) -> Frozen | None:
        """The bytes of one instant, None while they are being copied; raises Transient, Broken."""
        reader = transact(self.db, self.lease, lambda tx: claim(tx, volume_id, reader_id))
        if not reader.server_id:
            return Frozen()
        guests = self.hub.hypervisor(reader.node_id, self.lease)
        try:
            if guests.ensure_disk_copy(reader.server_id, volume_id, reader_id) is None:
                return None
            return Frozen(node_id=reader.node_id, copy_id=reader_id, path=guests.disk_copy_path(reader_id))
        except LookupError as error:
            self._reconsider(reader)
            raise Transient(f"server {reader.server_id} does not have the volume open yet: {error}") from None

    def _reconsider(self, reader: Reader) -> None:
        """Forget how the volume was to be read if its server has let go of it."""

        def work(tx: Tx) -> None:
            still = ATTACHMENTS.count(
                tx, volume_id=reader.thing_id, server_id=reader.server_id, export_node_id=reader.node_id
            )
            if not still:
                READERS.delete(tx, thing_id=reader.thing_id, reader_id=reader.reader_id)

        transact(self.db, self.lease, work)

    def thaw(self, reader_id: str, after: Callable[[Reader], bool] | None = None) -> bool:
        """Let go of everything that was frozen for a reader; False when it has to be asked for again.

        `after` removes what the reader itself made on the way.
        """
        for reader in self.db.read(lambda tx: READERS.all(tx, reader_id=reader_id)):
            if after is not None and not after(reader):
                return False
            if reader.server_id and not self.hub.hypervisor(reader.node_id, self.lease).remove_disk_copy(reader_id):
                return False
            transact(self.db, self.lease, functools.partial(let_go, reader=reader, now=self.clock()))
        return True


def let_go(tx: Tx, reader: Reader, now: float) -> None:
    """End a reading; whoever waited for the volume looks again."""
    READERS.delete(tx, thing_id=reader.thing_id, reader_id=reader.reader_id)
    poke(tx, "volume", reader.thing_id, now)
    for attachment in ATTACHMENTS.all(tx, volume_id=reader.thing_id):
        poke(tx, "attachment", attachment.id, now)
