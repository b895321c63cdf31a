"""Identity as a new cloud has it, called through the whole pipeline with real tokens."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from direct import Answer, Direct
from pileus.core.config import Config, Identity
from pileus.identity import facade

PASSWORD = "correct horse"
URL = "http://cloud:5000"
QUICK = Identity(hash_memory_kib=64, hash_passes=1)  # no test but those of hashing is about its cost


class Settings:
    """What handlers may know of the configuration."""

    def __init__(self, folder: Path, rules: Identity):
        self.config = Config(state=str(folder), identity=rules)
        self.keys_folder = folder / "keys"
        self.region, self.public_url = "RegionOne", URL


class IdentityCloud:
    """A bootstrapped identity service; `admin` is a token of the administrator on project admin."""

    def __init__(self, folder: Path, rules: Identity = QUICK):
        self.folder, self.settings = folder, Settings(folder, rules)
        facade.ensure_keys(self.settings.keys_folder)
        self.direct = Direct(
            [facade.SERVICE], folder, self.settings, facade.Authenticator(self.settings.keys_folder),
            facade.audit_trail(self.settings.keys_folder),
        )  # fmt: skip
        self.db = self.direct.db
        self.bootstrap()
        self.admin = self.token("admin", PASSWORD, project="admin")

    def bootstrap(self, password: str = PASSWORD, url: str = URL) -> None:
        self.db.transact(
            lambda tx: facade.bootstrap(
                tx,
                admin_password=password,
                public_url=url,
                region="RegionOne",
                now=time.time(),
                rules=self.settings.config.identity,
            )
        )

    def __call__(
        self, method: str, path: str, body: Any = None, *, token: str | None = None,
        headers: Mapping[str, str] | None = None, raw: bytes | None = None,
    ) -> Answer:  # fmt: skip
        """One request below /identity/v3, as the administrator unless a token is given ("" for none)."""
        caller = self.admin if token is None else token
        return self.direct(method, f"/identity/v3{path}", body, caller=caller, headers=headers, raw=raw)

    def make(self, path: str, key: str, *, token: str | None = None, **fields: Any) -> dict[str, Any]:
        """Create a resource; its body."""
        answer = self("POST", path, {key: fields}, token=token)
        assert answer.status == 201, answer
        found: dict[str, Any] = answer.json[key]
        return found

    def log_in(self, identity: Mapping[str, Any], scope: Any = None, query: str = "") -> Answer:
        """POST /auth/tokens with these methods."""
        auth: dict[str, Any] = {"identity": {"methods": list(identity), **identity}}
        if scope is not None:
            auth["scope"] = scope
        return self("POST", f"/auth/tokens{query}", {"auth": auth}, token="")

    def by_password(self, name: str, password: str, scope: Any = None, query: str = "") -> Answer:
        user = {"name": name, "domain": {"id": "default"}, "password": password}
        return self.log_in({"password": {"user": user}}, scope, query)

    def token(self, name: str, password: str, *, project: str = "", domain: str = "", system: bool = False) -> str:
        """A token by password: on a project or domain of these names, on the system, or unscoped."""
        scope: Any = None
        if project:
            scope = {"project": {"name": project, "domain": {"id": "default"}}}
        elif domain:
            scope = {"domain": {"name": domain}}
        elif system:
            scope = {"system": {"all": True}}
        answer = self.by_password(name, password, scope)
        assert answer.status == 201, answer
        return answer.headers["x-subject-token"]

    def valid(self, token: str) -> bool:
        """Whether the token opens anything."""
        return self("GET", "/auth/projects", token=token).status == 200

    def role_id(self, name: str) -> str:
        return str(self("GET", f"/roles?name={name}").json["roles"][0]["id"])

    def grant(self, place: str, actor: str, role: str) -> None:
        """Give a role: place "/projects/ID", actor "/users/ID"."""
        answer = self("PUT", f"{place}{actor}/roles/{self.role_id(role)}")
        assert answer.status == 204, answer

    def person(self, name: str, role: str = "member", *, project: str = "", password: str = "secret") -> dict[str, Any]:
        """A user of this name with a project of their own (or a given one's id) and a role there."""
        if not project:
            project = self.make("/projects", "project", name=name)["id"]
        user = self.make("/users", "user", name=name, password=password)
        self.grant(f"/projects/{project}", f"/users/{user['id']}", role)
        return {**user, "project_id": project}

    def close(self) -> None:
        self.db.close()
        self.direct.loop.close()
