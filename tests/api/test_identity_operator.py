"""What the operator does on the controller itself: keys, recovery, audit, questions about policy."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from identity_cloud import PASSWORD, QUICK, IdentityCloud
from pileus.cli import keys
from pileus.cli.policy import policy
from pileus.core.config import Config
from pileus.identity.keys import read_keys


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path, structs.replace(QUICK, lockout_failures=2))
    yield made
    made.close()


@pytest.fixture
def config(cloud: IdentityCloud) -> Config:
    rules = cloud.folder / "rules"
    rules.mkdir()
    return structs.replace(
        cloud.settings.config, database=f"sqlite://{cloud.folder}/pileus.db", public_url="http://cloud:5000",
        policy=str(rules),
    )  # fmt: skip


def test_new_keys_read_what_the_old_ones_made(cloud: IdentityCloud, config: Config, capsys: Any) -> None:
    eve = cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    made = cloud.make("/credentials", "credential", token=token, user_id=eve["id"], type="totp", blob="seed")
    consumer = cloud.make("/OS-OAUTH1/consumers", "consumer")["id"]
    ring = cloud.settings.keys_folder / "credentials.json"
    before = cloud.db.read(lambda tx: tx.all("select sealed_blob from credentials"))
    assert keys.rotate_keys(config, []) == 0 and "2 secrets sealed again" in capsys.readouterr().out
    assert cloud.db.read(lambda tx: tx.all("select sealed_blob from credentials")) != before
    assert cloud("GET", f"/credentials/{made['id']}").json["credential"]["blob"] == "seed"
    assert cloud.valid(token) and cloud.valid(cloud.token("eve", "secret", project="eve"))
    newest = max(read_keys(ring), key=lambda key: key.since)
    sealed = cloud.db.read(lambda tx: tx.all("select sealed_secret from oauth_consumers where id = ?", consumer))
    assert sealed[0][0].startswith(newest.id)
    assert keys.audit(config, ["--verify"]) == 0
    with pytest.raises(SystemExit):
        keys.rotate_keys(config, ["nonsense"])


def test_keys_that_nothing_is_sealed_under_are_forgotten_after_a_while(cloud: IdentityCloud, config: Config) -> None:
    from pileus.identity import facade

    folder = cloud.settings.keys_folder
    for at in (1000.0, 2000.0, 9000.0):
        cloud.db.transact(lambda tx, now=at: facade.rotate_credential_key(tx, folder, now))
    assert cloud.db.read(lambda tx: facade.forget_keys(tx, folder, 9000.0)) == 2
    assert [key.since for key in read_keys(folder / "credentials.json")] == [2000.0, 9000.0]


def test_a_locked_out_administrator_gets_in_again(cloud: IdentityCloud, config: Config, capsys: Any) -> None:
    admin = cloud("GET", "/users?name=admin").json["users"][0]["id"]
    for place in ("/system", "/domains/default"):
        assert cloud("DELETE", f"{place}/users/{admin}/roles/{cloud.role_id('admin')}").status == 204
    options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["totp"]], "lock_password": True}
    assert cloud("PATCH", f"/users/{admin}", {"user": {"options": options, "enabled": False}}).status == 200
    for _ in range(3):
        cloud.by_password("admin", "wrong")
    assert cloud.by_password("admin", PASSWORD).status == 401
    assert keys.recover_admin(config, []) == 0
    password = capsys.readouterr().out.strip()
    assert cloud.by_password("admin", PASSWORD).status == 401
    assert not cloud.valid(cloud.admin)
    cloud.admin = cloud.token("admin", password, project="admin")
    assert cloud("GET", "/users").status == 200 and cloud.token("admin", password, system=True)
    keys.audit(config, [])
    assert "recover-admin" in capsys.readouterr().out and keys.audit(config, ["--verify"]) == 0


def test_the_audit_trail_is_pruned_by_age(cloud: IdentityCloud, config: Config, capsys: Any) -> None:
    for name in ("ann", "ben"):
        cloud.make("/users", "user", name=name)
    assert keys.audit(config, ["--prune", "1"]) == 0 and capsys.readouterr().out == ""
    assert keys.audit(config, ["--verify"]) == 0
    assert keys.audit(config, ["--prune", "0"]) == 0
    gone = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["position"] for record in gone] == list(range(1, len(gone) + 1)) and len(gone) >= 2
    assert "create" in {record["event"]["action"] for record in gone} and all(r["mac"] and r["link"] for r in gone)
    assert keys.audit(config, ["--verify"]) == 0 and keys.audit(config, []) == 0
    left = [json.loads(line)["action"] for line in capsys.readouterr().out.splitlines()]
    assert left[-1] == "audit-prune" and "create" not in left, "that it was pruned is told"
    cloud.db.transact(lambda tx: tx.run("update audit set event = replace(event, 'operator', 'nobody')"))
    assert keys.audit(config, ["--prune", "0"]) == 1
    assert "Nothing was removed" in capsys.readouterr().err and keys.audit(config, ["--verify"]) == 1


def test_the_rules_are_listed_with_what_they_guard(cloud: IdentityCloud, config: Config, capsys: Any) -> None:
    (config.policy_folder / "policy.yaml").write_text('"identity:list_users": "role:auditor"\n')
    assert policy(config, ["list", "identity:list_users"]) == 0
    said = capsys.readouterr().out
    assert "# GET /identity/v3/users: List users" in said and '"identity:list_users": "role:auditor"' in said
    assert "# default: " in said
    assert policy(config, ["list"]) == 0
    assert capsys.readouterr().out.count("\n\n") > 300, "every service's rules"


def test_a_decision_is_explained_from_the_database(cloud: IdentityCloud, config: Config, capsys: Any) -> None:
    eve = cloud.person("eve", "member")
    ask = ["explain", "eve", "identity:get_user"]
    assert policy(config, [*ask, f"/identity/v3/users/{eve['id']}", "--project", "eve"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("eve on eve, roles member, reader: yes") and "user_id:%(id)s" in said
    assert policy(config, [*ask, "id=somebody", "domain_id=default", "--project", "eve"]) == 1
    assert "id of the target is 'somebody'" in capsys.readouterr().out
    assert policy(config, ["explain", "admin", "identity:create_user", "--system"]) == 0
    assert policy(config, ["explain", "nobody", "identity:get_user"]) == 2
    assert policy(config, [*ask, "/identity/v3/regions/x", "--project", "eve"]) == 2
    assert policy(config, ["explain", "eve", "identity:get_user", "--project", "admin"]) == 2
    (config.policy_folder / "policy.yaml").write_text("nonsense: '@'\n")
    assert policy(config, ask) == 2 and "nonsense" in capsys.readouterr().out


def test_the_ids_of_access_keys_tell_nothing(cloud: IdentityCloud) -> None:
    eve = cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    body = {"tenant_id": eve["project_id"]}
    access = cloud("POST", f"/users/{eve['id']}/credentials/OS-EC2", body, token=token).json["credential"]["access"]
    [row] = cloud("GET", "/credentials", token=token).json["credentials"]
    assert row["id"] == hashlib.sha256(access.encode()).hexdigest()
