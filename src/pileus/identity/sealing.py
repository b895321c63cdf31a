"""Secrets of the database, sealed under the credential ring: Fernet (AES-128-CBC with HMAC-SHA256)."""

import base64
import functools
import time
from pathlib import Path

from pileus.core.errors import ServiceUnavailable
from pileus.identity.keys import Key, KeyRing
from pileus.identity.tokens import CREDENTIAL_RING


@functools.lru_cache(maxsize=8)
def _ring(keys_folder: Path) -> KeyRing:
    return KeyRing(keys_folder / CREDENTIAL_RING)


def _fernet_key(key: Key) -> bytes:
    return base64.urlsafe_b64encode(key.secret)


def seal(keys_folder: Path, text: str) -> str:
    """The text under the current key; "KEY-ID:sealed"."""
    from cryptography.fernet import Fernet  # 45 ms of start time that few processes need

    key = _ring(keys_folder).current(time.time())
    return f"{key.id}:{Fernet(_fernet_key(key)).encrypt(text.encode()).decode()}"


def unseal(keys_folder: Path, sealed: str) -> str:
    """The text; raises ServiceUnavailable when the key is no longer in the ring."""
    from cryptography.fernet import Fernet, InvalidToken

    key_id, _, rest = sealed.partition(":")
    key = _ring(keys_folder).find(key_id)
    try:
        if key is not None:
            return Fernet(_fernet_key(key)).decrypt(rest.encode()).decode()
    except InvalidToken:
        pass
    raise ServiceUnavailable("A credential is sealed under a key that this controller does not have.")
