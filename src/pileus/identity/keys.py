"""Rings of secret keys outside the database: one file each, readable by its owner alone.

The newest key that has begun is used for new work, the older ones only to read what they made.  A
running process sees a rotation with its next use, since each use compares the file's time.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

KEY_BYTES = 32


class Key(Struct, frozen=True, kw_only=True):
    """One key; `since` is the time from which it is used for new work."""

    id: str  # eight hexadecimal digits
    since: float
    secret: bytes

    def __repr__(self) -> str:
        return f"<Key {self.id} ***>"


class KeyRing:
    """The keys of one file, read anew when the file changes."""

    def __init__(self, path: Path):
        self.path = path
        self._seen = -1
        self._keys: list[Key] = []
        self._by_id: dict[str, Key] = {}

    def _fresh(self) -> None:
        changed = self.path.stat().st_mtime_ns
        if changed != self._seen:
            self._keys = sorted(read_keys(self.path), key=lambda k: k.since)
            self._by_id = {key.id: key for key in self._keys}
            self._seen = changed

    def current(self, now: float) -> Key:
        """The key for new work; raises OSError when the ring cannot be read."""
        self._fresh()
        begun = [key for key in self._keys if key.since <= now]
        return begun[-1] if begun else self._keys[0]

    def find(self, key_id: str) -> Key | None:
        """The key of this id, if the ring still holds it."""
        self._fresh()
        return self._by_id.get(key_id)

    def all(self) -> list[Key]:
        """Every key, newest first."""
        self._fresh()
        return self._keys[::-1]


def new_key(since: float) -> Key:
    """A random key."""
    return Key(id=secrets.token_hex(4), since=since, secret=secrets.token_bytes(KEY_BYTES))


def read_keys(path: Path) -> list[Key]:
    """The keys in a ring's file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Key])


def create_ring(path: Path) -> None:
    """Make a ring with one key unless there is one; several processes may try at once."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write(fresh, [new_key(0.0)])
    with suppress(FileExistsError):
        os.link(fresh, path)  # whole or not at all, and never over another's
    fresh.unlink()


def rotate(path: Path, *, now: float, keep_seconds: float, lead_seconds: float = 0.0) -> Key:
    """Add a key that is used `lead_seconds` from now; forget those out of use for more than `keep_seconds`.

    A lead lets other controllers receive the file before the first token under the new key reaches them.
    """
    keys = sorted(read_keys(path), key=lambda k: k.since)
    used_until = [*(later.since for later in keys[1:]), now]
    kept = [key for key, until in zip(keys, used_until, strict=True) if until > now - keep_seconds]
    key = new_key(now + lead_seconds)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write(fresh, [*kept, key])
    owner = path.stat()
    if os.geteuid() == 0:
        os.chown(fresh, owner.st_uid, owner.st_gid)
    fresh.replace(path)
    return key


def _write(path: Path, keys: list[Key]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(keys))
        file.flush()
        os.fsync(file.fileno())
