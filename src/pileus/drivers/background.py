"""Long work of a driver: started once under a name, asked for again until it is done.

The work runs in a thread of the agent and dies with it; whoever asks next starts it anew.  So work
must leave nothing half made under a final name: it writes a draft and renames it.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Works by name, at most `at_once` of them at a time; safe to use from many threads."""

    def __init__(self, at_once: int = 2) -> None:
        self._free = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._results: dict[str, T] = {}
        self._failures: dict[str, BaseException] = {}

    def ask(self, name: str, work: Callable[[], T]) -> T | None:
        """Start `work` unless it runs; its result when it is done, None before.

        A result or a failure is told once: asking again after that starts anew.
        """
        with self._lock:
            if name in self._failures:
                raise self._failures.pop(name)
            if name in self._results:
                return self._results.pop(name)
            if name not in self._running:
                self._running.add(name)
                threading.Thread(target=self._run, args=(name, work), name=name, daemon=True).start()
        return None

    def busy(self, name: str) -> bool:
        """Whether this work runs or has not told its end."""
        with self._lock:
            return name in self._running

    def forget(self, name: str) -> None:
        """Drop what this work would still tell."""
        with self._lock:
            self._results.pop(name, None)
            self._failures.pop(name, None)

    def _run(self, name: str, work: Callable[[], T]) -> None:
        try:
            with self._free:
                result = work()
        except BaseException as failure:
            with self._lock:
                self._failures[name] = failure
                self._running.discard(name)
        else:
            with self._lock:
                self._results[name] = result
                self._running.discard(name)
