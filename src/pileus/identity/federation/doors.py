"""Where users of identity providers log in: the addresses of OS-FEDERATION, whatever the provider speaks.

Source: Identity API reference, "OS-FEDERATION", "Request an unscoped OS-FEDERATION token" and "Web Single Sign On
authentication".  A way to log in (OpenID Connect, SAML) is a Door; `add_door` puts it here.
"""

import html
from typing import Any, Protocol

import msgspec

from pileus.core.context import Caller, Context
from pileus.core.errors import BadRequest, NotFound, Unauthorized
from pileus.core.op import PUBLIC, Reply, unguarded
from pileus.http.app import Call
from pileus.identity.federation.federated_login import find_provider
from pileus.identity.federation.rows import IDENTITY_PROVIDERS, PROTOCOLS
from pileus.identity.service import IDENTITY

PROVIDER = "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"


class Door(Protocol):
    """One way to log in by what identity providers say."""

    def knows(self, settings: Any, idp_id: str) -> bool:
        """Whether this provider is configured to be spoken to in this way."""

    async def enter(self, call: Call, idp_id: str, protocol_id: str) -> None:
        """Answer a client that asks for a token: with the token, or with what it must do for one."""

    async def enter_by_browser(self, call: Call, idp_id: str, protocol_id: str, origin: str) -> None:
        """Send a browser to the provider; `origin` is the dashboard, a trusted one, that gets the token."""


_DOORS: list[Door] = []


def add_door(door: Door) -> None:
    """Let users in by this way too."""
    _DOORS.append(door)


async def door_of(call: Call, idp_id: str, protocol_id: str) -> Door:
    """The way in of a provider; raises NotFound where there is none, Forbidden for a disabled provider."""
    await call.read(lambda ctx: find_provider(ctx, idp_id, protocol_id))
    for door in _DOORS:
        if door.knows(call.app.settings, idp_id):
            return door
    raise NotFound(f"The configuration does not say how to speak to the identity provider {idp_id[:64]}.")


@IDENTITY.op("POST", PROVIDER + "/auth", rule=PUBLIC, load=unguarded, streams=True)
@IDENTITY.op("GET", PROVIDER + "/auth", rule=PUBLIC, load=unguarded, streams=True)
async def get_federated_token(call: Call, idp_id: str, protocol_id: str) -> None:
    """Ask for an unscoped token by what an identity provider says."""
    await (await door_of(call, idp_id, protocol_id)).enter(call, idp_id, protocol_id)


@IDENTITY.op("POST", "/auth" + PROVIDER + "/websso", rule=PUBLIC, load=unguarded, streams=True)
@IDENTITY.op("GET", "/auth" + PROVIDER + "/websso", rule=PUBLIC, load=unguarded, streams=True)
async def begin_websso_at_provider(call: Call, idp_id: str, protocol_id: str) -> None:
    """Log in at a dashboard by what an identity provider says."""
    origin = trusted_origin(call)
    await (await door_of(call, idp_id, protocol_id)).enter_by_browser(call, idp_id, protocol_id, origin)


@IDENTITY.op("POST", "/auth/OS-FEDERATION/websso/{protocol_id}", rule=PUBLIC, load=unguarded, streams=True)
@IDENTITY.op("GET", "/auth/OS-FEDERATION/websso/{protocol_id}", rule=PUBLIC, load=unguarded, streams=True)
async def begin_websso(call: Call, protocol_id: str) -> None:
    """Log in at a dashboard by what the one identity provider says that has this protocol."""
    origin = trusted_origin(call)
    idp_id = await call.read(lambda ctx: only_provider(ctx, protocol_id))
    await (await door_of(call, idp_id, protocol_id)).enter_by_browser(call, idp_id, protocol_id, origin)


def only_provider(ctx: Context, protocol_id: str) -> str:
    """The enabled provider that has a protocol; raises NotFound unless it is one."""
    having = [row.idp_id for row in PROTOCOLS.all(ctx.tx, id=protocol_id)]
    enabled = [row.id for row in IDENTITY_PROVIDERS.all(ctx.tx, id=having, enabled=True)]
    if len(enabled) != 1:
        raise NotFound(f"{len(enabled)} identity providers have the protocol {protocol_id[:64]}: name one in the path.")
    return enabled[0]


def trusted_origin(call: Call) -> str:
    """The dashboard that gets the token; raises Unauthorized for one that is not configured."""
    origin = call.query.one("origin")
    if not origin:
        raise BadRequest("origin: the dashboard that shall get the token.")
    if origin not in call.app.settings.config.federation.trusted_dashboards:
        raise Unauthorized(f"{origin[:200]} is not a trusted dashboard host.")
    return origin


async def answer_token(call: Call, reply: Reply, origin: str = "", headers: dict[str, str] | None = None) -> None:
    """Give the token to the client, or by its browser to a dashboard; the audit trail says who they are."""
    user = reply.body["token"]["user"]
    call.caller = Caller(user_id=user["id"], user_name=user["name"], user_domain_id=user["domain"]["id"])
    whole = {**reply.headers, "cache-control": "no-store", **(headers or {})}
    if not origin:
        await call.answer(201, msgspec.json.encode(reply.body), {**whole, "content-type": "application/json"})
        return
    page = token_form(origin, whole.pop("x-subject-token"))
    await call.answer(
        200, page, {**whole, "content-type": "text/html; charset=utf-8", "referrer-policy": "no-referrer"}
    )


def token_form(origin: str, token: str) -> bytes:
    """A page that posts a token to a dashboard, under the name that dashboards expect."""
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8"><title>Logging in</title></head>'
        '<body onload="document.forms.sso.submit()">'
        f'<form id="sso" name="sso" action="{html.escape(origin)}" method="post">'
        f'<input type="hidden" name="token" id="token" value="{html.escape(token)}">'
        '<noscript><input type="submit" value="Go on"></noscript></form></body></html>'
    ).encode()
