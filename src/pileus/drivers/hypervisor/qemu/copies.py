"""Copies of one disk as it was at one point in time, for snapshots and images.

While the guest runs, QEMU makes the copy itself (blockdev-mirror: when the copy has caught up, what
is written goes to both until the job is ended, at one point in time).  Its zeros become holes, which
blockdev-backup would allocate.  The job goes on when the agent dies and is found again by its name.
When the guest does not run, the file is copied.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pileus.drivers.background import Background
from pileus.drivers.sandbox import confined, run_confined

from .disks import checked, copy
from .qmp import Qmp, QmpError

_PATIENCE = 3600.0  # seconds for the copy of a far disk


class Copies:
    """Finished copies in a folder, each a raw file; drafts of running jobs beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._work: Background[int] = Background()
        for draft in folder.glob("*.draft"):  # of threads that died with the last agent
            draft.unlink(missing_ok=True)

    def finished(self, copy_id: str) -> int | None:
        """Bytes of a finished copy, None when there is none."""
        with suppress(FileNotFoundError):
            return self.path(copy_id).stat().st_size
        return None

    def list(self) -> Sequence[str]:
        """Ids of all copies of which there is a file."""
        return sorted({entry.name.split(".")[0] for entry in os.scandir(self.folder)})

    def busy(self, copy_id: str) -> bool:
        """Whether a file is being copied for it now."""
        return self._work.busy(copy_id)

    def path(self, copy_id: str) -> Path:
        """Where a finished copy is."""
        return self.folder / checked(copy_id)

    def from_guest(self, qmp: Qmp, node: str, copy_id: str) -> int | None:
        """Have QEMU copy a node of a running guest; bytes when done."""
        job, part = _job(copy_id), self._part(copy_id)
        state = {found["id"]: found for found in qmp.call("query-jobs")}.get(job)
        if state is None:
            self._begin(qmp, node, job, part)
            return None
        if state["status"] == "ready":
            qmp.call("block-job-cancel", {"device": job})  # of a job that is ready: end it, keep the copy
        if state["status"] != "concluded":
            return None
        self._end(qmp, job)
        if "error" in state:
            part.unlink(missing_ok=True)
            raise ConnectionError(f"the copy of the disk failed: {state['error']}")
        return self._show(part, copy_id)

    def from_file(self, origin: Path, copy_id: str) -> int | None:
        """Copy a file that nobody writes; bytes when done."""
        return self._in_background(copy_id, lambda draft: copy(origin, draft))

    def from_relay(self, relay: Callable[[], str], copy_id: str, uid: int, gid: int) -> int | None:
        """Copy a far disk that nobody writes, through its relay; bytes when done."""

        def work(draft: Path) -> int:
            socket = Path(relay())
            draft.touch(0o600)
            os.chown(draft, uid, gid)
            far = {"driver": "nbd", "server": {"type": "unix", "path": str(socket)}, "export": "disk"}
            cell = confined(uid, gid, read=[socket.parent], write=[draft])
            source = "json:" + msgspec.json.encode({"driver": "raw", "file": far}).decode()
            code, said = run_confined(cell, ["qemu-img", "convert", "-O", "raw", source, str(draft)], _PATIENCE)
            if code:
                raise ConnectionError(f"the copy of the volume failed: {said}")
            os.chown(draft, os.geteuid(), os.getegid())
            return draft.stat().st_size

        return self._in_background(copy_id, work)

    def end_job(self, qmp: Qmp, copy_id: str) -> None:
        """End the job that makes this copy in a running guest, if it is there."""
        job = _job(copy_id)
        found = {known["id"]: known["status"] for known in qmp.call("query-jobs")}
        if job in found:
            if found[job] != "concluded":
                qmp.call("job-cancel", {"id": job})
            with suppress(QmpError):  # it has not ended yet: the next call finds it concluded
                self._end(qmp, job)

    def remove(self, copy_id: str) -> bool:
        """Remove a copy and its drafts; False while one is being written."""
        if self._work.busy(copy_id):
            return False
        self._work.forget(copy_id)
        self._part(copy_id).unlink(missing_ok=True)
        self.path(copy_id).unlink(missing_ok=True)
        return True

    def _begin(self, qmp: Qmp, node: str, job: str, part: Path) -> None:
        """Start QEMU's job into a fresh, empty file of the disk's size."""
        self._close_target(qmp, job)
        sizes = {found["node-name"]: found["image"]["virtual-size"] for found in _nodes(qmp)}
        if node not in sizes:
            raise LookupError("the guest does not have this disk")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(fd, sizes[node])
            fdset = qmp.call("add-fd", {"opaque": job}, fds=[fd])["fdset-id"]
        finally:
            os.close(fd)
        file = {"driver": "file", "filename": f"/dev/fdset/{fdset}", "discard": "unmap"}
        target = {"driver": "raw", "node-name": job, "file": file, "discard": "unmap", "detect-zeroes": "unmap"}
        qmp.call("blockdev-add", target)
        job_options = {"job-id": job, "device": node, "target": job, "sync": "full", "copy-mode": "write-blocking"}
        qmp.call("blockdev-mirror", job_options | {"auto-dismiss": False})

    def _end(self, qmp: Qmp, job: str) -> None:
        qmp.call("job-dismiss", {"id": job})
        self._close_target(qmp, job)

    def _close_target(self, qmp: Qmp, job: str) -> None:
        if any(found["node-name"] == job for found in _nodes(qmp)):
            qmp.call("blockdev-del", {"node-name": job})
        for fdset in qmp.call("query-fdsets"):
            if any(fd.get("opaque") == job for fd in fdset["fds"]):
                qmp.call("remove-fd", {"fdset-id": fdset["fdset-id"]})

    def _in_background(self, copy_id: str, work: Callable[[Path], int]) -> int | None:
        def run() -> int:
            draft = self.folder / f"{checked(copy_id)}.{uuid.uuid4()}.draft"
            try:
                work(draft)
                return self._show(draft, copy_id)
            finally:
                draft.unlink(missing_ok=True)

        return self._work.ask(copy_id, run)

    def _part(self, copy_id: str) -> Path:
        return self.folder / f"{checked(copy_id)}.part"

    def _show(self, part: Path, copy_id: str) -> int:
        """Make a whole copy durable and visible."""
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(self.path(copy_id))
        return self.path(copy_id).stat().st_size


def _job(copy_id: str) -> str:
    """The name of a copy's job and target node (QEMU allows 31 characters)."""
    return "copy-" + hashlib.sha256(copy_id.encode()).hexdigest()[:24]


def _nodes(qmp: Qmp) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = qmp.call("query-named-block-nodes", {"flat": True})
    return found
