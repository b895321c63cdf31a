"""Rules of passwords, being locked out, one-time passwords, several factors."""

import time
from pathlib import Path
from typing import Any

import pyotp
import pytest
from msgspec import structs

from identity_cloud import PASSWORD, QUICK, IdentityCloud

DAY = 86_400.0
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class Clouds:
    """Clouds with rules of their own, closed afterwards."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.made: list[IdentityCloud] = []

    def __call__(self, **rules: Any) -> IdentityCloud:
        self.made.append(IdentityCloud(self.folder, structs.replace(QUICK, **rules)))
        return self.made[-1]


@pytest.fixture
def clouds(tmp_path: Path) -> Any:
    made = Clouds(tmp_path)
    yield made
    for cloud in made.made:
        cloud.close()


def change(cloud: IdentityCloud, user: dict[str, Any], old: str, new: str) -> int:
    body = {"user": {"original_password": old, "password": new}}
    return cloud("POST", f"/users/{user['id']}/password", body, token="").status


def test_recent_passwords_cannot_be_chosen_again(clouds: Clouds) -> None:
    cloud = clouds(unique_last=2)
    eve = cloud.person("eve", password="one")
    assert change(cloud, eve, "one", "two") == 204
    assert change(cloud, eve, "two", "two") == 400 and change(cloud, eve, "two", "one") == 400
    assert change(cloud, eve, "two", "three") == 204 and change(cloud, eve, "three", "one") == 204
    assert cloud("PATCH", f"/users/{eve['id']}", {"user": {"password": "three"}}).status == 200, "but by administrators"


def test_an_expired_password_only_serves_to_change_it(clouds: Clouds) -> None:
    cloud = clouds(expires_days=10)
    eve = cloud.person("eve")
    expires = cloud("GET", f"/users/{eve['id']}").json["user"]["password_expires_at"]
    assert expires == cloud.by_password("eve", "secret").json["token"]["user"]["password_expires_at"]
    cloud.db.transact(lambda tx: tx.run("update users set password_expires_at = ?", time.time() - 1))
    refused = cloud.by_password("eve", "secret")
    assert refused.status == 401 and "needs to be changed for user: " + eve["id"] in refused.json["error"]["message"]
    assert "changed" not in cloud.by_password("eve", "wrong").json["error"]["message"]
    assert change(cloud, eve, "secret", "better") == 204 and cloud.by_password("eve", "better").status == 201
    free = cloud.make("/users", "user", name="free", password="p", options={"ignore_password_expiry": True})
    assert free["password_expires_at"] is None


def test_a_password_that_an_administrator_set_must_be_changed(clouds: Clouds) -> None:
    cloud = clouds(change_upon_first_use=True)
    eve = cloud.person("eve")
    assert cloud.by_password("eve", "secret").status == 401
    assert change(cloud, eve, "secret", "own") == 204 and cloud.by_password("eve", "own").status == 201
    cloud("PATCH", f"/users/{eve['id']}", {"user": {"password": "reset"}})
    assert cloud.by_password("eve", "reset").status == 401
    ignored = {"ignore_change_password_upon_first_use": True}
    cloud("PATCH", f"/users/{eve['id']}", {"user": {"password": "reset", "options": ignored}})
    assert cloud.by_password("eve", "reset").status == 201


def test_a_password_has_a_minimum_age_and_a_pattern(clouds: Clouds) -> None:
    cloud = clouds(minimum_age_days=1, pattern=r".{4,}", pattern_meaning="four characters at least")
    eve = cloud.person("eve", password="first")
    assert change(cloud, eve, "first", "second") == 400
    cloud.db.transact(lambda tx: tx.run("update password_history set set_at = set_at - ?", 2 * DAY))
    assert change(cloud, eve, "first", "abc") == 400 and change(cloud, eve, "first", "second") == 204
    refused = cloud("POST", "/users", {"user": {"name": "x", "password": "abc"}})
    assert refused.status == 400 and "four characters at least" in refused.json["error"]["message"]


def test_wrong_passwords_lock_a_user_out_for_a_while(clouds: Clouds) -> None:
    cloud = clouds(lockout_failures=2, lockout_seconds=60)
    eve = cloud.person("eve")
    for _ in range(2):
        assert cloud.by_password("eve", "wrong").status == 401
    assert cloud.by_password("eve", "secret").status == 401 and change(cloud, eve, "secret", "new") == 401
    cloud.db.transact(lambda tx: tx.run("update log_in_failures set failed_at = failed_at - 61"))
    assert cloud.by_password("eve", "secret").status == 201
    for _ in range(3):
        assert cloud.by_password("eve", "wrong").status == 401
        assert cloud.by_password("eve", "secret").status == 201, "a right one clears the count"
    for _ in range(2):
        cloud.by_password("eve", "wrong")
    cloud("PATCH", f"/users/{eve['id']}", {"user": {"password": "reset"}})
    assert cloud.by_password("eve", "reset").status == 201, "a reset lets them in again"
    options = {"ignore_lockout_failure_attempts": True}
    cloud("PATCH", f"/users/{eve['id']}", {"user": {"options": options}})
    for _ in range(5):
        cloud.by_password("eve", "wrong")
    assert cloud.by_password("eve", "reset").status == 201


def test_being_locked_out_looks_like_being_unknown(clouds: Clouds) -> None:
    cloud = clouds(lockout_failures=1)
    cloud.person("eve")
    answers = [cloud.by_password(*who) for who in (("eve", "wrong"), ("eve", "wrong"), ("eve", "secret"), ("no", "x"))]
    assert {(a.status, a.raw) for a in answers} == {(401, answers[0].raw)}
    rows = cloud.db.read(lambda tx: tx.all("select user_id, failures from log_in_failures order by user_id"))
    assert [failures for _, failures in rows] == [3, 1], "each failure wrote one row; names that do not exist share one"


def test_who_was_not_seen_for_long_is_locked_out(clouds: Clouds) -> None:
    cloud = clouds(inactive_days=30)
    eve = cloud.person("eve")
    assert cloud.by_password("eve", "secret").status == 201
    cloud.db.transact(lambda tx: tx.run("update users_seen set seen_at = seen_at - ?", 31 * DAY))
    assert cloud.by_password("eve", "secret").status == 401
    cloud("PATCH", f"/users/{eve['id']}", {"user": {"enabled": True}})
    assert cloud.by_password("eve", "secret").status == 201


def totp(cloud: IdentityCloud, user: dict[str, Any], seed: str = SEED) -> None:
    cloud.make("/credentials", "credential", user_id=user["id"], type="totp", blob=seed)


def code(user: dict[str, Any], at: float = 0.0) -> dict[str, Any]:
    passcode = pyotp.TOTP(SEED).at(int(at or time.time()))
    return {"totp": {"user": {"id": user["id"], "passcode": passcode}}}


def test_a_one_time_password_is_good_once_and_now(clouds: Clouds) -> None:
    cloud = clouds(lockout_failures=50)
    eve = cloud.person("eve")
    assert cloud.log_in(code(eve)).status == 401, "there is no seed"
    totp(cloud, eve, "not base32!")
    totp(cloud, eve)
    now = time.time()
    assert cloud.log_in(code(eve, now - 90)).status == 401
    assert cloud.log_in({"totp": {"user": {"id": eve["id"], "passcode": "abcdef"}}}).status == 401
    first = cloud.log_in(code(eve, now))
    assert first.status == 201 and first.json["token"]["methods"] == ["totp"]
    assert cloud.log_in(code(eve, now)).status == 401, "it was used"
    assert cloud.log_in(code(eve, now - 30)).status == 401, "so are older ones"


def test_factors_are_given_together_or_one_after_the_other_with_a_receipt(clouds: Clouds) -> None:
    cloud = clouds()
    eve = cloud.person("eve")
    totp(cloud, eve)
    rules = [["password", "totp"]]
    options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": rules}
    cloud("PATCH", f"/users/{eve['id']}", {"user": {"options": options}})
    half = cloud.by_password("eve", "secret")
    assert half.status == 401 and half.json["required_auth_methods"] == rules
    assert half.json["receipt"]["methods"] == ["password"] and half.json["receipt"]["user"]["id"] == eve["id"]
    receipt = {"openstack-auth-receipt": half.headers["openstack-auth-receipt"]}
    assert not cloud.valid(receipt["openstack-auth-receipt"]), "a receipt is no token"
    body: Any = {"auth": {"identity": {"methods": ["totp"], **code(eve)}}}
    mallory = cloud.person("mallory")
    totp(cloud, mallory)
    other: Any = {"auth": {"identity": {"methods": ["totp"], **code(mallory)}}}
    assert cloud("POST", "/auth/tokens", other, token="", headers=receipt).status == 401
    assert (
        cloud("POST", "/auth/tokens", body, token="", headers={**receipt, "openstack-auth-receipt": "x"}).status == 401
    )
    cloud.db.transact(lambda tx: tx.run("delete from totp_steps"))
    whole = cloud("POST", "/auth/tokens", body, token="", headers=receipt)
    assert whole.status == 201 and set(whole.json["token"]["methods"]) == {"password", "totp"}
    token = whole.headers["x-subject-token"]
    assert cloud.log_in({"token": {"id": token}}).status == 201, "the token remembers both"
    cloud.db.transact(lambda tx: tx.run("delete from totp_steps"))
    password = {"password": {"user": {"id": eve["id"], "password": "secret"}}}
    assert cloud.log_in({**password, **code(eve)}).status == 201
    cloud("PATCH", f"/users/{eve['id']}", {"user": {"password": "new"}})
    cloud.db.transact(lambda tx: tx.run("delete from totp_steps"))
    assert cloud("POST", "/auth/tokens", body, token="", headers=receipt).status == 401, "the receipt ended"


def test_the_header_of_a_proxy_is_believed_only_where_it_is_configured(clouds: Clouds) -> None:
    body = {"auth": {"identity": {"methods": ["external"], "external": {}}}}
    cloud = clouds()
    assert cloud("POST", "/auth/tokens", body, token="", headers={"remote-user": "admin"}).status == 401
    careless = clouds(trusted_user_header="Remote-User")
    assert careless("POST", "/auth/tokens", body, token="", headers={"remote-user": "admin"}).status == 401
    elsewhere = clouds(trusted_user_header="Remote-User", trusted_proxies=("192.0.2.2", "2001:db8::/64"))
    assert elsewhere("POST", "/auth/tokens", body, token="", headers={"remote-user": "admin"}).status == 401
    trusting = clouds(trusted_user_header="Remote-User", trusted_proxies=("192.0.2.0/24",))
    assert trusting("POST", "/auth/tokens", body, token="", headers={"remote-user": "admin"}).status == 201
    for wrong in ("nobody", "", "admin@elsewhere"):
        assert trusting("POST", "/auth/tokens", body, token="", headers={"remote-user": wrong}).status == 401
    assert trusting.by_password("admin", PASSWORD).status == 201
