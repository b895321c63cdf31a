"""Lists: filters in SQL, keyset pages, sort keys; a service adds only the names of its parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from msgspec import Struct

from pileus.core.errors import BadRequest
from pileus.db.connect import Tx
from pileus.db.rows import Table

R = TypeVar("R", bound=Struct)
Sort = Sequence[tuple[str, bool]]  # (column, descending)


class Query:
    """The query string of a request: every value a list, as the client sent it."""

    def __init__(self, values: Mapping[str, list[str]]):
        self.values = values

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def one(self, name: str, default: str | None = None) -> str | None:
        """The last value given."""
        values = self.values.get(name)
        return values[-1] if values else default

    def all(self, name: str) -> list[str]:
        return self.values.get(name, [])

    def number(self, name: str, default: int, *, least: int = 0, most: int = 0x7FFFFFFF) -> int:
        """A natural number; raises BadRequest naming the parameter."""
        text = self.one(name)
        if text is None:
            return default
        if not text.isascii() or not text.lstrip("-").isdigit() or not least <= int(text[:12]) <= most:
            raise BadRequest(
                f"Invalid input for query parameters {name}. Value: {text[:80]}. Expected a number >= {least}."
            )
        return int(text)

    def truth(self, name: str, *, default: bool = False) -> bool:
        """A boolean in any of the spellings that the API accepts; raises BadRequest."""
        text = self.one(name)
        if text is None:
            return default
        if text.lower() in ("true", "1", "yes", "on", "t", "y", ""):
            return True
        if text.lower() in ("false", "0", "no", "off", "f", "n"):
            return False
        raise BadRequest(f"Invalid input for query parameters {name}. Value: {text[:80]}. Expected true or false.")


@dataclass
class Listing(Generic[R]):
    """A list under construction: conditions joined by AND, then one page of it."""

    table: Table[R]
    terms: list[str] = field(default_factory=list)
    params: list[Any] = field(default_factory=list)
    joins: str = ""

    def where(self, sql: str, *params: Any) -> "Listing[R]":
        """Add a condition; columns qualified by the table's name."""
        self.terms.append(f"({sql})")
        self.params.extend(params)
        return self

    def equals(self, column: str, values: Iterable[Any]) -> "Listing[R]":
        """A column equal to any of these values (of JSON-free columns)."""
        found = [int(v) if isinstance(v, bool) else v for v in values]
        marks = ", ".join("?" * len(found))
        return self.where(f"{self.table.name}.{column} in ({marks})" if found else "1 = 0", *found)

    def page(
        self, tx: Tx, *, sort: Sort, limit: int | None = None, marker: R | None = None, reverse: bool = False,
        offset: int = 0,
    ) -> list[R]:  # fmt: skip
        """The rows after `marker` (before it, when `reverse`), in order; `sort` should end in a unique column.

        `offset` rows are left out at first; it needs a `limit`.
        """
        if reverse:
            sort = [(column, not down) for column, down in sort]
        terms, params = list(self.terms), list(self.params)
        if marker is not None:
            after, values = self._after(sort, marker)
            terms.append(after)
            params.extend(values)
        name = self.table.name
        order = ", ".join(f"{self._key(column)} {'desc' if down else 'asc'}" for column, down in sort)
        where = f" where {' and '.join(terms)}" if terms else ""
        tail = f" limit {int(limit)} offset {int(offset)}" if limit is not None else ""
        rows = self.table.query(tx, f"{self.joins}{where} order by {order or f'{name}.id'}{tail}", *params)
        return rows[::-1] if reverse else rows

    def count(self, tx: Tx) -> int:
        where = f" where {' and '.join(self.terms)}" if self.terms else ""
        row = tx.one(f"select count(*) from {self.table.name} {self.joins}{where}", *self.params)
        return int(row[0]) if row else 0

    def _key(self, column: str) -> str:
        """A sortable expression: null sorts as empty, on both engines alike."""
        hint = str(self.table.row.__annotations__.get(column, ""))
        qualified = f"{self.table.name}.{column}"
        return f"coalesce({qualified}, '')" if "str" in hint and "None" in hint else qualified

    def _after(self, sort: Sort, marker: R) -> tuple[str, list[Any]]:
        """(a, b) after the marker's: a > x or (a = x and b > y), each column in its own direction."""
        options: list[str] = []
        params: list[Any] = []
        for i, (column, down) in enumerate(sort):
            same = [f"{self._key(c)} = ?" for c, _ in sort[:i]]
            options.append(" and ".join([*same, f"{self._key(column)} {'<' if down else '>'} ?"]))
            params.extend(self._marker_value(marker, c) for c, _ in sort[: i + 1])
        return "(" + " or ".join(f"({o})" for o in options) + ")", params

    def _marker_value(self, marker: R, column: str) -> Any:
        value = self.table.value(column, getattr(marker, column))
        return "" if value is None else value
