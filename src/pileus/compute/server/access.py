"""Who may reach a server, in which states what may be asked of it, and how a wish is written down."""

from collections.abc import Collection
from typing import Any

from pileus.compute.server.rows import SERVERS, SNAPSHOTS, Server, open_migration
from pileus.compute.server.states import State, shown
from pileus.core.context import Context
from pileus.core.errors import Conflicted, NotFound
from pileus.core.events import record_request
from pileus.core.reconcile import poke

REBOOTING = ("rebooting", "rebooting_hard")
STEADY = ("active", "paused", "suspended", "stopped")


def load_server(ctx: Context, server_id: str, **_path: str) -> Server:
    """A server that the caller may know of; raises NotFound."""
    server = SERVERS.get(ctx.tx, id=server_id.lower())
    if server is None or not (server.project_id == ctx.caller.project_id or ctx.allows("context_is_admin")):
        raise NotFound(f"Instance {server_id[:80]} could not be found.")
    return server


def state_of(ctx: Context, server: Server) -> State:
    """The server's state as it is shown now."""
    return shown(server, open_migration(ctx.tx, server.id), SNAPSHOTS.all(ctx.tx, server_id=server.id))


def unlocked(ctx: Context, server: Server) -> None:
    """Raise Conflicted for a locked server, except to an administrator."""
    if server.locked and not ctx.allows("context_is_admin"):
        raise Conflicted(f"Instance {server.id} is locked")


def require(
    ctx: Context, server: Server, verb: str, vm: Collection[str], *, tasks: Collection[str | None] = (None,)
) -> State:
    """Raise Conflicted unless the server is unlocked and in one of these states; `verb` is the action's name."""
    unlocked(ctx, server)
    state = state_of(ctx, server)
    if state.vm_state not in vm:
        raise wrong_state(server, verb, "vm_state", state.vm_state)
    if state.task_state not in tasks:
        raise wrong_state(server, verb, "task_state", str(state.task_state))
    return state


def wrong_state(server: Server, verb: str, kind: str, value: str) -> Conflicted:
    """What is answered to an action that a server's state does not allow."""
    return Conflicted(f"Cannot '{verb}' instance {server.id} while it is in {kind} {value}")


def wish(ctx: Context, server: Server, action: str, **changes: Any) -> None:
    """Write what is wanted, remember who asked for it, and have the server looked at."""
    told = {**changes, "changed_at": ctx.now, "action": action}
    SERVERS.update(ctx.tx, told, id=server.id)
    for column, value in told.items():
        setattr(server, column, value)
    poke(ctx.tx, "server", server.id, ctx.now)
    record_request(ctx, "server", server.id, action)


def edit(ctx: Context, server: Server, action: str = "", **changes: Any) -> None:
    """Change what needs no work; with `action` it is told in the server's history as done."""
    told = {**changes, "changed_at": ctx.now}
    SERVERS.update(ctx.tx, told, id=server.id)
    for column, value in told.items():
        setattr(server, column, value)
    if action:
        record_request(ctx, "server", server.id, action, "start")
        record_request(ctx, "server", server.id, action, "success")


def at_rest(ctx: Context, server: Server) -> bool:
    """Whether nobody works on the server now."""
    row = ctx.tx.one("select due from work where kind = 'server' and id = ?", server.id)
    return row is None or row[0] is None


def retry(server: Server) -> dict[str, Any]:
    """The changes by which a request lets a server in ERROR try again; a shelving that came to nothing is given up."""
    given_up = {"shelved": ""} if server.shelved and not server.shelved_seen else {}
    return {"tries": server.tries + 1, "broken": False, **given_up}
