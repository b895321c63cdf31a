"""The addresses at which browsers and clients begin to log in by SAML.

Sources: Identity API reference, "OS-FEDERATION", "Web Single Sign On authentication" and "Request an unscoped
OS-FEDERATION token".
"""

from pileus.core.errors import BadRequest, NotFound, Unauthorized
from pileus.core.op import PUBLIC, unguarded
from pileus.http.app import Call
from pileus.identity.federation.saml_login import ask
from pileus.identity.service import IDENTITY

PROVIDER = "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"


@IDENTITY.op("GET", PROVIDER + "/auth", rule=PUBLIC, load=unguarded, streams=True)
async def begin(call: Call, idp_id: str, protocol_id: str) -> None:
    """Ask for an unscoped token by what an identity provider says."""
    await ask(call, idp_id, protocol_id, "")


@IDENTITY.op("POST", PROVIDER + "/auth", rule=PUBLIC, load=unguarded, streams=True)
async def begin_by_post(call: Call, idp_id: str, protocol_id: str) -> None:
    """Ask for an unscoped token by what an identity provider says."""
    await ask(call, idp_id, protocol_id, "")


@IDENTITY.op("GET", "/auth" + PROVIDER + "/websso", rule=PUBLIC, load=unguarded, streams=True)
async def begin_for_dashboard(call: Call, idp_id: str, protocol_id: str) -> None:
    """Log in at a dashboard by what an identity provider says."""
    await ask(call, idp_id, protocol_id, trusted_origin(call))


@IDENTITY.op("GET", "/auth/OS-FEDERATION/websso/{protocol_id}", rule=PUBLIC, load=unguarded, streams=True)
async def begin_without_provider(call: Call, protocol_id: str) -> None:
    """Log in at a dashboard by what the one identity provider says that there is."""
    known = list(call.app.settings.config.federation.saml.providers)
    if len(known) != 1:
        raise NotFound("There is not just one identity provider: name it in the path.")
    await ask(call, known[0], protocol_id, trusted_origin(call))


def trusted_origin(call: Call) -> str:
    """The dashboard that gets the token; raises Unauthorized for one that is not configured."""
    origin = call.query.one("origin")
    if not origin:
        raise BadRequest("origin: the dashboard that shall get the token.")
    if origin not in call.app.settings.config.federation.trusted_dashboards:
        raise Unauthorized(f"{origin[:200]} is not a trusted dashboard host.")
    return origin
