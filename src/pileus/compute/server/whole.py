"""A server with all that belongs to it, as its step loads and saves it."""

from typing import Any

from msgspec import structs

from pileus.compute.server.passwords import PASSWORDS
from pileus.compute.server.rows import (
    CONSOLE_TOKENS,
    MIGRATIONS,
    NICS,
    SERVERS,
    SNAPSHOTS,
    STATUS,
    TAGS,
    VOLUMES,
    Migration,
    Nic,
    Server,
    ServerVolume,
    Size,
    Snapshot,
    open_migration,
)
from pileus.compute.server.states import failed
from pileus.compute.server_group import leave_group
from pileus.compute.usage import EndedServer, end
from pileus.core.events import record
from pileus.core.reconcile import Gone, Outcome, Rest
from pileus.db.connect import Tx
from pileus.db.rows import Table

_MIGRATION_STATUS = ("state", "source_node", "dest_node", "source_name", "dest_name", "old_generation", "updated_at")
_BEGUN = (
    "select request_id, action, user_id, at from events e where kind = 'server' and resource_id = ? and phase = 'start'"
    " and not exists (select 1 from events o where o.kind = 'server' and o.resource_id = e.resource_id"
    " and o.request_id = e.request_id and o.phase in ('success', 'error'))"
)
_SILENT = frozenset({"moved_at", "task", "refused", "starts_seen", "leaving"})  # changes that clients do not see


class Whole:
    """One server, its ports, volumes, open migration and snapshots, and what this step has to tell."""

    def __init__(
        self,
        server: Server,
        nics: list[Nic],
        volumes: list[ServerVolume],
        migration: Migration | None,
        snapshots: list[Snapshot],
    ):
        self.server, self.nics, self.volumes = server, nics, volumes
        self.migration, self.snapshots = migration, snapshots
        self.story: list[tuple[str, str]] = []  # (phase, message)
        self.gone: list[Nic | ServerVolume] = []  # rows that this step is done with
        self._before = structs.replace(server)
        self._migration_before = structs.replace(migration) if migration else None
        self._rows_before = [structs.replace(row) for row in (*nics, *volumes)]

    def tell(self, phase: str, message: str) -> None:
        """Add a line to the server's story."""
        self.story.append((phase, message))

    def size(self, flavor: Size) -> None:
        """Give it another size."""
        server = self.server
        server.flavor = flavor
        server.vcpus, server.ram_mib, server.disk_gib = flavor.vcpus, flavor.ram_mib, flavor.disk_gib

    def drop(self, row: Nic | ServerVolume) -> None:
        """Be done with a port or volume: its row goes when this step is saved."""
        self.gone.append(row)
        self.nics = [nic for nic in self.nics if nic is not row]
        self.volumes = [volume for volume in self.volumes if volume is not row]

    def changes(self) -> dict[str, Any]:
        """Status columns of the server that this step changed."""
        return {c: getattr(self.server, c) for c in STATUS if getattr(self.server, c) != getattr(self._before, c)}

    def save_rows(self, tx: Tx) -> None:
        """Write what changed of ports, volumes and the migration."""
        for row in self.gone:
            table: Table[Any] = NICS if isinstance(row, Nic) else VOLUMES
            table.delete(tx, **{table.key[0]: getattr(row, table.key[0])})
        for before in self._rows_before:
            for nic in self.nics:
                if isinstance(before, Nic) and nic.port_id == before.port_id and nic != before:
                    NICS.save(tx, nic, ("plugged",))
            for volume in self.volumes:
                if isinstance(before, ServerVolume) and volume.id == before.id and volume != before:
                    VOLUMES.save(tx, volume, ("plugged",))
        if self.migration is not None and self.migration != self._migration_before:
            MIGRATIONS.save(tx, self.migration, _MIGRATION_STATUS)


def load(tx: Tx, server_id: str) -> Whole | None:
    """A server and what belongs to it, None when there is no such server."""
    server = SERVERS.get(tx, id=server_id)
    if server is None:
        return None
    return Whole(
        server,
        NICS.all(tx, order="server_nics.position", server_id=server_id),
        VOLUMES.all(tx, order="server_volumes.position", server_id=server_id),
        open_migration(tx, server_id),
        SNAPSHOTS.all(tx, order="server_snapshots.created_at", server_id=server_id),
    )


def save(tx: Tx, whole: Whole, outcome: Outcome, now: float) -> None:
    """Write the status that a step left, and the lines that it adds to the story."""
    server = whole.server
    if isinstance(outcome, Gone):
        if server.launched_at is not None:
            end(tx, _ended(server, server.launched_at, now))
        delete_rows(tx, server.id)
    else:
        if server.fault is not None and not server.fault.at:
            server.fault = structs.replace(server.fault, at=now)
        changes = whole.changes()
        if set(changes) - _SILENT:
            changes["moved_at"] = now
        if changes:
            SERVERS.update(tx, changes, id=server.id)
        whole.save_rows(tx)
    for phase, message in whole.story:
        _record(tx, whole, now, server.action, phase, message)
    if isinstance(outcome, Rest | Gone):
        close_actions(tx, whole, now)


def delete_rows(tx: Tx, server_id: str) -> None:
    """Remove every row of a server."""
    tables: tuple[Table[Any], ...] = (NICS, VOLUMES, TAGS, MIGRATIONS, SNAPSHOTS, CONSOLE_TOKENS, PASSWORDS)
    for table in tables:
        table.delete(tx, server_id=server_id)
    leave_group(tx, server_id)
    SERVERS.delete(tx, id=server_id)


def _record(
    tx: Tx, whole: Whole, now: float, action: str, phase: str, message: str | None, request_id: str | None = None,
    user_id: str | None = None,
) -> None:  # fmt: skip
    server = whole.server
    record(
        tx, now=now, kind="server", resource_id=server.id, action=action, phase=phase, message=message,
        project_id=server.project_id, user_id=user_id or server.user_id, request_id=request_id,
        host=server.node_name,
    )  # fmt: skip


def close_actions(tx: Tx, whole: Whole, now: float) -> None:
    """Write the end of each action that was begun and is over now that the server rests."""
    server = whole.server
    for request_id, action, user_id, at in tx.all(_BEGUN, server.id):
        why = None if action == "delete" else _failure(tx, server, at)
        _record(tx, whole, now, action, "error" if why else "success", why, request_id, user_id)


def _failure(tx: Tx, server: Server, since: float) -> str | None:
    """Why what was asked at a time did not come about."""
    if failed(server) and server.fault is not None:
        return server.fault.message
    row = tx.one(
        "select message from events where kind = 'server' and resource_id = ? and at >= ? and phase = 'error'"
        " and request_id is null order by at desc limit 1",
        server.id, since,
    )  # fmt: skip
    return str(row[0]) if row else None


def _ended(server: Server, launched_at: float, now: float) -> EndedServer:
    """What usage reports keep of it."""
    return EndedServer(
        id=server.id, project_id=server.project_id, name=server.name, flavor=server.flavor.name, vcpus=server.vcpus,
        ram_mib=server.ram_mib, disk_gib=server.disk_gib, started_at=launched_at,
        ended_at=now,
    )  # fmt: skip
