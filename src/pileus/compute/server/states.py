"""What the API shows of a server's life, derived from wish and status by one pure function.

Source: Compute API guide, "Server concepts", and upstream's table of vm and task states.
"""

from collections.abc import Sequence

from msgspec import Struct

from pileus.compute.drivers import Power
from pileus.compute.server.rows import Migration, Server, Snapshot

# status of a server by vm_state and task_state; the first of each line is without a task
_RESIZE = dict.fromkeys(("resize_prep", "resize_migrating", "resize_finish"), "RESIZE")
_REBUILD = dict.fromkeys(("rebuilding", "rebuild_spawning"), "REBUILD")
_STATUS: dict[str, tuple[str, dict[str, str]]] = {
    "active": ("ACTIVE", {"rebooting": "REBOOT", "rebooting_hard": "HARD_REBOOT", "migrating": "MIGRATING",
                          **_RESIZE, **_REBUILD}),
    "building": ("BUILD", {}),
    "stopped": ("SHUTOFF", {"rebooting_hard": "HARD_REBOOT", **_RESIZE, **_REBUILD}),
    "resized": ("VERIFY_RESIZE", {"resize_reverting": "REVERT_RESIZE"}),
    "paused": ("PAUSED", {}),
    "suspended": ("SUSPENDED", {}),
    "rescued": ("RESCUE", {}),
    "error": ("ERROR", _REBUILD),
    "shelved": ("SHELVED", {}),
    "shelved_offloaded": ("SHELVED_OFFLOADED", {}),
}  # fmt: skip
STATUSES = frozenset(
    {plain for plain, _ in _STATUS.values()} | {s for _, more in _STATUS.values() for s in more.values()}
)
_POWER = {"on": 1, "paused": 3, "off": 4, "crashed": 6, "suspended": 7}
_VM = {"on": "active", "paused": "paused", "off": "stopped", "crashed": "stopped", "suspended": "suspended"}
_GOING = {"off": "powering-off", "paused": "pausing", "suspended": "suspending"}
_COMING = {"paused": "unpausing", "suspended": "resuming"}
_COMING_AFTER = {
    "rescue": "rescuing", "unrescue": "unrescuing", "rebuild": "rebuild_spawning", "unshelve": "unshelving",
    "reboot": "rebooting_hard",
}  # fmt: skip


class State(Struct, frozen=True):
    """A server's state as it is shown."""

    status: str
    vm_state: str
    task_state: str | None
    power_state: int


def failed(server: Server) -> bool:
    """Whether a fault stands, so that nothing is done before somebody asks to try again."""
    return server.fault is not None and server.failed_try == server.tries


def wanted_power(server: Server) -> Power:
    """How the guest should be: as asked for, but off when it ended by itself the run that was asked for."""
    if server.rescue is not None:
        return "on"
    if server.power == "on" and server.halted == server.starts:
        return "off"
    return server.power


def shown(server: Server, migration: Migration | None = None, snapshots: Sequence[Snapshot] = ()) -> State:
    """The state of a server with its open migration and the images being made of it."""
    vm_state = _vm_state(server, migration)
    task = _task_state(server, migration, snapshots)
    plain, with_task = _STATUS[vm_state]
    return State(with_task.get(task or "", plain), vm_state, task, _POWER.get(server.seen.power, 0))


def _vm_state(server: Server, migration: Migration | None) -> str:
    if server.broken or failed(server):
        return "error"
    if server.launched_at is None:
        return "building"
    if server.shelved_seen:
        return "shelved" if server.shelved_seen == "shelved" else "shelved_offloaded"
    if migration is not None and migration.state in ("finished", "reverting"):
        return "resized"
    if server.rescued and server.seen.power == "on":
        return "rescued"
    return _VM.get(server.seen.power, "active")


def _task_state(server: Server, migration: Migration | None, snapshots: Sequence[Snapshot]) -> str | None:
    """What is being done, None when what is wanted is what is there."""
    if server.deleted:
        return "deleting"
    if server.broken or failed(server):
        return None
    if server.launched_at is None:
        return server.task
    if server.shelved != server.shelved_seen:
        return _shelving(server, snapshots)
    if server.shelved:
        return None
    if migration is not None and (task := _migrating(migration)):
        return task
    if server.rebuilds != server.rebuilds_seen or server.built != server.generation:
        return "rebuilding"
    if (server.rescue is not None) != server.rescued:
        return "unrescuing" if server.rescued else "rescuing"
    return _powering(server) or _imaging(snapshots)


def _shelving(server: Server, snapshots: Sequence[Snapshot]) -> str:
    if not server.shelved:
        return "unshelving"
    if server.shelved_seen:
        return "shelving_offloading"
    return "shelving_image_uploading" if any(s.kind == "shelve" and s.copied for s in snapshots) else "shelving"


def _migrating(migration: Migration) -> str | None:
    if migration.wish == "revert":
        return "resize_reverting"
    if migration.wish == "confirm":
        return "resize_confirming"
    return {"queued": "resize_prep", "migrating": "resize_migrating"}.get(migration.state)


def _powering(server: Server) -> str | None:
    wanted, seen = wanted_power(server), server.seen
    if wanted != seen.power:
        if wanted != "on":
            return _GOING[wanted]
        return _COMING.get(seen.power) or _COMING_AFTER.get(server.action, "powering-on")
    if server.resets != seen.resets:
        return "rebooting_hard"
    return "rebooting" if server.reboots != seen.reboots else None


def _imaging(snapshots: Sequence[Snapshot]) -> str | None:
    for snapshot in snapshots:
        if snapshot.kind == "backup" and not snapshot.copied:
            return "image_backup"
        return "image_uploading" if snapshot.copied else "image_snapshot"
    return None
