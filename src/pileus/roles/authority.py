"""The cloud's own certificate authority: it lives beside the token keys and signs controllers and nodes.

RFC 5280 certificates with ECDSA P-256 keys.  Nodes make their own keys; only requests travel.
"""

import datetime
import hashlib
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pileus.node.trust import CONTROLLER, Identity, identity, node_name

AUTHORITY_DAYS = 3650
MEMBER_DAYS = 1825
CLOCK_SKEW = datetime.timedelta(hours=1)


def folder_of(keys: Path) -> Path:
    """Where a controller keeps the authority and its own identity."""
    return keys / "cluster"


def ensure_authority(keys: Path, address: str) -> Identity:
    """This controller's identity, made with the authority when there is none; `address` is host:port of its door."""
    folder = folder_of(keys)
    own = identity(folder)
    if not own.authority.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = new_key()
        write_secret(folder / "authority.key", key)
        _write(own.authority, _self_signed(key).public_bytes(serialization.Encoding.PEM))
    host = address.rpartition(":")[0].strip("[]")
    if not own.certificate.exists() or host not in _hosts(own.certificate):
        key = new_key()
        write_secret(own.key, key)
        _write(own.certificate, _sign(folder, key.public_key(), CONTROLLER, host))
    return own


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the certificate itself, hex: by it a node recognizes the authority that its token speaks of."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def sign_node(keys: Path, request_pem: bytes, node_id: str) -> bytes:
    """A certificate (PEM) that names this node, for the key of a request; raises ValueError for a bad request."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, InvalidSignature) as error:
        raise ValueError(f"not a certificate request: {error}") from None
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the certificate request must be signed by its own ECDSA P-256 key")
    return _sign(folder_of(keys), key, node_name(node_id), "")


def new_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (PEM) that proves possession of the key; the authority decides on the name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pileus node")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh private key."""
    return ec.generate_private_key(ec.SECP256R1())


def write_secret(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Store a private key, unencrypted, where only its owner reads it (`ssl` must load it unattended)."""
    plain = serialization.NoEncryption()
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _write(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(data)
    draft.replace(path)


def _hosts(certificate: Path) -> set[str]:
    names = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    addresses = {str(address) for address in names.value.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.value.get_values_for_type(x509.DNSName))


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = "pileus authority"
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign(folder: Path, key: ec.EllipticCurvePublicKey, name: str, host: str) -> bytes:
    """A certificate for `name`, and for the address `host` if there is one; both ends of TLS may show it."""
    secret = serialization.load_pem_private_key((folder / "authority.key").read_bytes(), None)
    assert isinstance(secret, ec.EllipticCurvePrivateKey)
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if host:
        names.append(_general_name(host))
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(name[:64], "pileus authority", key, MEMBER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(both, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(secret.public_key()), critical=False)
        .sign(secret, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
