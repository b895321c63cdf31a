"""Aggregates of a provider.  Source: Placement API reference, "Resource provider aggregates"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.op import Reply
from pileus.core.schema import UUID, Schema
from pileus.placement.inventory import GENERATION, bump, check_generation
from pileus.placement.provider import canonical, load
from pileus.placement.rows import PROVIDERS, Provider
from pileus.placement.service import ADMIN_OR_SERVICE, PLACEMENT, answer

_LIST: Schema = {"type": "array", "items": UUID, "uniqueItems": True, "maxItems": 1024}
_WITH_GENERATION: Schema = {
    "type": "object",
    "properties": {"aggregates": _LIST, "resource_provider_generation": GENERATION},
    "required": ["aggregates", "resource_provider_generation"],
    "additionalProperties": False,
}


def _shown(ctx: Context, aggregates: list[str], generation: int) -> dict[str, Any]:
    body: dict[str, Any] = {"aggregates": aggregates}
    return body if ctx.version < (1, 19) else {**body, "resource_provider_generation": generation}


@PLACEMENT.op(
    "GET", "/resource_providers/{provider_id}/aggregates", rule="placement:resource_providers:aggregates:list",
    allow=ADMIN_OR_SERVICE, load=load, since="1.1",
)  # fmt: skip
def list_aggregates(ctx: Context, provider: Provider) -> Reply:
    """List resource provider aggregates."""
    return answer(ctx, _shown(ctx, provider.aggregates, provider.generation))


@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}/aggregates", rule="placement:resource_providers:aggregates:update",
    allow=ADMIN_OR_SERVICE, load=load, takes=_LIST, since="1.1", until="1.18",
)  # fmt: skip
def update_aggregates_unseen(ctx: Context, provider: Provider, body: list[str]) -> Reply:
    """Replace the aggregates of a resource provider, whatever they were."""
    return answer(ctx, _shown(ctx, _set(ctx, provider, body), provider.generation))


@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}/aggregates", rule="placement:resource_providers:aggregates:update",
    allow=ADMIN_OR_SERVICE, load=load, takes=_WITH_GENERATION, since="1.19",
)  # fmt: skip
def update_aggregates(ctx: Context, provider: Provider, body: dict[str, Any]) -> Reply:
    """Replace the aggregates of a resource provider."""
    check_generation(provider, body["resource_provider_generation"])
    return answer(ctx, _shown(ctx, _set(ctx, provider, body["aggregates"]), bump(ctx.tx, provider)))


def _set(ctx: Context, provider: Provider, aggregates: list[str]) -> list[str]:
    wanted = [canonical(one) for one in aggregates]
    if len(set(wanted)) != len(wanted):
        raise BadRequest("aggregates: an aggregate is named twice")
    PROVIDERS.update(ctx.tx, {"aggregates": wanted, "updated_at": ctx.now}, id=provider.id)
    return wanted
