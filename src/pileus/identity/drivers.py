"""What identity needs from outside: directories, from which a domain may have its users and groups."""

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

Kind = Literal["user", "group"]
Comparison = Literal["equals", "contains", "startswith", "endswith"]


class Away(Exception):
    """A directory cannot be asked now; the text says why, for users, without addresses or names of accounts."""


class Silent(Away):
    """It answers nobody: for a moment there is no use in asking it anything else."""


class Entry(Struct, frozen=True, kw_only=True):
    """A user or group as the directory has it."""

    kind: Kind
    local_id: str
    name: str
    place: str  # where it stands, in the directory's own spelling
    key: str  # what groups call it, so spelled that equal ones are equal
    enabled: bool = True
    email: str = ""
    description: str = ""
    members: frozenset[str] = frozenset()  # of a group: the keys of its users


class Asked(Struct, frozen=True, kw_only=True):
    """A condition of a search."""

    field: Literal["name", "email", "description"]
    comparison: Comparison
    value: str


class Found(Struct, frozen=True, kw_only=True):
    """What a search found; `truncated`: the directory has more than it gives at once."""

    entries: Sequence[Entry]
    truncated: bool = False


class Directory(Protocol):
    """A store of users and groups that others keep; it is only read.

    Every verb may take as long as the directory's time-outs allow, is safe from several threads, and raises Away.
    """

    name: str  # of the kind of driver, as the configuration of domains names it

    def search(self, kind: Kind, asked: Sequence[Asked]) -> Found:
        """The entries that fulfil all conditions; upper and lower case may count as the same."""

    def read(self, kind: Kind, local_ids: Sequence[str]) -> list[Entry]:
        """Those of these entries that there are, in any order."""

    def groups_of(self, user: Entry) -> list[Entry]:
        """The groups in which a user is."""

    def users_in(self, group: Entry) -> list[Entry]:
        """The users in a group."""

    def accepts(self, user: Entry | None, password: str) -> bool:
        """Whether this is the user's password; None, for nobody, takes as long and is False."""

    def close(self) -> None:
        """Let go of all connections."""
