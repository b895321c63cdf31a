"""Passwords: argon2id in a bounded pool of threads, and a short memory of those just verified.

Nothing reversible is kept: the memory holds HMACs under a key that dies with the process, over the owner,
the stored hash and the password, so a changed password is forgotten by itself.  A wrong password, and
one for an owner that does not exist, always costs the whole hash (CVE-2021-38155 is about telling them
apart).  Parameters: core.config.Identity.
"""

import asyncio
import functools
import hmac
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Struct

from pileus.core.config import Identity
from pileus.core.errors import ServiceUnavailable
from pileus.db.connect import Tx
from pileus.db.rows import Table

T = TypeVar("T")
MAX_LENGTH = 4096  # characters; more is refused before any hashing
REMEMBER_SECONDS = 300.0
REMEMBER_MOST = 8192
THREADS = 2
WAITING_MOST = 512


class PasswordHash(Struct, frozen=True, kw_only=True):
    """The hash of one owner's password or secret (user or application credential)."""

    owner_id: str
    hash: str

    def __repr__(self) -> str:
        return f"<PasswordHash of {self.owner_id} ***>"


PASSWORD_HASHES = Table(PasswordHash, "password_hashes", ("owner_id",))


def stored_hash(tx: Tx, owner_id: str) -> str:
    """The hash kept for an owner, or "" without one."""
    row = PASSWORD_HASHES.get(tx, owner_id=owner_id)
    return row.hash if row else ""


def keep_hash(tx: Tx, owner_id: str, hashed: str) -> None:
    """Replace an owner's hash."""
    tx.run(
        "insert into password_hashes (owner_id, hash) values (?, ?)"
        " on conflict (owner_id) do update set hash = excluded.hash",
        owner_id, hashed,
    )  # fmt: skip


def forget_hashes(tx: Tx, credentials: str, *params: object) -> None:
    """Drop the hashes of application credentials; `credentials` is our own SQL condition on their table."""
    tx.run(
        "delete from password_hashes where owner_id in"
        f" (select id from application_credentials where {credentials})", *params
    )  # fmt: skip


class Verified:
    """Digests of (owner, stored hash, password) that were right a moment ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def _digest(self, owner_id: str, stored: str, password: str) -> bytes:
        text = "\0".join((owner_id, stored, password)).encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")

    def knows(self, owner_id: str, stored: str, password: str) -> bool:
        """Whether this was verified within the last REMEMBER_SECONDS."""
        digest = self._digest(owner_id, stored, password)
        until = self._until.get(digest, 0.0)
        if until and until <= self.clock():
            del self._until[digest]
        return until > self.clock()

    def add(self, owner_id: str, stored: str, password: str) -> None:
        """Remember a right password; the oldest goes when there are too many."""
        self._until[self._digest(owner_id, stored, password)] = self.clock() + REMEMBER_SECONDS
        while len(self._until) > REMEMBER_MOST:
            self._until.popitem(last=False)


class Passwords:
    """Hashing and verifying for one process."""

    def __init__(self, memory_kib: int, passes: int) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._pool = ThreadPoolExecutor(THREADS, "password")
        # Compared with what is said to be a nobody's password; made in the pool, whose threads keep the memory for it.
        self._nobodys = self._pool.submit(self.hash_now, secrets.token_hex(16)).result()
        self._waiting = 0
        self._verified = Verified()

    async def hash(self, password: str) -> str:
        """The hash to store; raises ServiceUnavailable when too many wait already."""
        return await self._slowly(lambda: self.hash_now(password))

    def hash_now(self, password: str) -> str:
        """The hash to store, computed in the caller's thread (about 35 ms at the defaults)."""
        return self._hasher.hash(password.encode("utf-8", "surrogatepass"))

    async def verify(self, owner_id: str, stored: str, password: str) -> bool:
        """Whether the password is right; `stored` is "" for an owner that does not exist."""
        if self._verified.knows(owner_id, stored, password):
            return True
        if not await self._slowly(lambda: self.verify_now(stored, password)):
            return False
        self._verified.add(owner_id, stored, password)
        return True

    def verify_now(self, stored: str, password: str) -> bool:
        """Whether the password is right, computed in the caller's thread and not remembered."""
        try:
            right = self._hasher.verify(stored or self._nobodys, password.encode("utf-8", "surrogatepass"))
            return right and bool(stored)
        except (VerificationError, InvalidHashError):
            return False

    async def _slowly(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MOST:
            raise ServiceUnavailable("Too many passwords are being checked at once.", headers={"retry-after": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1


@functools.lru_cache(maxsize=4)
def _of_process(_pid: int, memory_kib: int, passes: int) -> Passwords:
    return Passwords(memory_kib, passes)


def passwords(rules: Identity) -> Passwords:
    """The one pool and memory of this process; a forked child gets its own."""
    return _of_process(os.getpid(), rules.hash_memory_kib, rules.hash_passes)
