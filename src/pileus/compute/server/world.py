"""The world of a server's step: facades of the other services, the node's hypervisor, the database under a lease."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from pileus.compute.drivers import Broken, Connection, Guest, GuestSeen, Hypervisor, ImageSource, Power
from pileus.compute.server import scheduling
from pileus.compute.server.acting import acting
from pileus.compute.server.documents import config_drive
from pileus.compute.server.guest import Parts, boots_from_volume, build
from pileus.compute.server.lifecycle import overdue, step
from pileus.compute.server.outside import NoValidHost, Place
from pileus.compute.server.passwords import sealed_password
from pileus.compute.server.rows import Nic, ServerVolume
from pileus.compute.server.snapshot import cancel
from pileus.compute.server.whole import Whole, load, save
from pileus.core.errors import Conflicted, Problem
from pileus.core.nodes import NODES
from pileus.core.reconcile import Kind, Lease, transact
from pileus.db.connect import Database, Tx
from pileus.image import facade as image
from pileus.network import facade as network
from pileus.placement import facade as placement
from pileus.volume import facade as volume

T = TypeVar("T")


class Hub(Protocol):
    """What servers need of the wiring (see roles.controller.Connect)."""

    def hypervisor(self, node_id: str, lease: Lease | None = None) -> Hypervisor: ...

    def unseal(self, sealed: str) -> str:
        """A secret of the database; "" for "" and for one whose key is lost."""


class ServerWorld:
    """outside.World over the real things."""

    def __init__(self, db: Database, hub: Hub, lease: Lease, clock: Callable[[], float]):
        self.db, self.hub, self.lease, self.clock = db, hub, lease, clock

    def now(self) -> float:
        return self.clock()

    def _write(self, work: Callable[[Tx], T]) -> T:
        return transact(self.db, self.lease, work)

    def _node(self, whole: Whole) -> Hypervisor:
        assert whole.server.node_id is not None, "a guest needs a node"
        return self.hub.hypervisor(whole.server.node_id, self.lease)

    # --- claims ---

    def place(self, whole: Whole) -> Place:
        return self._write(lambda tx: scheduling.choose(tx, whole.server, self.now()))

    def unplace(self, whole: Whole) -> None:
        def work(tx: Tx) -> None:
            placement.release(tx, whole.server.id)
            if whole.migration is not None and whole.server.deleted:
                placement.release(tx, whole.migration.id)

        self._write(work)

    def claim_new_size(self, whole: Whole) -> None:
        """Twice is once: what was moved already stays moved."""
        server, migration = whole.server, whole.migration
        assert migration is not None

        def work(tx: Tx) -> None:
            if not placement.allocations(tx, migration.id):
                placement.move(tx, server.id, migration.id, self.now())
            node = NODES.get(tx, id=server.node_id)
            wanted = scheduling.wanted_of(server, migration.new_flavor)
            try:
                placement.claim(
                    tx, consumer_id=server.id, provider_id=server.node_id or "", resources=wanted.resources,
                    project_id=server.project_id, user_id=server.user_id, now=self.now(),
                )  # fmt: skip
            except placement.NoRoom as error:
                raise NoValidHost(
                    f"No valid host was found. {node.name if node else server.node_id}: {error}"
                ) from None

        self._write(work)

    def restore_claim(self, whole: Whole) -> None:
        server, migration = whole.server, whole.migration
        assert migration is not None

        def work(tx: Tx) -> None:
            if placement.allocations(tx, migration.id):
                placement.release(tx, server.id)
                placement.move(tx, migration.id, server.id, self.now())

        self._write(work)

    def drop_old_claim(self, whole: Whole) -> None:
        migration = whole.migration
        if migration is not None:
            self._write(lambda tx: placement.release(tx, migration.id))

    # --- ports ---

    def bind_ports(self, whole: Whole) -> str:
        node_id = whole.server.node_id or ""
        ports = self.db.read(lambda tx: {port.id: port for port in network.ports_of(tx, whole.server.id)})
        wanted = [ports[nic.port_id] for nic in whole.nics if nic.port_id in ports and not nic.detach]
        unbound = [port.id for port in wanted if port.node_id != node_id]
        if unbound:
            self._write(partial(self._bind, unbound, node_id))
        waiting = [port.id for port in wanted if port.node_id != node_id or not port.up]
        return f"port {waiting[0]} is not ready on {whole.server.node_name}" if waiting else ""

    def _bind(self, port_ids: list[str], node_id: str, tx: Tx) -> None:
        for port_id in port_ids:
            network.bind_port(tx, port_id, node_id, self.now())

    def unbind_ports(self, whole: Whole) -> None:
        def work(tx: Tx) -> None:
            for port in network.ports_of(tx, whole.server.id):
                network.unbind_port(tx, port.id, self.now())

        self._write(work)

    def give_up_ports(self, whole: Whole) -> None:
        def work(tx: Tx) -> None:
            for nic in whole.nics:
                self._give_up_port(tx, nic)

        if whole.nics:
            self._write(work)

    def _give_up_port(self, tx: Tx, nic: Nic) -> None:
        port = network.get_port(tx, nic.port_id)
        if port is None or port.device_id != nic.server_id:
            return
        if nic.own:
            network.delete_port(tx, nic.port_id, self.now())
        else:
            network.detach_port(tx, nic.port_id, self.now())

    # --- volumes ---

    def connect_volumes(self, whole: Whole) -> str:
        """A volume that cannot be had is let go where the server lives without it."""
        server, waiting = whole.server, []
        reimaging = server.rebuild_image is not None and server.rebuilds != server.rebuilds_seen
        for row in whole.volumes:
            if row.detach or (reimaging and row.boot_index == 0):
                continue
            tie, found = self.db.read(partial(_tie, row))
            why = _flaw(tie, found)
            if why:
                self._do_without(whole, row, why)
            elif tie is not None and found is not None and (tie.connection is None or found.status == "downloading"):
                if found.status != "downloading" and tie.node_id != whole.server.node_id:
                    self._write(partial(self._connect, row, whole.server.node_id or ""))
                waiting.append(f"volume {row.volume_id} is {found.status}")
        return waiting[0] if waiting else ""

    def _connect(self, row: ServerVolume, node_id: str, tx: Tx) -> None:
        volume.connect(tx, row.id, node_id, self.now())

    def _do_without(self, whole: Whole, row: ServerVolume, why: str) -> None:
        if whole.server.launched_at is None or row.boot_index == 0:
            raise Broken(f"Volume {row.volume_id} cannot be attached: {why}")
        whole.tell("error", f"volume {row.volume_id} cannot be attached: {why}")
        self._write(lambda tx: volume.release(tx, row.id, self.now()))
        whole.drop(row)

    def disconnect_volumes(self, whole: Whole) -> None:
        def work(tx: Tx) -> None:
            for row in whole.volumes:
                volume.disconnect(tx, row.id, self.now())

        if whole.volumes:
            self._write(work)
        for row in whole.volumes:
            row.plugged = False

    def give_up_volumes(self, whole: Whole) -> str:
        def work(tx: Tx) -> list[str]:
            left = []
            for row in whole.volumes:
                volume.release(tx, row.id, self.now())
                if row.delete_on_termination:
                    volume.delete_volume(tx, row.volume_id, self.now())
                if volume.attachment(tx, row.id) is not None:
                    left.append(row.volume_id)
            return left

        left = self._write(work) if whole.volumes else []
        return f"volume {left[0]} is being detached" if left else ""

    def reimage_root(self, whole: Whole) -> str:
        server = whole.server
        root = next((row for row in whole.volumes if row.boot_index == 0), None)
        if root is None:
            raise Broken("the server has no root volume to rebuild")

        def work(tx: Tx) -> str:
            volume.disconnect(tx, root.id, self.now())
            tie = volume.attachment(tx, root.id)
            if tie is not None and tie.connection is not None:
                return f"volume {root.volume_id} is being disconnected"
            try:
                volume.reimage(acting(tx, server, self.now()), root.volume_id, server.rebuild_image or "")
            except Conflicted as error:
                return str(error)  # the export is still on its way out
            except Problem as error:
                raise Broken(f"Volume {root.volume_id} cannot be rebuilt: {error}") from None
            return ""

        root.plugged = False
        return self._write(work)

    # --- the guest ---

    def images_ready(self, whole: Whole) -> str:
        for source in self._images_to_fetch(whole):
            if self._node(whole).ensure_image(source) is None:
                return f"image {source.id} is being fetched by {whole.server.node_name}"
        return ""

    def _images_to_fetch(self, whole: Whole) -> list[ImageSource]:
        """Images of disks that are not made yet; raises Broken when one is gone."""
        server, wanted = whole.server, []
        if server.built != server.generation and not boots_from_volume(server) and server.copied_from is None:
            wanted.append(server.root_image or "")
        if server.rescued and server.rescue is not None and server.seen.power != "on":
            wanted.append(server.rescue.image_id)
        if not wanted:
            return []
        try:
            return self.db.read(lambda tx: [image.source(tx, image_id) for image_id in wanted])
        except LookupError as error:
            raise Broken(str(error)) from None

    def observe(self, whole: Whole) -> GuestSeen | None:
        return self._node(whole).observe_guest(whole.server.id)

    def ensure(self, whole: Whole, power: Power) -> GuestSeen | None:
        return self._node(whole).ensure_guest(self.db.read(lambda tx: self._guest(tx, whole, power)))

    def _guest(self, tx: Tx, whole: Whole, power: Power) -> Guest:
        """The whole wish; a volume without a connection, or a port that is not there, is left out."""
        server = whole.server
        ports = {port.id: port for port in network.ports_of(tx, server.id)}
        connections: dict[str, Connection] = {}
        sizes: dict[str, int] = {}
        for row in whole.volumes:
            tie = volume.attachment(tx, row.id)
            if tie is not None and tie.connection is not None:
                connections[row.id], sizes[row.id] = tie.connection, tie.size_gib
        images = {}
        for image_id in {server.root_image, server.rescue.image_id if server.rescue else None} - {None}:
            try:
                images[image_id or ""] = image.source(tx, image_id or "")
            except LookupError:
                continue  # it was needed only to make the disk
        parts = Parts(
            ports=ports, connections=connections, sizes=sizes, images=images,
            config_drive=self._config_drive(tx, whole) if server.config_drive else None,
        )  # fmt: skip
        return build(server, whole.nics, whole.volumes, whole.migration, power, parts)

    def _config_drive(self, tx: Tx, whole: Whole) -> dict[str, bytes]:
        password = self.hub.unseal(sealed_password(tx, whole.server))
        return config_drive(tx, whole.server, whole.nics, whole.volumes, password)

    def remove_guest(self, whole: Whole) -> bool:
        return self._node(whole).remove_guest(whole.server.id)

    def settle(self, whole: Whole, seen: GuestSeen | None) -> None:
        disks, nics = (set(seen.disks), set(seen.nics)) if seen is not None else (set(), set())
        there = self.db.read(lambda tx: {port.id for port in network.ports_of(tx, whole.server.id)})
        arrived = [row for row in whole.volumes if row.volume_id in disks and not row.detach and not row.plugged]
        left = [row for row in whole.volumes if row.detach and row.volume_id not in disks]
        unplugged = [nic for nic in whole.nics if (nic.detach or nic.port_id not in there) and nic.port_id not in nics]

        def work(tx: Tx) -> None:
            for row in arrived:
                volume.complete(tx, row.id, row.device, self.now())
            for row in left:
                volume.release(tx, row.id, self.now())
            for nic in unplugged:
                self._give_up_port(tx, nic)

        if arrived or left or unplugged:
            self._write(work)
        gone: list[Nic | ServerVolume] = [*left, *unplugged]
        for row_gone in gone:
            whole.drop(row_gone)
        for row in whole.volumes:
            row.plugged = row.volume_id in disks
        for nic in whole.nics:
            nic.plugged = nic.port_id in nics

    # --- images ---

    def cancel_snapshots(self, whole: Whole) -> str:
        if not whole.snapshots:
            return ""

        def work(tx: Tx) -> None:
            for snapshot in whole.snapshots:
                cancel(tx, snapshot, self.now())

        self._write(work)
        return "images of the server are being given up"

    def shelve_image_state(self, whole: Whole) -> str:
        image_id = whole.server.shelve_image
        if image_id is None:
            return "active"
        found = self.db.read(lambda tx: image.find_image(tx, image_id))
        if any(snapshot.kind == "shelve" for snapshot in whole.snapshots):
            return ""
        return "active" if found is not None and found.status == "active" else "gone"

    def drop_shelve_image(self, whole: Whole) -> None:
        image_id = whole.server.shelve_image
        if image_id is not None:
            self._write(lambda tx: image.remove(tx, image_id, self.now()))


def _tie(row: ServerVolume, tx: Tx) -> tuple[volume.AttachmentView | None, volume.VolumeView | None]:
    return volume.attachment(tx, row.id), volume.find_volume(tx, row.volume_id)


def _flaw(tie: volume.AttachmentView | None, found: volume.VolumeView | None) -> str:
    """Why a volume cannot be had, "" when it can or will be."""
    if tie is None or found is None:
        return "it is gone"
    return tie.fault or (found.fault or "it is in error" if found.status == "error" else "")


def kind(db: Database, hub: Hub, clock: Callable[[], float] = time.time) -> Kind[Any]:
    """How the engine handles servers."""
    return Kind("server", load, step, save, overdue, lambda lease: ServerWorld(db, hub, lease, clock))
