"""Bulk data: upload, stage and download, streamed in constant memory.

Source: Image API reference v2, "Image data" and "Interoperable image import".
"""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import (
    BadRequest,
    Forbidden,
    Gone,
    Problem,
    RangeNotSatisfiable,
    ServiceUnavailable,
    TooLarge,
    UnsupportedMediaType,
)
from pileus.core.events import record_request
from pileus.db.connect import Unavailable
from pileus.http.app import Call
from pileus.image import rows
from pileus.image.access import load_image
from pileus.image.drivers import Broken
from pileus.image.ingest import Ingest, Oversize
from pileus.image.quota import mib, take
from pileus.image.ranges import Part, parse_range
from pileus.image.rows import Image, Stored, activate, begin, give_up, held, move
from pileus.image.service import IMAGE

BLOCK = 1 << 20  # bytes handed to the writer thread at once
Keep = Callable[[Context, Image, Stored], Any]


@IMAGE.op("PUT", "/images/{image_id}/file", rule="upload_image", load=load_image, ok=204, streams=True)
async def upload_image(call: Call, image_id: str) -> None:
    """Upload the data of a queued image; it is active afterwards, or refused with the reason."""
    await Upload(call, image_id, "saving").run(Ingest.accept, _activate)


@IMAGE.op("PUT", "/images/{image_id}/stage", rule="upload_image", load=load_image, ok=204, streams=True)
async def stage_image(call: Call, image_id: str) -> None:
    """Upload data that an import then turns into the image."""
    await Upload(call, image_id, "uploading").run(Ingest.finish, _stage)


def _activate(ctx: Context, image: Image, stored: Stored) -> None:
    activate(ctx.tx, image, stored, ctx.now)
    record_request(ctx, "image", image.id, "upload", "success", size=stored.size)


def _stage(ctx: Context, image: Image, stored: Stored) -> None:
    move(ctx.tx, image, ctx.now, status="uploading", transfer="", staged=stored)
    record_request(ctx, "image", image.id, "stage", "success", size=stored.size)


class Upload:
    """One body on its way into the blob store, written and inspected in a thread while it arrives."""

    def __init__(self, call: Call, image_id: str, status: str):
        self.call, self.image_id, self.status = call, image_id, status
        self.config, self.blob = call.app.settings.config, call.app.settings.blob
        self.transfer = ""
        self.unwanted = False  # the image was deleted meanwhile

    async def run(self, end: Callable[[Ingest], Stored], keep: Keep) -> None:
        """Receive, `end` the ingest, and `keep` what was stored; whatever fails, the image is queued again."""
        image, declared = await self.call.write(self._begin)
        beating = asyncio.create_task(self._beat())
        try:
            await self._receive(image, declared, end, keep)
        except BaseException as error:
            problem = _as_problem(error)
            with suppress(Exception):
                await self.call.write(lambda ctx: self._give_up(ctx, str(problem) or "The upload was cut off."))
            raise problem from None
        finally:
            beating.cancel()
        await self.call.answer(204, b"", {})

    def _declared_size(self) -> int | None:
        """Bytes that the client says it sends; raises TooLarge, BadRequest."""
        text = self.call.headers.get("x-openstack-image-size") or self.call.headers.get("content-length")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise BadRequest("The size of the image data must be a natural number.")
        if int(text) > self.config.image_size_cap:
            raise TooLarge(f"The image is too large: at most {self.config.image_size_cap} bytes are allowed.")
        return int(text)

    def _begin(self, ctx: Context) -> tuple[Image, int | None]:
        image = load_image(ctx, self.image_id)
        ctx.enforce("upload_image", image)
        if ctx.headers.get("content-type", "").partition(";")[0].strip() != "application/octet-stream":
            raise UnsupportedMediaType("Image data must be sent with Content-Type application/octet-stream.")
        declared = self._declared_size()
        if self.status == "saving" and (image.disk_format is None or image.container_format is None):
            raise BadRequest("Properties disk_format, container_format must be set prior to saving data.")
        size = {"image_size_total" if self.status == "saving" else "image_stage_total": mib(declared or 0)}
        take(ctx, image.project_id, **size, image_count_uploading=1)
        self.transfer = begin(ctx.tx, image, self.status, ctx.now)
        return image, declared

    async def _receive(self, image: Image, declared: int | None, end: Callable[[Ingest], Stored], keep: Keep) -> None:
        claims = (image.disk_format, image.container_format) if self.status == "saving" else (None, None)
        ingest = Ingest(
            self.blob,
            self.transfer,
            size_cap=self.config.image_size_cap,
            virtual_cap=self.config.image_limit_gib << 30,
            disk_format=claims[0],
            container_format=claims[1],
        )
        try:
            async for block in blocks(self.call.chunks()):
                if self.unwanted:
                    raise Gone("The image was deleted while it was uploaded.")
                await asyncio.to_thread(ingest.write, block)
            if declared is not None and ingest.size != declared:
                raise BadRequest(f"The image data has {ingest.size} bytes, but {declared} were announced.")
            stored = await asyncio.to_thread(end, ingest)
            await self.call.write(lambda ctx: self._keep(ctx, stored, keep))
        except Unavailable:  # nobody knows whether it was committed: the step removes bytes that no row has
            raise
        except BaseException:
            ingest.abort()
            raise

    def _keep(self, ctx: Context, stored: Stored, keep: Keep) -> None:
        image = held(ctx.tx, image_id=self.image_id.lower(), transfer=self.transfer)
        if image is None:
            raise Gone("The image was deleted while it was uploaded, or the upload paused for too long.")
        keep(ctx, image, stored)

    def _give_up(self, ctx: Context, why: str) -> None:
        give_up(ctx.tx, self.image_id.lower(), self.transfer, why, ctx.now)
        record_request(ctx, "image", self.image_id.lower(), "upload", "error", why)

    async def _beat(self) -> None:
        """Show that this process still receives, so that nobody clears the upload away."""
        while not self.unwanted:
            await asyncio.sleep(rows.BEAT)
            with suppress(Exception):  # the next beat tells again
                self.unwanted = not await self.call.write(
                    lambda ctx: rows.beat(ctx.tx, self.image_id.lower(), self.transfer, time.time())
                )


def _as_problem(error: BaseException) -> BaseException:
    """What the client is told of a failed upload."""
    if isinstance(error, Oversize):
        return TooLarge(str(error))
    if isinstance(error, Broken):
        return UnsupportedMediaType(str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return TooLarge("The image store is full: delete images, or ask the operator for room.")
    if isinstance(error, OSError) and not isinstance(error, Problem):
        return ServiceUnavailable(f"The image store failed: {error.strerror or error}. Try again.")
    return error


async def blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Larger pieces, which cost fewer thread switches."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= BLOCK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


@IMAGE.op("GET", "/images/{image_id}/file", rule="download_image", load=load_image, streams=True)
async def download_image(call: Call, image_id: str) -> None:
    """Download the data, or a byte range of it."""
    image = await call.read(lambda ctx: _downloadable(ctx, image_id))
    if not image.location:
        await call.answer(204, b"", {})
        return
    part = parse_range(call.headers.get("range", ""), image.size)
    if part is None:
        refused = {"content-range": f"bytes */{image.size}"}
        raise RangeNotSatisfiable("The range cannot be served: ask for one range of bytes.", headers=refused)
    pieces = call.app.settings.blob.read(image.location, part.first, part.length, BLOCK)
    status = 206 if part.partial else 200
    await call.stream(status, _headers(image, part), _nothing() if call.method == "HEAD" else _read(pieces))


def _downloadable(ctx: Context, image_id: str) -> Image:
    image = load_image(ctx, image_id)
    ctx.enforce("download_image", image)
    if image.status == "deactivated" and not ctx.allows("context_is_admin"):
        raise Forbidden(f"The requested image {image.id} has been deactivated. Image data download is forbidden.")
    return image


def _headers(image: Image, part: Part) -> Mapping[str, str]:
    headers = {"content-type": "application/octet-stream", "content-length": str(part.length), "accept-ranges": "bytes"}
    if part.partial:
        headers["content-range"] = f"bytes {part.first}-{part.first + part.length - 1}/{image.size}"
    elif image.checksum:
        headers["content-md5"] = image.checksum
    return headers


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _read(pieces: Any) -> AsyncIterator[bytes]:
    """Read in a thread, so that a slow disk holds up nobody else."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
