"""Requests to identity providers: bounded in time and size, to the hosts that the operator named and no others.

A provider's documents name further addresses.  They are taken only where they lie on the provider's own host or on one
of those that the operator added, so that no document can make this cloud ask its own neighbours (SSRF); redirects are
not followed.
"""

import asyncio
import functools
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httptools
from msgspec import Struct

SECONDS = 10.0  # for the whole exchange, the look-up of the name included
MOST_BYTES = 1 << 20  # of an answer, its headers included
_CHUNK = 65_536


class Unreachable(Exception):
    """A provider that does not answer, or not as a provider does; the text is for the log."""


class Fetched(Struct, frozen=True, kw_only=True):
    """An answer."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body, which must be an object; raises Unreachable."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Unreachable("the answer is no JSON object")
        return found


class _Answer:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


@functools.lru_cache(maxsize=16)
def trusted(ca_file: str) -> ssl.SSLContext:
    """What certificates of providers are checked against; "": the machine's own authorities."""
    return ssl.create_default_context(cafile=ca_file or None)


def check_address(url: str, home: str, hosts: tuple[str, ...]) -> None:
    """Refuse an address that a provider must not send us to; raises Unreachable.

    `home`: the provider's issuer; a provider with TLS never leads to an address without.
    """
    try:
        to, own = urlsplit(url), urlsplit(home)
        port, own_port = to.port or default_port(to.scheme), own.port or default_port(own.scheme)
    except ValueError:
        raise Unreachable(f"{url[:200]!r} is no address") from None
    named = {(own.hostname, own_port), *((host.lower(), 443) for host in hosts)}
    if to.scheme not in ("https", own.scheme) or to.scheme not in ("http", "https") or "@" in to.netloc:
        raise Unreachable(f"{url[:200]!r} is no address that may be asked")
    if (to.hostname, port) not in named or not url.isascii() or any(c <= " " for c in url):
        raise Unreachable(f"{url[:200]!r} is on a host that the configuration does not name for this provider")


def default_port(scheme: str) -> int:
    """The port that an address leaves out."""
    return 443 if scheme == "https" else 80


async def fetch(
    url: str, *, headers: Mapping[str, str] | None = None, form: bytes | None = None, ca_file: str = "",
) -> Fetched:  # fmt: skip
    """GET an address, or POST a form to it; raises Unreachable.  The address was checked before."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _exchange(url, headers or {}, form, ca_file)
    except TimeoutError:
        raise Unreachable(f"{url[:200]} did not answer within {SECONDS:g} s") from None
    except (OSError, ValueError, httptools.HttpParserError) as error:
        raise Unreachable(f"{url[:200]}: {error}") from None


async def _exchange(url: str, headers: Mapping[str, str], form: bytes | None, ca_file: str) -> Fetched:
    address = urlsplit(url)
    tls = trusted(ca_file) if address.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        address.hostname, address.port or default_port(address.scheme), ssl=tls
    )
    try:
        writer.write(_request(address.netloc, address.path or "/", address.query, headers, form))
        return await _read(reader)
    finally:
        writer.close()


def _request(host: str, path: str, query: str, headers: Mapping[str, str], form: bytes | None) -> bytes:
    """The request's bytes."""
    lines = [f"{'GET' if form is None else 'POST'} {path}{'?' + query if query else ''} HTTP/1.1", f"host: {host}",
             "accept: application/json", "connection: close"]  # fmt: skip
    if form is not None:
        lines += ["content-type: application/x-www-form-urlencoded", f"content-length: {len(form)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header holds a line break")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (form or b"")


async def _read(reader: asyncio.StreamReader) -> Fetched:
    """The answer, until it is complete or the other side closes."""
    answer, size = _Answer(), 0
    parser = httptools.HttpResponseParser(answer)
    while not answer.complete:
        data = await reader.read(_CHUNK)
        size += len(data)
        if size > MOST_BYTES:
            raise Unreachable(f"the answer is larger than {MOST_BYTES} bytes")
        if not data:
            break
        parser.feed_data(data)
    if not size or parser.get_http_version() is None:
        raise Unreachable("the connection was closed without an answer")
    return Fetched(status=parser.get_status_code(), body=b"".join(answer.parts))
