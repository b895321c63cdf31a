"""Extra specs of flavors.  Source: Compute API reference, "Flavors extra-specs"."""

from typing import Any

from pileus.compute.extra_specs import misspelt
from pileus.compute.flavor import EXTRA_SPECS, FLAVORS, Flavor, get_flavor
from pileus.compute.service import ADMIN, COMPUTE, READER, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import Schema

_RULE = "os_compute_api:os-flavor-extra-specs"
_SPECS: Schema = {
    "type": "object",
    "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "number"], "maxLength": 255}},
    "additionalProperties": False,
}
_ALL: Schema = {
    "type": "object", "properties": {"extra_specs": _SPECS}, "required": ["extra_specs"], "additionalProperties": False
}  # fmt: skip
_ONE: Schema = {**_SPECS, "minProperties": 1, "maxProperties": 1}
LIMIT = 128  # extra specs of one flavor


def _add(ctx: Context, flavor: Flavor, specs: dict[str, Any]) -> dict[str, str]:
    """Set extra specs beside those that are there; raises BadRequest for values that make no sense (2.86)."""
    texts = {key: str(value) for key, value in specs.items()}
    if ctx.version >= (2, 86):
        for key, value in texts.items():
            if why := misspelt(key, value):
                raise BadRequest(f"Validation failed; {why}")
    whole = {**flavor.extra_specs, **texts}
    if len(whole) > LIMIT:
        raise BadRequest(f"A flavor has at most {LIMIT} extra specs.")
    FLAVORS.update(ctx.tx, {"extra_specs": whole, "updated_at": ctx.now}, id=flavor.id)
    return texts


@COMPUTE.op("GET", "/flavors/{flavor_id}/os-extra_specs", rule=EXTRA_SPECS, load=collection)
def list_extra_specs(ctx: Context, flavor_id: str, query: Query) -> dict[str, Any]:
    """List extra specs for a flavor."""
    refuse_unknown(ctx, query)
    return {"extra_specs": get_flavor(ctx, flavor_id).extra_specs}


@COMPUTE.op(
    "POST", "/flavors/{flavor_id}/os-extra_specs", rule=f"{_RULE}:create", allow=ADMIN, load=get_flavor, takes=_ALL
)
def create_extra_specs(ctx: Context, flavor: Flavor, body: dict[str, Any]) -> dict[str, Any]:
    """Create extra specs for a flavor."""
    return {"extra_specs": _add(ctx, flavor, body["extra_specs"])}


@COMPUTE.op("GET", "/flavors/{flavor_id}/os-extra_specs/{key}", rule=f"{_RULE}:show", allow=READER, load=collection)
def show_extra_spec(ctx: Context, flavor_id: str, key: str, query: Query) -> dict[str, str]:
    """Show an extra spec for a flavor."""
    refuse_unknown(ctx, query)
    return {key: _value(get_flavor(ctx, flavor_id), key)}


def _value(flavor: Flavor, key: str) -> str:
    if key not in flavor.extra_specs:
        raise NotFound(f"Flavor {flavor.id} has no extra specs with key {key[:255]}.")
    return flavor.extra_specs[key]


def _load(ctx: Context, flavor_id: str, key: str) -> Flavor:
    return get_flavor(ctx, flavor_id)


@COMPUTE.op(
    "PUT", "/flavors/{flavor_id}/os-extra_specs/{key}", rule=f"{_RULE}:update", allow=ADMIN, load=_load, takes=_ONE
)
def update_extra_spec(ctx: Context, flavor: Flavor, key: str, body: dict[str, Any]) -> dict[str, str]:
    """Update an extra spec for a flavor."""
    if key not in body:
        raise BadRequest("Request body and URI mismatch")
    return _add(ctx, flavor, body)


@COMPUTE.op("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}", rule=f"{_RULE}:delete", allow=ADMIN, load=_load)
def delete_extra_spec(ctx: Context, flavor: Flavor, key: str) -> Reply:
    """Delete an extra spec for a flavor."""
    _value(flavor, key)
    left = {name: value for name, value in flavor.extra_specs.items() if name != key}
    FLAVORS.update(ctx.tx, {"extra_specs": left, "updated_at": ctx.now}, id=flavor.id)
    return Reply()
