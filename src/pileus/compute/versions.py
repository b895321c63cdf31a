"""Version documents, which clients discover the API by.  Source: Compute API reference, "API versions"."""

from typing import Any

from pileus.compute.service import COMPUTE
from pileus.core.context import Context
from pileus.core.fields import show_version
from pileus.core.op import PUBLIC, unguarded

_DOCS = {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"}


def _old() -> dict[str, Any]:
    """v2.0, which clients expect to be told of; all of it is served by v2.1."""
    return {
        "id": "v2.0", "status": "DEPRECATED", "version": "", "min_version": "", "updated": "2025-07-04T12:00:00Z"
    }  # fmt: skip


def _current() -> dict[str, Any]:
    return {
        "id": "v2.1", "status": "CURRENT", "version": show_version(COMPUTE.maximum),
        "min_version": show_version(COMPUTE.minimum), "updated": "2013-07-23T11:33:21Z",
    }  # fmt: skip


def _self(ctx: Context, path: str) -> dict[str, str]:
    return {"rel": "self", "href": f"{ctx.url}/{path}/"}


def _document(ctx: Context, version: dict[str, Any], path: str, number: str) -> dict[str, Any]:
    media = {"base": "application/json", "type": f"application/vnd.openstack.compute+json;version={number}"}
    return {"version": {**version, "links": [_self(ctx, path), _DOCS], "media-types": [media]}}


@COMPUTE.op("GET", "", rule=PUBLIC, load=unguarded, base="")
def list_versions(ctx: Context) -> dict[str, Any]:
    """List all major versions."""
    return {
        "versions": [{**_old(), "links": [_self(ctx, "v2")]}, {**_current(), "links": [_self(ctx, "v2.1")]}]
    }  # fmt: skip


@COMPUTE.op("GET", "/v2", rule=PUBLIC, load=unguarded, base="")
def show_old_version(ctx: Context) -> dict[str, Any]:
    """Show details of v2.0."""
    return _document(ctx, _old(), "v2", "2")


@COMPUTE.op("GET", "", rule=PUBLIC, load=unguarded)
def show_version_details(ctx: Context) -> dict[str, Any]:
    """Show details of v2.1."""
    return _document(ctx, _current(), "v2.1", "2.1")
