"""What this node was asked to hold: one JSON file a thing, so that a restarted agent knows its wishes.

A record is written before the first effect (`done` false) and again after the last one, so that
a kill between leaves a trace that `list_things` reports and that the next ensure completes.
"""

import os
import threading
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct

from .names import check_id


class HasId(Protocol):
    """A wish with an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


class Record(Struct, Generic[T], frozen=True, kw_only=True):
    """One wish; `number` is small and unique among its kind on this node (conntrack zone, packet mark)."""

    id: str
    number: int
    spec: T | None = None  # None: the file was unreadable, only its name is known
    done: bool = False


class Shelf(Generic[T]):
    """The records of one kind, in a folder and in memory; safe to use from many threads."""

    def __init__(self, folder: Path, kind: type[T]) -> None:
        self._folder = folder
        self._kind = kind
        self._lock = threading.Lock()
        self._records: dict[str, Record[T]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.glob("*.json")):
            self._records[file.stem] = self._read(file)

    def _read(self, file: Path) -> Record[T]:
        record_type: type[Record[T]] = Record[self._kind]  # type: ignore[name-defined]  # the parameter is a value, known only at run time
        try:
            return msgspec.json.decode(file.read_bytes(), type=record_type)
        except (msgspec.MsgspecError, OSError):
            return Record(id=file.stem, number=0)

    def get(self, thing_id: str) -> Record[T] | None:
        """The record of a thing, or None."""
        return self._records.get(thing_id)

    def all(self) -> list[Record[T]]:
        """Every record at this moment."""
        with self._lock:
            return list(self._records.values())

    def specs(self) -> list[T]:
        """Every readable wish at this moment."""
        return [record.spec for record in self.all() if record.spec is not None]

    def begin(self, spec: T) -> Record[T]:
        """Note the wish before acting on it; unchanged and done wishes are not written again."""
        with self._lock:
            old = self._records.get(check_id(spec.id))
            if old is not None and old.done and old.spec == spec:
                return old
            number = old.number if old is not None and old.number else self._free_number()
            return self._write(Record(id=spec.id, number=number, spec=spec))

    def finish(self, record: Record[T]) -> None:
        """Note that all effects of a wish are there."""
        if not record.done:
            with self._lock:
                self._write(msgspec.structs.replace(record, done=True))

    def drop(self, thing_id: str) -> None:
        """Forget a thing whose last trace is gone."""
        with self._lock:
            (self._folder / f"{check_id(thing_id)}.json").unlink(missing_ok=True)
            self._records.pop(thing_id, None)

    def _free_number(self) -> int:
        taken = {record.number for record in self._records.values()}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def _write(self, record: Record[T]) -> Record[T]:
        file = self._folder / f"{record.id}.json"
        draft = file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(record))
        os.replace(draft, file)
        self._records[record.id] = record
        return record
