"""The attributes of a volume as the API shows them, by microversion.

Source: Block Storage API reference, "Volumes (volumes)"; REST API version history 3.0 to 3.71.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.fields import Field, Fields
from pileus.core.nodes import NODES
from pileus.core.op import Page
from pileus.core.paging import Query
from pileus.db.connect import Tx
from pileus.volume.attachment.rows import Attachment, of_volumes
from pileus.volume.listing import Lister
from pileus.volume.pools import host_name
from pileus.volume.service import METADATA_OR_NULL, READER, SHORT, SIZE_OR_NULL, VOLUME, links
from pileus.volume.volume.rows import MIGRATION_SQL, STATUS_SQL, VOLUMES, Volume, migration, status
from pileus.volume.volume_type import names

ADMIN_ONLY = VOLUME.rule("volume_extension:volume_host_attribute", "rule:admin_api")
MIGRATION = VOLUME.rule("volume_extension:volume_mig_status_attribute", "rule:admin_api")
TENANT = VOLUME.rule("volume_extension:volume_tenant_attribute", READER)
_links = links("volumes")


@dataclass
class Shown:
    """A volume with what stands beside it in other tables; policy sees its project and user."""

    volume: Volume
    type_name: str
    attachments: list[Attachment]
    host: str | None
    owner: str | None  # its project, where the caller may see that
    project_id: str
    user_id: str
    nothing: ClassVar[None] = None  # what every volume of this cloud answers
    no: ClassVar[bool] = False
    yes: ClassVar[bool] = True


def shown(ctx: Context, volumes: list[Volume]) -> list[Shown]:
    """Volumes ready to be rendered, with three queries for all of them."""
    ties = of_volumes(ctx.tx, [v.id for v in volumes])
    types = names(ctx.tx, {v.volume_type_id for v in volumes})
    hosts = node_names(ctx.tx) if ctx.allows(ADMIN_ONLY) else {}
    owners = {v.project_id: v for v in volumes}
    seen = {project for project, volume in owners.items() if ctx.allows(TENANT, volume)}
    return [
        Shown(
            v, types[v.volume_type_id], ties.get(v.id, []), _host(v, hosts),
            v.project_id if v.project_id in seen else None, v.project_id, v.user_id,
        )
        for v in volumes
    ]  # fmt: skip


def node_names(tx: Tx) -> dict[str, str]:
    """Names of nodes by id."""
    return {node.id: node.name for node in NODES.all(tx)}


def _host(volume: Volume, hosts: dict[str, str]) -> str | None:
    if volume.node_id is None or volume.node_id not in hosts:
        return None
    return f"{host_name(hosts[volume.node_id], str(volume.backend))}#{volume.pool}"


def _attachments(row: Shown, ctx: Context) -> list[dict[str, Any]]:
    """Those that are in use."""
    admin = ctx.allows("context_is_admin")
    return [
        {
            "id": row.volume.id, "attachment_id": a.id, "volume_id": row.volume.id, "server_id": a.server_id,
            "host_name": a.host_name if admin else None, "device": a.mountpoint,
            "attached_at": iso_micro(a.attached_at),
        }
        for a in row.attachments
        if a.attached and not a.released
    ]  # fmt: skip


def _metadata(row: Shown, _ctx: Context) -> dict[str, str]:
    if row.volume.read_only is None:
        return row.volume.metadata
    return {**row.volume.metadata, "readonly": str(bool(row.volume.read_only))}


def _updated(row: Shown, _ctx: Context) -> str | None:
    return iso_micro(max(row.volume.updated_at or 0.0, row.volume.seen_at or 0.0) or None)


class VolumeFields(Fields):
    """Leaves out what upstream leaves out when it is empty."""

    def render(self, row: Any, ctx: Context) -> dict[str, Any]:
        """A volume as the caller's version shows it."""
        found = super().render(row, ctx)
        for name in ("volume_image_metadata", "os-vol-tenant-attr:tenant_id"):
            if not found.get(name, True):
                del found[name]
        return found


_ALWAYS = (
    Field("id", "rqs", get="volume.id", column="id"),
    Field("status", "rq", get=lambda r, _: status(r.volume, r.attachments)),
    Field("size", "crqs", SIZE_OR_NULL, get="volume.shown_gib", column="wanted_gib", doc="GiB"),
    Field("availability_zone", "crqs", SHORT, get="volume.zone", column="zone"),
    Field("created_at", "rqs", get=lambda r, _: iso_micro(r.volume.created_at), column="created_at"),
    Field("updated_at", "rqs", get=_updated, column="updated_at"),
    Field("name", "cruqs", SHORT, get="volume.name", column="name"),
    Field("description", "cruqs", SHORT, get="volume.description", column="description"),
    Field("volume_type", "cr", SHORT, get="type_name"),
    Field("snapshot_id", "crq", SHORT, get="volume.snapshot_id", column="snapshot_id"),
    Field("source_volid", "crq", SHORT, get="volume.source_volid", column="source_volid"),
    Field("metadata", "cruq", METADATA_OR_NULL, get=_metadata, column="metadata"),
    Field("links", "r", get=lambda r, ctx: _links(r.volume.id, ctx)),
    Field("user_id", "rqs", get="volume.user_id", column="user_id"),
    Field("bootable", "rqs", get=lambda r, _: "true" if r.volume.bootable else "false", column="bootable"),
    Field("encrypted", "r", get="no"),
    Field("replication_status", "r", get="nothing"),
    Field("consistencygroup_id", "cr", SHORT, get="nothing"),
    Field("multiattach", "crq", {}, get="volume.multiattach", column="multiattach"),
    Field("attachments", "r", get=_attachments),
    Field("migration_status", "rq", get=lambda r, _: migration(r.volume), see=MIGRATION),
    Field("group_id", "cr", SHORT, since="3.13", get="nothing"),
    Field("provider_id", "r", since="3.21", get="nothing", see=ADMIN_ONLY),
    Field("service_uuid", "r", since="3.48", get="nothing"),
    Field("shared_targets", "r", since="3.48", get="no"),
    Field("cluster_name", "r", since="3.61", get="nothing", see=ADMIN_ONLY),
    Field("volume_type_id", "rq", since="3.63", get="volume.volume_type_id", column="volume_type_id"),
    Field("consumes_quota", "r", since="3.65", get="yes"),
    Field("display_name", "cu", SHORT),
    Field("display_description", "cu", SHORT),
    Field("imageRef", "c", SHORT),
    Field("image_id", "c", SHORT),
    Field("backup_id", "c", SHORT, since="3.47"),
)
_EXTENDED = (
    Field("os-vol-tenant-attr:tenant_id", "r", get="owner"),
    Field("os-vol-host-attr:host", "r", get="host", see=ADMIN_ONLY),
    Field("os-vol-mig-status-attr:migstat", "r", get=lambda r, _: migration(r.volume), see=MIGRATION),
    Field("os-vol-mig-status-attr:name_id", "r", get="nothing", see=MIGRATION),
    Field("volume_image_metadata", "r", get="volume.image_metadata"),
)
BRIEF = Fields("volume", "volumes", [f for f in _ALWAYS if f.name in ("id", "name", "links")])
CREATED = VolumeFields("volume", "volumes", _ALWAYS)
CREATED_LOOSELY = VolumeFields("volume", "volumes", _ALWAYS, extra=True)  # before 3.53
UPDATED = VolumeFields(  # its answer has not grown since 3.48
    "volume",
    "volumes",
    [f for f in _ALWAYS if f.first() <= (3, 48)],
)
DETAILED = VolumeFields("volume", "volumes", (*_ALWAYS, *_EXTENDED))

LISTER = Lister(
    DETAILED,
    VOLUMES,
    "volumes",
    expressions={"status": STATUS_SQL, "migration_status": MIGRATION_SQL},
    columns={"glance_metadata": "image_metadata"},
    json=frozenset(("metadata", "glance_metadata")),
    times=frozenset(("created_at", "updated_at")),
    likes=frozenset(("name", "description", "user_id", "availability_zone")),
    links="volumes_links",
)


def brief_page(ctx: Context, query: Query) -> Page:
    """One page of volumes of which only names are shown."""
    found = LISTER.page(ctx, query)
    rows = [Shown(v, "", [], None, None, v.project_id, v.user_id) for v in found.rows]
    return Page(rows, found.beside)


def page(ctx: Context, query: Query) -> Page:
    """One page of volumes, ready to be rendered."""
    found = LISTER.page(ctx, query, below="/detail")
    return Page(shown(ctx, found.rows), found.beside)
