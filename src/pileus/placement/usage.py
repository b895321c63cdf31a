"""Usages.  Source: Placement API reference, "Resource provider usages" and "Usages"."""

from collections.abc import Mapping
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.placement.provider import load
from pileus.placement.query import only
from pileus.placement.rows import Provider, usage
from pileus.placement.service import ADMIN_OR_SERVICE, PLACEMENT, READER, answer

TOTAL = PLACEMENT.rule("placement:usages", READER)


@PLACEMENT.op(
    "GET", "/resource_providers/{provider_id}/usages", rule="placement:resource_providers:usages",
    allow=ADMIN_OR_SERVICE, load=load,
)  # fmt: skip
def list_provider_usages(ctx: Context, provider: Provider) -> Reply:
    """List resource provider usages."""
    body = {"resource_provider_generation": provider.generation, "usages": usage(ctx.tx, provider.id)}
    return answer(ctx, body)


def _rows(ctx: Context, query: Query, *names: str) -> list[Any]:
    """(consumer type, class, amount, consumers) of the project that the query names."""
    only(query, ("project_id", "user_id", *names))
    project_id = query.one("project_id")
    if not project_id:
        raise BadRequest("Invalid query string parameters: 'project_id' is a required property")
    if not ctx.allows(TOTAL, {"project_id": project_id}):
        raise Forbidden(f"Policy doesn't allow {TOTAL} to be performed.")
    terms, params = "c.project_id = ?", [project_id]
    if "user_id" in query:
        terms, params = terms + " and c.user_id = ?", [*params, query.one("user_id") or ""]
    return ctx.tx.all(
        "select coalesce(c.type, 'unknown'), a.resource_class, cast(sum(a.used) as bigint), count(distinct c.id)"
        f" from consumers c join allocations a on a.consumer_id = c.id where {terms}"
        " group by coalesce(c.type, 'unknown'), a.resource_class order by 1, 2",
        *params,
    )


@PLACEMENT.op("GET", "/usages", rule=TOTAL, load=collection, since="1.9", until="1.37")
def list_usages(ctx: Context, query: Query) -> Reply:
    """List usages of a project, or of a user in it."""
    sums: dict[str, int] = {}
    for _, name, amount, _ in _rows(ctx, query):
        sums[name] = sums.get(name, 0) + amount
    return answer(ctx, {"usages": sums})


@PLACEMENT.op("GET", "/usages", rule=TOTAL, load=collection, since="1.38")
def list_usages_by_type(ctx: Context, query: Query) -> Reply:
    """List usages of a project by type of consumer, `consumer_type=all` for all in one."""
    rows = _rows(ctx, query, "consumer_type")
    wanted = query.one("consumer_type")
    found: dict[str, dict[str, int]] = {}
    for kind, name, amount, _ in rows:
        if wanted not in (None, "all", kind):
            continue
        sums = found.setdefault("all" if wanted == "all" else kind, {})
        sums[name] = sums.get(name, 0) + amount
    for kind, sums in found.items():
        sums["consumer_count"] = _count(ctx, query, kind)
    return answer(ctx, {"usages": found})


def _count(ctx: Context, query: Query, kind: str) -> int:
    """How many consumers of a type the project, or its user, has."""
    where: Mapping[str, str | None] = {
        "project_id": query.one("project_id"), "user_id": query.one("user_id"),
        "coalesce(type, 'unknown')": None if kind == "all" else kind,
    }  # fmt: skip
    given = {column: value for column, value in where.items() if value is not None}
    terms = " and ".join(f"{column} = ?" for column in given)
    row = ctx.tx.one(f"select count(*) from consumers where {terms}", *given.values())
    return int(row[0]) if row else 0
