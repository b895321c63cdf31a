"""Public keys of both kinds: checked, named by their fingerprint, or made.

Fingerprints are MD5 of the key (ssh, RFC 4716 §4) and SHA-1 of the certificate (x509): names, no protection.
"""

import base64
import binascii
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pileus.core.errors import BadRequest

if TYPE_CHECKING:
    from cryptography import x509

YEARS = 10  # that a certificate made here is good for


def one_line(public_key: str, kind: str) -> str:
    """A key as it is stored; raises BadRequest unless it is a key of its kind and nothing else.

    An ssh key stands on one line: more lines would become more entries of authorized_keys.
    """
    text = public_key.strip()
    if kind == "x509":
        _certificate(text)
        return text
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadRequest("Keypair data is invalid: an ssh public key is one line without control characters")
    _blob(text)
    return text


def _blob(text: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        load_ssh_public_key(text.encode())
        return base64.b64decode(text.split()[1])
    except (ValueError, UnsupportedAlgorithm, IndexError, binascii.Error, UnicodeEncodeError) as error:
        raise BadRequest(f"Keypair data is invalid: failed to generate fingerprint: {error}") from None


def _certificate(text: str) -> "x509.Certificate":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError as error:
        raise BadRequest(f"Keypair data is invalid: failed to generate X509 fingerprint: {error}") from None


def fingerprint(public_key: str, kind: str) -> str:
    """Pairs of hexadecimal digits joined by colons."""
    from cryptography.hazmat.primitives import hashes

    if kind == "x509":
        digest = _certificate(public_key).fingerprint(hashes.SHA1())  # noqa: S303 (a name, as the reference has it)
    else:
        digest = hashlib.md5(_blob(public_key), usedforsecurity=False).digest()
    return digest.hex(":")


def generate(kind: str, user_id: str) -> tuple[str, str]:
    """(public key or certificate, private key) of a new pair."""
    return _generate_x509(user_id) if kind == "x509" else _generate_ssh()


def _generate_ssh() -> tuple[str, str]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return f"{public} Generated-by-Pileus", private


def _generate_x509(user_id: str) -> tuple[str, str]:
    """A self-signed certificate for the log-in of a user by WinRM: client authentication and a user principal name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64])])
    principal = f"{user_id[:64]}@localhost".encode()
    upn = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c" + bytes([len(principal)]) + principal)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([upn]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return certificate.public_bytes(Encoding.PEM).decode(), private
