"""The block storage API (Cinder v3): its place, its error body, its shared rules and ways of registering.

Source: Block Storage API v3 reference; microversions 3.0 to 3.71.
"""

from collections.abc import Callable
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import NotFound, Problem
from pileus.core.op import PUBLIC, Loader, Service
from pileus.core.schema import LOOSE_BOOLEAN

_FAULTS = {
    400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
    409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 429: "overLimit", 501: "notImplemented",
    503: "serviceUnavailable",
}  # fmt: skip


def problem(error: Problem, _request_id: str) -> dict[str, Any]:
    """Block storage's error body; a passed limit says when to try again."""
    inner: dict[str, Any] = {"code": error.status, "message": error.message}
    if "retry-after" in error.headers:
        inner["retryAfter"] = error.headers["retry-after"]
    return {_FAULTS.get(error.status, "computeFault"): inner}


VOLUME = Service(
    "block-storage", "cinder", "/volume", "/v3", problem=problem, versions=("3.0", "3.71"), version_header="volume",
    empty_ids=False,
)  # fmt: skip
VOLUME.rule("context_is_admin", "role:admin")
VOLUME.rule("admin_api", "role:admin and is_admin_project:True")
VOLUME.rule("xena_system_admin_or_project_reader", "(role:admin) or (role:reader and project_id:%(project_id)s)")
VOLUME.rule("xena_system_admin_or_project_member", "(role:admin) or (role:member and project_id:%(project_id)s)")

ADMIN = "rule:admin_api"
READER = "rule:xena_system_admin_or_project_reader"
MEMBER = "rule:xena_system_admin_or_project_member"

# Schema fragments of this API.
METADATA = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z0-9-_:. /]{1,255}$"},
    "additionalProperties": {"type": "string", "maxLength": 255},
}
METADATA_OR_NULL = {**METADATA, "type": ["object", "null"]}
ONE_ITEM = {**METADATA, "minProperties": 1, "maxProperties": 1}
# A number, also when it is written as text.
SIZE = {"type": ["integer", "string"], "minimum": 1, "maximum": 0x7FFFFFFF, "pattern": "^0*[1-9][0-9]{0,8}$"}
SIZE_OR_NULL = {**SIZE, "type": ["integer", "string", "null"]}
SHORT = {"type": ["string", "null"], "maxLength": 255}
NOTHING: dict[str, Any] = {}


def op(method: str, path: str, *, load: Loader, rule: str, **options: Any) -> Callable[[Any], Any]:
    """Register an operation at /v3/… and, as clients before 3.67 call it, at /v3/{project_id}/…."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        if rule != PUBLIC:
            VOLUME.op(method, "/{project_id}" + path, load=own_project(load), rule=rule, **options)(run)
        found: Callable[..., Any] = VOLUME.op(method, path, load=load, rule=rule, **options)(run)
        return found

    return register


def own_project(load: Loader) -> Loader:
    """A loader that refuses a URL naming another project than the token's, as upstream's router does."""

    def check(ctx: Context, project_id: str, **path: str) -> Any:
        if project_id.replace("-", "") != (ctx.caller.project_id or "").replace("-", ""):
            raise NotFound("The resource could not be found: the project in the URL is not the project of the token.")
        return load(ctx, **path)

    return check


def action(name: str, inner: dict[str, Any] | None = None, *, required: bool = True) -> dict[str, Any]:
    """The schema of an action body: one key, what stands under it."""
    return {
        "type": "object",
        "properties": {name: inner or {}},
        "required": [name] if required else [],
        "additionalProperties": False,
    }


def fields_of(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """The schema of an object with exactly these attributes."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def envelope(key: str, inner: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body that holds one object under a name."""
    return {"type": "object", "properties": {key: inner}, "required": [key]}


FLAG = LOOSE_BOOLEAN


def sees(ctx: Context, project_id: str) -> bool:
    """Whether things of this project exist for the caller."""
    return project_id == ctx.caller.project_id or ctx.allows("context_is_admin")


def missing(what: str, thing_id: str) -> NotFound:
    """The one answer for what does not exist and what one may not see."""
    return NotFound(f"{what} {thing_id} could not be found.")


def links(collection: str) -> Callable[[str, Context], list[dict[str, str]]]:
    """The maker of self and bookmark links for one collection."""

    def make(thing_id: str, ctx: Context) -> list[dict[str, str]]:
        return [
            {"rel": "self", "href": f"{ctx.url}/v3/{collection}/{thing_id}"},
            {"rel": "bookmark", "href": f"{ctx.url}/{collection}/{thing_id}"},
        ]

    return make
