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
        # The file's time and its keys, oldest first, in one assignment: threads share this.
        self._kept: tuple[int, list[Key], dict[str, Key]] = (-1, [], {})

    def _fresh(self) -> tuple[int, list[Key], dict[str, Key]]:
        changed, kept = self.path.stat().st_mtime_ns, self._kept
        if changed != kept[0]:
            keys = sorted(read_keys(self.path), key=lambda k: k.since)
            kept = self._kept = (changed, keys, {key.id: key for key in keys})
        return kept

    def current(self, now: float) -> Key:
        """The key for new work; raises OSError when the ring cannot be read."""
        _, keys, _ = self._fresh()
        begun = [key for key in keys if key.since <= now]
        return begun[-1] if begun else keys[0]

    def find(self, key_id: str) -> Key | None:
        """The key of this id, if the ring still holds it."""
        return self._fresh()[2].get(key_id)


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
    write_keys(path, [*kept, key])
    return key


def write_keys(path: Path, keys: list[Key]) -> None:
    """Replace the keys of a ring that there is, at once; its owner stays."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write(fresh, keys)
    owner = path.stat()
    if os.geteuid() == 0:
        os.chown(fresh, owner.st_uid, owner.st_gid)
    fresh.replace(path)


def _write(path: Path, keys: list[Key]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(keys))
        file.flush()
        os.fsync(file.fileno())
