"""Certificates by which programs act for users.

Either a user keeps the certificate as a credential of type `cert` (RFC 8705 §2.2), whoever signed it.  Or an authority
that the proxy before us trusts signed it, and a mapping of the operator makes a user of its names (RFC 8705 §2.1, as
upstream's `oauth2_cert_dn_mapping_id`).
"""

import logging

from pileus.core.context import Context
from pileus.db.connect import Tx
from pileus.http.proxies import thumbprint_of
from pileus.identity.federation.rows import MAPPINGS
from pileus.identity.federation.rules import Mapped, Unmapped, apply
from pileus.identity.rows import PROJECTS, User

log = logging.getLogger("pileus.identity")
TYPE = "cert"
_EMAIL = "1.2.840.113549.1.9.1"  # PKCS #9, which RFC 4514 gives no short name


def note_certificate(tx: Tx, credential_id: str, kind: str, blob: str) -> None:
    """Note by what a new or changed credential's certificate is known, if it is one."""
    tx.run("delete from certificate_thumbprints where credential_id = ?", credential_id)
    thumbprint = thumbprint_of(blob) if kind == TYPE else None
    if thumbprint is not None:
        sql = "insert into certificate_thumbprints (credential_id, thumbprint) values (?, ?)"
        tx.run(sql, credential_id, thumbprint)


def keeps_certificate(tx: Tx, user_id: str, thumbprint: str) -> bool:
    """Whether a user keeps the certificate of this thumbprint."""
    sql = (
        "select 1 from certificate_thumbprints join credentials on credentials.id = credential_id"
        " where thumbprint = ? and user_id = ?"
    )
    return tx.one(sql, thumbprint, user_id) is not None


def is_mapped_to(ctx: Context, pem: str, user: User) -> bool:
    """Whether the operator's mapping makes this user of the names in a certificate."""
    mapping = MAPPINGS.get(ctx.tx, id=ctx.settings.config.identity.certificate_mapping)
    if mapping is None or not pem:
        return False
    try:
        mapped = apply(mapping.rules, mapping.schema_version, names_in(pem))
    except (Unmapped, ValueError) as why:
        log.info("a certificate is nobody's: %s", why)
        return False
    return names(ctx, mapped, user)


def names(ctx: Context, mapped: Mapped, user: User) -> bool:
    """Whether a mapping names this user: by the id, or by name and domain, and by nothing that is somebody else's."""
    domain = PROJECTS.get(ctx.tx, id=user.domain_id)
    assert domain is not None, "the schema keeps domains that have users"
    told = [(mapped.user_id, user.id), (mapped.name, user.name), (mapped.email, user.extra.get("email"))]
    if mapped.domain is not None:
        told += [(mapped.domain.id, domain.id), (mapped.domain.name, domain.name)]
    known = bool(mapped.user_id) or bool(mapped.name and mapped.domain)
    return known and all(given == own for given, own in told if given)


def names_in(pem: str) -> dict[str, list[str]]:
    """The names of a certificate's subject and issuer, as proxies call them; raises ValueError."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem.encode())
    found: dict[str, list[str]] = {}
    for whose, name in (("SUBJECT", certificate.subject), ("ISSUER", certificate.issuer)):
        for part in name:
            short = "EMAILADDRESS" if part.oid.dotted_string == _EMAIL else part.rfc4514_attribute_name
            found.setdefault(f"SSL_CLIENT_{whose}_DN_{short}", []).append(str(part.value))
    return found
