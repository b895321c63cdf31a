"""What a proxy before us says about a client: believed from the addresses that the operator trusts alone."""

import functools
import hashlib
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from pileus.http.app import Call


@functools.lru_cache(maxsize=256)
def is_trusted(address: str, proxies: tuple[str, ...]) -> bool:
    """Whether an address lies in one of the networks."""
    found = ip_address(address)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ip_network(proxy) for proxy in proxies)


def told(call: "Call", header: str) -> str:
    """What a trusted proxy says in a header; "" from anybody else, and where more than one says it."""
    client = call.scope.get("client")
    if not header or not client or not is_trusted(client[0], call.app.settings.config.identity.trusted_proxies):
        return ""
    name = header.lower().encode("latin-1")
    values: list[bytes] = [value for given, value in call.scope["headers"] if given == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def shown_certificate(call: "Call") -> str:
    """The certificate (PEM) by which TLS let the client in, as a proxy that ended TLS tells it; "" for none."""
    return unquote(told(call, call.app.settings.config.identity.trusted_certificate_header))


def certificate_thumbprint(call: "Call") -> str | None:
    """The thumbprint of that certificate."""
    given = shown_certificate(call)
    return thumbprint_of(given) if given else None


def thumbprint_of(pem: str) -> str | None:
    """SHA-256 of a certificate's DER form, hexadecimal; None of what is no certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
