"""What browsers and monitors get beside the APIs: the console page and its socket, health, metrics."""

import asyncio
import contextlib
import logging
import mimetypes
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec

from pileus.compute import facade as compute
from pileus.core.config import Config
from pileus.db.connect import Database, Tx, Unavailable
from pileus.http.app import Receive, Scope, Send
from pileus.roles.asgi import respond

log = logging.getLogger("pileus.pages")
NOVNC = Path("/usr/share/novnc")


def page_file(name: str) -> Path | None:
    """The file of noVNC's by this name, None for anything else."""
    try:
        path = (NOVNC / name).resolve()
        return path if path.is_relative_to(NOVNC.resolve()) and path.is_file() else None
    except (ValueError, OSError):  # NUL, or longer than names may be
        return None


class Pages:
    """What is served beside the APIs: /healthz, /metrics, the console page and its socket."""

    def __init__(self, config: Config, db: Database, hub: Any):
        self.config, self.db, self.hub = config, db, hub
        self.started = time.time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> bool:
        try:
            return await self._answer(scope, receive, send)
        except Unavailable as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1013})  # RFC 6455 §7.4: try again later
            else:
                await respond(send, 503, f"{error}\n".encode())
            return True

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        if scope["type"] == "websocket":
            await self._console(scope, receive, send)
            return True
        path = scope.get("path", "")
        if path == "/healthz":
            await respond(send, 200, b"ok\n")
        elif path == "/metrics":
            await respond(send, 200, self.db.read(self._metrics).encode(), "text/plain; version=0.0.4")
        elif path == "/":
            await respond(send, 300, self._versions(), "application/json")
        elif path.startswith("/vnc/"):
            await self._static(path.removeprefix("/vnc/"), send)
        else:
            return False
        return True

    def _versions(self) -> bytes:
        names = ("identity", "compute/v2.1", "image", "networking", "volume", "placement")
        return msgspec.json.encode({"services": {n.split("/")[0]: f"{self.config.url}/{n}" for n in names}})

    def _metrics(self, tx: Tx) -> str:
        """Prometheus text: what there is, and what waits for work."""
        lines = [f"pileus_up_seconds {time.time() - self.started:.0f}"]
        for kind, count in tx.all("select kind, count(*) from work where due is not null group by kind"):
            lines.append(f'pileus_work_due{{kind="{kind}"}} {count}')
        for table in ("servers", "ports", "volumes", "images", "nodes"):
            row = tx.one(f"select count(*) from {table}")
            lines.append(f'pileus_resources{{kind="{table}"}} {row[0] if row else 0}')
        return "\n".join(lines) + "\n"

    async def _static(self, name: str, send: Send) -> None:
        """noVNC's own files, as Debian's package holds them."""
        page = page_file(name or "vnc_lite.html")
        if page is None:
            await respond(send, 404, b"not found; the package novnc holds these files\n")
            return
        kind = mimetypes.guess_type(page.name)[0] or "application/octet-stream"
        safe = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
        await respond(send, 200, page.read_bytes(), kind, safe)

    async def _console(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket joined to a guest's screen or serial line: the token says which, the Origin must be ours."""
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        await receive()
        found = await asyncio.to_thread(self._opens, scope, headers)  # a commit of this very loop may be under way
        if found is None:
            await send({"type": "websocket.close", "code": 1008})
            return
        node_id, server_id, kind = found
        try:
            guest = await asyncio.to_thread(self.hub.wire(node_id).console, server_id, kind)
        except (OSError, LookupError) as error:
            log.info("console of %s: %s", server_id, error)
            await send({"type": "websocket.close", "code": 1011})
            return
        offered = scope.get("subprotocols", [])
        await send({"type": "websocket.accept", "subprotocol": "binary" if "binary" in offered else None})
        await self._relay(guest, receive, send)

    def _opens(self, scope: Scope, headers: Mapping[str, str]) -> tuple[str, str, str] | None:
        """(node id, server id, kind) of the console that this request may have; None when it may have none.

        A browser says in Origin whose page asks: another site's page gets nothing, whatever its token
        (CVE-2015-0259).
        """
        origin = headers.get("origin", "")
        if origin and origin.split("://")[-1] not in (headers.get("host", ""), self.config.url.split("://")[-1]):
            return None
        token = self._token(scope, headers)
        found = self.db.transact(lambda tx: compute.console(tx, token, time.time())) if token else None
        asked = "serial" if scope["path"] == "/serial" else "vnc"
        return found if found is not None and found[2] == asked else None

    @staticmethod
    def _token(scope: Scope, headers: Mapping[str, str]) -> str:
        """From the query, or from the cookie that noVNC's page sets."""
        query: dict[str, list[str]] = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if query.get("token"):
            return query["token"][-1]
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == "token":
                return value
        return ""

    @staticmethod
    async def _relay(guest: socket.socket, receive: Receive, send: Send) -> None:
        """Bytes both ways until either side ends."""
        guest.setblocking(False)
        loop = asyncio.get_running_loop()

        async def out() -> None:
            with contextlib.suppress(OSError):
                while data := await loop.sock_recv(guest, 1 << 16):
                    await send({"type": "websocket.send", "bytes": data})
            await send({"type": "websocket.close", "code": 1000})

        pumping = asyncio.create_task(out())
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await loop.sock_sendall(guest, message.get("bytes") or (message.get("text") or "").encode())
        except OSError:
            pass
        finally:
            pumping.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, RuntimeError):
                await pumping
            guest.close()
