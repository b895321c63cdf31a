"""Who is who between machines: every controller and every node has a certificate of the cloud's own authority.

A certificate names its owner as a DNS name below `pileus.internal`, which no resolver knows: the names
are only ever compared.  A node proves by it who it is and can be nobody else (RFC 5280, RFC 9525).
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

CONTROLLER = "controller.pileus.internal"
_NODE = ".node.pileus.internal"


class Identity(NamedTuple):
    """The files by which one machine proves itself, and the authority that it believes."""

    certificate: Path
    key: Path
    authority: Path


def identity(folder: Path) -> Identity:
    """The files of an identity, by their names in its folder."""
    return Identity(folder / "own.crt", folder / "own.key", folder / "authority.crt")


def node_name(node_id: str) -> str:
    """The name that stands in a node's certificate."""
    return node_id + _NODE


def names(certificate: Mapping[str, Any] | None) -> set[str]:
    """The DNS names in a peer's certificate, as `ssl` decodes it; none without a certificate."""
    entries = (certificate or {}).get("subjectAltName", ())
    return {value for kind, value in entries if kind == "DNS"}


def node_of(certificate: Mapping[str, Any] | None) -> str:
    """The id of the node that a peer's certificate names, "" when it names none."""
    return next((name.removesuffix(_NODE) for name in names(certificate) if name.endswith(_NODE)), "")


def calling(own: Identity) -> ssl.SSLContext:
    """For connections to others: shows our certificate, believes only our authority, compares names."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(own.authority))
    context.load_cert_chain(own.certificate, own.key)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def answering(own: Identity, *, strangers: bool = False) -> ssl.SSLContext:
    """For connections from others, who must show a certificate; `strangers` may come without (to join)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(own.authority))
    context.load_cert_chain(own.certificate, own.key)
    context.verify_mode = ssl.CERT_OPTIONAL if strangers else ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
