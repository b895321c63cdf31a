"""How clients find out what this API can do: versions, extensions, filters.

Source: Block Storage API reference, "API versions", "API extensions (extensions)", "Resource filters" (3.33).
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.fields import show_version
from pileus.core.op import PUBLIC, Reply, collection, unguarded
from pileus.core.paging import Query
from pileus.volume.attachment import api as attachments
from pileus.volume.listing import Lister
from pileus.volume.message import LISTER as MESSAGES
from pileus.volume.service import READER, VOLUME, missing, op
from pileus.volume.snapshot import api as snapshots
from pileus.volume.volume.fields import LISTER as VOLUMES

UPDATED = "2026-01-01T00:00:00Z"


def _version(ctx: Context) -> dict[str, Any]:
    return {
        "id": "v3.0", "status": "CURRENT", "version": show_version(VOLUME.maximum),
        "min_version": show_version(VOLUME.minimum), "updated": UPDATED,
        "links": [
            {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
            {"rel": "self", "href": f"{ctx.url}/v3/"},
        ],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}],
    }  # fmt: skip


@VOLUME.op("GET", "", base="", rule=PUBLIC, load=unguarded, ok=300)
def list_versions(ctx: Context) -> Reply:
    """List the versions of this API."""
    return Reply({"versions": [_version(ctx)]})


@VOLUME.op("GET", "", rule=PUBLIC, load=unguarded)
def get_version(ctx: Context) -> Reply:
    """Show version 3."""
    return Reply({"versions": [_version(ctx)]})


EXTENSIONS = {
    "os-admin-actions": "AdminActions", "os-availability-zone": "AvailabilityZones", "capabilities": "Capabilities",
    "os-hosts": "Hosts", "os-quota-class-sets": "QuotaClasses", "os-quota-sets": "Quotas",
    "qos-specs": "Qos_specs_manage", "scheduler-stats": "Scheduler_stats", "os-services": "Services",
    "os-snapshot-actions": "SnapshotActions",
    "os-types-extra-specs": "TypesExtraSpecs", "os-types-manage": "TypesManage", "os-used-limits": "UsedLimits",
    "os-vol-host-attr": "VolumeHostAttribute", "os-vol-image-meta": "VolumeImageMetadata",
    "os-vol-mig-status-attr": "VolumeMigStatusAttribute", "os-vol-tenant-attr": "VolumeTenantAttribute",
    "os-volume-actions": "VolumeActions", "os-volume-transfer": "VolumeTransfer",
    "os-volume-type-access": "VolumeTypeAccess", "encryption": "VolumeTypeEncryption",
    "os-extended-snapshot-attributes": "ExtendedSnapshotAttributes",
}  # fmt: skip


def _extension(alias: str) -> dict[str, Any]:
    name = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": f"{name} of the Block Storage API.", "links": [],
            "updated": UPDATED}  # fmt: skip


@op("GET", "/extensions", rule="volume:extension_list", allow=READER, load=collection)
def list_extensions() -> Reply:
    """List what older clients ask for by alias."""
    return Reply({"extensions": [_extension(alias) for alias in sorted(EXTENSIONS)]})


def load_extension(ctx: Context, alias: str) -> dict[str, Any]:
    """An extension by its alias; raises NotFound."""
    if alias not in EXTENSIONS:
        raise missing("Extension", alias[:80])
    return {"project_id": ctx.caller.project_id, "alias": alias}


@op("GET", "/extensions/{alias}", rule="volume:extension_list", allow=READER, load=load_extension)
def get_extension(alias: str) -> Reply:
    """Show one."""
    return Reply({"extension": _extension(alias)})


LISTERS: dict[str, Lister] = {
    "volume": VOLUMES, "snapshot": snapshots.LISTER, "attachment": attachments.LISTER, "message": MESSAGES,
}  # fmt: skip


@op("GET", "/resource_filters", rule="volume:resource_filters", allow=READER, load=collection, since="3.33")
def list_filters(query: Query) -> Reply:
    """List by what the lists can be filtered."""
    asked = query.one("resource")
    if asked is not None and asked not in LISTERS:
        raise BadRequest(f"There are no filters of resource {asked[:80]}. Choose from: {', '.join(LISTERS)}.")
    names = [asked] if asked else list(LISTERS)
    return Reply({"resource_filters": [{"resource": n, "filters": LISTERS[n].filters()} for n in names]})
