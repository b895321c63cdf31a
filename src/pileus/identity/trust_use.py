"""Taking up a trust: who may, and how many times.  Source: Identity API reference, "OS-TRUST"."""

from pileus.core.context import Context
from pileus.core.errors import Forbidden, Unauthorized
from pileus.db.connect import Tx
from pileus.identity.login import WRONG
from pileus.identity.rows import TRUSTS, Trust
from pileus.identity.standing import Refused, Standing, standing


def by_trust(tx: Tx, trust: Trust, user_id: str, now: float) -> Standing:
    """Where a trustee stands by a trust; raises Forbidden for others, and when the trust gives nothing any more."""
    if user_id != trust.trustee_user_id:
        raise Forbidden("User is not a trustee.")
    bearer = trust.trustor_user_id if trust.impersonation else trust.trustee_user_id
    try:
        return standing(tx, bearer, "project", trust.project_id, trust_id=trust.id, now=now)
    except Refused as why:
        raise Forbidden(f"The trust cannot be used: {why}.") from None


def is_limited(tx: Tx, trust_id: str) -> bool:
    """Whether each use of a trust is counted."""
    trust = TRUSTS.get(tx, id=trust_id)
    return trust is not None and trust.remaining_uses is not None


def spend_use(ctx: Context, trust_id: str, user_id: str) -> None:
    """Take one of the uses that a trust is limited to, if it would give a token now; raises when none is left."""
    trust = TRUSTS.get(ctx.tx, id=trust_id)
    if trust is None:
        raise Unauthorized(WRONG)
    by_trust(ctx.tx, trust, user_id, ctx.now)
    if trust.remaining_uses is None:
        return
    if trust.remaining_uses <= 0:
        raise Forbidden("The trust has no uses left.")
    left = {"remaining_uses": trust.remaining_uses - 1}
    if not TRUSTS.update(ctx.tx, left, id=trust.id, remaining_uses=trust.remaining_uses):
        raise Forbidden("The trust was used by another at the same time.")
