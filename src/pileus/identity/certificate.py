"""Certificates by which programs act for users: those that the users keep as credentials of type `cert`.

Source: RFC 8705 §2.2: such a certificate is registered beforehand, whoever signed it.
"""

from pileus.db.connect import Tx
from pileus.http.proxies import thumbprint_of

TYPE = "cert"


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
