"""A controller: the API of every service, the workers, the door for nodes; wiring only."""

import gc
import logging
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pileus.compute import facade as compute
from pileus.core.config import Config
from pileus.core.errors import ServiceUnavailable
from pileus.core.log import REQUEST_ID
from pileus.core.nodes import NODES
from pileus.core.op import Service
from pileus.core.policy import Enforcer
from pileus.core.policy_files import PolicyFiles
from pileus.core.reconcile import Kind, Lease, Worker
from pileus.db.connect import Database, connect
from pileus.drivers.blob.file import FileBlob
from pileus.http.app import App, Call
from pileus.http.audit import Audit
from pileus.http.transactions import transactions
from pileus.identity import facade as identity
from pileus.image import facade as image
from pileus.image.drivers import Blob
from pileus.network import facade as network
from pileus.node import trust
from pileus.node.client import BlockClient, HypervisorClient, SwitchClient, Wire
from pileus.node.wire import Tls
from pileus.placement import facade as placement
from pileus.roles import authority
from pileus.volume import facade as volume

log = logging.getLogger("pileus.controller")


def services() -> list[Service]:
    """Every API that this program speaks."""
    return [m.SERVICE for m in (identity, placement, image, network, volume, compute)]


class Connect:
    """Nodes and stores as worlds reach them: one driver client for each node and lease."""

    def __init__(self, db: Database, blob: Blob, keys_folder: Path, tls: ssl.SSLContext | None = None):
        self.db, self.blob, self.keys_folder, self.tls = db, blob, keys_folder, tls
        self._wires: dict[str, Wire] = {}
        self._transfers: dict[str, Any] = {}

    def wire(self, node_id: str) -> Wire:
        """The wire to a node, which must prove to be that node; raises ConnectionError for one that is not known."""
        node = self.db.read(lambda tx: NODES.get(tx, id=node_id))
        if node is None:
            raise ConnectionError(f"node {node_id} is not known")
        found = self._wires.get(node_id)
        if found is None or found.url != node.url:
            tls = Tls(self.tls, trust.node_name(node_id)) if self.tls else None
            found = self._wires[node_id] = Wire(node.url, tls, REQUEST_ID.get)
        return found

    def hypervisor(self, node_id: str, lease: Lease | None = None) -> HypervisorClient:
        return HypervisorClient(self.wire(node_id), fence(lease))

    def switch(self, node_id: str, lease: Lease | None = None) -> SwitchClient:
        return SwitchClient(self.wire(node_id), fence(lease))

    def block(self, node_id: str, lease: Lease | None = None) -> BlockClient:
        return BlockClient(self.wire(node_id), fence(lease))

    def unseal(self, sealed: str) -> str:
        """A secret of the database; "" for "" and for one whose key is lost."""
        if not sealed:
            return ""
        try:
            return identity.unseal(self.keys_folder, sealed)
        except ServiceUnavailable as error:
            log.error("%s", error.message)
            return ""

    def copy_chunks(self, node_id: str, copy_id: str) -> Iterator[bytes]:
        """The bytes of a finished disk copy on a node."""
        return self.wire(node_id).chunks(f"/v1/copies/{quote(copy_id)}")

    def volume_chunks(self, node_id: str, pool: str, volume_id: str) -> Iterator[bytes]:
        """The bytes of a volume on a node."""
        return self.wire(node_id).chunks(f"/v1/volumes/{quote(pool)}/{quote(volume_id)}")

    def start(self, key: str, work: Callable[[], None]) -> None:
        """Run a long transfer in the background, unless it runs already."""
        if self._transfers.get(key) == "running":
            return
        self._transfers[key] = "running"

        def run() -> None:
            try:
                work()
                self._transfers[key] = "done"
            except Exception as error:
                log.warning("transfer %s failed: %s", key, error)
                self._transfers[key] = error

        threading.Thread(target=run, name=f"transfer-{key[:16]}", daemon=True).start()

    def state(self, key: str) -> Any:
        """None (never started here), "running", "done", or what it raised; an end is told once."""
        found = self._transfers.get(key)
        if found is not None and found != "running":
            del self._transfers[key]
        return found


def fence(lease: Lease | None) -> tuple[str, int] | None:
    """A lease as nodes compare it."""
    return None if lease is None else (f"{lease.kind}/{lease.id}", lease.epoch)


def kinds(db: Database, hub: Connect, clock: Callable[[], float] = time.time) -> dict[str, Kind[Any]]:
    """Everything that lives, by kind."""
    found = [kind for m in (image, network, volume, compute) for kind in m.kinds(db, hub, clock)]
    return {kind.name: kind for kind in found}


def directories(config: Config, db: Database) -> dict[str, Kind[Any]]:
    """The directories of identity, as kinds of work; unlike all else they need the keys of this cloud."""
    found = identity.kinds(db, config.folder / "keys", config.identity.directory_seconds)
    return {kind.name: kind for kind in found}


def open_blob(config: Config) -> FileBlob:
    """The store of images on this machine."""
    return FileBlob(config.folder / "images")


def open_hub(config: Config, db: Database) -> Connect:
    """Nodes and stores, with this controller's certificate where nodes may be elsewhere."""
    keys = config.folder / "keys"
    tls = trust.calling(trust.identity(authority.folder_of(keys))) if config.controller_address else None
    return Connect(db, open_blob(config), keys, tls)


def build_api(config: Config, db: Database) -> App:
    """The API as an ASGI application."""
    from pileus.roles.pages import Pages

    hub, front, enforcer, keys = open_hub(config, db), transactions(db), Enforcer(), config.folder / "keys"
    return App(
        services(),
        front,
        identity.Authenticator(keys),
        enforcer,
        authenticate_late=identity.Authenticator(keys, config.identity.allow_expired_window),
        public_url=config.url,
        settings=Settings(config, open_blob(config), hub),
        finished=note_write,
        aliases={"v3": "/identity/v3"},  # many client configurations name identity without its root
        pages=Pages(config, db, hub),
        policy_files=PolicyFiles(config.policy_folder, enforcer),
        audit=Audit(identity.audit_trail(keys), front),
    )


def note_write(call: Call, status: int) -> None:
    """A line in the log for each request that may have changed something, the first of those with its id."""
    if call.method not in ("GET", "HEAD"):
        milliseconds = (time.perf_counter() - call.started) * 1000
        log.info("%s %s answered %d after %.0f ms", call.method, call.path[:200], status, milliseconds)


class Settings:
    """What handlers may know of the configuration, and the wires to nodes for those that ask one (console logs)."""

    def __init__(self, config: Config, blob: Blob, hub: Connect | None = None):
        self.config, self.blob, self.hub = config, blob, hub
        self.keys_folder = config.folder / "keys"
        self.region, self.zone, self.public_url = config.region, config.zone, config.url


def run_worker(config: Config, owner: str = "") -> None:
    """The worker process of this controller, or one of another name beside it."""
    db = connect(config.database_url)
    known = kinds(db, open_hub(config, db)) | directories(config, db)
    owner = owner or controller_id(config)
    Worker(db, known, threads=config.workers, lease_seconds=config.lease_seconds, owner=owner).run()


def controller_id(config: Config) -> str:
    """What tells this controller from others on the same database: made once and kept in its state folder."""
    path = config.folder / "controller-id"
    if not path.exists():
        path.write_text(str(uuid.uuid4()))
    return path.read_text().strip()


def run_api(config: Config, sockets: list[Any], door: Any, far_door: Any = None) -> None:
    """The API process: serves clients on `sockets`, this machine's agent on `door`, other nodes on `far_door`."""
    import uvloop

    from pileus.http.server import serve, server
    from pileus.roles.node_door import NodeDoor

    gc.set_threshold(20_000, 50, 50)  # the rows of one list are no cycles: hunting them costs as much as the list
    db, keys = connect(config.database_url), config.folder / "keys"
    node_door = NodeDoor(db, open_blob(config), keys)
    servers = {server(build_api(config, db)): sockets, server(node_door): [door]}
    if far_door is not None:
        tls = trust.answering(trust.identity(authority.folder_of(keys)), strangers=True)
        servers[server(node_door, tls)] = [far_door]
    uvloop.run(serve(servers))


def is_ready(config: Config) -> bool:
    """Whether the APIs answer now."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(config.listen, config.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def prepare(config: Config, admin_password: str, folder_owner: int) -> list[str]:
    """Make the state folders, the schema and the bootstrap; the migrations that were applied."""
    from pileus.db.migrate import migrate

    for name, mode in (("db", 0o750), ("keys", 0o700), ("images", 0o755), ("logs", 0o755), ("run", 0o755)):
        folder = config.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    controller_id(config)
    if config.controller_address:
        authority.ensure_authority(config.folder / "keys", config.controller_address)
    identity.ensure_keys(config.folder / "keys")
    db = connect(config.database_url)
    applied = migrate(db)
    db.transact(
        lambda tx: identity.bootstrap(
            tx,
            admin_password=admin_password,
            public_url=config.url,
            region=config.region,
            now=time.time(),
            rules=config.identity,
        )
    )
    db.close()
    own(config.folder, folder_owner)
    return applied


def own(folder: Path, uid: int) -> None:
    """Give what the service user writes to the service user (when root starts the cloud).

    By open folders, never by paths: whoever can write there could put a link where a folder was.
    """
    import os

    if os.geteuid() != 0:
        return
    for name in ("db", "keys", "images", "logs", "run"):
        for _, folders, files, opened in os.fwalk(folder / name, follow_symlinks=False):
            os.fchown(opened, uid, uid)
            for inside in folders + files:
                os.chown(inside, uid, uid, dir_fd=opened, follow_symlinks=False)
