"""What takes longer than a user's token lives: services finish it with a token of their own beside it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cloud import FakeCloud
from direct import Answer, named_or
from identity_cloud import PASSWORD, QUICK, IdentityCloud
from pileus.identity import facade
from pileus.identity.token import read, sign
from pileus.identity.tokens import tokens_of

DAY = 86_400.0


def expired(keys_folder: Path, token: str, seconds: float) -> str:
    """The same token, but so old that it expired so many seconds ago."""
    ring = tokens_of(keys_folder).ring
    payload = read(token, ring)
    assert payload is not None
    return sign(structs.replace(payload, expires_at=time.time() - seconds), ring, time.time())


class People:
    """Identity with eve, who has a token that expired a while ago, and glance, who is a service."""

    def __init__(self, folder: Path, window: float):
        self.cloud = IdentityCloud(folder, structs.replace(QUICK, allow_expired_window=window))
        self.eve = self.cloud.person("eve")
        self.cloud.person("glance", "service")
        self.fresh = self.cloud.token("eve", "secret", project="eve")
        self.glance = self.cloud.token("glance", "secret", project="glance")

    def old(self, seconds: float) -> str:
        return expired(self.cloud.settings.keys_folder, self.fresh, seconds)

    def ask(self, method: str, subject: str, *, token: str, query: str = "?allow_expired=1") -> Answer:
        return self.cloud(method, f"/auth/tokens{query}", token=token, headers={"x-subject-token": subject})


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    made = People(tmp_path, 2 * DAY)
    yield made
    made.cloud.close()


def test_a_service_may_ask_about_a_token_that_expired_within_the_window(people: People) -> None:
    late = people.old(DAY)
    answer = people.ask("GET", late, token=people.glance)
    assert answer.status == 200 and answer.json["token"]["user"]["id"] == people.eve["id"]
    assert answer.json["token"]["expires_at"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    assert people.ask("HEAD", late, token=people.cloud.admin).status == 200
    for query in ("", "?allow_expired=0", "?allow_expired=false"):
        assert people.ask("GET", late, token=people.glance, query=query).status == 404
        assert people.ask("HEAD", late, token=people.cloud.admin, query=query).status == 404
    assert people.ask("GET", late, token=people.glance, query="?allow_expired=perhaps").status == 400
    assert people.ask("GET", people.old(3 * DAY), token=people.glance).status == 404, "the window is over"
    assert not people.cloud.valid(late), "nobody gets in with it"
    assert people.cloud.log_in({"token": {"id": late}}).status == 404, "it is exchanged for no other"
    assert people.ask("DELETE", late, token=people.cloud.admin).status == 404


def test_only_those_who_may_ask_about_tokens_ask_about_expired_ones(people: People) -> None:
    people.cloud.person("mallory")
    mallory = people.cloud.token("mallory", "secret", project="mallory")
    assert people.ask("GET", people.old(DAY), token=mallory).status == 403
    assert people.ask("GET", people.old(DAY), token=people.old(DAY)).status == 401
    assert people.ask("GET", people.old(DAY), token=people.fresh).status == 200, "one's own, as upstream"


def test_the_window_is_the_operators(tmp_path: Path) -> None:
    people = People(tmp_path, 60.0)
    assert people.ask("GET", people.old(30), token=people.glance).status == 200
    assert people.ask("GET", people.old(90), token=people.glance).status == 404
    people.cloud.close()


def test_a_token_that_was_ended_before_it_expired_stays_ended_in_the_window(people: People) -> None:
    keys = people.cloud.settings.keys_folder
    soon = expired(keys, people.fresh, -0.3)
    assert people.ask("DELETE", soon, token=soon, query="").status == 204
    time.sleep(0.4)
    again = people.cloud.token("eve", "secret")
    assert people.ask("DELETE", again, token=again, query="").status == 204, "old records go with new ones"
    assert people.ask("GET", soon, token=people.glance).status == 404
    other = people.old(DAY)
    assert people.ask("GET", other, token=people.glance).status == 404, "the whole chain was revoked"
    people.fresh = people.cloud.token("eve", "secret", project="eve")
    another = people.old(DAY)
    assert people.ask("GET", another, token=people.glance).status == 200
    people.cloud("PATCH", f"/users/{people.eve['id']}", {"user": {"password": "new"}})
    assert people.ask("GET", another, token=people.glance).status == 404


def test_keys_are_kept_for_the_window(people: People) -> None:
    late, keys = people.old(DAY), people.cloud.settings.keys_folder
    for _ in range(2):
        people.cloud.db.transact(lambda tx: facade.rotate_keys(tx, keys, time.time(), window=2 * DAY))
    assert people.ask("GET", late, token=people.cloud.admin).status == 200


class WholeCloud:
    """All services, with eve's token that expired an hour ago and the token of a service."""

    def __init__(self, folder: Path):
        self.cloud, self.keys = FakeCloud(folder), folder / "keys"
        app = self.cloud.api.app
        app.authenticate = named_or(facade.Authenticator(self.keys))
        app.authenticate_late = named_or(facade.Authenticator(self.keys, 2 * DAY))
        rules = self.cloud.config.identity
        self.cloud.db.transact(
            lambda tx: facade.bootstrap(
                tx, admin_password=PASSWORD, public_url="http://cloud:5000", region="RegionOne", now=time.time(),
                rules=rules,
            )
        )  # fmt: skip
        self.fresh = self.log_in()
        self.late = expired(self.keys, self.fresh, 3600.0)

    def log_in(self) -> str:
        user = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        return self.cloud.call("POST", "/identity/v3/auth/tokens", body, caller="").headers["x-subject-token"]

    def with_service(self, method: str, path: str, service: str, **how: object) -> Answer:
        headers = {"x-service-token": service, **how.pop("headers", {})}  # type: ignore[dict-item]  # given by name, so that a test says only what matters to it
        return self.cloud.call(method, path, caller=self.late, headers=headers, **how)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[WholeCloud]:
    made = WholeCloud(tmp_path)
    yield made
    made.cloud.close()


def test_a_service_finishes_an_upload_with_the_users_expired_token(whole: WholeCloud) -> None:
    body = {"name": "x", "disk_format": "raw", "container_format": "bare"}
    image = whole.cloud.call("POST", "/image/v2/images", body, caller=whole.fresh).json["id"]
    path, octets = f"/image/v2/images/{image}/file", {"content-type": "application/octet-stream"}
    assert whole.cloud.call("PUT", path, caller=whole.late, raw=b"bytes", headers=octets).status == 401
    assert whole.with_service("PUT", path, "service", raw=b"bytes", headers=octets).status == 204
    assert whole.with_service("GET", path, "service").raw == b"bytes"


@pytest.mark.parametrize("path", ["/image/v2/images", "/compute/v2.1/servers", "/volume/v3/volumes",
                                  "/networking/v2.0/networks"])  # fmt: skip
def test_only_a_valid_token_of_a_service_helps_an_expired_one(whole: WholeCloud, path: str) -> None:
    assert whole.cloud.call("GET", path, caller=whole.late).status == 401
    assert whole.with_service("GET", path, "service").status == 200
    for wrong in ("admin", "demo", "nonsense", whole.late, whole.fresh):
        assert whole.with_service("GET", path, wrong).status == 401, "no service, or none that is known"
    headers = {"x-service-token": "nonsense"}
    assert whole.cloud.call("GET", path, caller=whole.fresh, headers=headers).status == 401, "a wrong token is refused"
    headers["x-service-token"] = "service"
    assert whole.cloud.call("GET", path, caller=whole.fresh, headers=headers).status == 200


def test_identity_itself_takes_no_expired_token(whole: WholeCloud) -> None:
    for path in ("/identity/v3/projects", "/identity/v3/auth/projects"):
        assert whole.with_service("GET", path, "service").status == 401


def test_rules_of_the_operator_may_ask_for_the_roles_of_the_service(whole: WholeCloud) -> None:
    whole.cloud.api.app.enforcer.override({"get_images": "service_roles:service"})
    assert whole.cloud.call("GET", "/image/v2/images", caller=whole.fresh).status == 403
    assert whole.with_service("GET", "/image/v2/images", "service").status == 200
