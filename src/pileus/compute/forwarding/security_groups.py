"""Security groups as compute shows them (until 2.35): what they let in.

Source: Compute API reference, "Security groups (os-security-groups) (deprecated)", "Rules for security group".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pileus.compute.forwarding.networks import networks
from pileus.compute.service import COMPUTE, MEMBER, READER, envelope, page_limit
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.ids import is_uuid
from pileus.core.op import collection
from pileus.core.paging import Query
from pileus.core.schema import CIDR, Schema

LAST = "2.35"
_RULE = "os_compute_api:os-security-groups"
Group = Mapping[str, Any]
Rule = Mapping[str, Any]
_EVERYWHERE = {"IPv4": "0.0.0.0/0", "IPv6": "::/0"}
_ALL_PORTS = {"icmp": (-1, -1), "ipv6-icmp": (-1, -1), "tcp": (1, 65535), "udp": (1, 65535)}


def _id(text: str) -> str:
    if not is_uuid(text):
        raise BadRequest(f"Security group id {text[:80]} is not a uuid")
    return text


def load(ctx: Context, security_group_id: str) -> Group:
    """A security group; raises BadRequest, NotFound."""
    found: Group = networks(ctx)("GET", f"/security-groups/{_id(security_group_id)}")["security_group"]
    return found


def load_rule(ctx: Context, rule_id: str) -> Rule:
    """A rule; raises BadRequest, NotFound."""
    found: Rule = networks(ctx)("GET", f"/security-group-rules/{_id(rule_id)}")["security_group_rule"]
    return found


def _named(ctx: Context, rules: Iterable[Rule]) -> dict[str, Group]:
    """The groups that rules let in, by id."""
    wanted = {rule["remote_group_id"] for rule in rules} - {None}
    found = networks(ctx)("GET", "/security-groups")["security_groups"] if wanted else []
    return {group["id"]: group for group in found if group["id"] in wanted}


def _rule(rule: Rule, groups: Mapping[str, Group]) -> dict[str, Any]:
    low, high, protocol = rule["port_range_min"], rule["port_range_max"], rule["protocol"]
    if low is None and high is None:
        low, high = _ALL_PORTS.get(protocol, (None, None))
    peer, group = rule["remote_group_id"], {}
    if peer in groups:
        group = {"name": groups[peer]["name"], "tenant_id": groups[peer]["project_id"]}
    cidr = {} if peer else {"cidr": rule["remote_ip_prefix"] or _EVERYWHERE[rule["ethertype"]]}
    return {
        "id": rule["id"], "parent_group_id": rule["security_group_id"], "ip_protocol": protocol, "from_port": low,
        "to_port": high, "group": group, "ip_range": cidr,
    }  # fmt: skip


def _shown(ctx: Context, found: Iterable[Group]) -> list[dict[str, Any]]:
    groups = list(found)
    inward = {g["id"]: [r for r in g["security_group_rules"] if r["direction"] == "ingress"] for g in groups}
    peers = _named(ctx, [rule for rules in inward.values() for rule in rules])
    return [
        {"id": g["id"], "name": g["name"], "description": g["description"], "tenant_id": g["project_id"],
         "rules": [_rule(rule, peers) for rule in inward[g["id"]]]}
        for g in groups
    ]  # fmt: skip


@COMPUTE.op("GET", "/os-security-groups", rule=f"{_RULE}:get", allow=READER, load=collection, until=LAST, writes=True)
def list_security_groups(ctx: Context, query: Query) -> dict[str, Any]:
    """List security groups of the project; of all projects, if an administrator asks for them."""
    every = query.truth("all_tenants") and ctx.allows("context_is_admin")
    found = networks(ctx)("GET", "/security-groups", query={} if every else {"project_id": ctx.project_id})
    start = query.number("offset", 0)
    return {"security_groups": _shown(ctx, found["security_groups"][start : start + page_limit(query)])}


_TEXT: Schema = {"type": ["string", "null"], "maxLength": 255}
_GROUP = envelope({"name": {**_TEXT, "minLength": 1}, "description": _TEXT}, "security_group", "name")


@COMPUTE.op(
    "POST", "/os-security-groups", rule=f"{_RULE}:create", allow=MEMBER, load=collection, takes=_GROUP, until=LAST
)
def create_security_group(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Create a security group."""
    return {"security_group": _group(ctx, "POST", "", body["security_group"])}


def _group(ctx: Context, method: str, path: str, given: dict[str, Any]) -> dict[str, Any]:
    wanted = {name: value or "" for name, value in given.items()}
    try:
        made = networks(ctx)(method, f"/security-groups{path}", {"security_group": wanted})
    except Conflicted as error:
        raise BadRequest(error.message) from None
    return _shown(ctx, [made["security_group"]])[0]


@COMPUTE.op("GET", "/os-security-groups/{security_group_id}", rule=f"{_RULE}:show", allow=READER, load=load, until=LAST)
def show_security_group(ctx: Context, found: Group) -> dict[str, Any]:
    """Show a security group."""
    return {"security_group": _shown(ctx, [found])[0]}


@COMPUTE.op(
    "PUT", "/os-security-groups/{security_group_id}", rule=f"{_RULE}:update", allow=MEMBER, load=load, takes=_GROUP,
    until=LAST,
)  # fmt: skip
def update_security_group(ctx: Context, security_group_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Rename or describe a security group."""
    return {"security_group": _group(ctx, "PUT", f"/{security_group_id}", body["security_group"])}


@COMPUTE.op(
    "DELETE", "/os-security-groups/{security_group_id}", rule=f"{_RULE}:delete", allow=MEMBER, load=load, until=LAST,
    ok=202,
)  # fmt: skip
def delete_security_group(ctx: Context, security_group_id: str) -> None:
    """Delete a security group that no port has."""
    try:
        networks(ctx)("DELETE", f"/security-groups/{security_group_id}")
    except Conflicted as error:
        raise BadRequest(error.message) from None


_PORT: Schema = {"type": ["integer", "string", "null"], "pattern": r"^-?\d{1,5}$", "minimum": -1, "maximum": 65535}
_NEW_RULE = envelope(
    {
        "parent_group_id": {"type": ["string", "integer"], "maxLength": 255}, "ip_protocol": _TEXT, "from_port": _PORT,
        "to_port": _PORT, "cidr": {"anyOf": [CIDR, {"type": "null"}, {"enum": [""]}]}, "group_id": _TEXT,
    },
    "security_group_rule", "parent_group_id",
)  # fmt: skip


@COMPUTE.op(
    "POST", "/os-security-group-rules", rule=f"{_RULE}:rule:create", allow=MEMBER, load=collection, takes=_NEW_RULE,
    until=LAST,
)  # fmt: skip
def create_rule(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Let something in: from addresses, from another group, or from everywhere."""
    given = body["security_group_rule"]
    ports = {
        name: _port(given.get(old)) for name, old in (("port_range_min", "from_port"), ("port_range_max", "to_port"))
    }
    cidr, peer = given.get("cidr") or None, given.get("group_id") or None
    wanted = {
        "security_group_id": _id(str(given["parent_group_id"])), "direction": "ingress", **ports,
        "protocol": given.get("ip_protocol"), "ethertype": "IPv6" if cidr and ":" in cidr else "IPv4",
        "remote_ip_prefix": cidr, "remote_group_id": _id(peer) if peer else None,
    }  # fmt: skip
    try:
        made = networks(ctx)("POST", "/security-group-rules", {"security_group_rule": wanted})["security_group_rule"]
    except Conflicted as error:
        raise BadRequest(error.message) from None
    return {"security_group_rule": _rule(made, _named(ctx, [made]))}


def _port(given: int | str | None) -> int | None:
    """-1 is "all" here."""
    return None if given is None or int(given) == -1 else int(given)


@COMPUTE.op(
    "DELETE", "/os-security-group-rules/{rule_id}", rule=f"{_RULE}:rule:delete", allow=MEMBER, load=load_rule,
    until=LAST, ok=202,
)  # fmt: skip
def delete_rule(ctx: Context, rule_id: str) -> None:
    """Delete a rule."""
    networks(ctx)("DELETE", f"/security-group-rules/{rule_id}")
