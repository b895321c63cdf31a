"""Allocation candidates.  Source: Placement API reference, "Allocation candidates"."""

from collections.abc import Iterable
from typing import Any

from pileus.core.context import Context
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.placement.candidates import Candidate, Node, search
from pileus.placement.names import check_classes, check_traits
from pileus.placement.request import Request, read
from pileus.placement.rows import names, stocks
from pileus.placement.service import ADMIN_OR_SERVICE, PLACEMENT, answer


def load_nodes(ctx: Context) -> list[Node]:
    """All providers with what they have, in the order in which they came."""
    there = stocks(ctx.tx)
    rows = ctx.tx.all(
        "select id, root_id, parent_id, traits, aggregates from resource_providers order by created_at, id"
    )
    return [
        Node(id=i, root_id=root, parent_id=parent, traits=names(traits), aggregates=names(aggregates),
             stocks=there.get(i, {}))
        for i, root, parent, traits, aggregates in rows
    ]  # fmt: skip


@PLACEMENT.op(
    "GET", "/allocation_candidates", rule="placement:allocation_candidates:list", allow=ADMIN_OR_SERVICE,
    load=collection, since="1.10",
)  # fmt: skip
def list_allocation_candidates(ctx: Context, query: Query) -> Reply:
    """List allocation candidates: claims that would fit, and what the providers in them have."""
    request = read(query, ctx.version)
    for group in request.groups:
        check_classes(ctx.tx, group.resources, "Invalid resource class in resources parameter: ")
        check_traits(ctx.tx, group.traits.names, "No such trait(s): ")
    check_traits(ctx.tx, request.root.names, "No such trait(s): ")
    nodes = load_nodes(ctx)
    found = search(nodes, request, nested=ctx.version >= (1, 29))
    body = {
        "allocation_requests": [_allocation_request(ctx, candidate) for candidate in found],
        "provider_summaries": _summaries(ctx, nodes, found, request),
    }
    return answer(ctx, body)


def _allocation_request(ctx: Context, candidate: Candidate) -> dict[str, Any]:
    """A candidate in the form that a claim takes at this version."""
    if ctx.version < (1, 12):
        return {
            "allocations": [
                {"resource_provider": {"uuid": provider}, "resources": taken}
                for provider, taken in candidate.allocations.items()
            ]
        }
    claims = {provider: {"resources": taken} for provider, taken in candidate.allocations.items()}
    return {"allocations": claims} if ctx.version < (1, 34) else {"allocations": claims, "mappings": candidate.mappings}


def _summaries(ctx: Context, nodes: list[Node], found: list[Candidate], request: Request) -> dict[str, Any]:
    """What the providers of the candidates have; from 1.29 on, all providers of their trees."""
    version = ctx.version
    named = {provider for candidate in found for provider in candidate.allocations}
    if version >= (1, 29):
        roots = {node.root_id for node in nodes if node.id in named}
        shown: Iterable[Node] = [node for node in nodes if node.root_id in roots]
    else:
        shown = [node for node in nodes if node.id in named]
    asked = None if version >= (1, 27) else {name for group in request.groups for name in group.resources}
    summaries: dict[str, Any] = {}
    for node in shown:
        summary: dict[str, Any] = {
            "resources": {
                name: {"capacity": stock.capacity, "used": stock.used}
                for name, stock in node.stocks.items()
                if asked is None or name in asked
            }
        }
        if version >= (1, 17):
            summary["traits"] = list(node.traits)
        if version >= (1, 29):
            summary["parent_provider_uuid"], summary["root_provider_uuid"] = node.parent_id, node.root_id
        summaries[node.id] = summary
    return summaries
