"""What the operator does on the controller itself: keys, recovery, audit, questions about policy."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from direct import Direct
from identity_cloud import PASSWORD, QUICK, IdentityCloud
from pileus.cli import keys
from pileus.cli.bootstrap import bootstrap
from pileus.cli.policy import policy
from pileus.core.config import Config
from pileus.identity import facade
from pileus.identity.keys import read_keys
from pileus.identity.rows import ROLES
from pileus.roles.controller import Settings, open_blob


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


def test_whatever_was_given_another_name_the_cloud_starts_again(cloud: IdentityCloud) -> None:
    kept = {}
    for plural in ("users", "projects", "roles"):
        key = plural[:-1]
        for one in cloud("GET", f"/{plural}").json[plural]:
            assert cloud("PATCH", f"/{plural}/{one['id']}", {key: {"name": f"other {one['name']}"}}).status == 200
            kept[one["id"]] = f"other {one['name']}"
            if key == "role" and one["name"] == "admin":  # rules ask for it by its name
                assert cloud("PATCH", f"/roles/{one['id']}", {key: {"name": "admin"}}).status == 403
                cloud.db.transact(lambda tx, i=one["id"]: ROLES.update(tx, {"name": "admin"}, id=i))
                kept[one["id"]] = "admin"
    cloud.bootstrap()
    for plural in ("users", "projects", "roles"):
        found = {one["id"]: one["name"] for one in cloud("GET", f"/{plural}").json[plural]}
        assert found == {i: name for i, name in kept.items() if i in found}


def test_an_administrator_of_another_name_is_recovered_as_admin(
    cloud: IdentityCloud, config: Config, capsys: Any
) -> None:
    for plural in ("users", "projects"):
        [one] = cloud("GET", f"/{plural}?name=admin").json[plural]
        assert cloud("PATCH", f"/{plural}/{one['id']}", {plural[:-1]: {"name": "root"}}).status == 200
    assert keys.recover_admin(config, []) == 0
    assert cloud.token("admin", capsys.readouterr().out.strip(), project="admin")


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


def listed(config: Config, path: str, key: str) -> list[dict[str, Any]]:
    """What identity of a bootstrapped folder lists."""
    direct = Direct([facade.SERVICE], config.folder / "db", Settings(config, open_blob(config)))
    found: list[dict[str, Any]] = direct("GET", f"/identity/v3/{path}", caller="admin").json[key]
    direct.db.close()
    return found


def logs_in(config: Config, password: str) -> bool:
    """Whether this is admin's password."""
    direct = Direct([facade.SERVICE], config.folder / "db", Settings(config, open_blob(config)))
    user = {"name": "admin", "domain": {"id": "default"}, "password": password}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    status = direct("POST", "/identity/v3/auth/tokens", body, caller="").status
    direct.db.close()
    return status == 201


def test_bootstrap_makes_a_cloud_that_can_be_administered_and_no_demo(tmp_path: Path, capsys: Any) -> None:
    config = Config(state=str(tmp_path / "state"), public_url="https://cloud.example", region="north", identity=QUICK)
    given = tmp_path / "password"
    assert bootstrap(config, []) == 0
    made = dict(line.split(" ", 1) for line in (config.folder / "passwords").read_text().splitlines())["admin"]
    assert logs_in(config, made) and made not in capsys.readouterr().out
    assert [u["name"] for u in listed(config, "users", "users")] == ["admin"]
    assert [p["name"] for p in listed(config, "projects", "projects")] == ["admin"]
    assert [r["id"] for r in listed(config, "regions", "regions")] == ["north"]
    endpoints = listed(config, "endpoints", "endpoints")
    assert endpoints and all(e["url"].startswith("https://cloud.example/") for e in endpoints)
    given.write_text("correct horse\n")
    for _ in range(2):
        assert bootstrap(config, ["--password-file", str(given)]) == 0
    assert logs_in(config, "correct horse") and not logs_in(config, made)
    assert "correct horse" in (config.folder / "openrc").read_text()
    assert (config.folder / "passwords").stat().st_mode & 0o777 == 0o600
    assert listed(config, "endpoints", "endpoints") == endpoints, "again is once"
    assert bootstrap(config, []) == 0 and logs_in(config, "correct horse"), "a password that there is stays"


def test_bootstrap_adds_a_region(tmp_path: Path) -> None:
    config = Config(state=str(tmp_path / "state"), public_url="https://north.example", region="north", identity=QUICK)
    assert bootstrap(config, []) == 0
    assert bootstrap(config, ["--region", "south", "--public-url", "https://south.example"]) == 0
    endpoints = listed(config, "endpoints", "endpoints")
    places = {(e["region"], e["url"].split("/")[2]) for e in endpoints}
    assert places == {("north", "north.example"), ("south", "south.example")}
    assert len(endpoints) == 2 * len([e for e in endpoints if e["region"] == "north"])


def test_bootstrap_leaves_tokens_alone_unless_the_password_changes(cloud: IdentityCloud) -> None:
    def give(password: str) -> None:
        rules = cloud.settings.config.identity
        cloud.db.transact(lambda tx: facade.set_administrators_password(tx, password, rules, time.time()))

    give(PASSWORD)
    assert cloud.valid(cloud.admin)
    give("another")
    assert not cloud.valid(cloud.admin) and cloud.token("admin", "another")


@pytest.mark.parametrize("content", ["", "\n", "one\ntwo\n"])
def test_a_password_file_holds_one_line(tmp_path: Path, capsys: Any, content: str) -> None:
    (tmp_path / "password").write_text(content)
    config = Config(state=str(tmp_path / "state"), identity=QUICK)
    assert bootstrap(config, ["--password-file", str(tmp_path / "password")]) == 1
    assert "expected one line" in capsys.readouterr().err and not (config.folder / "db").exists()
