"""First log-ins by an identity provider, many at once: one user, one project, whatever the engine."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pileus.core.config import Config
from pileus.core.context import ANONYMOUS, Context
from pileus.core.policy import Enforcer
from pileus.db.connect import Database, Tx
from pileus.identity import facade
from pileus.identity.federation.federated_login import log_in
from pileus.identity.federation.rows import (
    FEDERATED_USERS,
    IDENTITY_PROVIDERS,
    MAPPINGS,
    PROTOCOLS,
    IdentityProvider,
    Mapping,
    Protocol,
)
from pileus.identity.rows import PROJECTS, USERS

RULE = {
    "remote": [{"type": "NAME"}],
    "local": [{"user": {"name": "{0}"}, "projects": [{"name": "shared", "roles": [{"name": "member"}]}]}],
}


class Settings:
    def __init__(self, folder: Path):
        self.config, self.keys_folder = Config(), folder / "keys"


@pytest.mark.parametrize("names", [["ann"] * 8, [f"user{n}" for n in range(8)]], ids=["one user", "eight users"])
def test_first_log_ins_at_once_make_each_user_and_project_once(db: Database, tmp_path: Path, names: list[str]) -> None:
    facade.ensure_keys(tmp_path / "keys")
    settings = Settings(tmp_path)

    def start(tx: Tx) -> None:
        facade.bootstrap(tx, admin_password="secret", public_url="http://cloud", region="RegionOne", now=1.0)
        IDENTITY_PROVIDERS.insert(tx, IdentityProvider(id="idp", domain_id="default", enabled=True))
        MAPPINGS.insert(tx, Mapping(id="m", rules=[RULE]))
        PROTOCOLS.insert(tx, Protocol(idp_id="idp", id="openid", mapping_id="m"))

    db.transact(start)

    def enter(name: str) -> Any:
        def work(tx: Tx) -> Any:
            ctx = Context(tx, ANONYMOUS, now=time.time(), enforcer=Enforcer(), settings=settings)
            return log_in(ctx, "idp", "openid", {"NAME": [name]}).body["token"]["user"]["id"]

        return db.transact(work)

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(enter, names))
    assert len(set(ids)) == len(set(names))
    assert db.read(lambda tx: FEDERATED_USERS.count(tx)) == len(set(names))
    assert db.read(lambda tx: PROJECTS.count(tx, name="shared")) == 1
    assert db.read(lambda tx: {u.name for u in USERS.all(tx, id=ids)}) == set(names)
