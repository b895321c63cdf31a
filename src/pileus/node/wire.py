"""How controller and node speak: one POST a driver verb, typed at both ends by the Protocols themselves.

POST /v1/{family}/{verb} with the arguments as a JSON object; the answer is {"result": …}, or
{"error": name, "message": …}.  The headers x-lease (kind/id) and x-epoch say under which lease a
controller speaks; a node refuses lower epochs than it has seen.
"""

import http.client
import inspect
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints
from urllib.parse import unquote, urlsplit

import msgspec

from pileus.compute.drivers import Broken, Hypervisor, Refused
from pileus.network.drivers import Switch
from pileus.volume.drivers import Block

FAMILIES: dict[str, type] = {"hypervisor": Hypervisor, "switch": Switch, "block": Block}


class Stale(ConnectionError):
    """A newer lease exists: this controller must stop."""


class NodeError(ConnectionError):
    """The node answered with a defect of its own; the step is tried again."""


ERRORS: dict[str, type[Exception]] = {
    "Refused": Refused,
    "Broken": Broken,
    "LookupError": LookupError,
    "ValueError": ValueError,
    "Stale": Stale,
}


def _encode_other(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} does not cross the wire")


class Verb:
    """One verb of a driver Protocol: how its arguments and its result are decoded."""

    def __init__(self, function: Callable[..., Any]):
        hints = get_type_hints(function)
        self.result = msgspec.json.Decoder(hints.pop("return"))
        self.names = tuple(inspect.signature(function).parameters)[1:]
        self.hints = {name: hints[name] for name in self.names}

    def arguments(self, raw: bytes) -> dict[str, Any]:
        """Typed arguments of a request, in the order of the Protocol; raises msgspec.ValidationError."""
        given = msgspec.json.decode(raw or b"{}", type=dict[str, msgspec.Raw])
        if set(given) != set(self.names):
            raise msgspec.ValidationError(f"expected the arguments {', '.join(self.names)}")
        return {name: msgspec.json.decode(given[name], type=self.hints[name]) for name in self.names}


VERBS: dict[tuple[str, str], Verb] = {
    (family, name): Verb(function)
    for family, protocol in FAMILIES.items()
    for name, function in vars(protocol).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


def encode(value: Any) -> bytes:
    """JSON of anything that a driver takes or gives."""
    return msgspec.json.encode(value, enc_hook=_encode_other)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket's path; raises OSError when nobody listens."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Tls(NamedTuple):
    """How we prove ourselves to another machine, and the name that its certificate must bear ("": the URL's host)."""

    context: ssl.SSLContext
    peer: str = ""


class NamedConnection(http.client.HTTPConnection):
    """HTTP over TLS to somebody whom we know by another name than the address."""

    def __init__(self, host: str, port: int, timeout: float, tls: Tls):
        super().__init__(host, port, timeout=timeout)
        self.tls = tls

    def connect(self) -> None:
        """Connect and shake hands; raises ssl.SSLError (an OSError) when the other end is somebody else."""
        super().connect()
        self.sock = self.tls.context.wrap_socket(self.sock, server_hostname=self.tls.peer or self.host)


def open_connection(url: str, timeout: float, tls: Tls | None = None) -> http.client.HTTPConnection:
    """A connection to unix:///path or https://host:port."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return UnixConnection(unquote(parts.path), timeout)
    if parts.scheme == "https" and tls is not None:
        return NamedConnection(parts.hostname or "", parts.port or 443, timeout, tls)
    raise ValueError(f"{url}: expected unix:///… or https://… with a certificate")
