"""What nodes shall hold, and what is looked at again when one was seen or went away."""

import json
from collections.abc import Mapping, Sequence

from pileus.core.nodes import ALIVE_SECONDS
from pileus.core.reconcile import poke
from pileus.db.connect import Tx


def expected(tx: Tx, node_id: str) -> dict[str, set[str]]:
    """Ids of all that a node may hold a trace of, by kind: segment, port, router, group; all else is nobody's."""
    return {
        "segment": _listing_node(tx, "networks", "nodes", node_id),
        "port": _ids(tx, "select id from ports where placed_on = ? and device_owner not like 'network:%'", node_id),
        "router": _ids(tx, "select id from routers where node_id = ?", node_id)
        | _listing_node(tx, "routers", "left_nodes", node_id),
        "group": _listing_node(tx, "security_groups", "nodes", node_id),
    }


def _ids(tx: Tx, sql: str, *params: object) -> set[str]:
    return {str(row[0]) for row in tx.all(sql, *params)}


def _listing_node(tx: Tx, table: str, column: str, node_id: str) -> set[str]:
    """Rows whose JSON list holds a node."""
    return _ids(tx, f"select id from {table} where replace({column}, ?, '') <> {column}", json.dumps(node_id))


_LIVES = {"segment": "network", "port": "port", "router": "router", "group": "security_group"}


def compare_node(tx: Tx, node_id: str, things: Mapping[str, Sequence[str]], now: float) -> dict[str, list[str]]:
    """Compare what a node has a trace of with what it shall have: the ids that nobody wants, by kind.

    What is wanted and missing there looks again, unless it is being worked on already.
    """
    wanted = expected(tx, node_id)
    for kind, ids in wanted.items():
        for resource_id in sorted(ids - set(things.get(kind, ()))):
            row = tx.one("select due from work where kind = ? and id = ?", _LIVES[kind], resource_id)
            if row is None or row[0] is None:
                poke(tx, _LIVES[kind], resource_id, now)
    nodes_lost(tx, now)
    strange = {kind: sorted(set(ids) - wanted.get(kind, set())) for kind, ids in things.items()}
    return {kind: ids for kind, ids in strange.items() if ids}


def node_seen(tx: Tx, node_id: str, now: float) -> None:
    """Everything that lives on a node looks again (its agent came back, or lost what it held)."""
    held = expected(tx, node_id)
    for kind, ids in held.items():
        for resource_id in sorted(ids):
            poke(tx, _LIVES[kind], resource_id, now)
    for port_id in sorted(_ids(tx, "select id from ports where node_id = ?", node_id) - held["port"]):
        poke(tx, "port", port_id, now)
    nodes_lost(tx, now)


def nodes_lost(tx: Tx, now: float) -> None:
    """What only one node does for all (routers, DHCP) looks for another when that node fell silent."""
    silent = [str(row[0]) for row in tx.all("select id from nodes where seen_at < ?", now - ALIVE_SECONDS)]
    for node_id in silent:
        for kind, table, column in (("router", "routers", "node_id"), ("network", "networks", "served_by")):
            for resource_id in _ids(tx, f"select id from {table} where {column} = ?", node_id):
                poke(tx, kind, resource_id, now)
