"""One assertion brought by many at once, to whatever controllers: one of them gets a token, on both engines."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pileus.core.config import Config, SamlProvider
from pileus.core.context import ANONYMOUS, Context
from pileus.core.errors import Unauthorized
from pileus.core.policy import Enforcer
from pileus.db.connect import Database, Tx
from pileus.identity import facade
from pileus.identity.federation.rows import (
    IDENTITY_PROVIDERS,
    MAPPINGS,
    PROTOCOLS,
    IdentityProvider,
    Mapping,
    Protocol,
)
from pileus.identity.federation.saml_login import USED_ASSERTIONS, log_in_once
from pileus.identity.federation.saml_peer import Peer
from pileus.identity.federation.saml_response import Asserted

RULE = {"remote": [{"type": "REMOTE_USER"}], "local": [{"user": {"name": "{0}"}}]}


class Settings:
    def __init__(self, folder: Path):
        self.config, self.keys_folder = Config(), folder / "keys"


def test_an_assertion_that_many_bring_at_once_lets_one_in(db: Database, tmp_path: Path) -> None:
    facade.ensure_keys(tmp_path / "keys")
    settings, now = Settings(tmp_path), time.time()
    trusted = SamlProvider(metadata="")
    peer = Peer(idp_id="idp", protocol_id="saml2", url="http://x", trusted=trusted, keys_folder=settings.keys_folder)

    def start(tx: Tx) -> None:
        facade.bootstrap(tx, admin_password="secret", public_url="http://cloud", region="RegionOne", now=1.0)
        IDENTITY_PROVIDERS.insert(tx, IdentityProvider(id="idp", domain_id="default", enabled=True))
        MAPPINGS.insert(tx, Mapping(id="m", rules=[RULE]))
        PROTOCOLS.insert(tx, Protocol(idp_id="idp", id="saml2", mapping_id="m"))

    db.transact(start)

    def bring(identifier: str, until: float, at: float) -> bool:
        said = {"REMOTE_USER": ["ann"]}
        asserted = Asserted(issuer="http://idp", id=identifier, until=until, session_until=None, attributes=said)

        def work(tx: Tx) -> bool:
            ctx = Context(tx, ANONYMOUS, now=at, enforcer=Enforcer(), settings=settings)
            return log_in_once(ctx, peer, asserted).status in (0, 201)

        try:
            return db.transact(work)
        except Unauthorized:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: bring("_a", now + 60, now), range(8))) == 1
    assert bring("_b", now + 600, now) and not bring("_b", now + 600, now)
    assert bring("_c", now + 600, now + 100), "what is no longer good by itself is forgotten"
    assert db.read(lambda tx: USED_ASSERTIONS.count(tx)) == 2
