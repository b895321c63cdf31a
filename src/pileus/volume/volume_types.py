"""Operations on volume types: the types themselves, their extra specs, who may use private ones.

Source: Block Storage API reference, "Volume types (types)", "Volume type access (types, action)".
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import truth
from pileus.db.connect import Conflict
from pileus.volume.listing import Lister, pairs_of
from pileus.volume.service import ADMIN, FLAG, MEMBER, READER, SHORT, VOLUME, action, fields_of, missing, op
from pileus.volume.volume_type import DEFAULT_ID, TYPES, VolumeType, default_type, usable

SENSITIVE = VOLUME.rule("volume_extension:types_extra_specs:read_sensitive", ADMIN)
SPECS = VOLUME.rule("volume_extension:access_types_extra_specs", READER)
QOS = VOLUME.rule("volume_extension:access_types_qos_specs_id", ADMIN)
VOLUME.rule("volume_extension:volume_type_access", MEMBER)
FOR_ALL = ("RESKEY:availability_zones", "multiattach", "replication_enabled")  # specs that every user may see
PAIRS = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z0-9-_:.]{1,255}$"},
    "additionalProperties": {"type": ["string", "null"], "maxLength": 255},
}


def visible_specs(type_: VolumeType, ctx: Context) -> dict[str, str]:
    """The extra specs that the caller may see."""
    if ctx.allows(SENSITIVE):
        return type_.extra_specs
    return {k: v for k, v in type_.extra_specs.items() if k in FOR_ALL}


_COMMON = (
    Field("id", "rqs"),
    Field("name", "Crqs", {"type": "string", "minLength": 1, "maxLength": 255, "format": "name"}),
    Field("description", "cruqs", SHORT),
    Field("is_public", "ru", FLAG),
    Field("created_at", "s"),
    Field("extra_specs", "crq", {**PAIRS, "type": ["object", "null"]}, get=visible_specs),
)
CHANGED = Fields(
    "volume_type", "volume_types",
    [Field("name", "rqu", SHORT), *(f for f in _COMMON if f.name not in ("name", "extra_specs")),
     Field("extra_specs", "r", get=visible_specs)],
)  # fmt: skip
CREATED = Fields(
    "volume_type", "volume_types",
    [*(f for f in _COMMON), Field("os-volume-type-access:is_public", "cr", FLAG, get="is_public")],
)  # fmt: skip
SHOWN = Fields("volume_type", "volume_types", [*CREATED.fields, Field("qos_specs_id", "rq", see=QOS)])
LISTER = Lister(SHOWN, TYPES, "types", json=frozenset(("extra_specs",)), links="volume_type_links")


def load_type(ctx: Context, type_id: str) -> VolumeType:
    """A type that the caller may use, or `default`; raises NotFound."""
    found = default_type(ctx.tx, ctx.caller.project_id) if type_id == "default" else TYPES.get(ctx.tx, id=type_id)
    if found is None or not (usable(ctx.tx, found, ctx.caller.project_id) or ctx.allows("context_is_admin")):
        raise missing("Volume type", type_id)
    return found


def load_for_reader(ctx: Context, type_id: str, **_path: str) -> dict[str, Any]:
    """Types belong to no project: readers of any may look at those that they may use."""
    type_ = load_type(ctx, type_id)
    return {"project_id": ctx.caller.project_id, "type": type_}


@op("GET", "/types", rule="volume_extension:type_get_all", allow=READER, load=collection, gives=Many(SHOWN))
def list_types(ctx: Context, query: Query) -> Page:
    """List the types that the caller may use."""
    listing = Listing(TYPES)
    admin, asked = ctx.allows("context_is_admin"), query.one("is_public", "") or ""
    if not admin or asked == "" or asked.lower() in ("true", "1", "t", "yes", "y", "on"):
        listing.where(
            "volume_types.is_public = 1 or volume_types.id in (select volume_type_id from volume_type_access"
            " where project_id = ?)",
            ctx.caller.project_id or "",
        )
    elif asked.lower() != "none":
        listing.where("volume_types.is_public = 0")
    asked_specs = pairs_of("extra_specs", query.one("extra_specs") or "{}")
    if not ctx.allows(SENSITIVE) and not asked_specs.keys() <= set(FOR_ALL):
        return Page([])  # what one may not see, one may not search for
    return LISTER.page(ctx, query, listing)


@op("GET", "/types/{type_id}", rule="volume_extension:type_get", allow=READER, load=load_for_reader, gives=SHOWN)
def get_type(target: dict[str, Any]) -> VolumeType:
    """Show a type; `default` is the one of volumes that name none."""
    found: VolumeType = target["type"]
    return found


@op("POST", "/types", rule="volume_extension:type_create", allow=ADMIN, load=collection, takes=CREATED, gives=CREATED)
def create(ctx: Context, body: dict[str, Any]) -> VolumeType:
    """Create a type."""
    specs = {k: v for k, v in (body.get("extra_specs") or {}).items() if v is not None}
    type_ = VolumeType(
        id=new_id(), name=body["name"].strip(), description=body.get("description"), extra_specs=specs,
        is_public=truth(body.get("os-volume-type-access:is_public", True)), created_at=ctx.now,
    )  # fmt: skip
    try:
        return TYPES.insert(ctx.tx, type_)
    except Conflict:
        raise Conflicted(f"Volume Type {type_.name} already exists.") from None


@op("PUT", "/types/{type_id}", rule="volume_extension:type_update", allow=ADMIN, load=load_type, takes=CHANGED,
    gives=CHANGED)  # fmt: skip
def update(ctx: Context, type_: VolumeType, body: dict[str, Any]) -> VolumeType:
    """Change name, description or who may see it."""
    changes = {k: v for k, v in body.items() if v is not None}
    if not changes:
        raise BadRequest("Specify volume type name, description, is_public or a combination thereof.")
    if "name" in changes:
        changes["name"] = changes["name"].strip()
        if not changes["name"]:
            raise BadRequest("Volume type name can not be empty.")
    if "is_public" in changes:
        changes["is_public"] = truth(changes["is_public"])
    return _save(ctx, type_, **changes)


def _save(ctx: Context, type_: VolumeType, **changes: Any) -> VolumeType:
    changes = {**changes, "updated_at": ctx.now}
    try:
        TYPES.update(ctx.tx, changes, id=type_.id)
    except Conflict:
        raise Conflicted(f"Volume Type {changes.get('name')} already exists.") from None
    for name, value in changes.items():
        setattr(type_, name, value)
    return type_


@op("DELETE", "/types/{type_id}", rule="volume_extension:type_delete", allow=ADMIN, load=load_type, ok=202)
def delete(ctx: Context, type_: VolumeType) -> Reply:
    """Delete a type that no volume has and that is nobody's default."""
    if type_.id == DEFAULT_ID:
        raise BadRequest(f"The volume type {type_.id} is the default volume type and cannot be deleted.")
    if ctx.tx.one("select 1 from default_volume_types where volume_type_id = ?", type_.id):
        raise BadRequest(f"The volume type {type_.id} is the default of a project: unset that first.")
    used = "select 1 from volumes where volume_type_id = ? or (move_type_id = ? and moves <> moved)"
    if ctx.tx.one(used, type_.id, type_.id):
        raise BadRequest(f"Target volume type is still in use: volumes of type {type_.name} exist.")
    ctx.tx.run("delete from volume_type_access where volume_type_id = ?", type_.id)
    ctx.tx.run("delete from volume_type_encryptions where volume_type_id = ?", type_.id)
    TYPES.delete(ctx.tx, id=type_.id)
    return Reply()


@op("GET", "/types/{type_id}/extra_specs", rule="volume_extension:types_extra_specs:index", allow=READER,
    load=load_for_reader)  # fmt: skip
def list_specs(ctx: Context, target: dict[str, Any]) -> Reply:
    """Show the extra specs that the caller may see."""
    return Reply({"extra_specs": visible_specs(target["type"], ctx)})


@op("GET", "/types/{type_id}/extra_specs/{key}", rule="volume_extension:types_extra_specs:show", allow=READER,
    load=load_for_reader)  # fmt: skip
def get_spec(ctx: Context, target: dict[str, Any], key: str) -> Reply:
    """Show one extra spec."""
    specs = visible_specs(target["type"], ctx)
    if key not in specs:
        raise NotFound(f"Volume Type {target['type'].id} has no extra specs with key {key[:80]}.")
    return Reply({key: specs[key]})


@op("POST", "/types/{type_id}/extra_specs", rule="volume_extension:types_extra_specs:create", allow=ADMIN,
    load=load_type, takes=action("extra_specs", PAIRS))  # fmt: skip
def add_specs(ctx: Context, type_: VolumeType, body: dict[str, Any]) -> Reply:
    """Add extra specs."""
    given = {k: v or "" for k, v in body["extra_specs"].items()}
    _check_multiattach(ctx, type_, given)
    _save(ctx, type_, extra_specs={**type_.extra_specs, **given})
    return Reply({"extra_specs": given})


def _load_for_key(ctx: Context, type_id: str, key: str) -> VolumeType:
    return load_type(ctx, type_id)


@op("PUT", "/types/{type_id}/extra_specs/{key}", rule="volume_extension:types_extra_specs:update", allow=ADMIN,
    load=_load_for_key, takes={**PAIRS, "minProperties": 1, "maxProperties": 1})  # fmt: skip
def put_spec(ctx: Context, type_: VolumeType, key: str, body: dict[str, Any]) -> Reply:
    """Set one extra spec."""
    if key not in body:
        raise BadRequest("Request body and URI mismatch: the key of the body must be the key in the URL.")
    given = {key: body[key] or ""}
    _check_multiattach(ctx, type_, given)
    _save(ctx, type_, extra_specs={**type_.extra_specs, **given})
    return Reply(given)


@op("DELETE", "/types/{type_id}/extra_specs/{key}", rule="volume_extension:types_extra_specs:delete", allow=ADMIN,
    load=_load_for_key, ok=202)  # fmt: skip
def delete_spec(ctx: Context, type_: VolumeType, key: str) -> Reply:
    """Remove one extra spec."""
    if key not in type_.extra_specs:
        raise NotFound(f"Volume Type {type_.id} has no extra specs with key {key[:80]}.")
    _check_multiattach(ctx, type_, {key: ""})
    _save(ctx, type_, extra_specs={k: v for k, v in type_.extra_specs.items() if k != key})
    return Reply()


def _check_multiattach(ctx: Context, type_: VolumeType, given: dict[str, str]) -> None:
    """Volumes remember whether they may be shared: their type may not change its mind."""
    changed = "multiattach" in given and given["multiattach"] != type_.extra_specs.get("multiattach", "")
    if changed and ctx.tx.one("select 1 from volumes where volume_type_id = ?", type_.id):
        raise BadRequest("Unable to modify extra spec multiattach: volumes of this type exist.")


PROJECT = fields_of(("project",), project={"type": "string", "minLength": 1, "maxLength": 255})


@op("GET", "/types/{type_id}/os-volume-type-access", rule="volume_extension:volume_type_access:get_all_for_type",
    allow=ADMIN, load=load_type)  # fmt: skip
def list_access(ctx: Context, type_: VolumeType) -> Reply:
    """List the projects that may use a private type."""
    if type_.is_public:
        raise NotFound(f"Access list not available for public volume type {type_.id}.")
    sql = "select project_id from volume_type_access where volume_type_id = ? order by project_id"
    rows = [{"volume_type_id": type_.id, "project_id": row[0]} for row in ctx.tx.all(sql, type_.id)]
    return Reply({"volume_type_access": rows})


@op("POST", "/types/{type_id}/action", action="addProjectAccess", allow=ADMIN, load=load_type, ok=202,
    rule="volume_extension:volume_type_access:addProjectAccess", takes=action("addProjectAccess", PROJECT))  # fmt: skip
def add_access(ctx: Context, type_: VolumeType, body: dict[str, Any]) -> Reply:
    """Let a project use a private type."""
    if type_.is_public:
        raise Conflicted(f"Type access modification is not applicable to public volume type {type_.id}.")
    try:
        ctx.tx.run(
            "insert into volume_type_access (volume_type_id, project_id) values (?, ?)", type_.id, body["project"]
        )
    except Conflict:
        raise Conflicted(f"Volume type access for {type_.id} / {body['project']} already exists.") from None
    return Reply()


@op("POST", "/types/{type_id}/action", action="removeProjectAccess", allow=ADMIN, load=load_type, ok=202,
    rule="volume_extension:volume_type_access:removeProjectAccess",
    takes=action("removeProjectAccess", PROJECT))  # fmt: skip
def remove_access(ctx: Context, type_: VolumeType, body: dict[str, Any]) -> Reply:
    """Take that back."""
    if type_.is_public:
        raise Conflicted(f"Type access modification is not applicable to public volume type {type_.id}.")
    sql = "delete from volume_type_access where volume_type_id = ? and project_id = ?"
    if not ctx.tx.run(sql, type_.id, body["project"]):
        raise NotFound(f"Volume type access not found for {type_.id} / {body['project']} combination.")
    return Reply()
