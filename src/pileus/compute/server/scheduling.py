"""Where a server may live: what placement finds, filtered by what only compute knows; the claim itself.

Sources: Compute administrator guide, "Compute schedulers" (filters of the same names), and the reference
of flavor extra specs (`resources:`, `trait:`) and image properties (`trait:`).
"""

from collections.abc import Iterable, Mapping

from pileus.compute.host import Host, hosts
from pileus.compute.server.outside import NoValidHost, Place
from pileus.compute.server.rows import SERVERS, Server, Size
from pileus.compute.server.standing import aggregate_mismatch, group_of, in_soft_order
from pileus.core.nodes import Node
from pileus.db.connect import Tx
from pileus.placement import facade as placement


def resources_of(server: Server, size: Size | None = None) -> dict[str, int]:
    """What a server takes from a node, or would take with another size.

    Extra specs `resources:CLASS` replace what follows from the flavor.
    """
    size = size or server.flavor
    root = size.disk_gib if server.image_id is not None else 0
    disk = root + sum(wish.size_gib for wish in server.local_disks)
    found = {"VCPU": size.vcpus, "MEMORY_MB": size.ram_mib, "DISK_GB": disk}
    for key, value in size.extra_specs.items():
        if key.startswith("resources:") and value.isdigit():
            found[key.removeprefix("resources:")] = int(value)
    return {name: amount for name, amount in found.items() if amount}


def traits(specs: Iterable[Mapping[str, str]]) -> tuple[frozenset[str], frozenset[str]]:
    """(required, forbidden) of `trait:NAME` keys."""
    required: set[str] = set()
    forbidden: set[str] = set()
    for spec in specs:
        for key, value in spec.items():
            if key.startswith("trait:"):
                (required if value == "required" else forbidden if value == "forbidden" else set()).add(key[6:])
    return frozenset(required), frozenset(forbidden)


def wanted_of(server: Server, size: Size | None = None) -> placement.Wanted:
    """What placement is asked for."""
    required, forbidden = traits([(size or server.flavor).extra_specs, server.image_properties])
    return placement.Wanted(resources=resources_of(server, size), required=required, forbidden=forbidden)


class Filters:
    """Why a node may not take a server, as far as placement cannot know."""

    def __init__(self, tx: Tx, server: Server, now: float):
        self.tx, self.server, self.now = tx, server, now
        self.refused = dict(server.refused)
        self.group = group_of(tx, server.id)
        members = self.group.members if self.group else ()  # where they have a claim, built or not
        self.standing = [node_id for member in members for node_id in placement.allocations(tx, member)]

    def why_not(self, host: Host) -> str:
        """One reason, "" when the node may take it."""
        server, node = self.server, host.node
        if node.id in self.refused:
            return self.refused[node.id].removeprefix(f"{node.name}: ")
        if host.state == "down":
            return "it does not answer" if not host.alive else "an administrator forced it down"
        if node.disabled:
            return f"it is disabled: {node.disabled_reason or 'no reason given'}"
        if server.host and server.host != node.name:
            return f"host {server.host} is asked for"
        if server.zone and server.zone != host.zone:
            return f"availability zone {server.zone} is asked for"
        return self._hints(node) or self._group(node) or aggregate_mismatch(self.tx, node, server.flavor.extra_specs)

    def _hints(self, node: Node) -> str:
        for hint, wanted in (("same_host", True), ("different_host", False)):
            named = self.server.hints.get(hint) or []
            ids = [named] if isinstance(named, str) else list(named)
            if ids and (SERVERS.count(self.tx, id=ids, node_id=node.id) > 0) != wanted:
                return f"scheduler hint {hint}: {', '.join(ids)}"
        return ""

    def _group(self, node: Node) -> str:
        if self.group is None:
            return ""
        group = self.group
        there, anywhere = self.standing.count(node.id), len(self.standing)
        limit = int(group.rules.get("max_server_per_host", 1))
        if group.policy == "anti-affinity" and there >= limit:
            return f"server group {group.name} (anti-affinity) has {there} there"
        if group.policy == "affinity" and anywhere and not there:
            return f"server group {group.name} (affinity) is elsewhere"
        return ""


def choose(tx: Tx, server: Server, now: float) -> Place:
    """Claim the best node for a server; the claim that stands already is kept.  Raises NoValidHost."""
    if (group := server.hints.get("group")) is not None:
        tx.lock(f"server_group/{group}")
    filters = Filters(tx, server, now)
    there = {host.id: host for host in hosts(tx, now)}
    for node_id in placement.allocations(tx, server.id):
        if node_id in there and node_id not in filters.refused:
            return _place(there[node_id])
        placement.release(tx, server.id)
    wanted = wanted_of(server)
    reasons: dict[str, str] = {}
    found = [there[node_id] for node_id in placement.candidates(tx, wanted) if node_id in there]
    for host in in_soft_order(tx, filters.group, found):
        why = filters.why_not(host)
        if why:
            reasons[host.name] = why
            continue
        placement.claim(
            tx, consumer_id=server.id, provider_id=host.id, resources=wanted.resources,
            project_id=server.project_id, user_id=server.user_id, now=now,
        )  # fmt: skip
        return _place(host)
    raise NoValidHost(no_valid_host(tx, wanted, reasons))


def _place(host: Host) -> Place:
    return Place(node_id=host.id, name=host.name, zone=host.zone)


def no_valid_host(tx: Tx, wanted: placement.Wanted, reasons: Mapping[str, str]) -> str:
    """The fault that lists for each host what was missing."""
    lines = []
    for name, missing in sorted(placement.misfits(tx, wanted).items()):
        said = "; ".join([*missing, *([reasons[name]] if name in reasons else [])])
        lines.append(f"{name}: {said or 'no reason is known'}")
    if not lines:
        lines.append("no host is known: start a node, or see `pileus doctor`")
    return "No valid host was found. " + ". ".join(lines) + "."
