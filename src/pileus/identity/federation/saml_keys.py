"""The key by which this cloud signs SAML, and its certificate: one PEM file in the folder of keys.

Others know the certificate from our metadata, so a key is replaced in two steps: the next one is shown beside the one
in use, and, when everybody has read the metadata again, takes its place.
"""

import datetime
import os
import secrets
from contextlib import suppress
from pathlib import Path

CURRENT, NEXT = "saml.pem", "saml-next.pem"
KEY_BITS = 3072
CERTIFICATE_DAYS = 3650  # a name for the key: who trusts it does so by our metadata, not by an authority


def signing_key(keys_folder: Path) -> Path:
    """The file of the key in use, made if there is none yet."""
    path = keys_folder / CURRENT
    if not path.exists():
        _create(path)
    return path


def shown_keys(keys_folder: Path) -> list[Path]:
    """The files whose certificates stand in our metadata, the one in use first."""
    following = keys_folder / NEXT
    return [signing_key(keys_folder), *([following] if following.exists() else [])]


def rotate_signing_key(keys_folder: Path) -> str:
    """Take one step to a new key; what was done, in words."""
    current, following = signing_key(keys_folder), keys_folder / NEXT
    if following.exists():
        _owned_as(current, following)
        following.replace(current)
        return "signed with the next key from now on; the old one is gone"
    _create(following)
    _owned_as(current, following)
    return "the next key stands in the metadata: let service providers read that, then give this command again"


def _owned_as(model: Path, path: Path) -> None:
    if os.geteuid() == 0:
        owner = model.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _create(path: Path) -> None:
    """Whole or not at all, and never over another's: several processes may try at once."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_new_key())
        file.flush()
        os.fsync(file.fileno())
    _owned_as(path.parent, fresh)
    with suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def _new_key() -> bytes:
    """An RSA key and a certificate that it signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Pileus SAML")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
