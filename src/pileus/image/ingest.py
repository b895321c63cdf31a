"""Bytes on their way into the blob store: counted, hashed and inspected while they are written."""

import hashlib

from pileus.image import qcow2
from pileus.image.drivers import Blob, Broken
from pileus.image.inspection import BARE, Inspector, refusal
from pileus.image.rows import Stored


class Oversize(Broken):
    """More bytes than an image may have."""


class Ingest:
    """One transfer into the blob store under `name`.

    `disk_format` and `container_format`, when known, let a lie be refused before the last byte.  Nothing
    is left in the store unless `finish` returned.
    """

    def __init__(
        self, blob: Blob, name: str, *, size_cap: int, virtual_cap: int, disk_format: str | None = None,
        container_format: str | None = None,
    ):  # fmt: skip
        self.blob, self.name, self.size_cap = blob, name, size_cap
        self.disk_format, self.container_format = disk_format, container_format
        self.size = 0
        self._inspector = Inspector(virtual_cap)
        self._md5, self._sha512 = hashlib.md5(usedforsecurity=False), hashlib.sha512()
        self._writer = blob.create(name)
        self._committed = False

    def write(self, data: bytes) -> None:
        """Take the next bytes; raises Broken (Oversize) as soon as they cannot become an image."""
        self.size += len(data)
        if self.size > self.size_cap:
            raise Oversize(f"The image is too large: at most {self.size_cap} bytes are allowed.")
        self._inspector.eat(data)
        if self.disk_format and self.container_format in BARE and self._inspector.sure_not(self.disk_format):
            raise Broken(refusal(self._inspector.finish(), self.disk_format, self.container_format))
        self._md5.update(data)
        self._sha512.update(data)
        self._writer.write(data)

    def finish(self) -> Stored:
        """Make the bytes durable and say what they are; `flaw` tells what their tables reveal."""
        self._writer.commit()
        self._committed = True
        found = self._inspector.finish()
        flaw = ""
        if found.formats == ["qcow2"]:
            with self.blob.open(self.name) as file:
                flaw = qcow2.problem(file, self.size)
        return Stored(
            name=self.name, url=self.blob.url(self.name), size=self.size, checksum=self._md5.hexdigest(),
            hash_value=self._sha512.hexdigest(), found=found, flaw=f"The image was refused: {flaw}." if flaw else "",
        )  # fmt: skip

    def accept(self) -> Stored:
        """`finish`, and remove again what must not become an image; raises Broken."""
        stored = self.finish()
        why = refusal(stored.found, self.disk_format, self.container_format) or stored.flaw
        if why:
            self.abort()
            raise Broken(why)
        return stored

    def abort(self) -> None:
        """Leave nothing of our own behind; another attempt under the same name is not touched."""
        self._writer.abort()
        if self._committed:
            self.blob.remove(self.name)
