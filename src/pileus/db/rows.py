"""Typed rows: a frozen msgspec struct for each table, and the few statements that all tables need.

Queries with a shape of their own are written as SQL where they are used; nothing here joins,
caches or tracks changes.
"""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from pileus.db.connect import Tx

R = TypeVar("R", bound=msgspec.Struct)
_PLAIN = (str, int, float, bytes)


def _is_json(hint: Any) -> bool:
    """Whether a field of this type is stored as JSON text (anything that is no plain SQL value)."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        if option is type(None) or option is bool:
            continue
        base = get_origin(option) or option
        if base not in _PLAIN and str(base) != "typing.Literal":
            return True
    return False


class Table(Generic[R]):
    """A table and the struct of its rows; field names are column names.

    Fields of type str, int, float, bool, bytes and Literal are columns as they are; every other type
    (dict, list, struct) is JSON text.  `where` arguments are `column=value`, a tuple or list means IN,
    None means IS NULL.
    """

    def __init__(self, row: type[R], name: str, key: Sequence[str] = ("id",)):
        self.row, self.name, self.key = row, name, tuple(key)
        self.columns = tuple(row.__struct_fields__)
        hints = get_type_hints(row)
        self._json = {c: msgspec.json.Decoder(hints[c]) for c in self.columns if _is_json(hints[c])}
        self._convert: tuple[tuple[int, Callable[[Any], Any]], ...] = tuple(
            (i, self._json[c].decode if c in self._json else bool)
            for i, c in enumerate(self.columns)
            if c in self._json or hints[c] is bool
        )
        self.select = f"select {', '.join(f'{name}.{c}' for c in self.columns)} from {name}"
        marks = ", ".join("?" * len(self.columns))
        self._insert = f"insert into {name} ({', '.join(self.columns)}) values ({marks})"

    def load(self, values: Sequence[Any]) -> R:
        """A row struct from the values of `select`, in its order."""
        if self._convert:
            values = list(values)
            for i, convert in self._convert:
                if values[i] is not None:
                    values[i] = convert(values[i])
        return self.row(**dict(zip(self.columns, values)))  # noqa: B905 (`select` names exactly these columns)

    def value(self, column: str, value: Any) -> Any:
        """A field's value as the database stores it."""
        if column in self._json:
            return None if value is None else msgspec.json.encode(value).decode()
        return int(value) if isinstance(value, bool) else value

    def _where(self, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
        terms: list[str] = []
        params: list[Any] = []
        for column, value in where.items():
            if column not in self.columns:
                raise KeyError(f"{self.name} has no column {column}")
            if value is None:
                terms.append(f"{self.name}.{column} is null")
            elif isinstance(value, tuple | list | set | frozenset):
                terms.append(f"{self.name}.{column} in ({', '.join('?' * len(value))})" if value else "1 = 0")
                params.extend(self.value(column, v) for v in value)
            else:
                terms.append(f"{self.name}.{column} = ?")
                params.append(self.value(column, value))
        return (" where " + " and ".join(terms) if terms else ""), params

    def insert(self, tx: Tx, row: R) -> R:
        """Add a row; raises Conflict where the schema says it must be unique."""
        tx.run(self._insert, *(self.value(c, getattr(row, c)) for c in self.columns))
        return row

    def get(self, tx: Tx, **where: Any) -> R | None:
        """The one row that matches, or None."""
        terms, params = self._where(where)
        values = tx.one(self.select + terms, *params)
        return None if values is None else self.load(values)

    def all(self, tx: Tx, *, order: str = "", **where: Any) -> list[R]:
        """All rows that match; `order` is SQL of ours, never of a request."""
        terms, params = self._where(where)
        return [self.load(v) for v in tx.each(self.select + terms + (f" order by {order}" if order else ""), *params)]

    def query(self, tx: Tx, rest: str, *params: Any) -> list[R]:
        """All rows of `select … from this table` followed by `rest` (joins, where, order)."""
        return [self.load(v) for v in tx.each(f"{self.select} {rest}", *params)]

    def count(self, tx: Tx, **where: Any) -> int:
        terms, params = self._where(where)
        row = tx.one(f"select count(*) from {self.name}{terms}", *params)
        return int(row[0]) if row else 0

    def update(self, tx: Tx, changes: Mapping[str, Any], **where: Any) -> int:
        """Set columns on all rows that match; how many matched (compare-and-swap: put the old value in where)."""
        if not changes:
            return self.count(tx, **where)
        terms, params = self._where(where)
        sets = ", ".join(f"{c} = ?" for c in changes)
        values = [self.value(c, v) for c, v in changes.items()]
        return tx.run(f"update {self.name} set {sets}{terms}", *values, *params)

    def save(self, tx: Tx, row: R, columns: Iterable[str]) -> int:
        """Write the named columns of a changed row, found by its key."""
        where = {k: getattr(row, k) for k in self.key}
        return self.update(tx, {c: getattr(row, c) for c in columns}, **where)

    def delete(self, tx: Tx, **where: Any) -> int:
        terms, params = self._where(where)
        if not terms:
            raise ValueError(f"refusing to empty {self.name}")
        return tx.run(f"delete from {self.name}{terms}", *params)
