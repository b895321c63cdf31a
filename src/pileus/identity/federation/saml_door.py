"""SAML as a way to log in; what comes back from the provider is taken in saml_login."""

from typing import Any

from pileus.http.app import Call
from pileus.identity.federation.doors import add_door
from pileus.identity.federation.saml_login import ask


class SamlDoor:
    """Log-ins by SAML 2.0."""

    def knows(self, settings: Any, idp_id: str) -> bool:
        return idp_id in settings.config.federation.saml.providers

    async def enter(self, call: Call, idp_id: str, protocol_id: str) -> None:
        await ask(call, idp_id, protocol_id, "")

    async def enter_by_browser(self, call: Call, idp_id: str, protocol_id: str, origin: str) -> None:
        await ask(call, idp_id, protocol_id, origin)


add_door(SamlDoor())
