"""What happened to a server: os-instance-actions, told from its history.

Source: Compute API reference, "Servers actions (servers, os-instance-actions)".
"""

import hashlib
from typing import Any

from msgspec import Struct

from pileus.compute.server.access import load_server
from pileus.compute.service import ADMIN, COMPUTE, READER, page_limit, refuse_unknown
from pileus.core.clock import iso_micro, parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.events import EVENTS, Event, story
from pileus.core.op import Reply
from pileus.core.paging import Query

_RULE = "os_compute_api:os-instance-actions"
TRACEBACKS = COMPUTE.rule(f"{_RULE}:events", ADMIN)
DETAILS = COMPUTE.rule(f"{_RULE}:events:details", ADMIN)
_PATH = "/servers/{server_id}/os-instance-actions"


class Past(Struct, frozen=True, kw_only=True):
    """A server that is, or was, with its story."""

    id: str
    project_id: str
    events: list[Event]


def load_present(ctx: Context, server_id: str, **_path: str) -> Past:
    """The story of a server that is there; raises NotFound."""
    server = load_server(ctx, server_id)
    return Past(id=server.id, project_id=server.project_id, events=story(ctx.tx, "server", server.id))


def load_past(ctx: Context, server_id: str, **_path: str) -> Past:
    """The story of a server that is or was there; raises NotFound."""
    try:
        return load_present(ctx, server_id)
    except NotFound:
        events = EVENTS.all(ctx.tx, order="events.at, events.id", kind="server", resource_id=server_id.lower())
        project = next(
            (event.project_id for event in events if event.phase == "step" or event.action == "create"), None
        )
        if not events or not (project == ctx.caller.project_id or ctx.allows("context_is_admin")):
            raise
        return Past(id=server_id.lower(), project_id=project or "", events=events)


class Action(Struct, frozen=True, kw_only=True):
    """Everything that one request brought about."""

    start: Event
    events: list[Event]  # what followed until the next request, with its end if it ended

    @property
    def end(self) -> Event | None:
        """How it ended, None while it goes on."""
        ends = ("success", "error")
        return next((e for e in self.events if e.phase in ends and e.request_id == self.start.request_id), None)

    @property
    def updated_at(self) -> float:
        return self.end.at if self.end else max([self.start.at, *(e.at for e in self.events)])


def actions_of(past: Past) -> list[Action]:
    """The actions of a story, newest first."""
    starts = [event for event in past.events if event.phase == "start"]
    found = []
    for number, start in enumerate(starts):
        until = next((s.at for s in starts[number + 1 :] if s.action == start.action), float("inf"))
        own = [e for e in past.events if e.request_id == start.request_id and e.phase in ("success", "error")]
        told = [
            e for e in past.events if e.request_id is None and e.action == start.action and start.at <= e.at < until
        ]
        found.append(Action(start=start, events=sorted([*told, *own], key=lambda e: e.at)))
    return found[::-1]


def _shown(ctx: Context, past: Past, action: Action) -> dict[str, Any]:
    end = action.end
    shown: dict[str, Any] = {
        "action": action.start.action, "instance_uuid": past.id, "request_id": action.start.request_id or "",
        "user_id": action.start.user_id or "", "project_id": action.start.project_id or past.project_id,
        "start_time": iso_micro(action.start.at),
        "message": (end.message or "Error") if end is not None and end.phase == "error" else None,
    }  # fmt: skip
    if ctx.version >= (2, 58):
        shown["updated_at"] = iso_micro(action.updated_at)
    return shown


def _event(ctx: Context, past: Past, action: Action, event: Event) -> dict[str, Any]:
    ends = event is action.end
    good = event.phase in ("success", "step")
    name = f"compute_{action.start.action}" + ("" if ends else f"_{event.phase}")
    host = event.data.get("host")
    shown: dict[str, Any] = {
        "event": name, "start_time": iso_micro(action.start.at if ends else event.at),
        "finish_time": iso_micro(event.at), "result": "Success" if good else "Error",
    }  # fmt: skip
    target = {"project_id": past.project_id}
    if ctx.allows(TRACEBACKS, target):
        shown["traceback"] = None
        if ctx.version >= (2, 62):
            shown["host"] = host or ""
    if ctx.version >= (2, 62):
        shown["hostId"] = hashlib.sha224(f"{past.project_id}{host}".encode()).hexdigest() if host else ""
    if ctx.version >= (2, 84) and ctx.allows(DETAILS, target):
        shown["details"] = event.message
    return shown


def _list(ctx: Context, past: Past, query: Query, *, paged: bool) -> Reply:
    found = actions_of(past)
    if not paged:
        return Reply({"instanceActions": [_shown(ctx, past, action) for action in found]})
    names = ["limit", "marker", "changes-since", *(["changes-before"] if ctx.version >= (2, 66) else [])]
    refuse_unknown(ctx, query, *names, since="2.58")
    since, before = _time(query, "changes-since"), _time(query, "changes-before")
    if since is not None and before is not None and since > before:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    found = [
        a for a in found if (since is None or a.updated_at >= since) and (before is None or a.updated_at <= before)
    ]
    found = _after(found, query.one("marker"))
    limit = page_limit(query)
    page = found[:limit]
    body: dict[str, Any] = {"instanceActions": [_shown(ctx, past, action) for action in page]}
    if page and len(found) > limit:
        href = f"{ctx.url}/v2.1/servers/{past.id}/os-instance-actions?limit={limit}&marker={page[-1].start.request_id}"
        body["links"] = [{"rel": "next", "href": href}]
    return Reply(body)


def _time(query: Query, name: str) -> float | None:
    given = query.one(name)
    if given is None:
        return None
    try:
        return parse_iso(given)
    except ValueError:
        raise BadRequest(
            f"Invalid input for query parameters {name}. Value: {given[:80]}. It is no date-time."
        ) from None


def _after(found: list[Action], marker: str | None) -> list[Action]:
    if marker is None:
        return found
    places = [number for number, action in enumerate(found) if action.start.request_id == marker]
    if not places:
        raise BadRequest(f"Marker {marker[:80]} could not be found.")
    return found[places[0] + 1 :]


def _one(ctx: Context, past: Past, request_id: str, *, events: bool) -> Reply:
    action = next((a for a in actions_of(past) if a.start.request_id == request_id), None)
    if action is None:
        raise NotFound(f"Action {request_id[:80]} not found")
    shown = _shown(ctx, past, action)
    if events or ctx.allows(TRACEBACKS, {"project_id": past.project_id}):
        shown["events"] = [_event(ctx, past, action, event) for event in action.events]
    return Reply({"instanceAction": shown})


@COMPUTE.op("GET", _PATH, rule=f"{_RULE}:list", allow=READER, load=load_present, until="2.20")
def list_actions_of_present(ctx: Context, past: Past, query: Query) -> Reply:
    """List actions of a server that is there."""
    return _list(ctx, past, query, paged=False)


@COMPUTE.op("GET", _PATH, rule=f"{_RULE}:list", allow=READER, load=load_past, since="2.21", until="2.57")
def list_actions(ctx: Context, past: Past, query: Query) -> Reply:
    """List actions of a server, deleted ones too."""
    return _list(ctx, past, query, paged=False)


@COMPUTE.op("GET", _PATH, rule=f"{_RULE}:list", allow=READER, load=load_past, since="2.58")
def list_actions_paged(ctx: Context, past: Past, query: Query) -> Reply:
    """List actions page by page, by the time of their last change."""
    return _list(ctx, past, query, paged=True)


@COMPUTE.op("GET", f"{_PATH}/{{request_id}}", rule=f"{_RULE}:show", allow=READER, load=load_present, until="2.20")
def show_action_of_present(ctx: Context, past: Past, request_id: str) -> Reply:
    """Show an action of a server that is there."""
    return _one(ctx, past, request_id, events=False)


@COMPUTE.op(
    "GET", f"{_PATH}/{{request_id}}", rule=f"{_RULE}:show", allow=READER, load=load_past, since="2.21", until="2.50"
)
def show_action(ctx: Context, past: Past, request_id: str) -> Reply:
    """Show an action; administrators see what it consisted of."""
    return _one(ctx, past, request_id, events=False)


@COMPUTE.op("GET", f"{_PATH}/{{request_id}}", rule=f"{_RULE}:show", allow=READER, load=load_past, since="2.51")
def show_action_with_events(ctx: Context, past: Past, request_id: str, query: Query) -> Reply:
    """Show an action and what it consisted of."""
    refuse_unknown(ctx, query)
    return _one(ctx, past, request_id, events=True)
