"""Actions that change how a server runs: power, pause, suspend, lock, reset.

Source: Compute API reference, "Servers - run an action (servers, action)".
"""

from collections.abc import Callable
from typing import Any

from pileus.compute.server.access import (
    REBOOTING,
    STEADY,
    edit,
    load_server,
    require,
    retry,
    state_of,
    unlocked,
    wish,
    wrong_state,
)
from pileus.compute.server.rows import Server
from pileus.compute.service import ADMIN, COMPUTE, MANAGER, MEMBER
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden, NotImplementedHere
from pileus.core.op import Reply
from pileus.core.schema import NAME, Schema

_SERVERS = "os_compute_api:servers"
OVERRIDE = COMPUTE.rule("os_compute_api:os-lock-server:unlock:unlock_override", ADMIN)


def body_of(name: str, inner: Schema | None = None) -> Schema:
    """The schema of an action's body."""
    return {
        "type": "object", "properties": {name: inner or {}}, "required": [name], "additionalProperties": False,
    }  # fmt: skip


def action(
    name: str, rule: str, *, allow: str = MEMBER, inner: Schema | None = None, ok: int = 202, **more: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an action of servers by the key of its body."""
    takes = more.pop("takes", None) or body_of(name, inner)
    return COMPUTE.op(
        "POST", "/servers/{server_id}/action", rule=rule, allow=allow, load=load_server, action=name, ok=ok,
        takes=takes, **more,
    )  # fmt: skip


@action("os-start", f"{_SERVERS}:start")
def start(ctx: Context, server: Server) -> Reply:
    """Start a stopped server."""
    require(ctx, server, "start", ("stopped",))
    wish(ctx, server, "start", power="on", starts=server.starts + 1)
    return Reply()


@action("os-stop", f"{_SERVERS}:stop")
def stop(ctx: Context, server: Server) -> Reply:
    """Stop a running server; one in ERROR is tried again and kept off."""
    require(ctx, server, "stop", ("active", "error"))
    if server.launched_at is None:
        raise Conflicted(f"Instance {server.id} is not ready: it was never launched.")
    again = retry(server) if server.fault or server.broken else {}
    wish(ctx, server, "stop", power="off", **again)
    return Reply()


@action("reboot", f"{_SERVERS}:reboot", inner={
    "type": "object", "properties": {"type": {"enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}},
    "required": ["type"], "additionalProperties": False,
})  # fmt: skip
def reboot(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Reboot; a hard one works from almost every state."""
    if body["type"].upper() == "SOFT":
        require(ctx, server, "reboot", ("active",))
        wish(ctx, server, "reboot", reboots=server.reboots + 1)
        return Reply()
    require(ctx, server, "reboot", (*STEADY, "error"), tasks=(None, *REBOOTING, "powering-on", "unpausing", "resuming"))
    if server.launched_at is None and not server.fault:
        raise Conflicted(f"Instance {server.id} is not ready: it was never launched.")
    wish(ctx, server, "reboot", power="on", starts=server.starts + 1, resets=server.resets + 1, **retry(server))
    return Reply()


@action("pause", "os_compute_api:os-pause-server:pause")
def pause(ctx: Context, server: Server) -> Reply:
    """Pause a running server in memory."""
    require(ctx, server, "pause", ("active",))
    wish(ctx, server, "pause", power="paused")
    return Reply()


@action("unpause", "os_compute_api:os-pause-server:unpause")
def unpause(ctx: Context, server: Server) -> Reply:
    """Let a paused server go on."""
    require(ctx, server, "unpause", ("paused",))
    wish(ctx, server, "unpause", power="on")
    return Reply()


@action("suspend", "os_compute_api:os-suspend-server:suspend")
def suspend(ctx: Context, server: Server) -> Reply:
    """Write a running server's memory to disk and stop it."""
    require(ctx, server, "suspend", ("active",))
    wish(ctx, server, "suspend", power="suspended")
    return Reply()


@action("resume", "os_compute_api:os-suspend-server:resume")
def resume(ctx: Context, server: Server) -> Reply:
    """Bring a suspended server back."""
    require(ctx, server, "resume", ("suspended",))
    wish(ctx, server, "resume", power="on")
    return Reply()


_REASON: Schema = {
    "type": ["object", "null"], "properties": {"locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}},
    "additionalProperties": False,
}  # fmt: skip


@action("lock", "os_compute_api:os-lock-server:lock", until="2.72")
def lock(ctx: Context, server: Server) -> Reply:
    """Lock: nobody but administrators may change the server."""
    return _lock(ctx, server, None)


@action("lock", "os_compute_api:os-lock-server:lock", inner=_REASON, since="2.73")
def lock_with_reason(ctx: Context, server: Server, body: dict[str, Any] | None) -> Reply:
    """Lock, and say why."""
    return _lock(ctx, server, (body or {}).get("locked_reason"))


def _lock(ctx: Context, server: Server, reason: str | None) -> Reply:
    owner = server.project_id == ctx.caller.project_id and not ctx.allows("context_is_admin")
    edit(ctx, server, "lock", locked="owner" if owner else "admin", locked_reason=reason)
    return Reply()


@action("unlock", "os_compute_api:os-lock-server:unlock")
def unlock(ctx: Context, server: Server) -> Reply:
    """Unlock; what an administrator locked only an administrator unlocks."""
    if server.locked == "admin":
        ctx.enforce(OVERRIDE, server)
    edit(ctx, server, "unlock", locked="", locked_reason=None)
    return Reply()


@action("os-resetState", "os_compute_api:os-admin-actions:reset_state", allow=ADMIN, inner={
    "type": "object", "properties": {"state": {"enum": ["active", "error"]}}, "required": ["state"],
    "additionalProperties": False,
})  # fmt: skip
def reset_state(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Show a server as ERROR, or look again what it is."""
    if body["state"] == "error":
        edit(ctx, server, broken=True)
    else:
        wish(ctx, server, server.action, **retry(server))
    return Reply()


@action("forceDelete", "os_compute_api:os-deferred-delete:force")
def force_delete(ctx: Context, server: Server) -> Reply:
    """Delete at once, as every delete here."""
    unlocked(ctx, server)
    if not server.deleted:
        wish(ctx, server, "delete", deleted=True)
    return Reply()


@action("restore", "os_compute_api:os-deferred-delete:restore")
def restore(ctx: Context, server: Server) -> Reply:
    """Bring a soft-deleted server back: there are none, since deletes are not deferred."""
    raise wrong_state(server, "restore", "vm_state", state_of(ctx, server).vm_state)


@action("changePassword", "os_compute_api:os-admin-password", inner={
    "type": "object", "properties": {"adminPass": {"type": "string", "maxLength": 255}}, "required": ["adminPass"],
    "additionalProperties": False,
})  # fmt: skip
def change_password(ctx: Context, server: Server) -> Reply:
    """Set the password inside the guest: that needs an agent in it, which guests here do not run."""
    require(ctx, server, "changePassword", ("active",))
    raise Conflicted(
        f"Cannot set the password of instance {server.id}: no guest agent answers in it. Use a key, or rescue it."
    )


@action("trigger_crash_dump", f"{_SERVERS}:trigger_crash_dump", inner={"type": "null"}, since="2.17")
def trigger_crash_dump(ctx: Context, server: Server) -> Reply:
    """Send a non-maskable interrupt into the guest."""
    require(ctx, server, "trigger_crash_dump", STEADY)
    if not server.node_id:
        raise Conflicted(f"Instance {server.id} is on no node.")
    edit(ctx, server, "trigger_crash_dump")
    raise NotImplementedHere("Interrupts are sent by the node's operator only.")


_MIGRATE: Schema = {"type": ["object", "null"], "properties": {"host": {"type": ["string", "null"]}}}


@action("migrate", "os_compute_api:os-migrate-server:migrate", allow=MANAGER, inner=_MIGRATE)
def migrate(ctx: Context, server: Server) -> Reply:
    """Move a server to another node while it is off."""
    require(ctx, server, "migrate", ("active", "stopped"))
    raise BadRequest(
        "No valid host found for cold migrate: local disks are not moved between nodes; use shelve and unshelve."
    )


_LIVE: Schema = {
    "type": "object",
    "properties": {"host": {"oneOf": [NAME, {"type": "null"}]}, "block_migration": {}, "disk_over_commit": {},
                   "force": {}},
    "required": ["host"], "additionalProperties": False,
}  # fmt: skip


@action("os-migrateLive", "os_compute_api:os-migrate-server:migrate_live", allow=MANAGER, inner=_LIVE)
def live_migrate(ctx: Context, server: Server) -> Reply:
    """Move a running server to another node."""
    require(ctx, server, "os-migrateLive", ("active", "paused"))
    raise BadRequest("Live migration is not supported by the hypervisor of this cloud; use shelve and unshelve.")


_EVACUATE: Schema = {
    "type": "object",
    "properties": {"host": NAME, "adminPass": {"type": "string", "maxLength": 255}, "onSharedStorage": {}, "force": {}},
    "additionalProperties": False,
}


@action("evacuate", "os_compute_api:os-evacuate", allow=ADMIN, inner=_EVACUATE, ok=200)
def evacuate(ctx: Context, server: Server) -> Reply:
    """Rebuild a server of a node that is down on another one."""
    unlocked(ctx, server)
    raise BadRequest(
        f"Cannot evacuate instance {server.id}: its node {server.node_name} is not fenced, so that its guest could run "
        "twice."
    )


@action("resetNetwork", "os_compute_api:os-admin-actions:reset_network", allow=ADMIN)
def reset_network(server: Server) -> Reply:
    """Gone from the API with the only hypervisor that knew it."""
    raise Forbidden("resetNetwork works with no hypervisor of this cloud.")


@action("injectNetworkInfo", "os_compute_api:os-admin-actions:inject_network_info", allow=ADMIN)
def inject_network_info(server: Server) -> Reply:
    """Networks are never written into a guest's disk here: the config drive and metadata tell of them."""
    return Reply()
