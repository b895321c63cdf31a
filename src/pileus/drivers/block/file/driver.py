"""FileBlock: the Block Protocol over raw files.

A volume is one raw file, so whatever a guest was told is on disk is in this file (a qcow2 behind a
daemon loses acknowledged writes when the daemon dies).  On its own node QEMU opens it itself; other
nodes reach it through an export.  New things are made under a temporary name and renamed.
"""

import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pileus.drivers.block.file.copies import Cancelled, Copies, copy_file
from pileus.drivers.block.file.exports import Exports
from pileus.drivers.block.file.places import GIB, Kind, Places, PoolFolder, create_empty, remove, rename, sync
from pileus.volume.drivers import Broken, Connection, ImageSource, Pool, Snapshot, Source, Volume, VolumeSeen

_NODE = re.compile(r"[A-Za-z0-9._-]{1,128}")
WATCH_SECONDS = 2.0


class Images(Protocol):
    """The node's cache of images as raw files (drivers.image_cache)."""

    def ensure(self, image: ImageSource) -> int | None:
        """Bytes of the raw file when it is there, None while it is being made; raises Broken."""

    def path(self, image: ImageSource) -> Path: ...


class FileBlock:
    """Storage of one node.

    `state` keeps the exports.  `guest_uid` is the user that QEMU and the exports run as: a volume's file
    belongs to it while it is exported, to root otherwise.  `listen` is the address that other nodes
    reach, "" where there are none.
    """

    def __init__(
        self, pools: Mapping[str, PoolFolder], state: Path, image_cache: Images, own_node_id: str, guest_uid: int,
        listen: str = "",
    ):  # fmt: skip
        self._folders = dict(pools)
        self._places = {name: Places(pool.folder) for name, pool in pools.items()}
        self._images, self._own, self._uid = image_cache, own_node_id, guest_uid
        self._exports = Exports(state / "exports", listen, guest_uid)
        self._copies = Copies()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        for places in self._places.values():
            places.clear_partial()
        if listen:
            self._exports.restart_dead()
            threading.Thread(target=self._watch, name="exports", daemon=True).start()

    def _watch(self) -> None:
        """Exports that die by themselves are started again, so that guests elsewhere only wait."""
        while not self._closed.wait(WATCH_SECONDS):
            self._exports.restart_dead()

    def close(self) -> None:
        """End the exports (the node goes down); volumes and the records of exports stay."""
        self._closed.set()
        self._exports.stop_all()

    def pools(self) -> Sequence[Pool]:
        found = []
        for name, pool in self._folders.items():
            room = os.statvfs(pool.folder)
            total, free = room.f_blocks * room.f_frsize / GIB, room.f_bavail * room.f_frsize / GIB
            said = pool.capabilities
            found.append(Pool(name=name, total_gib=total, free_gib=free, backend=pool.backend, capabilities=said))
        return found

    def ensure_volume(self, volume: Volume) -> VolumeSeen | None:
        places = self._pool(volume.pool)
        path, wanted = places.path("volumes", volume.id), volume.size_gib * GIB
        if not path.exists():
            if volume.source is not None:
                if not self._fill(places, volume.id, volume.source, wanted):
                    return None
            else:
                create_empty(places.partial(path), path, wanted)
        size = self._grow(path, volume.id, wanted)
        return VolumeSeen(id=volume.id, size_gib=-(-size // GIB))

    def _fill(self, places: Places, volume_id: str, source: Source, size: int) -> bool:
        """Make a volume from its source; False while that is under way."""
        if source.kind == "image":
            if source.image is None:
                raise Broken("a volume from an image needs the image")
            if self._images.ensure(source.image) is None:
                return False
            origin = Path(self._images.path(source.image))
        else:
            home = self._pool(source.pool) if source.pool else places
            origin = home.path("snapshots" if source.kind == "snapshot" else "volumes", source.id)
        if not origin.exists():
            raise Broken(f"{source.kind} {source.id} is not in this pool")
        held = origin.stat().st_size
        if held > size:
            raise Broken(f"{source.kind} {source.id} needs {-(-held // GIB)} GiB, the volume has {size // GIB}")
        return self._copy(places, origin, places.path("volumes", volume_id), size)

    def _copy(self, places: Places, origin: Path, final: Path, size: int, *, replace: bool = False) -> bool:
        """Copy to a temporary name in the background, then rename; True when it has just got its name.

        Without `replace`, a file that stands there already is kept: somebody may use it by now.
        """
        partial = places.partial(final)

        def work(cancelled: threading.Event) -> None:
            try:
                copy_file(origin, partial, size, cancelled)
                sync(partial)
                with self._lock:
                    if cancelled.is_set():
                        raise Cancelled
                    if replace:
                        self._own_by(partial, final.stat().st_uid)
                    if replace or not final.exists():
                        rename(partial, final)
            finally:
                remove(partial)

        try:
            return self._copies.ensure(final, origin, work)
        except Cancelled:
            return False
        except FileNotFoundError:
            raise Broken(f"{origin.stem} disappeared while it was copied") from None

    def _grow(self, path: Path, volume_id: str, wanted: int) -> int:
        """Lengthen the file, also under a running guest, which its hypervisor driver tells; never shrinks."""
        with self._lock:
            size = path.stat().st_size
            if size < wanted:
                os.truncate(path, wanted)
                sync(path)
                size = wanted
            self._exports.show_size(volume_id, size)
        return size

    def remove_volume(self, pool: str, volume_id: str) -> bool:
        return self._remove(pool, volume_id, "volumes")

    def remove_snapshot(self, pool: str, snapshot_id: str) -> bool:
        return self._remove(pool, snapshot_id, "snapshots")

    def _remove(self, pool: str, thing_id: str, kind: Kind) -> bool:
        """False while a copy into the thing is still ending."""
        places = self._places.get(pool)
        if places is None:
            return True
        path = places.path(kind, thing_id)
        if not self._copies.cancel(path):
            return False
        with self._lock:
            if kind == "volumes":
                self._exports.remove_all(thing_id)
                self._local(places, thing_id).unlink(missing_ok=True)
            remove(path)
        return True

    def ensure_snapshot(self, snapshot: Snapshot) -> bool | None:
        places = self._pool(snapshot.pool)
        final = places.path("snapshots", snapshot.id)
        if final.exists():
            return True
        origin = Path(snapshot.copy_path) if snapshot.copy_path else places.path("volumes", snapshot.volume_id)
        if not origin.is_file():
            raise Broken(f"volume {snapshot.volume_id} is not in this pool, or its copy is gone")
        return True if self._copy(places, origin, final, 0) else None

    def revert(self, pool: str, volume_id: str, snapshot_id: str) -> bool | None:
        places = self._pool(pool)
        origin, final = places.path("snapshots", snapshot_id), places.path("volumes", volume_id)
        if not origin.exists() or not final.exists():
            raise Broken(f"volume {volume_id} or its snapshot {snapshot_id} is not in this pool")
        return True if self._copy(places, origin, final, final.stat().st_size, replace=True) else None

    def ensure_export(self, pool: str, volume_id: str, node: str) -> Connection | None:
        places = self._pool(pool)
        path = places.path("volumes", volume_id)
        if not _NODE.fullmatch(node):
            raise ValueError(f"{node!r} is no id of a node")
        with self._lock:
            if not path.exists():
                raise Broken(f"volume {volume_id} is not in this pool")
            self._own_by(path, self._uid)
            if node == self._own:
                self._local(places, volume_id).touch()
                return Connection(kind="file", path=str(path))
            if not self._exports.listen:
                raise Broken("this node's volumes cannot be reached from other nodes: it has no address for them")
            return self._exports.ensure(volume_id, path, node)

    def remove_export(self, pool: str, volume_id: str, node: str) -> bool:
        places = self._places.get(pool)
        if places is None:
            return True
        path = places.path("volumes", volume_id)
        with self._lock:
            if node == self._own:
                self._local(places, volume_id).unlink(missing_ok=True)
            else:
                self._exports.remove(volume_id, node)
            if path.exists() and not self._local(places, volume_id).exists() and not self._exports.nodes(volume_id):
                self._own_by(path, 0)
        return True

    @staticmethod
    def _local(places: Places, volume_id: str) -> Path:
        """Stands while this node itself may open the volume."""
        return places.path("volumes", volume_id).with_suffix(".open")

    @staticmethod
    def _own_by(path: Path, uid: int) -> None:
        if os.geteuid() == 0:
            os.chown(path, uid, uid)

    def volume_path(self, pool: str, volume_id: str) -> str:
        places = self._places.get(pool)
        if places is None or not places.path("volumes", volume_id).exists():
            raise LookupError(f"volume {volume_id} is not in this pool")
        return str(places.path("volumes", volume_id))

    def list_things(self) -> Sequence[str]:
        found = set(self._exports.list())
        for places in self._places.values():
            found |= {*places.list("volumes"), *places.list("snapshots"), *places.making()}
        return sorted(found)

    def _pool(self, name: str) -> Places:
        places = self._places.get(name)
        if places is None:
            raise Broken(f"this node has no pool {name!r}; it has {', '.join(sorted(self._places))}")
        return places
