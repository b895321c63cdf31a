"""OpenID Connect as a way to log in: bearer tokens of clients, and browsers that come back from the provider.

Source: Identity API reference, "OS-FEDERATION".
"""

import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from pileus.core.config import OidcProvider
from pileus.core.errors import NotFound, ServiceUnavailable, Unauthorized
from pileus.core.op import PUBLIC, Reply, unguarded
from pileus.http.app import Call
from pileus.http.authentication import bearer
from pileus.identity.federation.doors import PROVIDER, add_door, answer_token
from pileus.identity.federation.federated_login import find_provider, log_in
from pileus.identity.federation.fetch import Unreachable
from pileus.identity.federation.oidc_login import (
    ask_browser,
    by_answer,
    by_token,
    cookie,
    end_cookie,
    kept,
    redirect_uri,
)
from pileus.identity.federation.oidc_provider import Untrue
from pileus.identity.federation.rules import Attributes
from pileus.identity.login import WRONG
from pileus.identity.service import IDENTITY

log = logging.getLogger("pileus.identity")
T = TypeVar("T")


def settings_of(settings: Any, idp_id: str) -> OidcProvider:
    """How to speak to an identity provider by OpenID Connect; raises NotFound."""
    found: OidcProvider | None = settings.config.federation.oidc.get(idp_id)
    if found is None:
        raise NotFound(f"The identity provider {idp_id[:64]} is not configured for OpenID Connect.")
    return found


class OidcDoor:
    """Log-ins by OpenID Connect."""

    def knows(self, settings: Any, idp_id: str) -> bool:
        return idp_id in settings.config.federation.oidc

    async def enter(self, call: Call, idp_id: str, protocol_id: str) -> None:
        token = bearer(call)
        if not token:
            raise Unauthorized(WRONG, headers={"www-authenticate": "Bearer"}, reason="there is no bearer token")
        found = await believed(idp_id, by_token(settings_of(call.app.settings, idp_id), token))
        await answer_token(call, await token_for(call, idp_id, protocol_id, found))

    async def enter_by_browser(self, call: Call, idp_id: str, protocol_id: str, origin: str) -> None:
        settings, here = settings_of(call.app.settings, idp_id), redirect_uri(call.app.settings, idp_id, protocol_id)
        location, asked = await believed(idp_id, ask_browser(settings, here, origin, call.app.clock()))
        kept_by_browser = cookie(asked, call.app.settings.keys_folder)
        headers = {"location": location, "cache-control": "no-store", "set-cookie": kept_by_browser}
        await call.answer(302, b"", headers)


add_door(OidcDoor())


@IDENTITY.op("GET", PROVIDER + "/oidc", rule=PUBLIC, load=unguarded, streams=True)
async def finish_oidc_log_in(call: Call, idp_id: str, protocol_id: str) -> None:
    """Take a browser that comes back from the provider, and let it post the token to the dashboard."""
    settings, here = settings_of(call.app.settings, idp_id), redirect_uri(call.app.settings, idp_id, protocol_id)
    await call.read(lambda ctx: find_provider(ctx, idp_id, protocol_id))
    keys = call.app.settings.keys_folder
    try:
        asked = kept(call.headers.get("cookie", ""), call.query.one("state") or "", keys, here, call.app.clock())
    except Untrue as why:
        raise refused(idp_id, why) from None
    found = await believed(idp_id, by_answer(settings, asked, call.query))
    reply = await token_for(call, idp_id, protocol_id, found)
    await answer_token(call, reply, asked.origin, {"set-cookie": end_cookie(asked)})


async def token_for(call: Call, idp_id: str, protocol_id: str, attributes: Attributes) -> Reply:
    """The token of whom the attributes mean."""
    reply: Reply = await call.write(lambda ctx: log_in(ctx, idp_id, protocol_id, attributes))
    return reply


async def believed(idp_id: str, work: Awaitable[T]) -> T:
    """What the provider says; raises Unauthorized where it is not believed, ServiceUnavailable without an answer."""
    try:
        return await work
    except Untrue as why:
        raise refused(idp_id, why) from None
    except Unreachable as why:
        log.warning("identity provider %s: %s", idp_id, why)
        raise ServiceUnavailable("The identity provider does not answer as it should.", reason=str(why)) from None


def refused(idp_id: str, why: Untrue) -> Unauthorized:
    """A refusal that tells the client nothing."""
    log.info("log-in by identity provider %s refused: %s", idp_id, why)
    return Unauthorized(WRONG, reason=str(why))
