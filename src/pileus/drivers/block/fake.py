"""FakeBlock: the Block Protocol in memory, for tests, simulation and benchmarks.

Instead of bytes each volume keeps a marker of its content, so that a test can follow data through
snapshots and clones.  It can be slow, under way, or fail at any point.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct, field

from pileus.volume.drivers import Broken, Connection, Pool, Snapshot, Source, Volume, VolumeSeen

POOLS = (
    Pool(name="file", total_gib=1000.0, free_gib=1000.0, backend="file"),
    Pool(name="second", total_gib=1000.0, free_gib=1000.0, backend="second"),
)


def no_faults(verb: str) -> None:
    """Faults that never come."""


class FakeDisk(Struct):
    """A volume or a snapshot: its size and what it holds ("" is zeros)."""

    pool: str
    size_gib: int
    content: str = ""


class FakeMachine(Struct):
    """What outlives a FakeBlock: the disk of the node, and what a reboot loses (`rounds`)."""

    volumes: dict[str, FakeDisk] = field(default_factory=dict)
    snapshots: dict[str, FakeDisk] = field(default_factory=dict)
    exports: set[tuple[str, str]] = field(default_factory=set)  # (volume id, node id)
    left: set[tuple[str, str]] = field(default_factory=set)  # (pool, volume id): where it was before it moved
    rounds: dict[str, int] = field(default_factory=dict)

    def write(self, volume_id: str, content: str) -> None:
        """Write as a guest would."""
        self.volumes[volume_id].content = content

    def read(self, volume_id: str) -> str:
        return self.volumes[volume_id].content

    def reboot(self) -> None:
        """Lose what was under way; what is on disk stays."""
        self.rounds.clear()


class FakeBlock:
    """Storage that holds markers.

    `faults` is called with the verb's name before and after each effect and may raise.  `latency` is
    in seconds for each call, spent in `sleep`.  `rounds` is how often a new thing answers "under way".
    `folder`, when given, is where `volume_path` puts the content as a file.
    """

    def __init__(
        self,
        machine: FakeMachine | None = None,
        own_node_id: str = "",
        faults: Callable[[str], None] = no_faults,
        latency: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        rounds: int = 0,
        pools: Sequence[Pool] = POOLS,
        folder: Path | None = None,
    ) -> None:
        self.machine = machine if machine is not None else FakeMachine()
        self.own_node_id, self.faults, self.folder = own_node_id, faults, folder
        self._latency, self._sleep, self._rounds = latency, sleep, rounds
        self._pools = {pool.name: pool for pool in pools}
        self._lock = threading.RLock()

    def pools(self) -> Sequence[Pool]:
        with self._lock:
            return [self._with_free(pool) for pool in self._pools.values()]

    def _with_free(self, pool: Pool) -> Pool:
        disks = (*self.machine.volumes.values(), *self.machine.snapshots.values())
        used = sum(disk.size_gib for disk in disks if disk.pool == pool.name)
        return Pool(name=pool.name, total_gib=pool.total_gib, free_gib=pool.total_gib - used, backend=pool.backend)

    def ensure_volume(self, volume: Volume) -> VolumeSeen | None:
        self._before("ensure_volume", volume.pool)
        with self._lock:
            disk = self.machine.volumes.get(volume.id)
            if disk is not None and disk.pool != volume.pool and volume.source and volume.source.pool == disk.pool:
                if not self._ready(f"{volume.id} to {volume.pool}"):
                    return None
                self.machine.left.add((disk.pool, volume.id))
                disk.pool = volume.pool
            if disk is None:
                content = self._content(volume.source, volume.size_gib)
                if not self._ready(volume.id):
                    return None
                disk = FakeDisk(pool=volume.pool, size_gib=volume.size_gib, content=content)
                self.machine.volumes[volume.id] = disk
            disk.size_gib = max(disk.size_gib, volume.size_gib)
        self.faults("ensure_volume")
        return VolumeSeen(id=volume.id, size_gib=disk.size_gib)

    def _content(self, source: Source | None, size_gib: int) -> str:
        """What a new volume holds; raises Broken when its source cannot be used."""
        if source is None:
            return ""
        if source.kind == "image":
            return f"image {source.id}"
        found = (self.machine.snapshots if source.kind == "snapshot" else self.machine.volumes).get(source.id)
        if found is None:
            raise Broken(f"{source.kind} {source.id} is not in this pool")
        if found.size_gib > size_gib:
            raise Broken(f"{source.kind} {source.id} has {found.size_gib} GiB, the volume only {size_gib}")
        return found.content

    def remove_volume(self, pool: str, volume_id: str) -> bool:
        self._before("remove_volume")
        with self._lock:
            for key in [key for key in self.machine.rounds if key.partition(" ")[0] == volume_id]:
                del self.machine.rounds[key]
            if (pool, volume_id) in self.machine.left:
                self.machine.left.discard((pool, volume_id))
                return True
            if volume_id in self.machine.volumes and self.machine.volumes[volume_id].pool != pool:
                return True
            self.machine.volumes.pop(volume_id, None)
            self.machine.exports = {(v, n) for v, n in self.machine.exports if v != volume_id}
        self.faults("remove_volume")
        return True

    def ensure_snapshot(self, snapshot: Snapshot) -> bool | None:
        self._before("ensure_snapshot", snapshot.pool)
        with self._lock:
            if snapshot.id not in self.machine.snapshots:
                volume = self.machine.volumes.get(snapshot.volume_id)
                if volume is None:
                    raise Broken(f"volume {snapshot.volume_id} is not in this pool")
                if not self._ready(snapshot.id):
                    return None
                self.machine.snapshots[snapshot.id] = FakeDisk(
                    pool=volume.pool, size_gib=volume.size_gib, content=volume.content
                )
        self.faults("ensure_snapshot")
        return True

    def remove_snapshot(self, pool: str, snapshot_id: str) -> bool:
        self._before("remove_snapshot")
        with self._lock:
            self.machine.snapshots.pop(snapshot_id, None)
            self.machine.rounds.pop(snapshot_id, None)
        self.faults("remove_snapshot")
        return True

    def ensure_export(self, pool: str, volume_id: str, node: str) -> Connection | None:
        self._before("ensure_export", pool)
        with self._lock:
            if volume_id not in self.machine.volumes:
                raise Broken(f"volume {volume_id} is not in this pool")
            if (volume_id, node) not in self.machine.exports and not self._ready(f"{volume_id} {node}"):
                return None
            self.machine.exports.add((volume_id, node))
        self.faults("ensure_export")
        if node == self.own_node_id:
            return Connection(kind="file", path=f"/fake/{pool}/{volume_id}.raw")
        return Connection(
            kind="nbd", host="fake", port=10809, export=volume_id, tls={"identity": node, "key": "00" * 32}
        )

    def remove_export(self, pool: str, volume_id: str, node: str) -> bool:
        self._before("remove_export")
        with self._lock:
            self.machine.exports.discard((volume_id, node))
            self.machine.rounds.pop(f"{volume_id} {node}", None)
        self.faults("remove_export")
        return True

    def volume_path(self, pool: str, volume_id: str) -> str:
        with self._lock:
            disk = self.machine.volumes.get(volume_id)
        if disk is None or self.folder is None:
            raise LookupError(f"volume {volume_id} has no file here")
        path = self.folder / f"{volume_id}.raw"
        path.write_text(disk.content)
        return str(path)

    def revert(self, pool: str, volume_id: str, snapshot_id: str) -> bool | None:
        self._before("revert", pool)
        with self._lock:
            volume, snapshot = self.machine.volumes.get(volume_id), self.machine.snapshots.get(snapshot_id)
            if volume is None or snapshot is None:
                raise Broken(f"volume {volume_id} or its snapshot {snapshot_id} is not in this pool")
            volume.content = snapshot.content
        self.faults("revert")
        return True

    def list_things(self) -> Sequence[str]:
        with self._lock:
            pairs = (*(v for v, _ in self.machine.exports), *(v for _, v in self.machine.left))
            return sorted({*self.machine.volumes, *self.machine.snapshots, *pairs})

    def _before(self, verb: str, pool: str | None = None) -> None:
        if self._latency:
            self._sleep(self._latency)
        self.faults(verb)
        if pool is not None and pool not in self._pools:
            raise Broken(f"this node has no pool {pool!r}; it has {', '.join(self._pools)}")

    def _ready(self, key: str) -> bool:
        """Whether a new thing has answered "under way" often enough."""
        waited = self.machine.rounds.get(key, 0)
        self.machine.rounds[key] = waited + 1
        if waited < self._rounds:
            return False
        del self.machine.rounds[key]
        return True
