"""Chains of delegation, at random: a child never has more rights than its parent, nor a longer life.

A chain begins with a user's own token.  Each step delegates by a trust, an application credential or an EC2 key, with
roles and expiry at random, as far as the API lets it; what it refuses is no step.
"""

import hashlib
import hmac
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from identity_cloud import IdentityCloud

ROLES = ("manager", "member", "reader", "painter", "baker")


class Link:
    """A token somewhere in a chain, and what it rests on."""

    def __init__(self, answer: Any, ends: float, delegation: str):
        self.token = answer.headers["x-subject-token"]
        body = answer.json["token"]
        self.user, self.project = body["user"]["id"], body["project"]["id"]
        self.roles = {role["name"] for role in body["roles"]}
        self.expires = datetime.fromisoformat(body["expires_at"]).timestamp()
        self.ends, self.delegation = ends, delegation


class Chains:
    """Users who know each other's passwords' owners, and the ways to delegate."""

    def __init__(self, cloud: IdentityCloud, chance: random.Random):
        self.cloud, self.chance = cloud, chance
        for name in ("painter", "baker"):
            cloud.make("/roles", "role", name=name)
        self.users = [cloud.person(f"user{i}", "manager") for i in range(4)]
        for user in self.users:
            for role in ("painter", "baker"):
                cloud.grant(f"/projects/{user['project_id']}", f"/users/{user['id']}", role)
        cloud.person("swift", "service")
        self.service = cloud.token("swift", "secret", project="swift")

    def begin(self) -> Link:
        user = self.chance.choice(self.users)
        given = {"password": {"user": {"id": user["id"], "password": "secret"}}}
        return Link(self.cloud.log_in(given, {"project": {"id": user["project_id"]}}), float("inf"), "")

    def ask(self) -> dict[str, Any]:
        """Roles and expiry, at random."""
        chosen = self.chance.sample(ROLES, self.chance.randint(1, 3))
        found: dict[str, Any] = {"roles": [{"name": name} for name in chosen]}
        if self.chance.random() < 0.4:
            at = datetime.fromtimestamp(time.time() + self.chance.randint(60, 9000), UTC)
            found["expires_at"] = at.strftime("%Y-%m-%dT%H:%M:%S.000000")
        return found

    def step(self, parent: Link) -> Link | None:
        return self.chance.choice((self.by_trust, self.by_credential, self.by_key))(parent)

    def by_trust(self, parent: Link) -> Link | None:
        trustee = self.chance.choice(self.users)
        wanted = {"trustor_user_id": parent.user, "trustee_user_id": trustee["id"], "project_id": parent.project,
                  "impersonation": self.chance.random() < 0.7, **self.ask()}  # fmt: skip
        if self.chance.random() < 0.7:
            wanted["allow_redelegation"] = True
        made = self.cloud("POST", "/OS-TRUST/trusts", {"trust": wanted}, token=parent.token)
        if made.status != 201:
            return None
        trust = made.json["trust"]
        given = {"password": {"user": {"id": trustee["id"], "password": "secret"}}}
        answer = self.cloud.log_in(given, {"OS-TRUST:trust": {"id": trust["id"]}})
        return Link(answer, ends(trust["expires_at"]), f"/OS-TRUST/trusts/{trust['id']}")

    def by_credential(self, parent: Link) -> Link | None:
        path = f"/users/{parent.user}/application_credentials"
        wanted = {"name": str(self.chance.random()), "unrestricted": self.chance.random() < 0.7, **self.ask()}
        made = self.cloud("POST", path, {"application_credential": wanted}, token=parent.token)
        if made.status != 201:
            return None
        credential = made.json["application_credential"]
        given = {"application_credential": {"id": credential["id"], "secret": credential["secret"]}}
        return Link(self.cloud.log_in(given), ends(credential["expires_at"]), f"{path}/{credential['id']}")

    def by_key(self, parent: Link) -> Link | None:
        path = f"/users/{parent.user}/credentials/OS-EC2"
        made = self.cloud("POST", path, {"tenant_id": parent.project}, token=parent.token)
        if made.status != 201:
            return None
        key = made.json["credential"]
        given = signed(key["access"], key["secret"])
        answer = self.cloud("POST", "/ec2tokens", {"credentials": given}, token=self.service)
        assert answer.status == 200, answer
        return Link(answer, parent.ends, f"{path}/{key['access']}")


def ends(text: str | None) -> float:
    return datetime.fromisoformat(text.removesuffix("Z") + "+00:00").timestamp() if text else float("inf")


def signed(access: str, secret: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    scope, date = f"{now:%Y%m%d}/r/ec2/aws4_request", now.strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    whole = f"GET\n/\n\nhost:h\nx-amz-date:{date}\n\nhost;x-amz-date\n{empty}"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(whole.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    head = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders=host;x-amz-date, Signature=x"
    return {"access": access, "host": "h", "verb": "GET", "path": "/", "params": {}, "body_hash": empty,
            "headers": {"X-Amz-Date": date, "Authorization": head},
            "signature": hmac.digest(key, text.encode(), "sha256").hex()}  # fmt: skip


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path_factory.mktemp("chains"))
    yield made
    made.close()


def walk(chains: Chains) -> int:
    """One random chain; how long it became."""
    chain = [chains.begin()]
    for _ in range(4):
        child = chains.step(chain[-1])
        if child is not None:
            parent = chain[-1]
            assert child.roles <= parent.roles, (child.roles, parent.roles)
            assert child.ends <= parent.ends + 1
            assert child.expires <= min(child.ends, time.time() + 3601)
            chain.append(child)
    if len(chain) > 2:
        end_and_look(chains, chain)
    return len(chain)


def end_and_look(chains: Chains, chain: list[Link]) -> None:
    """Once what the chain began with is taken back, nothing of it opens anything.

    A user's own key is the user: its tokens end with it, and what they delegated stays the user's.
    """
    first = chain[1]
    answer = chains.cloud("DELETE", first.delegation, token=chain[0].token)
    assert answer.status == 204, answer
    for link in chain[1:2] if "/OS-EC2/" in first.delegation else chain[1:]:
        assert not chains.cloud.valid(link.token), (first.delegation, link.delegation)


def run(cloud: IdentityCloud, seed: int, count: int) -> None:
    chains = Chains(cloud, random.Random(seed))
    lengths = [walk(chains) for _ in range(count)]
    assert sum(length > 2 for length in lengths) > count / 10, "chains that are none prove nothing"


def test_a_child_never_has_more_nor_lives_longer_than_its_parent(cloud: IdentityCloud) -> None:
    run(cloud, 1, 250)


@pytest.mark.slow
def test_ten_thousand_chains(tmp_path: Path) -> None:
    made = IdentityCloud(tmp_path)
    run(made, 2, 10_000)
    made.close()
