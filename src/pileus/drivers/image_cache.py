"""ImageCache: images as raw files on a node, fetched, checked and converted where they can do no harm.

The bytes of an image are hostile: they are hashed while they arrive, inspected for references to
other files, and converted by a qemu-img that sees nothing but its input and its output
(CVE-2024-32498, CVE-2024-40767: qemu-img reads host files that an image names).
"""

import hashlib
import http.client
import logging
import os
import ssl
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from oslo_utils.imageutils import format_inspector

from pileus.drivers.background import Background
from pileus.drivers.sandbox import confined, limited, run_confined
from pileus.image.drivers import Broken, ImageSource

log = logging.getLogger("pileus.image_cache")
CHUNK = 1 << 20
MEMORY = 2 << 30  # bytes of address space for qemu-img, whose 64 threads have 8 MiB of stack each
ONE_ARENA = ("env", "MALLOC_ARENA_MAX=1")  # glibc would reserve 64 MiB for each thread
OUR_TROUBLE = ("No space left", "Resource temporarily unavailable")
PATIENCE = 3600.0  # seconds for one conversion
CHECK_LEAKS = 3  # exit code of qemu-img check: space is wasted, no data is missing
BROKEN_SECONDS = 300.0  # how long a refusal is remembered before the bytes are looked at again
UNUSED_SECONDS = 7 * 86400.0


class ImageCache:
    """Raw files of images in `folder`, one each, visible only when whole.

    `uid` is the unprivileged user (and group) that converts; `max_virtual_bytes` the largest disk that
    an image may unfold to; `tls` presents this node to controllers on another machine, who give out images
    below the URL `origin`, whatever file of theirs an image names.
    """

    def __init__(
        self, folder: Path, uid: int, max_virtual_bytes: int, tls: ssl.SSLContext | None = None, origin: str = ""
    ) -> None:
        self.folder, self.uid, self.max_virtual_bytes = folder, uid, max_virtual_bytes
        self.tls, self.origin = tls, origin
        self._work: Background[int] = Background()
        self._broken: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for draft in folder.glob("*.part"):
            draft.unlink(missing_ok=True)

    def ensure(self, image: ImageSource) -> int | None:
        """Have the image here; its virtual size in bytes when it is, None while it is being made.

        Raises Broken when the bytes are not what `image` says or refer to other files; OSError
        when they cannot be had now.
        """
        name = _name(image)
        try:
            return self.path(image).stat().st_size
        except LookupError:
            pass
        with self._lock:
            when, why = self._broken.get(name, (0.0, ""))
        if why and time.monotonic() - when < BROKEN_SECONDS:
            raise Broken(why)
        try:
            return self._work.ask(name, lambda: self._make(image))
        except Broken as reason:
            with self._lock:
                self._broken[name] = (time.monotonic(), str(reason))
            raise

    def path(self, image: ImageSource) -> Path:
        """The raw file, marked as used now; raises LookupError when it is not there."""
        path = self.folder / _name(image)
        try:
            os.utime(path)
        except FileNotFoundError:
            raise LookupError(f"image {image.id} is not in the cache") from None
        return path

    def drafts(self) -> Sequence[str]:
        """Ids of the images of which there are unfinished files."""
        return sorted({path.name.split(".")[0] for path in self.folder.glob("*.part")})

    def prune(self, keep: Collection[str] = (), unused_seconds: float = UNUSED_SECONDS) -> list[str]:
        """Remove raw files that nothing used for so long, but those of the image ids in `keep`; ids removed."""
        gone = []
        for path in self.folder.glob("*.raw"):
            image_id = path.name.split(".")[0]
            if image_id not in keep and time.time() - path.stat().st_mtime > unused_seconds:
                path.unlink(missing_ok=True)
                gone.append(image_id)
        return gone

    def _make(self, image: ImageSource) -> int:
        """Fetch, check, convert, and show the result under its name."""
        drafts = [self.folder / f"{uuid.UUID(image.id)}.{uuid.uuid4()}.part" for _ in range(2)]
        fetched, raw = drafts
        try:
            self._fetch(image, fetched)
            if image.format == "raw":
                size = self._whole(image, fetched.stat().st_size)
                raw = fetched
            else:
                size = self._whole(image, inspect(fetched, image.format))
                self._convert(image, fetched, raw, size)
                fetched.unlink()  # before the result is seen: whoever sees it finds nothing beside it
            _settle(raw)
            raw.rename(self.folder / _name(image))
            log.info("image %s is here: %d bytes raw", image.id, size)
            return size
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)

    def _whole(self, image: ImageSource, size: int) -> int:
        if size <= 0:
            raise Broken(f"image {image.id} is empty")
        if size > self.max_virtual_bytes:
            raise Broken(f"image {image.id} unfolds to {size} bytes; at most {self.max_virtual_bytes} are allowed")
        return size

    def _fetch(self, image: ImageSource, target: Path) -> None:
        """Copy the bytes, leaving zeros unwritten; raises Broken unless size and hash are as announced."""
        digest, size = hashlib.sha512(), 0
        with target.open("xb") as file:
            for chunk in self._stream(f"{self.origin}/{image.id}" if self.origin else image.url):
                size += len(chunk)
                if size > image.size:
                    raise Broken(f"image {image.id} has more than the {image.size} bytes that it should have")
                digest.update(chunk)
                if chunk.strip(b"\0"):
                    file.write(chunk)
                else:
                    file.seek(len(chunk), os.SEEK_CUR)
            file.truncate(size)
        if size != image.size:
            raise Broken(f"image {image.id} has {size} bytes, {image.size} were expected")
        if digest.hexdigest() != image.sha512:
            raise Broken(f"image {image.id} does not have the hash that it should have")

    def _stream(self, url: str) -> Iterator[bytes]:
        parts = urlsplit(url)
        if parts.scheme == "file":
            with Path(unquote(parts.path)).open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        elif parts.scheme == "https" and self.tls is not None:
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port or 443, timeout=60, context=self.tls
            )
            with closing(connection):
                yield from _download(connection, url)
        else:
            raise Broken(f"{parts.scheme}: images come from file:///… or, on a node that joined, https://…")

    def _convert(self, image: ImageSource, source: Path, target: Path, size: int) -> None:
        """Unfold in a cell that sees two files, no network, and has limits of memory, time and file size."""
        target.touch(0o600, exist_ok=False)
        for path in (source, target):
            os.chown(path, self.uid, self.uid)
        cell = confined(self.uid, self.uid, read=[source], write=[target])
        seconds = 60 + 30 * (size >> 30)
        limits = limited({"as": MEMORY, "cpu": seconds, "fsize": size + 512, "nofile": 64, "core": 0})
        check = ["qemu-img", "check", "-q", "-f", image.format, str(source)]  # reads past the end are zeros to convert
        convert = ["qemu-img", "convert", "-f", image.format, "-O", "raw", str(source), str(target)]
        for argv, fine in ((check, (0, CHECK_LEAKS)), (convert, (0,))):
            code, said = run_confined([*cell, *limits, *ONE_ARENA], argv, PATIENCE)
            if code not in fine and any(trouble in said for trouble in OUR_TROUBLE):
                raise OSError(f"image {image.id} cannot be unfolded here now: {said}")
            if code not in fine:
                raise Broken(f"image {image.id} cannot be converted: {_last_line(said, source)}")
        made = target.stat().st_size
        if not size <= made < size + 512:
            raise Broken(f"image {image.id} says {size} bytes and unfolds to {made}")


def inspect(path: Path, expected: str) -> int:
    """The virtual size in bytes of an image that is of the expected format and refers to nothing outside.

    Raises Broken with the reason.
    """
    try:
        found = format_inspector.detect_file_format(str(path))
        if found is None or str(found) != expected:
            raise Broken(f"this is {found or 'no image'}, not {expected}")
        found.safety_check()
        return int(found.virtual_size)
    except format_inspector.SafetyCheckFailed as unsafe:
        raise Broken(f"the image is not safe: {', '.join(sorted(unsafe.failures))}") from None
    except format_inspector.ImageFormatError as error:
        raise Broken(f"the image cannot be read: {error}") from None


def _download(connection: http.client.HTTPSConnection, url: str) -> Iterator[bytes]:
    """The body of a GET, in chunks; raises OSError unless it is whole."""
    parts = urlsplit(url)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{url}: the controller answered {answer.status}")
        while chunk := answer.read(CHUNK):
            yield chunk
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error or type(error).__name__}") from None


def _name(image: ImageSource) -> str:
    """File name of an image: other bytes are another file."""
    return f"{uuid.UUID(image.id)}.{image.sha512[:16]}.raw"


def _settle(path: Path) -> None:
    """Make a finished file root's alone, and durable."""
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _last_line(said: str, source: Path) -> str:
    """The complaint without paths of this machine."""
    lines = said.replace(str(source), "the image").splitlines()
    return lines[-1][:300] if lines else "no reason given"
