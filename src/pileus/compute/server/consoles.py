"""Consoles of servers: the log of the serial line, screens and serial lines in a browser, who holds a token.

Source: Compute API reference, "Server Consoles (servers, remote-consoles)", "Show Console Output",
"Server consoles (os-console-auth-tokens)".
"""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pileus.compute.server.access import load_server, state_of
from pileus.compute.server.actions import action
from pileus.compute.server.rows import CONSOLE_TOKENS, SERVERS, ConsoleToken, Server
from pileus.compute.service import ADMIN, COMPUTE, MEMBER
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.op import Reply
from pileus.core.schema import Schema

OUTPUT = "os_compute_api:os-console-output"
REMOTE = "os_compute_api:os-remote-consoles"
LOG_LIMIT = 1 << 20  # bytes
TOKEN_SECONDS = 600.0  # how long a token opens its console


def hub_of(call: Any) -> Any:
    """The wires to the nodes, as the API process has them."""
    return call.app.settings.hub


async def fetch_log(call: Any) -> Mapping[str, Any]:
    """The log from the node, outside of every transaction; nothing while there is no node."""
    server: Server = await call.read(lambda ctx: load_server(ctx, call.match.path["server_id"]))
    if server.node_id is None:
        return {"log": None}
    node = hub_of(call).hypervisor(server.node_id)
    try:
        return {"log": await asyncio.to_thread(node.console_log, server.id, LOG_LIMIT)}
    except (OSError, LookupError):
        return {"log": None}


@action("os-getConsoleOutput", OUTPUT, ok=200, slow=fetch_log, reads=True, inner={
    "type": ["object", "null"],
    "properties": {"length": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]{1,9}$", "minimum": -1}},
    "additionalProperties": False,
})  # fmt: skip
def show_console_output(ctx: Context, server: Server, body: dict[str, Any] | None, log: bytes | None) -> Reply:
    """Show the end of the log of the serial console, or all of it (length -1 or none)."""
    if log is None:
        raise Conflicted(f"Instance {server.id} is not ready" if server.node_id is None
                         else f"The node of instance {server.id} does not answer: try again.")  # fmt: skip
    text = log.decode("utf-8", "replace").replace("\0", "")
    length = (body or {}).get("length")
    if length is not None and int(length) >= 0:
        text = "\n".join(text.split("\n")[-int(length) :]) if int(length) else ""
    return Reply({"output": text})


def open_console(ctx: Context, server: Server, kind: str) -> str:
    """A new token's URL; raises Conflicted for a server that does not run."""
    state = state_of(ctx, server)
    if server.node_id is None or state.vm_state == "building":
        raise Conflicted(f"Instance {server.id} is not ready")
    token = secrets.token_urlsafe(32)
    ctx.tx.run("delete from console_tokens where expires_at < ?", ctx.now)
    digest = hashlib.sha256(token.encode()).hexdigest()
    CONSOLE_TOKENS.insert(
        ctx.tx, ConsoleToken(digest=digest, server_id=server.id, kind=kind, expires_at=ctx.now + TOKEN_SECONDS)
    )
    root = ctx.url.removesuffix("/compute")
    if kind == "serial":
        return f"{root.replace('http', 'ws', 1)}/serial?token={token}"
    return f"{root}/vnc/vnc_lite.html?path={quote(f'?token={token}', safe='')}"


_KINDS = {("vnc", "novnc"): "vnc", ("serial", "serial"): "serial"}
_PROTOCOLS = ["vnc", "spice", "serial", "rdp", "mks"]
_TYPES = ["novnc", "xvpvnc", "spice-html5", "serial", "rdp-html5", "webmks", "spice-direct"]


def _remote(protocols: list[str], types: list[str]) -> Schema:
    inner = {
        "type": "object", "properties": {"protocol": {"enum": protocols}, "type": {"enum": types}},
        "required": ["protocol", "type"], "additionalProperties": False,
    }  # fmt: skip
    return {
        "type": "object", "properties": {"remote_console": inner}, "required": ["remote_console"],
        "additionalProperties": False,
    }  # fmt: skip


def _create(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    protocol, kind = body["remote_console"]["protocol"], body["remote_console"]["type"]
    if (protocol, kind) not in _KINDS:
        raise BadRequest(f"Unavailable console type {kind} of protocol {protocol}: use vnc/novnc or serial/serial.")
    url = open_console(ctx, server, _KINDS[protocol, kind])
    return Reply({"remote_console": {"protocol": protocol, "type": kind, "url": url}})


_PATH = "/servers/{server_id}/remote-consoles"


@COMPUTE.op(
    "POST", _PATH, rule=REMOTE, allow=MEMBER, load=load_server, since="2.6", until="2.7",
    takes=_remote(_PROTOCOLS[:4], _TYPES[:5]),
)  # fmt: skip
def create_console_first(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Create a console."""
    return _create(ctx, server, body)


@COMPUTE.op("POST", _PATH, rule=REMOTE, allow=MEMBER, load=load_server, since="2.8", takes=_remote(_PROTOCOLS, _TYPES))
def create_console(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Create a console."""
    return _create(ctx, server, body)


def _typed(*kinds: str) -> Schema:
    return {
        "type": "object", "properties": {"type": {"enum": list(kinds)}}, "required": ["type"],
        "additionalProperties": False,
    }  # fmt: skip


@action("os-getVNCConsole", REMOTE, ok=200, until="2.5", inner=_typed("novnc", "xvpvnc"))
def get_vnc_console(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Open the screen."""
    if body["type"] != "novnc":
        raise BadRequest(f"Unavailable console type {body['type']}.")
    return Reply({"console": {"type": "novnc", "url": open_console(ctx, server, "vnc")}})


@action("os-getSerialConsole", REMOTE, ok=200, until="2.5", inner=_typed("serial"))
def get_serial_console(ctx: Context, server: Server) -> Reply:
    """Open the serial line."""
    return Reply({"console": {"type": "serial", "url": open_console(ctx, server, "serial")}})


@action("os-getSPICEConsole", REMOTE, ok=200, until="2.5", inner=_typed("spice-html5"))
def get_spice_console(server: Server) -> Reply:
    """Guests here have no SPICE display."""
    raise BadRequest("Unavailable console type spice-html5.")


@action("os-getRDPConsole", REMOTE, ok=200, until="2.5", inner=_typed("rdp-html5"))
def get_rdp_console(server: Server) -> Reply:
    """Guests here have no RDP display."""
    raise BadRequest("Unavailable console type rdp-html5.")


def load_token(ctx: Context, token: str) -> ConsoleToken:
    """A token that still opens something; raises NotFound."""
    found = CONSOLE_TOKENS.get(ctx.tx, digest=hashlib.sha256(token.encode()).hexdigest())
    if found is None or found.expires_at < ctx.now:
        raise NotFound("Token not found")
    return found


@COMPUTE.op(
    "GET", "/os-console-auth-tokens/{token}", rule="os_compute_api:os-console-auth-tokens", allow=ADMIN,
    load=load_token, since="2.31",
)  # fmt: skip
def show_token(ctx: Context, found: ConsoleToken) -> Reply:
    """What a token opens; consoles are reached through the node's agent, so there is no port."""
    server = SERVERS.get(ctx.tx, id=found.server_id)
    shown: dict[str, Any] = {
        "instance_uuid": found.server_id, "host": server.node_name if server else None, "port": 0,
        "internal_access_path": None,
    }  # fmt: skip
    if ctx.version >= (2, 99):
        shown["tls_port"] = None
    return Reply({"console": shown})
