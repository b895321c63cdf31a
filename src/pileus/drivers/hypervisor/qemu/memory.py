"""A guest's memory on disk: saved when it is suspended, given back when it is resumed, also after a host's reboot.

QEMU's own migration, into a file that it gets as a descriptor.  The file has its final name only
when it is whole, and no name at all any more when the guest runs again.
"""

import os
from pathlib import Path

from .qmp import Qmp

_RATE = 1 << 40  # bytes per second: as fast as the disk


class Memory:
    """The saved state of one guest."""

    def __init__(self, folder: Path) -> None:
        self.saved = folder / "memory"
        self._draft = folder / "memory.part"

    def there(self) -> bool:
        """Whether a whole state is saved."""
        return self.saved.exists()

    def drop(self) -> None:
        """Forget it."""
        self.saved.unlink(missing_ok=True)
        self._draft.unlink(missing_ok=True)

    def cancel(self, qmp: Qmp) -> None:
        """Forget it because the guest runs on; a saving that is under way ends."""
        if self._draft.exists():
            qmp.call("migrate_cancel")
        self.drop()

    def save(self, qmp: Qmp) -> bool:
        """Do the next thing towards a saved state; True when it is whole (the process can go then).

        Raises ConnectionError when QEMU could not write it; the next call begins anew.
        """
        progress = qmp.call("query-migrate")  # asked first: what ends between the two shows in the second
        if qmp.call("query-status")["status"] == "postmigrate":
            return self._finish()
        if self._draft.exists() and progress.get("status") == "failed":
            self._draft.unlink()
            raise ConnectionError(f"the memory could not be saved: {progress.get('error-desc', 'no reason given')}")
        if not self._draft.exists() or progress.get("status") in (None, "none", "completed", "cancelled"):
            self._begin(qmp)
        return False

    def _begin(self, qmp: Qmp) -> None:
        qmp.call("stop")
        fd = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            qmp.call("getfd", {"fdname": "memory"}, fds=[fd])
        finally:
            os.close(fd)
        qmp.call("migrate-set-parameters", {"max-bandwidth": _RATE})
        qmp.call("migrate", {"uri": "fd:memory"})

    def _finish(self) -> bool:
        if self._draft.exists():
            with self._draft.open("rb") as file:
                os.fsync(file.fileno())
            self._draft.rename(self.saved)
        return self.there()

    def load(self, qmp: Qmp) -> None:
        """Begin to give it back to a QEMU that was started to wait for it."""
        fd = os.open(self.saved, os.O_RDONLY | os.O_CLOEXEC)
        try:
            qmp.call("getfd", {"fdname": "memory"}, fds=[fd])
        finally:
            os.close(fd)
        qmp.call("migrate-incoming", {"uri": "fd:memory"})
