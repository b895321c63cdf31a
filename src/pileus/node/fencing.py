"""Epochs: the memory of which lease last spoke for each resource, kept over restarts of the agent."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from pileus.node.wire import Stale

COMPACT_LINES = 50_000


class Fence:
    """Refuses callers whose lease is older than one that was seen."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._epochs: dict[str, int] = {}
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
