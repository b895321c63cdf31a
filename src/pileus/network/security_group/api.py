"""Security groups and their rules.  Source: Networking API reference, "Security groups"."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import Conflicted
from pileus.core.events import record_request
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.reconcile import forget, poke
from pileus.core.schema import BOOLEAN, CIDR, TEXT, Schema
from pileus.db.connect import Conflict
from pileus.network.conventions import (
    ID,
    PROJECT,
    body_of,
    changes_of,
    check_revision,
    created,
    identity_fields,
    listed,
    project_of,
    shown,
    standard_fields,
    time_of,
)
from pileus.network.quota import take
from pileus.network.security_group import plan
from pileus.network.security_group.rows import (
    GROUPS,
    RULES,
    SecurityGroup,
    SecurityGroupRule,
    add_rule,
    default_group,
    distinct,
    insert_rule,
    load_group,
    load_rule,
    poke_members,
    rules_of,
    seen_groups,
    seen_rules,
)
from pileus.network.service import ADMIN, ADMIN_OR_MEMBER, ADMIN_OR_READER, NETWORK, READER

NUMBER: Schema = {"type": ["integer", "string", "null"], "pattern": r"^-?\d{1,5}$"}  # its range is the plan's to refuse
ONLY_STATEFUL: Schema = {"enum": [True]}  # flows are always tracked
RULE = Fields(
    "security_group_rule",
    "security_group_rules",
    (
        Field("id", "rqs"),
        Field("project_id", "crqs", PROJECT),
        Field("tenant_id", "crqs", PROJECT, get="project_id"),
        Field("security_group_id", "Crqs", ID),
        Field("direction", "Crqs", {"enum": ["ingress", "egress"]}),
        Field("ethertype", "crqs", {"type": ["string", "null"], "maxLength": 16}, default="IPv4"),
        Field("protocol", "crqs", {"type": ["string", "integer", "null"], "maxLength": 40}),
        Field("port_range_min", "crqs", NUMBER),
        Field("port_range_max", "crqs", NUMBER),
        Field("remote_ip_prefix", "crqs", {"anyOf": [CIDR, {"type": "null"}, {"enum": [""]}]}),
        Field("normalized_cidr", "r"),
        Field("remote_group_id", "crqs", {"type": ["string", "null"], "maxLength": 255}),
        Field("remote_address_group_id", "cr", {"type": "null"}, get=lambda _row, _ctx: None),
        Field("description", "crqs", TEXT, default=""),
        Field("created_at", "rs", get=time_of("created_at")),
        Field("updated_at", "rs", get=time_of("updated_at")),
        Field("revision_number", "rqs", get="revision"),
    ),
)


def _rules(group: SecurityGroup, ctx: Context) -> list[dict[str, Any]]:
    return [RULE.render(rule, ctx) for rule in rules_of(ctx.tx, [group.id])]


GROUP = Fields(
    "security_group",
    "security_groups",
    (
        *identity_fields(),
        Field("stateful", "cru", ONLY_STATEFUL, get=lambda _row, _ctx: True, default=True),
        Field("shared", "r", get=lambda _row, _ctx: False),
        Field("is_default", "rqs", BOOLEAN),
        Field("security_group_rules", "r", get=_rules),
        *standard_fields(),
    ),
)
NETWORK.rule("get_security_group", ADMIN_OR_READER)
NETWORK.rule("get_security_group_rule", f"({ADMIN}) or ({READER}) or rule:sg_owner")


@NETWORK.op("POST", "/security-groups", rule="create_security_group", allow=ADMIN_OR_MEMBER, load=collection,
            takes=body_of(GROUP), ok=201)  # fmt: skip
def create_security_groups(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a security group, or many."""
    return created(ctx, GROUP, body, lambda given: create_group(ctx, given))


def create_group(ctx: Context, given: Mapping[str, Any]) -> SecurityGroup:
    """One group, which lets everything out and nothing in."""
    project_id = project_of(ctx, "create_security_group", given)
    name = given.get("name", "")
    if name == "default":
        raise Conflicted("Default security group already exists.", kind="SecurityGroupDefaultAlreadyExists")
    default_group(ctx.tx, project_id, ctx.now)
    take(ctx.tx, project_id, security_group=1)
    group = SecurityGroup(
        id=new_id(), project_id=project_id, name=name, description=given.get("description") or "",
        created_at=ctx.now, updated_at=ctx.now,
    )  # fmt: skip
    GROUPS.insert(ctx.tx, group)
    for ethertype in ("IPv4", "IPv6"):
        add_rule(ctx.tx, group, ctx.now, "egress", ethertype)
    record_request(ctx, "security_group", group.id, "create", "success")
    return group


def _by_shared(listing: Listing[SecurityGroup], values: Sequence[str]) -> None:
    if any(Query({"shared": [value]}).truth("shared") for value in values):
        listing.where("1 = 0")


@NETWORK.op("GET", "/security-groups", rule="get_security_group", load=collection, writes=True)
def list_security_groups(ctx: Context, query: Query) -> dict[str, Any]:
    """List security groups; a project has its default group from the first look on."""
    if ctx.caller.project_id is not None:
        default_group(ctx.tx, ctx.caller.project_id, ctx.now)
    return listed(ctx, GROUP, seen_groups(ctx), query, {"shared": _by_shared})


@NETWORK.op("GET", "/security-groups/{security_group_id}", rule="get_security_group", load=load_group)
def get_security_group(ctx: Context, group: SecurityGroup, query: Query) -> dict[str, Any]:
    """Show a security group with its rules."""
    return shown(ctx, GROUP, group, query)


@NETWORK.op("PUT", "/security-groups/{security_group_id}", rule="update_security_group", allow=ADMIN_OR_MEMBER,
            load=load_group, takes=GROUP, gives=GROUP)  # fmt: skip
def update_security_group(ctx: Context, group: SecurityGroup, body: dict[str, Any]) -> SecurityGroup:
    """Rename or describe a security group."""
    check_revision(ctx, group)
    if group.is_default and body.get("name", group.name) != group.name:
        raise Conflicted("Updating default security group not allowed.", kind="SecurityGroupCannotUpdateDefault")
    if not group.is_default and body.get("name") == "default":
        raise Conflicted("Default security group already exists.", kind="SecurityGroupDefaultAlreadyExists")
    changed = changes_of(ctx, group, **{k: body[k] or "" for k in ("name", "description") if k in body})
    GROUPS.update(ctx.tx, changed, id=group.id)
    return structs.replace(group, **changed)


@NETWORK.op("DELETE", "/security-groups/{security_group_id}", rule="delete_security_group", allow=ADMIN_OR_MEMBER,
            load=load_group, ok=204)  # fmt: skip
def delete_security_group(ctx: Context, group: SecurityGroup) -> Reply:
    """Delete a security group that no port has; rules of others that name it go too."""
    check_revision(ctx, group)
    if group.is_default and not ctx.allows("admin_only"):
        raise Conflicted(
            "Insufficient rights for removing default security group.", kind="SecurityGroupCannotRemoveDefault"
        )
    if ctx.tx.one("select 1 from port_groups where group_id = ?", group.id):
        raise Conflicted(f"Security Group {group.id} in use.", kind="SecurityGroupInUse")
    for rule in RULES.all(ctx.tx, remote_group_id=group.id):
        poke_members(ctx.tx, rule.security_group_id, ctx.now)
    RULES.delete(ctx.tx, remote_group_id=group.id)
    RULES.delete(ctx.tx, security_group_id=group.id)
    record_request(ctx, "security_group", group.id, "delete", "success")
    if group.nodes:
        GROUPS.update(ctx.tx, {"deleting": True, "is_default": False}, id=group.id)
        poke(ctx.tx, "security_group", group.id, ctx.now)
    else:
        GROUPS.delete(ctx.tx, id=group.id)
        forget(ctx.tx, "security_group", group.id)
    return Reply()


@NETWORK.op("POST", "/security-group-rules", rule="create_security_group_rule", allow=ADMIN_OR_MEMBER,
            load=collection, takes=body_of(RULE), ok=201)  # fmt: skip
def create_security_group_rules(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a rule, or many; the ports of its group follow at once."""
    return created(ctx, RULE, body, lambda given: create_rule(ctx, given))


def create_rule(ctx: Context, given: Mapping[str, Any]) -> SecurityGroupRule:
    """One rule of a group that the caller may change."""
    project_id = project_of(ctx, "create_security_group_rule", given)
    group = load_group(ctx, given["security_group_id"])
    ctx.enforce("create_security_group_rule", group)
    said = plan.planned(given)
    if said["remote_group_id"]:
        load_group(ctx, said["remote_group_id"])
    take(ctx.tx, project_id, security_group_rule=1)
    rule = SecurityGroupRule(
        id=new_id(), project_id=project_id, security_group_id=group.id, description=given.get("description") or "",
        created_at=ctx.now, updated_at=ctx.now, **said,
    )  # fmt: skip
    try:
        rule = insert_rule(ctx.tx, rule)
    except Conflict:
        there = RULES.get(ctx.tx, security_group_id=group.id, said=distinct(rule))
        raise Conflicted(
            f"Security group rule already exists. Rule id is {there.id if there else 'not known'}.",
            kind="SecurityGroupRuleExists",
        ) from None
    _changed(ctx, group.id, rule)
    return rule


def _changed(ctx: Context, group_id: str, rule: SecurityGroupRule) -> None:
    """Ports of the group filter anew; a group that a rule names must be known where they are."""
    poke_members(ctx.tx, group_id, ctx.now)
    if rule.remote_group_id:
        poke(ctx.tx, "security_group", rule.remote_group_id, ctx.now)
    group = GROUPS.get(ctx.tx, id=group_id)
    if group is not None:
        GROUPS.update(ctx.tx, changes_of(ctx, group), id=group_id)


@NETWORK.op("GET", "/security-group-rules", rule="get_security_group_rule", load=collection, writes=True)
def list_security_group_rules(ctx: Context, query: Query) -> dict[str, Any]:
    """List rules."""
    if ctx.caller.project_id is not None:
        default_group(ctx.tx, ctx.caller.project_id, ctx.now)
    return listed(ctx, RULE, seen_rules(ctx), query)


def visible_rule(ctx: Context, rule_id: str) -> dict[str, Any]:
    """A rule as policy sees it: its own attributes and whose group it is of."""
    rule = load_rule(ctx, rule_id)
    group = GROUPS.get(ctx.tx, id=rule.security_group_id)
    return {**structs.asdict(rule), "rule": rule, "security_group_project_id": group.project_id if group else ""}


@NETWORK.op("GET", "/security-group-rules/{rule_id}", rule="get_security_group_rule", load=visible_rule)
def get_security_group_rule(ctx: Context, found: Mapping[str, Any], query: Query) -> dict[str, Any]:
    """Show a rule."""
    return shown(ctx, RULE, found["rule"], query)


@NETWORK.op("DELETE", "/security-group-rules/{rule_id}", rule="delete_security_group_rule", allow=ADMIN_OR_MEMBER,
            load=visible_rule, ok=204)  # fmt: skip
def delete_security_group_rule(ctx: Context, found: Mapping[str, Any]) -> Reply:
    """Delete a rule; flows that only it allowed are cut."""
    rule = found["rule"]
    check_revision(ctx, rule)
    RULES.delete(ctx.tx, id=rule.id)
    _changed(ctx, rule.security_group_id, rule)
    return Reply()
