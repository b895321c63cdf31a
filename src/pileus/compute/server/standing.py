"""What compute knows of nodes and servers beyond placement: aggregates and server groups."""

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from pileus.compute.host import Host
from pileus.core.nodes import Node
from pileus.db.connect import Tx


class Group(Struct, frozen=True, kw_only=True):
    """A server group as the scheduler sees it."""

    id: str
    name: str
    policy: str
    rules: dict[str, Any]
    members: tuple[str, ...]  # ids of the other servers in it


def group_of(tx: Tx, server_id: str) -> Group | None:
    """The group of a server with its other members."""
    row = tx.one(
        "select g.id, g.name, g.policy, g.rules from server_groups g join server_group_members m on m.group_id = g.id"
        " where m.server_id = ?",
        server_id,
    )
    if row is None:
        return None
    members = tx.all(
        "select server_id from server_group_members where group_id = ? and server_id <> ?", row[0], server_id
    )
    rules = json.loads(row[3] or "{}")
    return Group(id=row[0], name=row[1], policy=row[2], rules=rules, members=tuple(m for (m,) in members))


def group_ids(tx: Tx, server_ids: Sequence[str]) -> dict[str, str]:
    """Group of each of these servers that is in one."""
    if not server_ids:
        return {}
    marks = ", ".join("?" * len(server_ids))
    rows = tx.all(f"select server_id, group_id from server_group_members where server_id in ({marks})", *server_ids)
    return dict(rows)


def metadata_of(tx: Tx, node_id: str) -> list[dict[str, str]]:
    """Metadata of every aggregate that the node is in."""
    rows = tx.all(
        "select a.metadata from aggregates a join aggregate_hosts h on h.aggregate_id = a.id where h.node_id = ?"
        " order by a.number",
        node_id,
    )
    return [json.loads(text) for (text,) in rows]


def aggregate_mismatch(tx: Tx, node: Node, extra_specs: dict[str, str]) -> str:
    """Why the aggregates of a node do not suit a flavor (extra specs `aggregate_instance_extra_specs:KEY`)."""
    wanted = {k.partition(":")[2]: v for k, v in extra_specs.items() if k.startswith("aggregate_instance_extra_specs:")}
    if not wanted:
        return ""
    there = metadata_of(tx, node.id)
    for key, value in wanted.items():
        found = {data[key] for data in there if key in data}
        if not _suits(value, found):
            return f"aggregate metadata {key}: {value} is asked for, {', '.join(sorted(found)) or 'nothing'} is there"
    return ""


def _suits(wish: str, found: set[str]) -> bool:
    """Upstream's small language as far as it is used: a value, `<or> a <or> b`, `<in> part`."""
    options = [part.strip() for part in wish.split("<or>") if part.strip()]
    if len(options) > 1 or wish.startswith("<or>"):
        return bool(found & set(options))
    if wish.startswith("<in>"):
        return any(wish.removeprefix("<in>").strip() in value for value in found)
    return wish in found


def in_soft_order(tx: Tx, group: Group | None, found: list[Host]) -> list[Host]:
    """Hosts in the order that a soft policy prefers; as they were when there is none."""
    if group is None or not group.policy.startswith("soft-") or not group.members:
        return found
    marks = ", ".join("?" * len(group.members))
    counts: dict[str, int] = dict(
        tx.all(f"select node_id, count(*) from servers where id in ({marks}) group by node_id", *group.members)
    )
    sign = -1 if group.policy == "soft-affinity" else 1
    return sorted(found, key=lambda host: sign * int(counts.get(host.id, 0)))
