"""Who did what, as CADF events: every write, every log-in, every refusal, by whatever service.

Source: DMTF DSP0262 (Cloud Auditing Data Federation), as upstream's middleware fills it in.  A write that succeeds is
recorded in its own transaction; the rest is written within a second, equal refusals together.  No event holds a body,
a token or a secret.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from pileus.core.audit import Trail
from pileus.core.clock import iso_micro_z
from pileus.core.ids import new_hex
from pileus.db.connect import Tx, Unavailable
from pileus.http.transactions import Transactions

log = logging.getLogger("pileus.audit")
EVENT = "http://schemas.dmtf.org/cloud/audit/1.0/event"
DELAY_SECONDS = 1.0
WAITING_MOST = 10_000  # kinds of events; what is more is counted together
_ACTIONS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete", "GET": "read", "HEAD": "read"}
_REFUSALS = (401, 403)
_PROTOCOL = "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"
_LOG_INS = {
    ("POST", "/identity/v3/auth/tokens"), ("POST", "/identity/v3/OS-OAUTH2/token"), ("GET", f"{_PROTOCOL}/auth"),
    ("POST", f"{_PROTOCOL}/auth"), ("GET", f"{_PROTOCOL}/oidc"), ("POST", f"{_PROTOCOL}/saml2"),
}  # fmt: skip
Key = tuple[str, str, str, str, int, str]


class Waiting:
    """An event that waits to be written, and how often it happened."""

    __slots__ = ("at", "count", "event")

    def __init__(self, event: dict[str, Any], at: float):
        self.event, self.at, self.count = event, at, 1


class Audit:
    """Turns requests into events of one trail."""

    def __init__(self, trail: Trail, transactions: Transactions):
        self.trail, self.transactions = trail, transactions
        self._waiting: dict[Key, Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def in_transaction(self, tx: Tx, call: Any, status: int, body: Any) -> None:
        """Record a write together with what it wrote."""
        now = time.time()
        self.trail.write(tx, event(call, status, now, made(body)), now)

    def finished(self, call: Any, status: int) -> None:
        """Note what is no write, or was none: refusals, failures, log-ins, streams of bytes."""
        if call.audited:
            self._soon()
            return
        operation = call.operation
        whole = operation.path if operation is not None else ""
        writes = operation is not None and operation.writes
        if status not in _REFUSALS and not writes and (call.method, whole) not in _LOG_INS:
            return
        key = (client(call), call.caller.user_id, whole or call.path[:200], call.method, status, call.reason)
        if status < 300:
            key = (*key[:2], call.request_id, *key[3:])  # only refusals are counted together
        known = self._waiting.get(key)
        if known is not None:
            known.count += 1
        elif len(self._waiting) >= WAITING_MOST:
            key = ("", "", "(many)", "", status, "")
            self._waiting.setdefault(key, Waiting(event(call, status, time.time()), time.time())).count += 1
        else:
            self._waiting[key] = Waiting(event(call, status, time.time()), time.time())
        self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_SECONDS, self._start)

    def _start(self) -> None:
        self._timer = None
        self._task = asyncio.ensure_future(self.flush())

    async def flush(self) -> None:
        """Write what waits and seal the trail; when the database cannot, both are tried again."""
        waiting, self._waiting = self._waiting, {}

        def work(tx: Tx) -> None:
            for one in waiting.values():
                told = one.event if one.count == 1 else {**one.event, "count": one.count}
                self.trail.write(tx, told, one.at)
            self.trail.seal(tx)

        try:
            await self.transactions.write(work)
        except Unavailable as error:
            log.error("the audit trail cannot be written now: %s", error)
            self._waiting = {**waiting, **self._waiting}
            self._soon()


def client(call: Any) -> str:
    """The address that the request came from."""
    return str((call.scope.get("client") or ("",))[0])


def made(body: Any) -> str:
    """The id of what an answer shows, when it shows one thing."""
    if isinstance(body, Mapping):
        for inner in (body, *body.values()):
            if isinstance(inner, Mapping) and isinstance(inner.get("id"), str | int):
                return str(inner["id"])
    return ""


def event(call: Any, status: int, at: float, made_id: str = "") -> dict[str, Any]:
    """A request as a CADF event."""
    caller, operation, service = call.caller, call.operation, call.service
    path = dict(call.match.path) if call.match else {}
    log_in = operation is not None and (call.method, operation.path) in _LOG_INS
    action = "authenticate" if log_in else _ACTIONS.get(call.method, "unknown")
    if operation is not None and operation.action:
        action = f"update/{operation.action}"
    initiator = {
        "id": caller.user_id or "unknown", "typeURI": "service/security/account/user", "name": caller.user_name,
        "host": {"address": client(call), "agent": call.headers.get("user-agent", "")[:200]},
        "project_id": caller.project_id, "domain_id": caller.domain_id,
    }  # fmt: skip
    kind = service.type if service is not None else "unknown"
    return {
        "typeURI": EVENT, "eventType": "activity", "id": new_hex(), "eventTime": iso_micro_z(at), "action": action,
        "outcome": "success" if status < 400 else "failure",
        "reason": {"reasonType": "HTTP", "reasonCode": str(status), **({"why": call.reason} if call.reason else {})},
        "initiator": {k: v for k, v in initiator.items() if v},
        "target": {"id": made_id or (list(path.values())[-1] if path else "unknown"), "typeURI": f"service/{kind}",
                   "path": {k: v[:255] for k, v in path.items()}},
        "observer": {"id": "pileus", "typeURI": f"service/{kind}"},
        "operation": operation.rule if operation is not None else "",
        "requestPath": call.path[:1000], "method": call.method, "requestId": call.request_id,
    }  # fmt: skip
