"""Security groups and their rules in the database."""

import ipaddress
from collections.abc import Iterable

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.ids import new_id
from pileus.core.paging import Listing
from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table


class SecurityGroup(Struct, frozen=True, kw_only=True):
    """Rules that ports share; everything that no rule lets pass is dropped."""

    id: str
    project_id: str
    name: str = ""
    description: str = ""
    is_default: bool = False
    tags: list[str] = []
    revision: int = 0
    created_at: float
    updated_at: float
    deleting: bool = False
    nodes: list[str] = []  # that may hold its members, since rules there name it
    fault: str = ""


class SecurityGroupRule(Struct, frozen=True, kw_only=True):
    """What a group lets pass; `said` is all that makes it differ from the others of its group."""

    id: str
    project_id: str
    security_group_id: str
    description: str = ""
    direction: str
    ethertype: str
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None  # as it was given, host bits and all
    remote_group_id: str | None = None
    said: str = ""
    revision: int = 0
    created_at: float
    updated_at: float

    @property
    def normalized_cidr(self) -> str | None:
        """The network that the prefix means."""
        return str(ipaddress.ip_network(self.remote_ip_prefix, strict=False)) if self.remote_ip_prefix else None


GROUPS = Table(SecurityGroup, "security_groups")
RULES = Table(SecurityGroupRule, "security_group_rules")


def seen_groups(ctx: Context) -> Listing[SecurityGroup]:
    """The security groups that the caller may know of."""
    listing = Listing(GROUPS).where("security_groups.deleting = 0")
    if not ctx.allows("get_security_group", {}):
        listing.where("security_groups.project_id = ?", ctx.caller.project_id)
    return listing


def load_group(ctx: Context, security_group_id: str) -> SecurityGroup:
    """A security group that the caller may know of; raises NotFound."""
    rows = seen_groups(ctx).equals("id", [security_group_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise group_not_found(security_group_id)
    return rows[0]


def group_not_found(group_id: str) -> NotFound:
    """The refusal for a group that is not there for the caller."""
    return NotFound(f"Security group {group_id} does not exist", kind="SecurityGroupNotFound")


def seen_rules(ctx: Context) -> Listing[SecurityGroupRule]:
    """The rules that the caller may know of: its own and those of its groups."""
    listing = Listing(RULES)
    if not ctx.allows("get_security_group_rule", {}):
        mine = ctx.caller.project_id
        listing.where(
            "security_group_rules.project_id = ? or security_group_rules.security_group_id in"
            " (select id from security_groups where project_id = ?)",
            mine, mine,
        )  # fmt: skip
    return listing


def load_rule(ctx: Context, rule_id: str) -> SecurityGroupRule:
    """A rule that the caller may know of; raises NotFound."""
    rows = seen_rules(ctx).equals("id", [rule_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise NotFound(f"Security group rule {rule_id} does not exist", kind="SecurityGroupRuleNotFound")
    return rows[0]


def rules_of(tx: Tx, group_ids: Iterable[str]) -> list[SecurityGroupRule]:
    """The rules of several groups, oldest first."""
    order = "security_group_rules.created_at, security_group_rules.id"
    return RULES.all(tx, security_group_id=tuple(group_ids), order=order)


def distinct(rule: SecurityGroupRule) -> str:
    """What tells a rule from the others of its group."""
    parts = (rule.direction, rule.ethertype, rule.protocol, rule.port_range_min, rule.port_range_max,
             rule.normalized_cidr, rule.remote_group_id)  # fmt: skip
    return "|".join("" if part is None else str(part) for part in parts)


def add_rule(
    tx: Tx, group: SecurityGroup, now: float, direction: str, ethertype: str, remote_group_id: str | None = None
) -> None:
    """One of the rules that a new group starts with."""
    rule = SecurityGroupRule(
        id=new_id(), project_id=group.project_id, security_group_id=group.id, direction=direction,
        ethertype=ethertype, remote_group_id=remote_group_id, created_at=now, updated_at=now,
    )  # fmt: skip
    insert_rule(tx, rule)


def insert_rule(tx: Tx, rule: SecurityGroupRule) -> SecurityGroupRule:
    """Add a rule; raises Conflict when the group says so already."""
    return RULES.insert(tx, structs.replace(rule, said=distinct(rule)))


def default_group(tx: Tx, project_id: str, now: float) -> SecurityGroup:
    """The group that a project's ports get unless they name others; made when it is first needed."""
    found = GROUPS.get(tx, project_id=project_id, is_default=True)
    if found is not None:
        return found
    tx.lock(f"default_security_group/{project_id}")
    group = GROUPS.insert(
        tx,
        SecurityGroup(
            id=new_id(), project_id=project_id, name="default", description="Default security group", is_default=True,
            created_at=now, updated_at=now,
        ),
    )  # fmt: skip
    for ethertype in ("IPv4", "IPv6"):
        add_rule(tx, group, now, "egress", ethertype)
        add_rule(tx, group, now, "ingress", ethertype, group.id)
    return group


def poke_members(tx: Tx, group_id: str, now: float) -> None:
    """The ports of a group that stand somewhere look at their rules again."""
    for (port_id,) in tx.all(
        "select p.id from port_groups g join ports p on p.id = g.port_id"
        " where g.group_id = ? and p.node_id is not null",
        group_id,
    ):
        poke(tx, "port", port_id, now)
