"""What nodes should have of block storage, and what contradicts itself in the rows."""

from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.volume.attachment.rows import ATTACHMENTS
from pileus.volume.point_in_time import READERS
from pileus.volume.volume.rows import VOLUMES
from pileus.volume.volume.world import clone_snapshot


def expected(tx: Tx, node_id: str) -> set[str]:
    """Ids of volumes and snapshots of which this node may have a trace, those for clones in the making included."""
    ids = {row[0] for row in tx.all("select id from volumes where node_id = ?", node_id)}
    snapshots = "select s.id from volume_snapshots s join volumes v on v.id = s.volume_id where v.node_id = ?"
    ids |= {row[0] for row in tx.all(snapshots, node_id)}
    exported = "select volume_id from volume_attachments where export_node_id = ?"
    ids |= {row[0] for row in tx.all(exported, node_id)}
    return ids | {clone_snapshot(r.reader_id) for r in READERS.all(tx) if r.server_id}


def expected_copies(tx: Tx, node_id: str) -> set[str]:
    """Ids of the copies that the hypervisor of this node makes of volumes that are open there."""
    return {reader.reader_id for reader in READERS.all(tx, node_id=node_id)}


def node_seen(tx: Tx, node_id: str, now: float) -> None:
    """Exports do not outlive a machine: look again at those from and to this node, and at what waits for it."""
    sql = (
        "select a.id from volume_attachments a join volumes v on v.id = a.volume_id"
        " where a.export_node_id is not null and (v.node_id = ? or a.export_node_id = ?)"
    )
    for (attachment_id,) in tx.all(sql, node_id, node_id):
        poke(tx, "attachment", attachment_id, now)
    waiting = (
        "select id from work where kind = 'volume' and due is not null and id in (select id from volumes where {})"
    )
    for (volume_id,) in tx.all(waiting.format("node_id = ?"), node_id):
        poke(tx, "volume", volume_id, now)


def inconsistencies(tx: Tx) -> list[str]:
    """One line for each thing that should not be; empty when all is well."""
    lines = []
    ties: dict[str, int] = {}
    for a in ATTACHMENTS.all(tx):
        if not a.released:
            ties[a.volume_id] = ties.get(a.volume_id, 0) + 1
        if a.managed and tx.one("select 1 from work where kind = 'attachment' and id = ?", a.id) is None and a.node_id:
            lines.append(f"attachment {a.id} is wanted on node {a.node_id}, but no step was ever asked for")
    for v in VOLUMES.all(tx):
        if ties.get(v.id, 0) > 1 and not v.multiattach:
            lines.append(f"volume {v.id} has {ties[v.id]} attachments, but only one may use it")
        if v.made and v.node_id is None:
            lines.append(f"volume {v.id} is made, but on no node")
        if v.transferring != (tx.one("select 1 from volume_transfers where volume_id = ?", v.id) is not None):
            lines.append(f"volume {v.id} and its transfer contradict each other")
    orphans = (
        "select thing_id, reader_id from volume_readers where reader_id not in (select id from volumes)"
        " and reader_id not in (select id from volume_snapshots)"
    )
    return lines + [f"volume {thing} is read by {reader}, which does not exist" for thing, reader in tx.all(orphans)]
