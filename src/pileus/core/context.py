"""Who asks, and the transaction in which the answer is found."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, structs

from pileus.core.errors import Forbidden
from pileus.core.policy import Enforcer
from pileus.db.connect import Tx


class Caller(Struct, frozen=True, kw_only=True):
    """The identity behind a token, as every service sees it; nothing of it comes from headers."""

    user_id: str
    user_name: str = ""
    user_domain_id: str = ""
    user_domain_name: str = ""
    project_id: str | None = None
    project_name: str | None = None
    project_domain_id: str | None = None
    project_domain_name: str | None = None
    domain_id: str | None = None
    system: bool = False
    roles: tuple[str, ...] = ()  # names, lower case, implied roles included
    is_admin_project: bool = True
    token: Any = None  # identity's own view of the token
    expires_at: float = 0.0
    # (service type, method, path pattern) of the only requests that the token may make; None: no restriction
    access_rules: tuple[tuple[str, str, str], ...] | None = None
    certificate: str = ""  # thumbprint of the client's certificate without which the token is nothing; "": any will do
    service_roles: tuple[str, ...] | None = None  # of the service that asks for the user, by a token of its own

    def creds(self) -> dict[str, Any]:
        """The credentials that policy rules see; what the caller lacks is absent, so that no None equals a None."""
        found = {
            "user_id": self.user_id,
            "project_id": self.project_id,
            "tenant_id": self.project_id,
            "domain_id": self.domain_id,
            "user_domain_id": self.user_domain_id,
            "project_domain_id": self.project_domain_id,
            "system_scope": "all" if self.system else None,
            "roles": self.roles,
            "service_roles": self.service_roles,
            "is_admin_project": self.is_admin_project,
            "token": self.token,
        }
        return {name: value for name, value in found.items() if value is not None}


ANONYMOUS = Caller(user_id="")


class Context:
    """What a handler may touch: its transaction, its caller, the time, the rules."""

    __slots__ = (
        "_answers", "_creds", "caller", "enforcer", "headers", "if_match", "now", "request_id", "settings", "tx", "url",
        "version",
    )  # fmt: skip

    def __init__(
        self,
        tx: Tx,
        caller: Caller,
        *,
        now: float,
        enforcer: Enforcer,
        request_id: str = "",
        url: str = "",
        version: tuple[int, int] = (0, 0),
        settings: Any = None,
        if_match: str = "",
        headers: Mapping[str, str] | None = None,
    ):
        self.tx, self.caller, self.now, self.enforcer = tx, caller, now, enforcer
        self.request_id, self.settings = request_id, settings
        self.url = url  # of the service's root as the client sees it, without a slash at the end
        self.version = version  # for rendering only: a handler never looks at it
        self.if_match = if_match  # the precondition that the client set (RFC 9110 §13.1.1), "" if none
        self.headers = headers or {}  # as the client sent them, names in lower case: hostile until checked
        self._creds: dict[str, Any] | None = None
        self._answers: dict[str, bool | None] = {}  # of rules that are the same for every target

    @property
    def project_id(self) -> str:
        """The caller's project; operations without a project scope are refused here."""
        if self.caller.project_id is None:
            raise Forbidden("this operation needs a token scoped to a project")
        return self.caller.project_id

    @property
    def user_id(self) -> str:
        return self.caller.user_id

    def allows(self, rule: str, target: object = None) -> bool:
        """Whether the caller passes a rule for a target (a row, a mapping, or nothing)."""
        known = self._answers.get(rule)
        if known is not None:
            return known
        if self._creds is None:
            self._creds = self.caller.creds()
        if rule not in self._answers:
            same = not self.enforcer.looks_at_target(rule)
            self._answers[rule] = self.enforcer.passes(rule, self._creds, {}) if same else None
            return self.allows(rule, target)
        return self.enforcer.passes(rule, self._creds, as_target(target))

    def enforce(self, rule: str, target: object = None) -> None:
        """Raise Forbidden unless the caller passes the rule."""
        if not self.allows(rule, target):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")


def as_target(thing: object) -> Mapping[str, Any]:
    """The attributes of a stored object that rules may name."""
    if thing is None:
        return {}
    if isinstance(thing, Mapping):
        return thing
    if isinstance(thing, Struct):
        return structs.asdict(thing)
    return vars(thing)
