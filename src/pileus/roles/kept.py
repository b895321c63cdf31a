"""Fake drivers whose machine outlives the agent, as a real one does.

What a driver is told to change is written to a journal before it is done, so that a kill loses nothing;
the next agent does all of it again.
"""

import os
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

M = TypeVar("M")
D = TypeVar("D")
CHANGES = ("ensure_", "remove_", "revert", "inject_")
COMPACT_BYTES = 32 << 20


def kept(path: Path, machine: Callable[[], M], build: Callable[[M], D]) -> D:
    """The driver that `build` makes of its machine: as the journal tells it, or a new one."""
    return cast(D, Kept(path, machine(), build))


class Kept:
    """A driver with a journal: the machine as it once was, then each change as (verb, arguments)."""

    def __init__(self, path: Path, machine: Any, build: Callable[[Any], Any]):
        self._path, self._lock = path, threading.Lock()
        with suppress(FileNotFoundError), path.open("rb") as journal:
            machine = self._replayed(journal, machine, build)
        self._machine, self._driver = machine, build(machine)
        self._journal = self._compacted()

    @staticmethod
    def _replayed(journal: BinaryIO, machine: Any, build: Callable[[Any], Any]) -> Any:
        """The machine after all that was done; the last line may have been cut, then it was not done."""
        with suppress(EOFError, pickle.UnpicklingError):
            machine = pickle.load(journal)  # noqa: S301 (our own file, in a folder of root's)
            driver = build(machine)
            while True:
                verb, arguments = pickle.load(journal)  # noqa: S301 (our own file, in a folder of root's)
                with suppress(Exception):  # what was refused then is refused again
                    getattr(driver, verb)(*arguments)
        return machine

    def _compacted(self) -> int:
        """A journal that begins with the machine as it is now, or as it is while the disk is full; its descriptor."""
        fresh = self._path.with_suffix(".new")
        with suppress(OSError):
            fresh.write_bytes(pickle.dumps(self._machine))
            fresh.replace(self._path)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def __getattr__(self, verb: str) -> Any:
        act = getattr(self._driver, verb)
        if not verb.startswith(CHANGES):
            return act

        def change(*arguments: Any) -> Any:
            with self._lock:
                self._write(pickle.dumps((verb, arguments)))
                return act(*arguments)

        return change

    def _write(self, line: bytes) -> None:
        """Append whole or not at all; raises OSError when the disk is full."""
        before = os.fstat(self._journal).st_size
        if before > COMPACT_BYTES:
            os.close(self._journal)
            self._journal = self._compacted()
            before = os.fstat(self._journal).st_size
        try:
            if os.write(self._journal, line) < len(line):
                raise OSError("the disk is full")
        except OSError:
            os.ftruncate(self._journal, before)
            raise
