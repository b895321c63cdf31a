"""Tags of resources.  Source: Networking API reference, "Standard attributes tag extension"."""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.op import Reply
from pileus.db.rows import Table
from pileus.network.conventions import changes_of, check_revision
from pileus.network.floating_ip.rows import FLOATING_IPS, load_floating_ip
from pileus.network.network.rows import NETWORKS, load_network
from pileus.network.port.fields import TAGS
from pileus.network.port.rows import PORTS, load_port
from pileus.network.router.rows import ROUTERS, load_router
from pileus.network.security_group.rows import GROUPS, load_group
from pileus.network.service import ADMIN, ADMIN_OR_MEMBER, NETWORK, READER
from pileus.network.subnet.rows import SUBNETS, load_subnet

MOST = 50
BODY = {"type": "object", "properties": {"tags": TAGS}, "required": ["tags"], "additionalProperties": False}


class Tagged(NamedTuple):
    """A collection whose members have tags."""

    plural: str
    parameter: str  # the id's name in the paths of the collection
    table: Table[Any]
    load: Callable[[Context, str], Struct]
    see: str = f"({ADMIN}) or ({READER})"


COLLECTIONS = (
    Tagged(
        "networks", "network_id", NETWORKS, load_network, f"({ADMIN}) or ({READER}) or rule:shared or rule:external"
    ),
    Tagged("subnets", "subnet_id", SUBNETS, load_subnet, f"({ADMIN}) or ({READER}) or rule:shared"),
    Tagged("ports", "port_id", PORTS, load_port),
    Tagged("routers", "router_id", ROUTERS, load_router),
    Tagged("floatingips", "floatingip_id", FLOATING_IPS, load_floating_ip),
    Tagged("security-groups", "security_group_id", GROUPS, load_group),
)


def put(ctx: Context, kind: Tagged, row: Any, tags: set[str]) -> dict[str, Any]:
    """Make these the tags of a resource."""
    check_revision(ctx, row)
    if len(tags) > MOST:
        raise BadRequest(f"Invalid input for tags. Reason: at most {MOST} are allowed.")
    kind.table.update(ctx.tx, changes_of(ctx, row, tags=sorted(tags)), id=row.id)
    return {"tags": sorted(tags)}


def checked(tag: str) -> str:
    """A tag of the path, refused when it could not be one."""
    if not 1 <= len(tag) <= 255 or any(c in ",/" or ord(c) < 32 for c in tag):
        raise BadRequest(f"Invalid input for tag. Reason: '{tag[:80]}' is no tag.")
    return tag


def register(kind: Tagged) -> None:
    """The operations on the tags of one collection."""
    base, name = f"/{kind.plural}/{{{kind.parameter}}}/tags", kind.plural.replace("-", "_")
    see = NETWORK.rule(f"get_{name}_tags", kind.see)
    add, take = (NETWORK.rule(f"{verb}_{name}_tags", ADMIN_OR_MEMBER) for verb in ("create", "delete"))
    update = NETWORK.rule(f"update_{name}_tags", ADMIN_OR_MEMBER)

    def load(ctx: Context, **path: str) -> Struct:
        return kind.load(ctx, path[kind.parameter])

    @NETWORK.op("GET", base, rule=see, load=load)
    def list_tags(row: Any) -> dict[str, Any]:
        """List the tags of a resource."""
        return {"tags": row.tags}

    @NETWORK.op("PUT", base, rule=update, load=load, takes=BODY)
    def replace_tags(ctx: Context, row: Any, body: dict[str, Any]) -> dict[str, Any]:
        """Replace all tags of a resource."""
        return put(ctx, kind, row, set(body["tags"]))

    @NETWORK.op("POST", base, rule=add, load=load, takes=BODY, ok=201)
    def add_tags(ctx: Context, row: Any, body: dict[str, Any]) -> dict[str, Any]:
        """Add tags to a resource."""
        return put(ctx, kind, row, {*row.tags, *body["tags"]})

    @NETWORK.op("DELETE", base, rule=take, load=load, ok=204)
    def remove_tags(ctx: Context, row: Any) -> Reply:
        """Remove all tags of a resource."""
        put(ctx, kind, row, set())
        return Reply()

    @NETWORK.op("GET", base + "/{tag}", rule=see, load=load, ok=204)
    def check_tag(row: Any, tag: str) -> Reply:
        """Whether a resource has a tag."""
        if tag not in row.tags:
            raise NotFound(f"Tag {tag} could not be found.", kind="TagNotFound")
        return Reply()

    @NETWORK.op("PUT", base + "/{tag}", rule=update, load=load, ok=201)
    def add_tag(ctx: Context, row: Any, tag: str) -> Reply:
        """Add a tag to a resource."""
        put(ctx, kind, row, {*row.tags, checked(tag)})
        return Reply()

    @NETWORK.op("DELETE", base + "/{tag}", rule=take, load=load, ok=204)
    def remove_tag(ctx: Context, row: Any, tag: str) -> Reply:
        """Remove a tag of a resource."""
        if tag not in row.tags:
            raise NotFound(f"Tag {tag} could not be found.", kind="TagNotFound")
        put(ctx, kind, row, set(row.tags) - {tag})
        return Reply()


for collection_of in COLLECTIONS:
    register(collection_of)
