"""How limits of projects and of their domains go together: the model that the operator chose.

Sources: Identity API reference, "Get Enforcement Model"; Identity administration guide, "Unified limits".
"""

from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import Forbidden
from pileus.core.op import collection
from pileus.identity.registered_limit import REGISTERED_LIMITS
from pileus.identity.rows import PROJECTS
from pileus.identity.service import IDENTITY
from pileus.identity.unified_limit import LIMITS, Limit


class Model(Struct, frozen=True, kw_only=True):
    """One model, and how many levels of projects it allows, that of the domain included; None: any number."""

    name: str
    description: str
    levels: int | None = None


MODELS = {
    model.name: model
    for model in (
        Model(
            name="flat",
            description="Limit enforcement and validation does not take project hierarchy into consideration.",
        ),
        Model(
            name="strict_two_level",
            description="This model requires project hierarchy never exceeds a depth of two",
            levels=2,
        ),
    )
}


def model_of(ctx: Context) -> Model:
    """The model of this cloud."""
    return MODELS[ctx.settings.config.identity.enforcement_model]


@IDENTITY.op("GET", "/limits/model", rule="identity:get_limit_model", allow="@", load=collection)
def get_limit_model(ctx: Context) -> dict[str, Any]:
    """Show how limits are enforced."""
    model = model_of(ctx)
    shown = {"name": model.name, "description": model.description}
    return {"model": shown, "links": {"self": f"{ctx.url}/v3/limits/model"}}


def check_levels(ctx: Context, above: int) -> None:
    """Refuse a project below so many others, the domain included, where the model does not allow that."""
    levels = model_of(ctx).levels
    if levels is not None and above >= levels:
        raise Forbidden(f"The model of limits, {model_of(ctx).name}, allows no project below a project.")


def check_limit(ctx: Context, limit: Limit) -> None:
    """Refuse a limit that is above its domain's or, of a domain, below that of one of its projects.

    The limits of all projects together may be more than their domain's.
    """
    if model_of(ctx).levels is None:
        return
    if limit.domain_id is None:
        project = PROJECTS.get(ctx.tx, id=limit.project_id)
        assert project is not None and project.domain_id is not None, "a limit is of a project, or of a domain"
        pairs = [(limit.resource_limit, of_domain(ctx, limit.registered_limit_id, project.domain_id))]
    else:
        children = LIMITS.query(
            ctx.tx, "join projects on projects.id = limits.project_id where registered_limit_id = ?"
            " and projects.domain_id = ?", limit.registered_limit_id, limit.domain_id,
        )  # fmt: skip
        pairs = [(child.resource_limit, limit.resource_limit) for child in children]
    for lower, upper in pairs:
        if size(lower) > size(upper):
            raise Forbidden(
                f"Invalid resource limit: resource_limit: {limit.resource_limit} does not satisfy the model"
                f" strict_two_level: {lower} of a project is more than {upper} of its domain."
            )


def of_domain(ctx: Context, registered_limit_id: str, domain_id: str) -> int:
    """The limit of a domain: its own, else the registered default."""
    own = LIMITS.get(ctx.tx, registered_limit_id=registered_limit_id, domain_id=domain_id)
    if own is not None:
        return own.resource_limit
    default = REGISTERED_LIMITS.get(ctx.tx, id=registered_limit_id)
    assert default is not None, "the schema keeps registered limits that are in use"
    return default.default_limit


def size(limit: int) -> float:
    """A limit as a number that can be compared: -1 is no limit."""
    return float("inf") if limit == -1 else limit


class Above(Struct, frozen=True, kw_only=True):
    """What the projects of a domain may have together of a service's resources; -1: any number."""

    domain_id: str
    limits: dict[str, int]
    projects: tuple[str, ...]


def limits_above(ctx: Context, service_type: str, project_id: str) -> Above | None:
    """The limits of a project's domain, which all its projects share; None where the model has no such rule."""
    project = PROJECTS.get(ctx.tx, id=project_id)
    if model_of(ctx).levels is None or project is None or project.domain_id is None:
        return None
    limits = ctx.tx.all(
        "select r.resource_name, coalesce(l.resource_limit, r.default_limit) from registered_limits r"
        " join services s on s.id = r.service_id"
        " left join limits l on l.registered_limit_id = r.id and l.domain_id = ?"
        " where s.type = ? order by coalesce(r.region_id, '')",
        project.domain_id, service_type,
    )  # fmt: skip
    projects = ctx.tx.all("select id from projects where domain_id = ?", project.domain_id)
    return Above(
        domain_id=project.domain_id, limits={name: int(limit) for name, limit in limits},
        projects=tuple(str(row[0]) for row in projects),
    )  # fmt: skip
