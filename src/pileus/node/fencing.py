"""Epochs: the memory of which lease last spoke for each resource, kept over restarts of the agent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pileus.node.wire import Stale

COMPACT_LINES = 50_000
TURN_SECONDS = 20.0  # that a call waits for an earlier one of its resource: less than its caller waits for it


class Turn:
    """Whose turn it is to act for one resource, and how many want to."""

    def __init__(self) -> None:
        self.lock, self.callers = threading.Lock(), 0


class Fence:
    """Refuses callers whose lease is older than one that was seen."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._epochs: dict[str, int] = {}
        self._turns: dict[str, Turn] = {}
        self._lines = 0
        if path.exists():
            for line in path.read_text().splitlines():
                name, _, epoch = line.rpartition(" ")
                if epoch.isdigit():
                    self._epochs[name] = max(int(epoch), self._epochs.get(name, 0))
        self._file = self._compacted()

    def _compacted(self) -> TextIO:
        """The file with one line for each lease; as it is while the disk is full."""
        fresh = self.path.with_suffix(".new")
        with suppress(OSError):
            fresh.write_text("".join(f"\n{name} {epoch}" for name, epoch in self._epochs.items()))
            fresh.replace(self.path)
            self._lines = len(self._epochs)
        return self.path.open("a", buffering=1)

    def admit(self, lease: str, epoch: int) -> None:
        """Let the newest lease through; raises Stale for an older one."""
        if "\n" in lease:
            raise ValueError("a lease has no newline")
        with self._lock:
            seen = self._epochs.get(lease, 0)
            if epoch < seen:
                raise Stale(f"{lease}: epoch {epoch} is over, {seen} has begun")
            if epoch > seen:
                # Survives kill -9: the page cache is the kernel's.  The newline comes first, since the last
                # line may have been cut by a full disk; cut short it names a lower epoch, or nobody.
                self._file.write(f"\n{lease} {epoch}")
                self._epochs[lease] = epoch
                self._lines += 1
                if self._lines > COMPACT_LINES + 2 * len(self._epochs):
                    self._file.close()
                    self._file = self._compacted()

    @contextmanager
    def acting(self, lease: str, epoch: int) -> Iterator[None]:
        """One caller at a time acts for a resource, in the order of leases.

        A newer lease waits for the effect that is under way; an older one that waits comes too late, even if
        it was admitted when it arrived: so nothing of it lands after what the newer one did.  Raises Stale,
        ConnectionError when the effect under way takes too long.
        """
        self.admit(lease, epoch)
        with self._lock:
            turn = self._turns.setdefault(lease, Turn())
            turn.callers += 1
        try:
            if not turn.lock.acquire(timeout=TURN_SECONDS):
                raise ConnectionError(f"{lease}: an earlier call is still at work")
            try:
                self.admit(lease, epoch)
                yield
            finally:
                turn.lock.release()
        finally:
            with self._lock:
                turn.callers -= 1
                if not turn.callers:
                    del self._turns[lease]
