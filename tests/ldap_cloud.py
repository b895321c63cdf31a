"""A cloud with a domain whose users are in an LDAP directory."""

import time
from pathlib import Path
from typing import Any

from direct import Answer
from identity_cloud import IdentityCloud
from pileus.core.reconcile import Worker
from pileus.identity import facade
from slapd import PASSWORD, Slapd

EVERY = 60.0


class LdapCloud(IdentityCloud):
    """A cloud with domain "corp", whose users are in a directory, and a project in it."""

    def __init__(self, folder: Path, slapd: Slapd, **options: Any):
        super().__init__(folder / "cloud")
        self.slapd, self.ahead = slapd, 0.0
        self.corp: str = self.make("/domains", "domain", name="corp")["id"]
        self.project: str = self.make("/projects", "project", name="work", domain_id=self.corp)["id"]
        self.configure(slapd.options(**options))
        known = {k.name: k for k in facade.kinds(self.db, self.settings.keys_folder, EVERY, self.later)}
        self.worker = Worker(self.db, known, clock=self.later)

    def configure(self, ldap: dict[str, Any], domain_id: str = "") -> Answer:
        config = {"identity": {"driver": "ldap"}, "ldap": ldap}
        return self("PUT", f"/domains/{domain_id or self.corp}/config", {"config": config})

    def later(self) -> float:
        return time.time() + self.ahead

    def pass_time(self, seconds: float = EVERY + 1) -> None:
        """The worker does what is due after so long."""
        self.ahead += seconds
        while self.worker.run_one():
            pass

    def enter(self, name: str, password: str = PASSWORD, **scope: Any) -> Answer:
        """Log in by name."""
        user = {"name": name, "domain": {"name": "corp"}, "password": password}
        return self.log_in({"password": {"user": user}}, scope or None)

    def token_of(self, name: str, **scope: Any) -> str:
        answer = self.enter(name, **scope)
        assert answer.status == 201, answer
        return answer.headers["x-subject-token"]

    def on_work(self) -> dict[str, Any]:
        return {"project": {"id": self.project}}

    def list_of(self, plural: str, query: str = "") -> list[dict[str, Any]]:
        answer = self("GET", f"/{plural}?domain_id={self.corp}{query}")
        assert answer.status == 200, answer
        found: list[dict[str, Any]] = answer.json[plural]
        return found

    def names(self, plural: str, query: str = "") -> set[str]:
        return {one["name"] for one in self.list_of(plural, query)}

    def id_of(self, plural: str, name: str) -> str:
        [found] = self.list_of(plural, f"&name={name}")
        return str(found["id"])

    def let_work(self, actor: str, role: str = "member") -> None:
        self.grant(f"/projects/{self.project}", actor, role)
