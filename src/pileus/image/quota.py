"""How much a project keeps in images: unlimited unless the operator sets unified limits for the image service.

Source: Image service administration guide, "Quotas" (limits registered with identity, sizes in MiB).
"""

from pileus.core.context import Context
from pileus.core.errors import TooLarge
from pileus.core.quota import UNLIMITED, Quota
from pileus.db.connect import Tx
from pileus.identity import facade as identity
from pileus.image.rows import IMAGES

MIB = 1 << 20


def mib(size: int) -> int:
    """Bytes in whole MiB, rounded up."""
    return -(-size // MIB)


def _count(tx: Tx, where: str, project_id: str) -> int:
    row = tx.one(f"select count(*) from images where project_id = ? and deleting = 0 and {where}", project_id)
    return int(row[0]) if row else 0


def _stored(tx: Tx, project_id: str) -> int:
    row = tx.one("select coalesce(sum(size), 0) from images where project_id = ? and deleting = 0", project_id)
    return mib(int(row[0])) if row else 0


def _staged(tx: Tx, project_id: str) -> int:
    rows = IMAGES.query(tx, "where project_id = ? and deleting = 0 and staged is not null", project_id)
    return mib(sum(image.staged.size for image in rows if image.staged is not None))


class ImageQuota(Quota):
    """Limits that stand in identity, passed as oslo.limit has it: nothing more for who is over a limit already."""

    def limits(self, tx: Tx, project_id: str) -> dict[str, int]:
        """All limits of a project; -1 is unlimited."""
        known = identity.limits_of(tx, self.service, project_id)
        return {name: known.get(name, default) for name, (default, _) in self.resources.items()}

    def take(self, tx: Tx, project_id: str, **wanted: int) -> None:
        """Raise TooLarge unless so many more fit; 0 is for sizes that are not known before."""
        tx.lock(f"quota/{self.service}/{project_id}")
        limits = self.limits(tx, project_id)
        for name, more in wanted.items():
            used = self.resources[name][1](tx, project_id) if limits[name] != UNLIMITED else 0
            if limits[name] != UNLIMITED and used + more > limits[name]:
                raise TooLarge(
                    f"Project {project_id} is over a limit for {name}: limit {limits[name]}, used {used}, requested"
                    f" {more}. Delete images, or ask the administrator for a higher limit."
                )


QUOTA = ImageQuota(
    "image",
    {
        "image_size_total": (UNLIMITED, _stored),  # MiB
        "image_stage_total": (UNLIMITED, _staged),  # MiB
        "image_count_total": (UNLIMITED, lambda tx, project_id: _count(tx, "1 = 1", project_id)),
        "image_count_uploading": (
            UNLIMITED,
            lambda tx, project_id: _count(
                tx, "(transfer <> '' or status in ('saving', 'uploading', 'importing'))", project_id
            ),
        ),
    },
)


def take(ctx: Context, project_id: str, **wanted: int) -> None:
    """Raise TooLarge unless so many more fit: for the project, and for its domain where the model of limits says so."""
    QUOTA.take(ctx.tx, project_id, **wanted)
    above = identity.limits_above(ctx, QUOTA.service, project_id)
    if above is None:
        return
    ctx.tx.lock(f"quota/{QUOTA.service}/{above.domain_id}")
    for name, more in wanted.items():
        limit, count = above.limits.get(name, UNLIMITED), QUOTA.resources[name][1]
        used = sum(count(ctx.tx, one) for one in above.projects) if limit != UNLIMITED else 0
        if limit != UNLIMITED and used + more > limit:
            raise TooLarge(
                f"The projects of domain {above.domain_id} are over a limit for {name}: limit {limit}, used {used},"
                f" requested {more}. Delete images, or ask the administrator for a higher limit."
            )
