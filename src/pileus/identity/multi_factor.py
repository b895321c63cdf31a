"""Log-ins that need several factors: the rules of a user, and receipts for those who have given some of them.

Source: Identity API reference, "Multi-Factor Authentication"; header Openstack-Auth-Receipt.
"""

from typing import Any

from pileus.core.clock import iso_micro_z
from pileus.core.context import Context
from pileus.core.errors import Unauthorized
from pileus.core.op import Reply
from pileus.identity.keys import KeyRing
from pileus.identity.login import WRONG
from pileus.identity.rows import PROJECTS, USERS, User
from pileus.identity.token import METHODS, Receipt, read_receipt, sign_receipt

HEADER = "openstack-auth-receipt"
_NOTHING = Receipt(user_id="", methods=(), issued_at=0.0, expires_at=0.0, user_generation=0)


def before(ctx: Context, ring: KeyRing, user_id: str) -> Receipt:
    """What the receipt of the request says was proven before; raises Unauthorized for one that is not good."""
    given = ctx.headers.get(HEADER, "")
    if not given:
        return _NOTHING
    receipt, user = read_receipt(given, ring), USERS.get(ctx.tx, id=user_id)
    if receipt is None or user is None or receipt.user_id != user.id or receipt.expires_at <= ctx.now:
        raise Unauthorized(WRONG)
    if receipt.user_generation != user.generation:
        raise Unauthorized(WRONG)
    return receipt


def lacking(user: User, methods: tuple[str, ...]) -> list[list[str]]:
    """The rules of a user none of which these methods satisfy; empty when they are enough."""
    if user.options.get("multi_factor_auth_enabled") is not True:
        return []
    rules = [rule for rule in user.options.get("multi_factor_auth_rules") or [] if set(rule) <= set(METHODS)]
    return [] if any(set(rule) <= set(methods) for rule in rules) else rules


def ask_for_more(
    ctx: Context, ring: KeyRing, user: User, methods: tuple[str, ...], rules: list[list[str]]
) -> Reply:  # fmt: skip
    """The answer to somebody who has proven a part: a receipt for it, and the rules of which one must be fulfilled."""
    receipt = Receipt(
        user_id=user.id, methods=methods, issued_at=ctx.now,
        expires_at=ctx.now + ctx.settings.config.identity.receipt_seconds, user_generation=user.generation,
    )  # fmt: skip
    domain = PROJECTS.get(ctx.tx, id=user.domain_id)
    if not user.enabled or domain is None or not domain.enabled:
        raise Unauthorized(WRONG)
    shown: dict[str, Any] = {
        "methods": list(methods), "issued_at": iso_micro_z(receipt.issued_at),
        "expires_at": iso_micro_z(receipt.expires_at),
        "user": {"id": user.id, "name": user.name, "domain": {"id": domain.id, "name": domain.name}},
    }  # fmt: skip
    body = {"receipt": shown, "required_auth_methods": rules}
    return Reply(body, status=401, headers={HEADER: sign_receipt(receipt, ring, ctx.now), "vary": "X-Auth-Token"})
