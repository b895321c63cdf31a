"""Resource providers.  Source: Placement API reference, "Resource Providers"."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.fields import Field, Fields
from pileus.core.ids import is_uuid, new_id
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import UUID, UUID_OR_NULL, Schema
from pileus.db.connect import Conflict
from pileus.placement.fits import holds
from pileus.placement.names import check_classes, check_traits
from pileus.placement.query import Members, Traits, members, only, resources, traits
from pileus.placement.rows import ALLOCATIONS, INVENTORIES, PROVIDERS, Provider, get_provider, stocks
from pileus.placement.service import (
    ADMIN_OR_SERVICE,
    DUPLICATE_NAME,
    PLACEMENT,
    PROVIDER_HAS_CHILDREN,
    PROVIDER_IN_USE,
    answer,
)

_NAME: Schema = {"type": "string", "maxLength": 200}
_RELATED = (("inventories", (1, 0)), ("usages", (1, 0)), ("aggregates", (1, 1)), ("traits", (1, 6)),
            ("allocations", (1, 11)))  # fmt: skip


def provider_path(provider_id: str) -> str:
    """Where a provider stands, as links and Location headers name it."""
    return f"{PLACEMENT.root}/resource_providers/{provider_id}"


def _links(provider: Provider, ctx: Context) -> list[dict[str, str]]:
    path = provider_path(provider.id)
    related = [{"rel": rel, "href": f"{path}/{rel}"} for rel, since in _RELATED if ctx.version >= since]
    return [{"rel": "self", "href": path}, *related]


PROVIDER = Fields(
    "resource_provider",
    "resource_providers",
    (
        Field("uuid", "cr", UUID, get="id"),
        Field("name", "Cru", _NAME),
        Field("generation", "r"),
        Field("links", "r", get=_links),
        Field("parent_provider_uuid", "cru", UUID_OR_NULL, get="parent_id", since="1.14"),
        Field("root_provider_uuid", "r", get="root_id", since="1.14"),
    ),
)


def body_schema(letter: str, version: str) -> Schema:
    """The fields of a create or update body, which placement sends without an envelope."""
    inner: Schema = PROVIDER.body_schema(letter, tuple(map(int, version.split("."))))["properties"][PROVIDER.key]  # type: ignore[arg-type]  # a version has two parts
    return {**inner, "required": ["name"]}


def load(ctx: Context, provider_id: str) -> Provider:
    """Providers are the operator's: whoever passes the rule sees all; raises NotFound."""
    return get_provider(ctx.tx, provider_id)


@PLACEMENT.op(
    "GET", "/resource_providers", rule="placement:resource_providers:list", allow=ADMIN_OR_SERVICE, load=collection
)
def list_providers(ctx: Context, query: Query) -> Reply:
    """List resource providers."""
    since = {"uuid": (1, 0), "name": (1, 0), "member_of": (1, 3), "resources": (1, 4), "in_tree": (1, 14),
             "required": (1, 18)}  # fmt: skip
    only(
        query, [name for name, version in since.items() if ctx.version >= version], repeatable=("member_of", "required")
    )
    found = _matching(ctx, query)
    shown = [PROVIDER.render(provider, ctx) for provider in found]
    newest = max((p.updated_at for p in found), default=ctx.now)
    return answer(ctx, {PROVIDER.plural: shown}, at=newest)


def _matching(ctx: Context, query: Query) -> list[Provider]:
    """The providers that pass every filter of a list."""
    where: dict[str, Any] = {}
    for name, column in (("uuid", "id"), ("name", "name"), ("in_tree", "root_id")):
        value = query.one(name)
        if value is None:
            continue
        if name != "name" and not is_uuid(value):
            raise BadRequest(f"Invalid query string parameters: {name}: {value[:80]!r} is not a 'uuid'")
        where[column] = value.lower() if name != "name" else value
    if "root_id" in where:
        named = PROVIDERS.get(ctx.tx, id=where["root_id"])
        where["root_id"] = named.root_id if named else ""
    found = PROVIDERS.all(ctx.tx, order="resource_providers.created_at, resource_providers.id", **where)
    wanted, having = members(query, "member_of", ctx.version), traits(query, "required", ctx.version)
    check_traits(ctx.tx, having.names, 'Invalid trait(s) in "required" parameter: No such trait(s): ')
    if wanted or having:
        found = _with_names(ctx, found, wanted, having)
    return _with_room(ctx, found, resources(query.one("resources"))) if "resources" in query else found


def _with_names(ctx: Context, found: list[Provider], wanted: Members, having: Traits) -> list[Provider]:
    """Those in the aggregates and with the traits; an aggregate of a root spans its whole tree."""
    roots = {p.id: set(p.aggregates) for p in PROVIDERS.all(ctx.tx, parent_id=None)} if wanted else {}
    return [
        p
        for p in found
        if having.fit(frozenset(p.traits)) and wanted.fit(frozenset(p.aggregates) | roots.get(p.root_id, set()))
    ]


def _with_room(ctx: Context, found: list[Provider], wanted: Mapping[str, int]) -> list[Provider]:
    """Those that could give all of it."""
    check_classes(ctx.tx, wanted, "Invalid resource class in resources parameter: ")
    there = stocks(ctx.tx, classes=list(wanted))
    return [provider for provider in found if holds(there.get(provider.id, {}), wanted)]


@PLACEMENT.op(
    "GET", "/resource_providers/{provider_id}", rule="placement:resource_providers:show", allow=ADMIN_OR_SERVICE,
    load=load,
)  # fmt: skip
def show_provider(ctx: Context, provider: Provider) -> Reply:
    """Show a resource provider."""
    return answer(ctx, PROVIDER.render(provider, ctx), at=provider.updated_at)


def create(ctx: Context, body: dict[str, Any]) -> Provider:
    """A new provider from a checked body; raises Conflicted, BadRequest (no such parent)."""
    provider_id = new_id() if body.get("uuid") is None else canonical(body["uuid"])
    parent = _parent(ctx, body.get("parent_provider_uuid"), provider_id)
    provider = Provider(
        id=provider_id, name=body["name"], parent_id=parent.id if parent else None,
        root_id=parent.root_id if parent else provider_id, created_at=ctx.now, updated_at=ctx.now,
    )  # fmt: skip
    try:
        return PROVIDERS.insert(ctx.tx, provider)
    except Conflict as conflict:
        what = f"name: {provider.name}" if "name" in conflict.constraint else f"uuid: {provider_id}"
        raise Conflicted(f"Conflicting resource provider {what} already exists.", code=DUPLICATE_NAME) from None


def _parent(ctx: Context, parent_id: str | None, provider_id: str) -> Provider | None:
    if parent_id is None:
        return None
    parent = PROVIDERS.get(ctx.tx, id=canonical(parent_id))
    if parent is None:
        raise BadRequest(f"Resource provider {provider_id}: parent provider UUID {parent_id} does not exist.")
    return parent


def canonical(provider_id: str) -> str:
    """A UUID in lower case with dashes."""
    bare = provider_id.replace("-", "").lower()
    return f"{bare[:8]}-{bare[8:12]}-{bare[12:16]}-{bare[16:20]}-{bare[20:]}"


@PLACEMENT.op(
    "POST", "/resource_providers", rule="placement:resource_providers:create", allow=ADMIN_OR_SERVICE,
    load=collection, takes=body_schema("c", "1.0"), ok=201, until="1.13",
)  # fmt: skip
@PLACEMENT.op(
    "POST", "/resource_providers", rule="placement:resource_providers:create", allow=ADMIN_OR_SERVICE,
    load=collection, takes=body_schema("c", "1.14"), ok=201, since="1.14", until="1.19",
)  # fmt: skip
def create_provider(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a resource provider."""
    return Reply(headers={"location": provider_path(create(ctx, body).id)})


@PLACEMENT.op(
    "POST", "/resource_providers", rule="placement:resource_providers:create", allow=ADMIN_OR_SERVICE,
    load=collection, takes=body_schema("c", "1.14"), since="1.20",
)  # fmt: skip
def create_provider_and_show(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a resource provider and show it."""
    provider = create(ctx, body)
    return answer(ctx, PROVIDER.render(provider, ctx), at=provider.updated_at, location=provider_path(provider.id))


def change(ctx: Context, provider: Provider, body: dict[str, Any]) -> Reply:
    """Write a checked update; raises Conflicted (name taken), BadRequest (parent unfit)."""
    changes: dict[str, Any] = {"name": body["name"], "updated_at": ctx.now}
    if body.get("parent_provider_uuid", provider.parent_id) != provider.parent_id:
        changes |= _adopt(ctx, provider, _parent(ctx, body["parent_provider_uuid"], provider.id))
    try:
        PROVIDERS.update(ctx.tx, changes, id=provider.id)
    except Conflict:
        raise Conflicted(f"Conflicting resource provider {body['name']} already exists.", code=DUPLICATE_NAME) from None
    return answer(ctx, PROVIDER.render(structs.replace(provider, **changes), ctx), at=ctx.now)


def _adopt(ctx: Context, provider: Provider, parent: Provider | None) -> dict[str, Any]:
    """Move a provider and all below it under a parent (None: a tree of its own); the provider's own changes."""
    below = [provider.id]
    for one in below:
        below += [child.id for child in PROVIDERS.all(ctx.tx, parent_id=one)]
    if parent is not None and parent.id in below:
        raise BadRequest(
            f"Unable to save resource provider {provider.id}: creating loop in the provider tree is not allowed."
        )
    root = parent.root_id if parent else provider.id
    PROVIDERS.update(ctx.tx, {"root_id": root}, id=below)
    return {"parent_id": parent.id if parent else None, "root_id": root}


@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}", rule="placement:resource_providers:update", allow=ADMIN_OR_SERVICE,
    load=load, takes=body_schema("u", "1.0"), until="1.13",
)  # fmt: skip
@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}", rule="placement:resource_providers:update", allow=ADMIN_OR_SERVICE,
    load=load, takes=body_schema("u", "1.14"), since="1.14", until="1.36",
)  # fmt: skip
def update_provider(ctx: Context, provider: Provider, body: dict[str, Any]) -> Reply:
    """Update a resource provider; a parent can only be given once."""
    if provider.parent_id is not None and body.get("parent_provider_uuid", provider.parent_id) != provider.parent_id:
        raise BadRequest(
            f"Unable to save resource provider {provider.id}: re-parenting a provider is not allowed before 1.37."
        )
    return change(ctx, provider, body)


@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}", rule="placement:resource_providers:update", allow=ADMIN_OR_SERVICE,
    load=load, takes=body_schema("u", "1.14"), since="1.37",
)  # fmt: skip
def update_provider_and_parent(ctx: Context, provider: Provider, body: dict[str, Any]) -> Reply:
    """Update a resource provider; the parent may change and go."""
    return change(ctx, provider, body)


@PLACEMENT.op(
    "DELETE", "/resource_providers/{provider_id}", rule="placement:resource_providers:delete",
    allow=ADMIN_OR_SERVICE, load=load, ok=204,
)  # fmt: skip
def delete_provider(ctx: Context, provider: Provider) -> Reply:
    """Delete a resource provider and its inventories."""
    if PROVIDERS.count(ctx.tx, parent_id=provider.id):
        raise Conflicted(
            f"Unable to delete parent resource provider {provider.id}: It has child resource providers.",
            code=PROVIDER_HAS_CHILDREN,
        )
    if ALLOCATIONS.count(ctx.tx, provider_id=provider.id):
        raise Conflicted(
            f"Unable to delete resource provider {provider.id}: Resource provider has allocations.",
            code=PROVIDER_IN_USE,
        )
    INVENTORIES.delete(ctx.tx, provider_id=provider.id)
    PROVIDERS.delete(ctx.tx, id=provider.id)
    return Reply()
