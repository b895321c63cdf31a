"""The controllers' door for nodes: reports come in, metadata, passwords and image bytes go through it.

On one machine it is a unix socket of root's.  For nodes elsewhere it is TLS: a node shows its
certificate and may speak for itself only; a stranger may only learn the authority and join.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from pileus.compute import facade as compute
from pileus.core.ids import new_id
from pileus.db.connect import Database, Unavailable
from pileus.http.app import Receive, Scope, Send
from pileus.image import facade as image
from pileus.image.drivers import Blob
from pileus.metadata import document
from pileus.network import facade as network
from pileus.node import trust
from pileus.roles import authority
from pileus.roles.asgi import read_all, respond
from pileus.roles.join_tokens import redeem

log = logging.getLogger("pileus.door")
REPORT_LIMIT = 32 << 20
SMALL_LIMIT = 64 << 10
KEPT_SECONDS = 1.0


class JoinRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine sends to become a node."""

    token: str
    request: str  # a certificate request, PEM


class Forbidden(Exception):
    """This caller may not ask for that."""


class NodeDoor:
    """What node agents may ask of a controller."""

    def __init__(self, db: Database, blob: Blob, keys: Path):
        self.db, self.blob, self.keys = db, blob, keys
        self._trees: dict[tuple[str, str], tuple[float, Mapping[str, bytes] | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": message["type"] + ".complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        try:
            await self._answer(scope, receive, send)
        except Forbidden as error:
            log.warning("%s from %s: %s", scope["path"], scope.get("client"), error)
            await respond(send, 403, f"{error}\n".encode())
        except LookupError as error:
            await respond(send, 404, f"{error}\n".encode())
        except (ValueError, msgspec.MsgspecError) as error:
            await respond(send, 400, f"{error}\n".encode())
        except Unavailable as error:
            await respond(send, 503, f"{error}\n".encode())
        except Exception:
            log.exception("%s failed", scope["path"])
            await respond(send, 500, b"see the log\n")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything there is to ask, in one place; only the first two are for strangers."""
        method, parts = scope["method"], scope["path"].strip("/").split("/")
        match method, parts:
            case "GET", ["node", "v1", "authority"]:
                await respond(send, 200, trust.identity(authority.folder_of(self.keys)).authority.read_bytes())
            case "POST", ["node", "v1", "join"]:
                raw = await read_all(receive, SMALL_LIMIT)
                await respond(send, 200, await asyncio.to_thread(self._join, raw), "application/json")
            case "POST", ["node", "v1", "report"]:
                node_id, raw = speaker(scope), await read_all(receive, REPORT_LIMIT)
                answer = await asyncio.to_thread(self._report, raw, node_id)
                await respond(send, 200, answer, "application/json")
            case (("GET" | "POST"), ["node", "v1", "metadata", network_id, address, *path]):
                ask = (speaker(scope), network_id, unquote(address), "/".join(path))
                raw = await read_all(receive, SMALL_LIMIT)
                status, body = await asyncio.to_thread(self._metadata, *ask, raw if method == "POST" else None)
                await respond(send, status, body)
            case "GET", ["node", "v1", "images", image_id] if speaker(scope):
                await self._image(image_id, send)
            case _:
                raise LookupError("no such path")

    def _join(self, raw: bytes) -> bytes:
        """A certificate for whoever shows a join token that nobody used."""
        given = msgspec.json.decode(raw, type=JoinRequest)
        node_id = new_id()
        certificate = authority.sign_node(self.keys, given.request.encode(), node_id)
        if not self.db.transact(lambda tx: redeem(tx, given.token, node_id, time.time())):
            raise Forbidden("this join token is unknown, used, or too old: make another with `pileus join-token`")
        log.info("a machine joined as node %s", node_id)
        return msgspec.json.encode({"node_id": node_id, "certificate": certificate.decode()})

    def _report(self, raw: bytes, node_id: str) -> bytes:
        """What a node is and has; one from elsewhere reports itself, at an address where it must prove that again."""
        report = msgspec.json.decode(raw, type=compute.Report)
        if node_id and (report.id != node_id or not report.url.startswith("https://")):
            raise Forbidden(f"node {node_id} may report nothing but itself, at an https:// address")
        return msgspec.json.encode(self.db.transact(lambda tx: compute.node_report(tx, report, time.time())))

    def _metadata(
        self, node_id: str, network_id: str, address: str, path: str, posted: bytes | None
    ) -> tuple[int, bytes]:
        """What a guest is told, or the answer to the password that it posts."""
        if node_id and network_id not in self.db.read(lambda tx: network.expected(tx, node_id))["segment"]:
            raise Forbidden(f"node {node_id} does not serve network {network_id}")
        if posted is not None:
            if path.rsplit("/", 1)[-1] != "password" or not path.startswith("openstack/"):
                return 404, b"404 Not Found\n"
            kept = self.db.transact(lambda tx: compute.set_password(tx, network_id, address, posted))
            self._trees.pop((network_id, address), None)
            return (200, b"") if kept else (409, b"409 Conflict\n")
        tree = self._tree(network_id, address)
        found = None if tree is None else document.lookup(tree, path)
        return (404, b"404 Not Found\n") if found is None else (200, found)

    def _tree(self, network_id: str, address: str) -> Mapping[str, bytes] | None:
        """All that a guest may read, kept for a second, since one boot asks some twenty times."""
        now, key = time.monotonic(), (network_id, address)
        kept = self._trees.get(key)
        if kept is None or now - kept[0] > KEPT_SECONDS:
            tree = self.db.read(lambda tx: compute.metadata_tree(tx, network_id, address))
            if len(self._trees) > 1000:
                self._trees.clear()
            kept = self._trees[key] = (now, tree)
        return kept[1]

    async def _image(self, image_id: str, send: Send) -> None:
        """The bytes of an active image."""
        name = await asyncio.to_thread(self.db.read, lambda tx: image.blob_name(tx, image_id))
        size = self.blob.size(name)
        chunks: Iterator[bytes] = self.blob.read(name, 0, size)
        head = [(b"content-type", b"application/octet-stream"), (b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        while chunk := await asyncio.to_thread(next, chunks, b""):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def speaker(scope: Scope) -> str:
    """Whose word this is: "" for this machine's own agent (a unix socket that only root opens), else a node's id.

    Raises Forbidden for a caller from elsewhere that is no node of this cloud.
    """
    if scope["scheme"] != "https":
        return ""
    node_id = trust.node_of(scope["peer_certificate"])
    if not node_id:
        raise Forbidden("a node's certificate is needed: `pileus join` gets one")
    return node_id
