"""Whether the configured providers of OpenID Connect can be used, for `pileus doctor`."""

import asyncio

from pileus.core.config import Config, OidcProvider
from pileus.core.errors import ServiceUnavailable
from pileus.identity.federation.fetch import Unreachable, check_address
from pileus.identity.federation.oidc_provider import Provider

# Which the provider must have, and which are used where it has them.
NEEDED = ("jwks_uri", "authorization_endpoint", "token_endpoint")
USED = ("userinfo_endpoint", "introspection_endpoint")


def check_providers(config: Config) -> list[tuple[str, str, str]]:
    """(level, what was found, what to do) for each provider: ok or warning."""
    found = []
    for idp_id, settings in config.federation.oidc.items():
        try:
            asyncio.run(check(settings))
            found.append(("ok", f"the identity provider {idp_id} answers", ""))
        except (Unreachable, ServiceUnavailable, OSError) as why:
            cure = f"see [federation.oidc.{idp_id}] in the settings (docs/federation.md)"
            found.append(("warning", f"nobody can log in by the identity provider {idp_id}: {why}", cure))
    return found


async def check(settings: OidcProvider) -> None:
    """Read all that a log-in needs; raises Unreachable."""
    provider = Provider(settings)
    document = await provider.document()
    for name in (*NEEDED, *USED):
        if name in document or name in NEEDED:
            check_address(await provider.endpoint(name), settings.issuer, settings.hosts)
    await provider.key_set(None)
    if settings.client_secret_file:
        provider.secret()
