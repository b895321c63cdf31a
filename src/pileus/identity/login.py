"""Logging in: from the body of POST /v3/auth/tokens to who it is, and to the scope they ask for.

Source: Identity API reference, "Authentication and token management".  Every refusal is the same 401,
whatever was wrong: unknown user, wrong password, disabled domain.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pileus.core.config import Identity
from pileus.core.errors import BadRequest, Forbidden, Unauthorized
from pileus.core.schema import Schema
from pileus.db.connect import Tx
from pileus.identity.password_rules import locked
from pileus.identity.passwords import MAX_LENGTH, stored_hash
from pileus.identity.rows import (
    APPLICATION_CREDENTIALS,
    DEFAULT_DOMAIN,
    PROJECTS,
    TRUSTS,
    USERS,
    AccessToken,
    ApplicationCredential,
    Project,
    Trust,
    User,
)
from pileus.identity.token import Payload, ScopeKind

WRONG = "The request you have made requires authentication."
_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_SECRET: Schema = {"type": "string", "maxLength": MAX_LENGTH}
_DOMAIN: Schema = {"type": "object", "properties": {"id": _ID, "name": _NAME}}
_USER: dict[str, Any] = {"id": _ID, "name": _NAME, "domain": _DOMAIN}
_PROJECT: Schema = {"type": "object", "properties": _USER}
LOGIN: Schema = {
    "type": "object",
    "required": ["auth"],
    "properties": {"auth": {
        "type": "object",
        "required": ["identity"],
        "properties": {
            "identity": {
                "type": "object",
                "required": ["methods"],
                "properties": {
                    "methods": {"type": "array", "items": {"type": "string", "maxLength": 64}, "minItems": 1,
                                "maxItems": 8},
                    "password": {"type": "object", "required": ["user"], "properties": {"user": {
                        "type": "object", "required": ["password"], "properties": {**_USER, "password": _SECRET}}}},
                    "token": {"type": "object", "required": ["id"],
                              "properties": {"id": {"type": "string", "maxLength": MAX_LENGTH}}},
                    "totp": {"type": "object", "required": ["user"], "properties": {"user": {
                        "type": "object", "required": ["passcode"], "properties": {
                            **_USER, "passcode": {"type": "string", "maxLength": 16}}}}},
                    "application_credential": {
                        "type": "object", "required": ["secret"],
                        "properties": {"id": _ID, "name": _NAME, "secret": _SECRET,
                                       "user": {"type": "object", "properties": _USER}}},
                },
            },
            "scope": {
                "type": ["object", "string"],
                "pattern": "^unscoped$",
                "properties": {
                    "project": _PROJECT, "domain": _DOMAIN,
                    "system": {"type": "object", "properties": {"all": {"type": "boolean"}}, "required": ["all"]},
                    "unscoped": {"type": "object"},
                    "OS-TRUST:trust": {"type": "object", "properties": {"id": _ID}, "required": ["id"]},
                },
            },
        },
    }},
}  # fmt: skip


class Proven(Struct, frozen=True, kw_only=True):
    """What passwords and secrets have proven; `user_id` is "" while only a token speaks."""

    user_id: str = ""
    methods: tuple[str, ...] = ()
    credential: ApplicationCredential | None = None
    access_token: AccessToken | None = None
    hashes: dict[str, str] = {}  # owner → the stored hash that was fitted
    certificate: str = ""  # thumbprint of the one by which they came

    def joined(self, other: "Proven") -> "Proven":
        """Two proofs together; raises Unauthorized unless they are of one user."""
        if self.user_id and self.user_id != other.user_id:
            raise Unauthorized(WRONG)
        return Proven(
            user_id=other.user_id, methods=self.methods, credential=self.credential or other.credential,
            access_token=self.access_token or other.access_token, hashes={**self.hashes, **other.hashes},
        )  # fmt: skip


class Wanted(Struct, frozen=True, kw_only=True):
    """The scope that was asked for; `explicit` when the body names one."""

    scope: ScopeKind = "unscoped"
    target_id: str = ""
    explicit: bool = False
    trust: Trust | None = None


def find_credential(tx: Tx, given: Mapping[str, Any]) -> ApplicationCredential | None:
    """An application credential by its id, or by its name and its user."""
    if "id" in given:
        return APPLICATION_CREDENTIALS.get(tx, id=given["id"])
    if "name" not in given or "user" not in given:
        raise BadRequest("An application credential is named by its id, or by its name and its user.")
    user = find_user(tx, given["user"])
    return APPLICATION_CREDENTIALS.get(tx, user_id=user.id, name=given["name"]) if user else None


def find_user(tx: Tx, given: Mapping[str, Any]) -> User | None:
    """A user by id, or by name and domain; raises BadRequest when neither is given.

    Where there is no such domain as much is read as where there is one, so that time does not tell (OSSA-2021-003).
    """
    if "id" in given:
        return USERS.get(tx, id=given["id"])
    if "name" not in given or "domain" not in given:
        raise BadRequest("A user is named by id, or by name and domain.")
    domain = find_domain(tx, given["domain"])
    if domain is None:
        PROJECTS.get(tx, id=DEFAULT_DOMAIN)
    return USERS.get(tx, domain_id=domain.id if domain else "", name=given["name"])


def find_domain(tx: Tx, given: Mapping[str, Any]) -> Project | None:
    """A domain by id or name; raises BadRequest when neither is given."""
    if "id" in given:
        return PROJECTS.get(tx, id=given["id"], is_domain=True)
    if "name" not in given:
        raise BadRequest("A domain is named by id or by name.")
    return PROJECTS.get(tx, domain_id=None, name=given["name"], is_domain=True)


def find_project(tx: Tx, given: Mapping[str, Any]) -> Project | None:
    """A project by id, or by name and domain; raises BadRequest when neither is given."""
    if "id" in given:
        return PROJECTS.get(tx, id=given["id"])
    if "name" not in given or "domain" not in given:
        raise BadRequest("A project is named by id, or by name and domain.")
    domain = find_domain(tx, given["domain"])
    return PROJECTS.get(tx, domain_id=domain.id, name=given["name"]) if domain else None


def wanted_scope(tx: Tx, given: Any) -> Wanted:
    """The scope that the body names; raises Unauthorized for a project or domain that does not exist."""
    if given is None or given == {}:
        return Wanted()
    if given == "unscoped" or "unscoped" in given:
        return Wanted(explicit=True)
    if "OS-TRUST:trust" in given:
        trust = TRUSTS.get(tx, id=given["OS-TRUST:trust"]["id"])
        if len(given) != 1:
            raise BadRequest("A trust is a scope of its own.")
        if trust is None:
            raise Unauthorized(WRONG)
        return Wanted(scope="project", target_id=trust.project_id, explicit=True, trust=trust)
    kinds = [kind for kind in ("project", "domain", "system") if kind in given]
    if len(kinds) != 1:
        raise BadRequest("A scope is one of project, domain, system, unscoped.")
    if kinds == ["system"]:
        if given["system"]["all"] is not True:
            raise BadRequest('The system scope is written {"all": true}.')
        return Wanted(scope="system", explicit=True)
    target = find_project(tx, given["project"]) if kinds == ["project"] else find_domain(tx, given["domain"])
    if target is None:
        raise Unauthorized(WRONG)
    return Wanted(scope="project" if kinds == ["project"] else "domain", target_id=target.id, explicit=True)


def scope_for(tx: Tx, user: User, proven: Proven, wanted: Wanted) -> Wanted:
    """The scope of the new token: that of the credential, the one asked for, or the user's default project."""
    delegated = proven.credential or proven.access_token
    if delegated is not None:
        project_id = delegated.project_id
        if wanted.trust or (wanted.explicit and (wanted.scope, wanted.target_id) != ("project", project_id)):
            raise Unauthorized("What was delegated is valid for its own project only.")
        return Wanted(scope="project", target_id=project_id, explicit=True)
    if not wanted.explicit and user.default_project_id:
        return Wanted(scope="project", target_id=user.default_project_id)
    return wanted


def check_unchanged(tx: Tx, proven: Proven, rules: Identity, now: float) -> None:
    """Refuse a password or secret that was changed, and a user who was locked out, while it was being checked."""
    if any(stored_hash(tx, owner) != fitted for owner, fitted in proven.hashes.items()):
        raise Unauthorized(WRONG)
    user = USERS.get(tx, id=proven.user_id) if proven.user_id in proven.hashes else None
    if user is not None and locked(tx, user, rules, now):
        raise Unauthorized(WRONG)


def check_rescope(parent: Payload, proven: Proven) -> None:
    """Refuse to make another token from one by which somebody acts for a user (LP 2144966, OSSA-2014-022).

    Nor from one that is bound to a certificate: the other would not be.
    """
    if parent.delegated or parent.key_id:
        raise Forbidden("A token of what a user delegated, or of a key, cannot be exchanged for another one.")
    if parent.certificate:
        raise Forbidden("A token that is bound to a certificate cannot be exchanged for another one.")
    if proven.user_id and proven.user_id != parent.user_id:
        raise Unauthorized(WRONG)
