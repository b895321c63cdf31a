"""Volumes and their snapshots as compute shows them (until 2.35).

Source: Compute API reference, "Volume extension (os-volumes, os-snapshots) (deprecated)".
"""

from collections.abc import Mapping
from typing import Any

from pileus.compute.service import COMPUTE, MEMBER, READER, envelope, page_limit
from pileus.core.context import Context
from pileus.core.op import collection
from pileus.core.paging import Query
from pileus.core.schema import LOOSE_BOOLEAN, TEXT, UUID, Schema
from pileus.http.inside import Inside
from pileus.volume import facade as volume

LAST = "2.35"
_RULE = "os_compute_api:os-volumes"
Volume = Mapping[str, Any]
Snapshot = Mapping[str, Any]


def volumes(ctx: Context) -> Inside:
    """The block storage API for this caller."""
    return Inside(ctx, COMPUTE, volume.SERVICE)


def _own(ctx: Context, found: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**found, "project_id": ctx.caller.project_id}  # who sees it may ask: block storage's rules decide the rest


def load(ctx: Context, volume_id: str) -> Volume:
    """A volume; raises NotFound."""
    return _own(ctx, volumes(ctx)("GET", f"/volumes/{volume_id}")["volume"])


def load_snapshot(ctx: Context, snapshot_id: str) -> Snapshot:
    """A snapshot; raises NotFound."""
    return _own(ctx, volumes(ctx)("GET", f"/snapshots/{snapshot_id}")["snapshot"])


def _volume(found: Volume) -> dict[str, Any]:
    ties = [
        {"id": found["id"], "volumeId": found["id"], "serverId": tie["server_id"], "device": tie["device"] or ""}
        for tie in found.get("attachments", ())
    ]
    return {
        "id": found["id"], "status": found["status"], "size": found["size"], "metadata": found["metadata"],
        "availabilityZone": found["availability_zone"], "createdAt": found["created_at"],
        "displayName": found["name"], "displayDescription": found["description"], "volumeType": found["volume_type"],
        "snapshotId": found["snapshot_id"], "attachments": ties or [{}],
    }  # fmt: skip


def _snapshot(found: Snapshot) -> dict[str, Any]:
    return {
        "id": found["id"], "volumeId": found["volume_id"], "status": found["status"], "size": found["size"],
        "createdAt": found["created_at"], "displayName": found["name"], "displayDescription": found["description"],
    }  # fmt: skip


def _page(query: Query) -> dict[str, Any]:
    return {"limit": page_limit(query), "offset": query.number("offset", 0)}


@COMPUTE.op("GET", "/os-volumes", rule=f"{_RULE}:list", allow=READER, load=collection, until=LAST)
def list_volumes(ctx: Context, query: Query) -> dict[str, Any]:
    """List volumes."""
    return {"volumes": [_volume(one) for one in volumes(ctx)("GET", "/volumes/detail", query=_page(query))["volumes"]]}


@COMPUTE.op("GET", "/os-volumes/detail", rule=f"{_RULE}:detail", allow=READER, load=collection, until=LAST)
def list_volumes_with_details(ctx: Context, query: Query) -> dict[str, Any]:
    """List volumes with details."""
    return list_volumes(ctx, query)


_VOLUME: Schema = envelope(
    {
        "display_name": TEXT, "display_description": TEXT, "volume_type": TEXT,
        "metadata": {"type": ["object", "null"]},
        "snapshot_id": {"type": ["string", "null"], "maxLength": 255}, "availability_zone": TEXT,
        "size": {"type": ["integer", "string"], "pattern": "^[0-9]{1,9}$", "minimum": 1},
    },
    "volume", "size",
)  # fmt: skip
_NAMES = {"display_name": "name", "display_description": "description"}


@COMPUTE.op("POST", "/os-volumes", rule=f"{_RULE}:create", allow=MEMBER, load=collection, takes=_VOLUME, until=LAST)
def create_volume(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Create a volume."""
    given = {_NAMES.get(name, name): value for name, value in body["volume"].items() if value is not None}
    made = volumes(ctx)("POST", "/volumes", {"volume": {**given, "size": int(given["size"])}})["volume"]
    return {"volume": _volume(made)}


@COMPUTE.op("GET", "/os-volumes/{volume_id}", rule=f"{_RULE}:show", allow=READER, load=load, until=LAST)
def show_volume(found: Volume) -> dict[str, Any]:
    """Show a volume."""
    return {"volume": _volume(found)}


@COMPUTE.op("DELETE", "/os-volumes/{volume_id}", rule=f"{_RULE}:delete", allow=MEMBER, load=load, until=LAST, ok=202)
def delete_volume(ctx: Context, volume_id: str) -> None:
    """Delete a volume."""
    volumes(ctx)("DELETE", f"/volumes/{volume_id}")


@COMPUTE.op("GET", "/os-snapshots", rule=f"{_RULE}:snapshots:list", allow=READER, load=collection, until=LAST)
def list_snapshots(ctx: Context, query: Query) -> dict[str, Any]:
    """List snapshots."""
    found = volumes(ctx)("GET", "/snapshots/detail", query=_page(query))["snapshots"]
    return {"snapshots": [_snapshot(one) for one in found]}


@COMPUTE.op("GET", "/os-snapshots/detail", rule=f"{_RULE}:snapshots:detail", allow=READER, load=collection, until=LAST)
def list_snapshots_with_details(ctx: Context, query: Query) -> dict[str, Any]:
    """List snapshots with details."""
    return list_snapshots(ctx, query)


_SNAPSHOT: Schema = envelope(
    {"volume_id": UUID, "display_name": TEXT, "display_description": TEXT, "force": LOOSE_BOOLEAN},
    "snapshot", "volume_id",
)  # fmt: skip


@COMPUTE.op(
    "POST", "/os-snapshots", rule=f"{_RULE}:snapshots:create", allow=MEMBER, load=collection, takes=_SNAPSHOT,
    until=LAST,
)  # fmt: skip
def create_snapshot(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Create a snapshot."""
    given = {_NAMES.get(name, name): value for name, value in body["snapshot"].items() if value is not None}
    return {"snapshot": _snapshot(volumes(ctx)("POST", "/snapshots", {"snapshot": given})["snapshot"])}


@COMPUTE.op(
    "GET", "/os-snapshots/{snapshot_id}", rule=f"{_RULE}:snapshots:show", allow=READER, load=load_snapshot, until=LAST
)
def show_snapshot(found: Snapshot) -> dict[str, Any]:
    """Show a snapshot."""
    return {"snapshot": _snapshot(found)}


@COMPUTE.op(
    "DELETE", "/os-snapshots/{snapshot_id}", rule=f"{_RULE}:snapshots:delete", allow=MEMBER, load=load_snapshot,
    until=LAST, ok=202,
)  # fmt: skip
def delete_snapshot(ctx: Context, snapshot_id: str) -> None:
    """Delete a snapshot."""
    volumes(ctx)("DELETE", f"/snapshots/{snapshot_id}")
