"""What the wiring may ask of compute: its API, its living resources, what nodes report and guests may know."""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from pileus.compute import nodes, operations
from pileus.compute.nodes import Report, expected_copies, expected_guests, node_report, powers_shown
from pileus.compute.server import check, snapshot, world
from pileus.compute.server.documents import instance
from pileus.compute.server.rows import CONSOLE_TOKENS, NICS, SERVERS, VOLUMES, Server
from pileus.compute.service import COMPUTE as SERVICE
from pileus.core.reconcile import Kind
from pileus.db.connect import Database, Tx
from pileus.metadata import document
from pileus.network import facade as network

__all__ = [
    "SERVICE", "Report", "console", "expected_copies", "expected_guests", "inconsistencies", "kinds", "metadata_tree",
    "node_report", "powers_shown", "set_password",
]  # fmt: skip
assert operations  # importing it registers every operation
PASSWORD_LIMIT = 1020  # characters of base64, upstream's limit


def kinds(db: Database, hub: world.Hub, clock: Callable[[], float] = time.time) -> list[Kind[Any]]:
    """What lives here: servers, and images being made of them."""
    return [world.kind(db, hub, clock), snapshot.kind(db, hub, clock)]


def _server_at(tx: Tx, network_id: str, address: str) -> Server | None:
    port = network.port_at(tx, network_id, address)
    return SERVERS.get(tx, id=port.device_id, deleted=False) if port is not None and port.device_id else None


def metadata_tree(tx: Tx, network_id: str, address: str) -> Mapping[str, bytes] | None:
    """Every file that the guest with this address may read, None when there is no such guest."""
    server = _server_at(tx, network_id, address)
    if server is None:
        return None
    nics = NICS.all(tx, order="server_nics.position", server_id=server.id)
    volumes = VOLUMES.all(tx, order="server_volumes.position", server_id=server.id)
    return document.tree(instance(tx, server, nics, volumes))


def set_password(tx: Tx, network_id: str, address: str, data: bytes) -> bool:
    """Keep the password that a guest posts (encrypted with its owner's key); False when there is one already.

    Raises LookupError for an address of nobody, ValueError for what is too long or no base64.
    """
    server = _server_at(tx, network_id, address)
    if server is None:
        raise LookupError("404 Not Found")
    if len(data) > PASSWORD_LIMIT:
        raise ValueError("Request is too large.")
    text = data.decode("ascii")
    base64.b64decode(text, validate=True)
    if server.password:
        return False
    SERVERS.update(tx, {"password": text}, id=server.id)
    return True


def console(tx: Tx, token: str, now: float) -> tuple[str, str, str] | None:
    """(node id, server id, kind) that a console token opens, None when it is unknown or over."""
    found = CONSOLE_TOKENS.get(tx, digest=hashlib.sha256(token.encode()).hexdigest())
    if found is None or found.expires_at < now:
        return None
    server = SERVERS.get(tx, id=found.server_id, deleted=False)
    return None if server is None or server.node_id is None else (server.node_id, server.id, found.kind)


def inconsistencies(tx: Tx) -> list[str]:
    """What should not be; one line each, empty when all is well."""
    return nodes.inconsistencies(tx) + check.inconsistencies(tx)
