"""The directories of a process, by domain, and how the event loop asks them: in a few threads of their own each.

So a directory that is away or slow holds up its own domain alone; after a failure it is left in peace for a while and
everybody is answered at once.
"""

import asyncio
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pileus.core.context import Context
from pileus.core.errors import ServiceUnavailable
from pileus.db.connect import Tx
from pileus.identity.domain_options import DOMAIN_OPTIONS, DomainOption
from pileus.identity.drivers import Asked, Away, Directory, Entry, Found, Kind, Silent
from pileus.identity.sealing import unseal
from pileus.identity.watched import version

T = TypeVar("T")
THREADS = 4  # of each directory
WAITING_MOST = 64  # requests that wait for one directory
PEACE_SECONDS = 3.0  # after a failure, before the next attempt
log = logging.getLogger("pileus.identity")


class Door:
    """One directory, and the few who may ask it at once."""

    def __init__(self, domain_id: str, directory: Directory, clock: Callable[[], float] = time.monotonic):
        self.domain_id, self.directory, self.clock = domain_id, directory, clock
        self._threads = ThreadPoolExecutor(THREADS, "directory")
        self._waiting = 0
        self._failed: tuple[float, str] = (float("-inf"), "")

    async def ask(self, work: Callable[[Directory], T]) -> T:
        """Ask from the event loop; raises ServiceUnavailable with the reason, soon where it failed just now."""
        if self._waiting >= WAITING_MOST:
            raise self._unavailable("too many wait for it already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self.ask_now, work)
        except Away as why:
            raise self._unavailable(str(why)) from None
        finally:
            self._waiting -= 1

    def ask_now(self, work: Callable[[Directory], T]) -> T:
        """Ask in the caller's thread; raises Away."""
        failed_at, why = self._failed
        if self.clock() < failed_at + PEACE_SECONDS:
            raise Silent(why)
        try:
            return work(self.directory)
        except Away as error:
            if isinstance(error, Silent):
                self._failed = (self.clock(), str(error))
            log.warning("the directory of domain %s: %s", self.domain_id, error)
            raise

    def _unavailable(self, why: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"The directory of domain {self.domain_id} cannot be asked: {why}. Try again later.",
            headers={"retry-after": str(int(PEACE_SECONDS))},
        )

    def close(self) -> None:
        """Nobody asks any more; who is asking gets an answer."""
        self._threads.shutdown(wait=False)
        self.directory.close()


class Unusable:
    """A directory whose stored options make no sense: a fault of its domain alone."""

    def __init__(self, name: str, why: str):
        self.name, self.why = name, why

    def search(self, kind: Kind, asked: Sequence[Asked]) -> Found:
        raise Silent(self.why)

    def read(self, kind: Kind, local_ids: Sequence[str]) -> list[Entry]:
        raise Silent(self.why)

    def groups_of(self, user: Entry) -> list[Entry]:
        raise Silent(self.why)

    def users_in(self, group: Entry) -> list[Entry]:
        raise Silent(self.why)

    def accepts(self, user: Entry | None, password: str) -> bool:
        raise Silent(self.why)

    def close(self) -> None:
        """There is nothing to let go of."""


class Directories:
    """Those that are configured, made anew when their options change."""

    def __init__(self, keys_folder: Path):
        self.keys_folder = keys_folder
        self._lock = threading.Lock()
        self._version = -1
        self._doors: dict[str, tuple[Any, Door]] = {}  # by domain, with the sealed options that each was made from

    def of(self, tx: Tx, domain_id: str) -> Door | None:
        """The directory of a domain, None for one whose users are all our own."""
        at = version(tx)
        with self._lock:
            if at != self._version:
                self._renew(tx)
                self._version = at
            found = self._doors.get(domain_id)
        return found[1] if found else None

    def _renew(self, tx: Tx) -> None:
        """Compare with the options as they are now."""
        options: dict[str, list[DomainOption]] = {}
        for row in DOMAIN_OPTIONS.all(tx, order="group_name, option_name"):
            options.setdefault(row.domain_id, []).append(row)
        doors = {}
        for domain_id, rows in options.items():
            kept = self._doors.pop(domain_id, None)
            if kept is not None and kept[0] != rows:
                kept[1].close()
                kept = None
            door = kept[1] if kept else self._made(domain_id, rows)
            if door is not None:
                doors[domain_id] = (rows, door)
        for _, door in self._doors.values():
            door.close()
        self._doors = doors

    def _made(self, domain_id: str, rows: list[DomainOption]) -> Door | None:
        """The directory that options describe."""
        try:
            given = {(row.group_name, row.option_name): self._value(row) for row in rows}
            driver = given.get(("identity", "driver"), "sql")
            if driver == "sql":
                return None
            if driver != "ldap":
                return Door(domain_id, Unusable(str(driver), "there is no driver of the name that is configured"))
            return Door(
                domain_id, make_ldap({name: value for (group, name), value in given.items() if group == "ldap"})
            )
        except (ServiceUnavailable, ValueError) as error:
            log.error("domain %s: its configuration cannot be used: %s", domain_id, error)
            return Door(domain_id, Unusable("ldap", "the configuration of the domain cannot be used"))

    def _value(self, row: DomainOption) -> Any:
        return json.loads(unseal(self.keys_folder, row.sealed_value))


def make_ldap(given: dict[str, Any]) -> Directory:
    """The LDAP directory of these options."""
    from pileus.identity.ldap.driver import LdapDirectory  # 60 ms of start time that few clouds need
    from pileus.identity.ldap.options import read_options

    return LdapDirectory(read_options(given))


@functools.lru_cache(maxsize=8)
def directories_of(keys_folder: Path) -> Directories:
    """The one keeper of directories in this process for a folder of keys."""
    return Directories(keys_folder)


def door_of(ctx: Context, domain_id: str) -> Door | None:
    """The directory of a domain, if it has one."""
    return directories_of(ctx.settings.keys_folder).of(ctx.tx, domain_id)
