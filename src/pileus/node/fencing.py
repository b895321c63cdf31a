"""Epochs: the memory of which lease last spoke for each resource, kept over restarts of the agent."""

import threading
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
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{name} {epoch}\n" for name, epoch in self._epochs.items()))
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
                self._file.write(f"{lease} {epoch}\n")  # survives kill -9: the page cache is the kernel's
                self._epochs[lease] = epoch
                self._lines += 1
                if self._lines > COMPACT_LINES + 2 * len(self._epochs):
                    self._file.close()
                    self._file = self._compacted()
