"""Mappings of what identity providers assert.  Source: Identity API reference, "OS-FEDERATION"."""

from collections.abc import Mapping as Anything
from functools import cache
from typing import Any

import msgspec
from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.fields import LATEST, Field, Fields
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import compile_schema
from pileus.identity.federation.rows import MAPPINGS, Mapping
from pileus.identity.federation.rules import RULES, Attributes, apply, check_rules
from pileus.identity.service import ADMIN, IDENTITY, READER, listed, own_domain, seen, self_link

HERE = "/OS-FEDERATION/mappings"
RULE = "identity:{}_mapping".format
MAPPING = Fields(
    "mapping",
    "mappings",
    (
        Field(
            "id", "cr", {"type": "string", "minLength": 1, "maxLength": 64}
        ),  # that of the path, as clients repeat it
        Field("rules", "Cru", RULES["2.0"]),  # which allows all that 1.0 does
        Field("schema_version", "cru", {"enum": ["1.0", "2.0", None]}, default="1.0"),
        Field("links", "r", get=self_link("OS-FEDERATION/mappings")),
    ),
)
NEW = MAPPING.body_schema("c", LATEST)


def load_mapping(ctx: Context, mapping_id: str, **_path: str) -> Mapping:
    """A mapping that the caller may see."""
    return seen(ctx, RULE("get"), "mapping", mapping_id, MAPPINGS.get(ctx.tx, id=mapping_id))


def load_place(ctx: Context, mapping_id: str, **_path: str) -> Anything[str, Any]:
    """Loader of the creation: there is nothing yet."""
    return {"id": mapping_id}


@cache
def schema_check(schema_version: str) -> Any:
    """Raises BadRequest for rules that a version's schema does not allow."""
    return compile_schema({"type": "object", "properties": {"rules": RULES[schema_version]}})


def check(rules: list[dict[str, Any]], schema_version: str) -> None:
    """Refuse rules that are none of this schema version."""
    schema_check(schema_version)({"rules": rules})
    check_rules(rules)


def try_mapping(rules: Any, schema_version: str, attributes: Attributes) -> dict[str, Any]:
    """What rules make of attributes, without what they leave out; raises BadRequest or Unmapped."""
    check(rules, schema_version)
    found: dict[str, Any] = msgspec.to_builtins(apply(rules, schema_version, attributes))
    return {name: value for name, value in found.items() if value}


@IDENTITY.op("GET", HERE, rule="identity:list_mappings", allow=READER, load=own_domain, gives=Many(MAPPING))
def list_mappings(ctx: Context, query: Query) -> Page:
    """List mappings."""
    return listed(ctx, MAPPING, Listing(MAPPINGS), query, path=HERE)


@IDENTITY.op("GET", HERE + "/{mapping_id}", rule=RULE("get"), allow=READER, load=load_mapping, gives=MAPPING)
def get_mapping(mapping: Mapping) -> Mapping:
    """Show a mapping."""
    return mapping


@IDENTITY.op(
    "PUT", HERE + "/{mapping_id}", rule=RULE("create"), allow=ADMIN, load=load_place, takes=NEW, gives=MAPPING, ok=201
)
def create_mapping(ctx: Context, mapping_id: str, body: dict[str, Any]) -> Mapping:
    """Create a mapping."""
    given = body["mapping"]
    if not 1 <= len(mapping_id) <= 64:
        raise BadRequest("mapping: its id has 1 to 64 characters.")
    if given.get("id", mapping_id) != mapping_id:
        raise BadRequest("id: it is not the one in the path.")
    mapping = Mapping(id=mapping_id, rules=given["rules"], schema_version=given.get("schema_version") or "1.0")
    check(mapping.rules, mapping.schema_version)
    if MAPPINGS.get(ctx.tx, id=mapping_id) is not None:
        raise Conflicted(f"Conflict occurred attempting to store mapping - Duplicate entry: {mapping_id}.")
    return MAPPINGS.insert(ctx.tx, mapping)


@IDENTITY.op(
    "PATCH", HERE + "/{mapping_id}", rule=RULE("update"), allow=ADMIN, load=load_mapping, takes=MAPPING, gives=MAPPING
)
def update_mapping(ctx: Context, mapping: Mapping, body: dict[str, Any]) -> Mapping:
    """Update a mapping; the next log-ins follow it."""
    changes = {name: value for name, value in body.items() if value is not None}
    changed = structs.replace(mapping, **changes)
    check(changed.rules, changed.schema_version)
    MAPPINGS.update(ctx.tx, changes, id=mapping.id)
    return changed


@IDENTITY.op("DELETE", HERE + "/{mapping_id}", rule=RULE("delete"), allow=ADMIN, load=load_mapping, ok=204)
def delete_mapping(ctx: Context, mapping: Mapping) -> Reply:
    """Delete a mapping; nobody logs in by a protocol that names it until there is one of its name again."""
    MAPPINGS.delete(ctx.tx, id=mapping.id)
    return Reply()
