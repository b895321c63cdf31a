"""A machine becomes a node: it learns the authority, gets a certificate for its own key, remembers where it belongs."""

import http.client
import json
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from pileus.core.config import Config
from pileus.node import trust
from pileus.node.wire import Tls, open_connection
from pileus.roles import authority

SECONDS = 30.0


class Membership(Struct, frozen=True, kw_only=True):
    """What a node remembers of the cloud that it joined."""

    url: str  # https://host:port of the controllers' door
    node_id: str


class JoinRefused(Exception):
    """The controller did not take this machine; the text says why."""


def folder(config: Config) -> Path:
    """Where a node keeps its identity."""
    return config.folder / "node" / "trust"


def membership(config: Config) -> Membership | None:
    """The cloud that this machine joined, None when it is none's or its own."""
    path = folder(config) / "membership.json"
    return msgspec.json.decode(path.read_bytes(), type=Membership) if path.exists() else None


def join(config: Config, url: str, token: str) -> Membership:
    """Join the cloud whose door is at `url`; raises JoinRefused, or OSError when nobody answers there."""
    secret, _, wanted = token.strip().rpartition(".")
    home = folder(config)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = trust.identity(home)
    own.authority.write_bytes(_authority(url, wanted))
    key = authority.new_key()
    authority.write_secret(own.key, key)
    context = ssl.create_default_context(cafile=str(own.authority))
    body = {"token": secret, "request": authority.new_request(key).decode()}
    status, answer = _send("POST", url, "/node/v1/join", Tls(context), json.dumps(body).encode())
    if status != 200:
        raise JoinRefused(answer.decode(errors="replace").strip())
    given = json.loads(answer)
    own.certificate.write_text(given["certificate"])
    member = Membership(url=url.rstrip("/"), node_id=given["node_id"])
    (home / "membership.json").write_bytes(msgspec.json.encode(member))
    return member


def _authority(url: str, wanted: str) -> bytes:
    """The cloud's authority, fetched from whoever answers, believed only if the token speaks of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    status, pem = _send("GET", url, "/node/v1/authority", Tls(context))
    try:
        if status == 200 and authority.fingerprint(pem) == wanted:
            return pem
    except ValueError:
        pass
    raise JoinRefused("whoever answers there is not the cloud that made this token")


def _send(method: str, url: str, path: str, tls: Tls, body: bytes = b"") -> tuple[int, bytes]:
    if urlsplit(url).scheme != "https":
        raise JoinRefused(f"{url}: expected https://host:port, as `pileus join-token` prints it")
    connection = open_connection(url, SECONDS, tls)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from None
    finally:
        connection.close()
