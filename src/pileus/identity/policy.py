"""Policies: texts that the operator's own services read, and what they are for (an endpoint, a service, a region).

Source: Identity API reference, "Policies" and "OS-ENDPOINT-POLICY".  Pileus itself does not read them.
"""

from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import Forbidden, NotFound
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import Schema
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.identity.endpoint import ENDPOINT, load_endpoint
from pileus.identity.region import REGIONS
from pileus.identity.rows import ENDPOINTS, SERVICES, Endpoint
from pileus.identity.service import (
    ADMIN,
    IDENTITY,
    READER,
    OpenFields,
    links_beside,
    listed,
    own_domain,
    seen,
    self_link,
)


class Policy(Struct, frozen=True, kw_only=True):
    """A text of some type."""

    id: str
    type: str
    blob: str
    extra: dict[str, Any] = {}


class Association(Struct, frozen=True, kw_only=True):
    """What a policy is for: one endpoint, a service in one region, or a service everywhere."""

    policy_id: str
    endpoint_id: str | None = None
    service_id: str | None = None
    region_id: str | None = None


POLICIES = Table(Policy, "policies")
ASSOCIATIONS = Table(Association, "policy_associations", ("policy_id", "endpoint_id", "service_id", "region_id"))
_TYPE: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
POLICY = OpenFields(
    "policy",
    "policies",
    (
        Field("id", "rq"),
        Field("type", "Cruq", _TYPE),
        Field("blob", "Cru", {"type": "string", "maxLength": 65_536}),
        Field("links", "r", get=self_link("policies")),
    ),
)


def load_policy(ctx: Context, policy_id: str, **_path: str) -> Policy:
    """A policy that the caller may see."""
    return seen(ctx, "identity:get_policy", "policy", policy_id, POLICIES.get(ctx.tx, id=policy_id))


@IDENTITY.op("GET", "/policies", rule="identity:list_policies", allow=READER, load=own_domain, gives=Many(POLICY))
def list_policies(ctx: Context, query: Query) -> Page:
    """List policies."""
    return listed(ctx, POLICY, Listing(POLICIES), query)


@IDENTITY.op("GET", "/policies/{policy_id}", rule="identity:get_policy", allow=READER, load=load_policy, gives=POLICY)
def get_policy(policy: Policy) -> Policy:
    """Show a policy."""
    return policy


@IDENTITY.op(
    "POST", "/policies", rule="identity:create_policy", allow=ADMIN, load=own_domain, takes=POLICY, gives=POLICY, ok=201
)
def create_policy(ctx: Context, body: dict[str, Any]) -> Policy:
    """Create a policy."""
    extra = POLICY.extra_of(body)
    return POLICIES.insert(ctx.tx, Policy(id=new_hex(), type=body["type"], blob=body["blob"], extra=extra))


@IDENTITY.op(
    "PATCH", "/policies/{policy_id}", rule="identity:update_policy", allow=ADMIN, load=load_policy, takes=POLICY,
    gives=POLICY,
)  # fmt: skip
def update_policy(ctx: Context, policy: Policy, body: dict[str, Any]) -> Policy:
    """Update a policy."""
    changes = POLICY.changes(policy, body)
    POLICIES.update(ctx.tx, changes, id=policy.id)
    return structs.replace(policy, **changes)


@IDENTITY.op(
    "DELETE", "/policies/{policy_id}", rule="identity:delete_policy", allow=ADMIN, load=load_policy, ok=204
)  # fmt: skip
def delete_policy(ctx: Context, policy: Policy) -> Reply:
    """Delete a policy with its associations."""
    POLICIES.delete(ctx.tx, id=policy.id)
    return Reply()


def load_association(ctx: Context, rule: str, path: dict[str, str]) -> Association:
    """What a path associates; NotFound for what does not exist, to those who may use the rule."""
    if not ctx.allows(rule):
        raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
    for name, table in (("policy_id", POLICIES), ("endpoint_id", ENDPOINTS), ("service_id", SERVICES),
                        ("region_id", REGIONS)):  # fmt: skip
        if name in path and table.count(ctx.tx, id=path[name]) == 0:
            raise NotFound(f"Could not find {name.removesuffix('_id')}: {path[name]}.")
    return Association(**path)


def associate(ctx: Context, association: Association) -> Reply:
    """Say that a policy is for this; what was for it before is not any more."""
    ASSOCIATIONS.delete(ctx.tx, **place(association))
    ASSOCIATIONS.insert(ctx.tx, association)
    return Reply()


def check_association(ctx: Context, association: Association) -> Reply:
    """Check whether a policy is for this."""
    if ASSOCIATIONS.get(ctx.tx, policy_id=association.policy_id, **place(association)) is None:
        raise NotFound("Could not find policy association.")
    return Reply()


def dissociate(ctx: Context, association: Association) -> Reply:
    """Say that a policy is for this no longer."""
    if not ASSOCIATIONS.delete(ctx.tx, policy_id=association.policy_id, **place(association)):
        raise NotFound("Could not find policy association.")
    return Reply()


def place(association: Association) -> dict[str, Any]:
    """What the policy is for, as columns."""
    return {k: v for k, v in structs.asdict(association).items() if k != "policy_id"}


def register(path: str, suffix: str) -> None:
    """The three operations of one kind of association."""

    def loader(rule: str) -> Any:
        return lambda ctx, **names: load_association(ctx, rule, names)

    whole = f"/policies/{{policy_id}}/OS-ENDPOINT-POLICY{path}"
    for method, verb, allow, run in (("PUT", "create", ADMIN, associate), ("GET", "check", READER, check_association),
                                     ("DELETE", "delete", ADMIN, dissociate)):  # fmt: skip
        rule = f"identity:{verb}_policy_association_for_{suffix}"
        IDENTITY.op(method, whole, rule=rule, allow=allow, load=loader(rule), ok=204)(run)


register("/endpoints/{endpoint_id}", "endpoint")
register("/services/{service_id}", "service")
register("/services/{service_id}/regions/{region_id}", "region_and_service")


@IDENTITY.op(
    "GET", "/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints", rule="identity:list_endpoints_for_policy",
    allow=READER, load=load_policy, gives=Many(ENDPOINT),
)  # fmt: skip
def list_endpoints_for_policy(ctx: Context, policy: Policy) -> Page:
    """List the endpoints that a policy is for."""
    found = [e for e in ENDPOINTS.all(ctx.tx, order="endpoints.id") if policy_of(ctx.tx, e) == policy.id]
    return Page(found, links_beside(ctx, f"/policies/{policy.id}/OS-ENDPOINT-POLICY/endpoints"))


def policy_of(tx: Tx, endpoint: Endpoint) -> str | None:
    """The id of an endpoint's policy: its own, that of its service in its region or those above, of its service."""
    found = ASSOCIATIONS.get(tx, endpoint_id=endpoint.id)
    region_id = endpoint.region_id
    while found is None and region_id is not None:
        found = ASSOCIATIONS.get(tx, service_id=endpoint.service_id, region_id=region_id)
        region = REGIONS.get(tx, id=region_id)
        region_id = region.parent_region_id if region else None
    if found is None:
        found = ASSOCIATIONS.get(tx, service_id=endpoint.service_id, region_id=None)
    return found.policy_id if found else None


@IDENTITY.op(
    "GET", "/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy", rule="identity:get_policy_for_endpoint", allow=READER,
    load=load_endpoint, gives=POLICY,
)  # fmt: skip
def get_policy_for_endpoint(ctx: Context, endpoint: Endpoint) -> Policy:
    """Show the policy of an endpoint."""
    found = POLICIES.get(ctx.tx, id=policy_of(ctx.tx, endpoint) or "")
    if found is None:
        raise NotFound("No policy is associated with endpoint.")
    return found
