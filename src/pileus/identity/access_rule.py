"""Access rules of users, which restrict their application credentials to some requests.

Source: Identity API reference, "Application credentials", access rules.
"""

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import Schema
from pileus.db.connect import Tx
from pileus.identity.rows import ACCESS_RULES, APPLICATION_CREDENTIALS, AccessRule
from pileus.identity.service import ADMIN, IDENTITY, SYSTEM_READER, listed, of_user, seen

_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
ACCESS_RULE_LIST: Schema = {
    "type": ["array", "null"],
    "maxItems": 64,
    "items": {
        "type": "object",
        "properties": {
            "id": _ID,
            "service": _ID,
            "method": {"enum": ["POST", "GET", "HEAD", "PATCH", "PUT", "DELETE"]},
            "path": {"type": "string", "maxLength": 225, "pattern": "^/"},
        },
        "additionalProperties": False,
    },
}


def links(row: AccessRule, ctx: Context) -> dict[str, str]:
    """Where the rule stands."""
    return {"self": f"{ctx.url}/v3/users/{row.user_id}/access_rules/{row.id}"}


ACCESS_RULE = Fields(
    "access_rule",
    "access_rules",
    (
        Field("id", "rq"),
        Field("service", "rq"),
        Field("method", "rq"),
        Field("path", "rq"),
        Field("links", "r", get=links),
    ),
)
READ = f"{ADMIN} or {SYSTEM_READER} or rule:owner"


def ensure_rules(tx: Tx, user_id: str, given: list[dict[str, str]]) -> list[str]:
    """Ids of the rules in a body: those that the user has already, and those made for it."""
    ids = []
    for rule in given:
        if "id" in rule:
            found = ACCESS_RULES.get(tx, id=rule["id"], user_id=user_id)
            if found is None:
                raise BadRequest(f"access_rules: there is no rule {rule['id']}.")
        elif not {"service", "method", "path"} <= rule.keys():
            raise BadRequest("access_rules: a rule has service, method and path, or the id of one that exists.")
        else:
            wanted = {k: rule[k] for k in ("service", "method", "path")}
            found = ACCESS_RULES.get(tx, user_id=user_id, **wanted) or ACCESS_RULES.insert(
                tx, AccessRule(id=new_hex(), user_id=user_id, **wanted)
            )
        ids.append(found.id)
    return sorted(set(ids))


def load_rule(ctx: Context, user_id: str, access_rule_id: str) -> AccessRule:
    """A rule of the user in the path that the caller may see."""
    found = ACCESS_RULES.get(ctx.tx, id=access_rule_id, user_id=user_id)
    return seen(ctx, "identity:get_access_rule", "access rule", access_rule_id, found, {"user_id": user_id})


@IDENTITY.op(
    "GET", "/users/{user_id}/access_rules", rule="identity:list_access_rules", allow=READ,
    load=of_user, gives=Many(ACCESS_RULE),
)  # fmt: skip
def list_access_rules(ctx: Context, user_id: str, query: Query) -> Page:
    """List a user's access rules."""
    listing = Listing(ACCESS_RULES).equals("user_id", [user_id])
    return listed(ctx, ACCESS_RULE, listing, query, path=f"/users/{user_id}/access_rules")


@IDENTITY.op(
    "GET", "/users/{user_id}/access_rules/{access_rule_id}", rule="identity:get_access_rule", allow=READ,
    load=load_rule, gives=ACCESS_RULE,
)  # fmt: skip
def get_access_rule(rule: AccessRule) -> AccessRule:
    """Show an access rule."""
    return rule


@IDENTITY.op(
    "DELETE", "/users/{user_id}/access_rules/{access_rule_id}", rule="identity:delete_access_rule",
    allow=f"{ADMIN} or rule:owner", load=load_rule, ok=204,
)  # fmt: skip
def delete_access_rule(ctx: Context, rule: AccessRule) -> Reply:
    """Delete an access rule that no application credential uses."""
    users = APPLICATION_CREDENTIALS.all(ctx.tx, user_id=rule.user_id)
    if any(rule.id in (credential.access_rules or ()) for credential in users):
        raise Forbidden("The access rule is used by an application credential: delete that first.")
    ACCESS_RULES.delete(ctx.tx, id=rule.id)
    return Reply()
