"""Starts wait for each other: under TCG a boot is bound by the processor.

Eight guests that boot at once on two cores each take 85 s; two at a time, the first are ready after
20 s and the last no later.  A start holds its turn until the guest has used as much processor as a
small guest's boot takes, rests, or has had its time; starting QEMU itself is quick and is not what
has to be limited.  Under KVM, where a boot takes a second, turns are many.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BOOT_CPU_SECONDS = 8.0
BOOT_SECONDS = 25.0
RESTING_AFTER = 3.0  # seconds of age from which a guest that uses little is taken to be up
RESTING_SHARE = 0.1  # of a processor; an idle guest uses a fifth of that
ASKED_WITHIN = 5.0  # seconds after which one who waited is forgotten


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 when it is gone."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Boots:
    """At most `at_once` guests boot; those who wait are served in the order in which they came."""

    def __init__(self, at_once: int, now: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._now = at_once, now
        self._lock = threading.Lock()
        self._booting: dict[str, tuple[float, int]] = {}  # guest → since when, pid
        self._waiting: dict[str, tuple[float, float]] = {}  # guest → since when, last asked

    def turn(self, guest_id: str) -> bool:
        """Whether this guest may start now, which is its turn then; who is told no asks again."""
        with self._lock:
            now = self._now()
            self._waiting = {name: seen for name, seen in self._waiting.items() if now - seen[1] < ASKED_WITHIN}
            since = self._waiting.get(guest_id, (now, now))[0]
            self._waiting[guest_id] = (since, now)
            self._booting = {name: boot for name, boot in self._booting.items() if self._still(boot, now)}
            ahead = sum(1 for other, (begun, _) in self._waiting.items() if (begun, other) < (since, guest_id))
            mine = guest_id in self._booting or len(self._booting) + ahead < self._at_once
            if mine:
                self._waiting.pop(guest_id, None)
                self._booting.setdefault(guest_id, (now, 0))
            return mine

    def started(self, guest_id: str, pid: int) -> None:
        """It boots as this process."""
        with self._lock:
            self._booting[guest_id] = (self._now(), pid)

    def _still(self, boot: tuple[float, int], now: float) -> bool:
        since, pid = boot
        if not pid:  # about to start
            return now - since < ASKED_WITHIN
        used, age = cpu_seconds(pid), now - since
        resting = age > RESTING_AFTER and used < age * RESTING_SHARE
        return used < BOOT_CPU_SECONDS and age < BOOT_SECONDS and not resting and Path(f"/proc/{pid}").exists()
