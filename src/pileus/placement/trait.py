"""Traits.  Source: Placement API reference, "Traits" and "Resource provider traits"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import Schema
from pileus.db.connect import Conflict, Tx
from pileus.placement.inventory import GENERATION, bump, check_generation
from pileus.placement.names import check_traits, is_custom, standard_traits
from pileus.placement.provider import load
from pileus.placement.query import only
from pileus.placement.rows import PROVIDERS, Provider, names
from pileus.placement.service import ADMIN_OR_SERVICE, PLACEMENT, answer

_OF_PROVIDER: Schema = {
    "type": "object",
    "properties": {
        "traits": {"type": "array", "maxItems": 1024, "items": {"type": "string", "minLength": 1, "maxLength": 255}},
        "resource_provider_generation": GENERATION,
    },
    "required": ["traits", "resource_provider_generation"],
    "additionalProperties": False,
}


def load_trait(ctx: Context, name: str) -> str:
    """The name of a trait that exists; raises NotFound."""
    custom = ctx.tx.one("select name from custom_traits where name = ?", name)
    if name not in standard_traits() and custom is None:
        raise NotFound(f"No such trait(s): {name[:255]}.")
    return name


def in_use(tx: Tx) -> set[str]:
    """All traits that some provider has."""
    rows = tx.all("select distinct traits from resource_providers")
    return set().union(*(names(row[0]) for row in rows))


@PLACEMENT.op("GET", "/traits", rule="placement:traits:list", allow=ADMIN_OR_SERVICE, load=collection, since="1.6")
def list_traits(ctx: Context, query: Query) -> Reply:
    """List traits."""
    only(query, ("name", "associated"))
    found = standard_traits() | {row[0] for row in ctx.tx.all("select name from custom_traits")}
    if (name := query.one("name")) is not None:
        word, colon, value = name.partition(":")
        if not colon or word not in ("in", "startswith"):
            raise BadRequest(
                "Badly formatted name parameter. Expected name query string parameter in form: "
                f"?name=[in|startswith]:[name1,name2|prefix]. Got: {name[:80]!r}"
            )
        listed = frozenset(value.split(","))
        found = frozenset(t for t in found if (t in listed if word == "in" else t.startswith(value)))
    if (associated := query.one("associated")) is not None:
        if associated.lower() not in ("true", "false"):
            raise BadRequest('The query parameter "associated" only accepts "true" or "false"')
        found = found & in_use(ctx.tx) if associated.lower() == "true" else found - in_use(ctx.tx)
    return answer(ctx, {"traits": sorted(found)})


@PLACEMENT.op(
    "GET", "/traits/{name}", rule="placement:traits:show", allow=ADMIN_OR_SERVICE, load=load_trait, ok=204, since="1.6"
)
def show_trait(ctx: Context) -> Reply:
    """Tell whether a trait exists."""
    return answer(ctx, None)


@PLACEMENT.op(
    "PUT", "/traits/{name}", rule="placement:traits:update", allow=ADMIN_OR_SERVICE, load=collection, since="1.6"
)
def create_trait(ctx: Context, name: str) -> Reply:
    """Create a custom trait; 204 when it exists."""
    if not is_custom(name):
        raise BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    status = 201
    try:
        ctx.tx.run("insert into custom_traits (name, created_at) values (?, ?)", name, ctx.now)
    except Conflict:
        status = 204
    return answer(ctx, None, status=status, location=f"{PLACEMENT.root}/traits/{name}")


@PLACEMENT.op(
    "DELETE", "/traits/{name}", rule="placement:traits:delete", allow=ADMIN_OR_SERVICE, load=load_trait, ok=204,
    since="1.6",
)  # fmt: skip
def delete_trait(ctx: Context, name: str) -> Reply:
    """Delete a custom trait that no provider has."""
    if name in standard_traits():
        raise BadRequest(f"Cannot delete standard trait {name}.")
    if name in in_use(ctx.tx):
        raise Conflicted(f"The trait {name} is in use by a resource provider.")
    ctx.tx.run("delete from custom_traits where name = ?", name)
    return Reply()


@PLACEMENT.op(
    "GET", "/resource_providers/{provider_id}/traits", rule="placement:resource_providers:traits:list",
    allow=ADMIN_OR_SERVICE, load=load, since="1.6",
)  # fmt: skip
def list_provider_traits(ctx: Context, provider: Provider) -> Reply:
    """List resource provider traits."""
    body = {"traits": provider.traits, "resource_provider_generation": provider.generation}
    return answer(ctx, body, at=provider.updated_at)


@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}/traits", rule="placement:resource_providers:traits:update",
    allow=ADMIN_OR_SERVICE, load=load, takes=_OF_PROVIDER, since="1.6",
)  # fmt: skip
def update_provider_traits(ctx: Context, provider: Provider, body: dict[str, Any]) -> Reply:
    """Replace the traits of a resource provider; a node adds again what it reports of itself."""
    check_generation(provider, body["resource_provider_generation"])
    check_traits(ctx.tx, body["traits"], "No such trait ")
    return answer(ctx, _set(ctx, provider, body["traits"]), at=ctx.now)


def _set(ctx: Context, provider: Provider, traits: list[str]) -> dict[str, Any]:
    """Store the traits and raise the generation; what is reported of both."""
    generation = bump(ctx.tx, provider)
    wanted = sorted(set(traits))
    kept = [name for name in provider.reported_traits if name in wanted]
    PROVIDERS.update(ctx.tx, {"traits": wanted, "reported_traits": kept, "updated_at": ctx.now}, id=provider.id)
    return {"traits": wanted, "resource_provider_generation": generation}


@PLACEMENT.op(
    "DELETE", "/resource_providers/{provider_id}/traits", rule="placement:resource_providers:traits:delete",
    allow=ADMIN_OR_SERVICE, load=load, ok=204, since="1.6",
)  # fmt: skip
def delete_provider_traits(ctx: Context, provider: Provider) -> Reply:
    """Remove all traits of a resource provider."""
    _set(ctx, provider, [])
    return Reply()
