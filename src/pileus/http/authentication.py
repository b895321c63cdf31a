"""From the tokens of a request to its caller."""

from typing import TYPE_CHECKING

from msgspec import structs

from pileus.core.access import AccessRule, permits
from pileus.core.context import Caller
from pileus.core.errors import Unauthorized
from pileus.core.op import PUBLIC
from pileus.db.connect import Tx
from pileus.http.proxies import certificate_thumbprint

if TYPE_CHECKING:
    from pileus.http.app import Authenticate, Call

SERVICE_ROLE = "service"


async def authenticate(call: "Call") -> None:
    """The token → the caller; public operations need none, a bad token is refused everywhere else."""
    assert call.match is not None
    token = call.headers.get("x-auth-token", "") or bearer(call)
    if token:
        caller = await call.app.transactions.read(lambda tx: caller_behind(call, tx, token))
        if caller is not None:
            if caller.access_rules is not None:
                check_access_rules(call, caller.access_rules)
            call.caller = caller
            return
    if any(op.rule != PUBLIC for op in call.match.operations):
        uri = call.base_url() + "/identity"
        raise Unauthorized(
            "The request you have made requires authentication.",
            headers={"www-authenticate": f'Keystone uri="{uri}"'},
        )


def caller_behind(call: "Call", tx: Tx, token: str) -> Caller | None:
    """The caller whose token this is; None when it, or the token of the service beside it, opens nothing.

    What a service does for a user may take longer than the user's token lives: with its own token beside it, one that
    expired lately is good still (Identity API reference, "Service tokens", `allow_expired`).
    """
    app, service_token = call.app, call.headers.get("x-service-token", "")
    if not service_token:
        return in_right_hands(call, tx, token, app.authenticate)
    service = in_right_hands(call, tx, service_token, app.authenticate)
    if service is None or SERVICE_ROLE not in service.roles:
        return None
    assert call.service is not None
    find = app.authenticate if call.service.ends_with_tokens else app.authenticate_late
    caller = in_right_hands(call, tx, token, find)
    return caller and structs.replace(caller, service_roles=service.roles)


def in_right_hands(call: "Call", tx: Tx, token: str, find: "Authenticate") -> Caller | None:
    """The caller, unless the token is bound to a certificate by which the client did not come (RFC 8705 §3)."""
    caller = find(tx, token)
    if caller is not None and caller.certificate and certificate_thumbprint(call) != caller.certificate:
        return None
    return caller


def bearer(call: "Call") -> str:
    """The token of a client of OAuth 2.0 (RFC 6750 §2.1)."""
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_access_rules(call: "Call", rules: tuple[AccessRule, ...]) -> None:
    """Refuse what a token restricted to some requests was not made for."""
    assert call.service is not None
    below_root = call.path.removeprefix(call.service.root) or "/"
    if not any(permits(rules, call.service.type, call.method, path) for path in (call.path, below_root)):
        raise Unauthorized("The access rules of this application credential do not permit the request.")
