"""Which providers could serve a request: the search over trees and what they share.  Pure.

Source: Placement API reference, "Allocation candidates"; Placement user guide, "Modeling with Provider Trees".
A group with a suffix is served by one provider.  The group without takes each class from any provider of the
tree, or from one outside that shares with the tree through an aggregate, and its traits may be spread over
the providers that it takes from.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set

import msgspec
from msgspec import Struct

from pileus.placement.fits import Stock, holds
from pileus.placement.request import Group, Request

SHARES = "MISC_SHARES_VIA_AGGREGATE"
TRIES = 100_000  # combinations looked at for one request; what lies beyond is not found


class Node(Struct, frozen=True, kw_only=True, gc=False):
    """A provider as the search sees it."""

    id: str
    root_id: str
    parent_id: str | None
    traits: Set[str]
    aggregates: Set[str]
    stocks: Mapping[str, Stock]


class Candidate(Struct, frozen=True):
    """One way to serve a request."""

    allocations: dict[str, dict[str, int]]  # provider → class → amount
    mappings: dict[str, list[str]]  # suffix of a group → its providers


class Share(Struct, frozen=True):
    """What one group takes of one provider."""

    suffix: str
    node: Node
    resources: Mapping[str, int]


def search(nodes: Sequence[Node], request: Request, *, nested: bool = True) -> list[Candidate]:
    """The candidates, in the order of the nodes; with `nested` off (before 1.29), of root providers only."""
    trees = {node.id: node.root_id for node in nodes}
    sharing = [node for node in nodes if SHARES in node.traits]
    found: list[Candidate] = []
    seen: set[bytes] = set()
    tries = itertools.count()
    for members in _forest(nodes, nested=nested):
        if len(found) >= request.limit:
            break
        root = members[0] if members[0].parent_id is None else next((n for n in members if n.parent_id is None), None)
        if root is None or (request.root and not request.root.fit(root.traits)):
            continue
        if len(members) == 1 and not sharing:
            found += _alone(root, request, trees)
        else:
            for candidate in _together([*members, *_sharers(members, sharing)], request, trees, tries):
                key = msgspec.json.encode(candidate)  # trees that share a provider may find the same
                if key not in seen:
                    seen.add(key)
                    found.append(candidate)
    return found[: request.limit]


def _forest(nodes: Sequence[Node], *, nested: bool) -> list[list[Node]]:
    """The providers of each tree."""
    trees: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if nested or node.parent_id is None:
            trees[node.root_id].append(node)
    return list(trees.values())


def _sharers(members: Sequence[Node], sharing: Sequence[Node]) -> list[Node]:
    """Providers of other trees that share with one of these through an aggregate."""
    near = frozenset().union(*(node.aggregates for node in members))
    return [node for node in sharing if node.root_id != members[0].root_id and near & node.aggregates]


def _belongs(node: Node, root: Node | None, group: Group, trees: Mapping[str, str]) -> bool:
    """Whether a provider is where the group wants it; a root's aggregates hold for its whole tree."""
    if group.in_tree is not None and trees.get(group.in_tree.lower()) != node.root_id:
        return False
    return not group.members or group.members.fit(node.aggregates | root.aggregates if root else node.aggregates)


def _alone(node: Node, request: Request, trees: Mapping[str, str]) -> list[Candidate]:
    """The one candidate of a tree of one provider, if it can serve every group; most trees are such."""
    if request.isolate and sum(1 for group in request.groups if group.suffix) > 1:
        return []
    for group in request.groups:
        if not holds(node.stocks, group.resources) or (group.traits and not group.traits.fit(node.traits)):
            return []
        if not _belongs(node, node, group, trees):
            return []
    if len(request.groups) == 1:
        return [Candidate({node.id: request.groups[0].resources}, {request.groups[0].suffix: [node.id]})]
    whole: dict[str, int] = {}
    for group in request.groups:
        for name, amount in group.resources.items():
            whole[name] = whole.get(name, 0) + amount
    if not holds(node.stocks, whole):
        return []
    return [Candidate({node.id: whole}, {group.suffix: [node.id] for group in request.groups})]


def _together(
    nodes: Sequence[Node], request: Request, trees: Mapping[str, str], tries: Iterator[int]
) -> Iterator[Candidate]:
    """All candidates that these providers can serve together."""
    slots = [slot for group in request.groups for slot in _slots(nodes, group, trees)]
    for shares in itertools.product(*slots) if all(slots) else ():
        if next(tries) >= TRIES:
            return
        if _apart(shares, request) and _spread(shares, request) and _near(shares, nodes, request):
            candidate = _candidate(shares)
            by_id = {node.id: node for node in nodes}
            if all(holds(by_id[node_id].stocks, taken) for node_id, taken in candidate.allocations.items()):
                yield candidate


def _slots(nodes: Sequence[Node], group: Group, trees: Mapping[str, str]) -> list[list[Share]]:
    """What has to be chosen for a group: one provider, or one for each class, and the choices for each."""
    roots = {node.id: node for node in nodes if node.parent_id is None}
    near = [node for node in nodes if _belongs(node, roots.get(node.root_id), group, trees)]
    if group.suffix:
        fit = [node for node in near if group.traits.fit(node.traits) and holds(node.stocks, group.resources)]
        return [[Share(group.suffix, node, group.resources) for node in fit]]
    return [
        [Share("", node, {name: amount}) for node in near if holds(node.stocks, {name: amount})]
        for name, amount in group.resources.items()
    ]


def _apart(shares: Sequence[Share], request: Request) -> bool:
    """Whether isolated groups have providers of their own."""
    own = [share.node.id for share in shares if share.suffix]
    return not request.isolate or len(set(own)) == len(own)


def _spread(shares: Sequence[Share], request: Request) -> bool:
    """Whether the providers of the group without suffix have its traits among them."""
    plain = next((group for group in request.groups if not group.suffix), None)
    if plain is None or not plain.traits:
        return True
    return plain.traits.fit(frozenset().union(*(share.node.traits for share in shares if not share.suffix)))


def _near(shares: Sequence[Share], nodes: Sequence[Node], request: Request) -> bool:
    """Whether, for each `same_subtree`, one of the providers stands above the others (or is all of them)."""
    parents = {node.id: node.parent_id for node in nodes}
    for suffixes in request.same_subtree:
        chosen = {share.node.id for share in shares if share.suffix in suffixes}
        lines = [_line(node_id, parents) for node_id in chosen]
        if not any(all(top in line for line in lines) for top in chosen):
            return False
    return True


def _line(node_id: str, parents: Mapping[str, str | None]) -> list[str]:
    """A provider and those above it."""
    line, at = [], parents.get(node_id, None)
    line.append(node_id)
    while at is not None:
        line.append(at)
        at = parents.get(at)
    return line


def _candidate(shares: Sequence[Share]) -> Candidate:
    """The shares, summed by provider."""
    allocations: dict[str, dict[str, int]] = {}
    mappings: dict[str, list[str]] = defaultdict(list)
    for share in shares:
        if share.node.id not in mappings[share.suffix]:
            mappings[share.suffix].append(share.node.id)
        for name, amount in share.resources.items():
            taken = allocations.setdefault(share.node.id, {})
            taken[name] = taken.get(name, 0) + amount
    return Candidate(allocations, dict(mappings))
