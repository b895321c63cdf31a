"""Images at the edge: how a node is told of one, and the store that keeps their bytes."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Literal, Protocol

from msgspec import Struct


class ImageSource(Struct, frozen=True, kw_only=True):
    """An image as a node fetches it: opened read-only, never trusted, converted to raw in a sandbox."""

    id: str
    format: Literal["raw", "qcow2"]  # what the controller's inspection found; nothing is probed
    size: int  # bytes as stored
    sha512: str  # hex, of the bytes as stored
    url: str  # file:///… on the controller's own machine, https://… elsewhere


class Broken(Exception):
    """No retry on any node will help (a hostile image, a missing volume); the text is for the user."""


class Blob(Protocol):
    """Keeps the bytes of images, each under a name that is used once; nothing is visible before it is whole."""

    def create(self, name: str) -> "BlobWriter": ...

    def open(self, name: str) -> BinaryIO:
        """Open for reading, seekable; raises LookupError."""

    def size(self, name: str) -> int:
        """Bytes; raises LookupError."""

    def url(self, name: str) -> str:
        """Where a node on the same machine may read it."""

    def remove(self, name: str) -> bool:
        """Unknown names are not an error; partial uploads of the name go too."""

    def list(self) -> Sequence[str]: ...

    def read(self, name: str, offset: int, length: int, chunk: int = 1 << 18) -> Iterator[bytes]: ...


class BlobWriter(Protocol):
    """An upload under way; gone without a trace unless committed."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None:
        """Make it durable and visible, replacing nothing; raises FileExistsError."""

    def abort(self) -> None: ...
