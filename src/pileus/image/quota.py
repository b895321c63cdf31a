"""How much a project keeps in images; unlimited unless an operator sets a limit."""

from pileus.core.quota import UNLIMITED, Quota
from pileus.db.connect import Tx

MIB = 1 << 20


def _count(tx: Tx, where: str, project_id: str) -> int:
    row = tx.one(f"select count(*) from images where project_id = ? and deleting = 0 and {where}", project_id)
    return int(row[0]) if row else 0


def _stored(tx: Tx, project_id: str) -> int:
    row = tx.one("select coalesce(sum(size), 0) from images where project_id = ? and deleting = 0", project_id)
    return -(-int(row[0]) // MIB) if row else 0


QUOTA = Quota(
    "image",
    {
        "image_size_total": (UNLIMITED, _stored),  # MiB
        "image_count_total": (UNLIMITED, lambda tx, project_id: _count(tx, "1 = 1", project_id)),
        "image_count_uploading": (UNLIMITED, lambda tx, project_id: _count(tx, "transfer <> ''", project_id)),
    },
)
