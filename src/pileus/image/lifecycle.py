"""What an image needs next: bytes fetched from a node, staged bytes adopted, dead uploads cleared, removal."""

from collections.abc import Callable
from typing import Protocol

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait
from pileus.image.inspection import refusal
from pileus.image.rows import DEAD, Image, Stored

FETCH_PATIENCE = 24 * 3600.0  # seconds that a fetch may take, with all its attempts
STALL_PATIENCE = 600.0  # seconds that attempts may fail without a byte in between
UPLOAD_PATIENCE = 30 * 24 * 3600.0  # seconds; an upload lives as long as its client sends


class World(Protocol):
    """What a step may see and do outside of its image."""

    def is_alive(self, image: Image) -> bool:
        """Whether the transfer gave a sign of life within the last DEAD seconds."""

    def new_name(self) -> str:
        """A name for the blob store that nobody used before."""

    now: Callable[[], float]

    def remove_blob(self, name: str) -> None:
        """Unknown names are not an error."""

    def fetch(self, image: Image) -> bool:
        """Bring the bytes from the feed into the transfer; False while that is under way.

        When it is done the row says so itself.  Raises drivers.Broken when they cannot become this image.
        """

    def hopeless(self, error: Exception) -> str:
        """The reason, if no retry helps; "" otherwise."""


def step(image: Image, world: World) -> Outcome:
    """The next missing thing."""
    if image.deleting:
        return _delete(image, world)
    if image.leftovers:
        for name in image.leftovers:
            world.remove_blob(name)
        image.leftovers = []
        return AGAIN
    if image.status == "importing" and image.staged is not None:
        return _adopt(image, image.staged)
    if image.feed is not None and image.status in ("queued", "saving"):
        return _fetch(image, world)
    if image.transfer:
        return _watch(image, world)
    return REST


def _delete(image: Image, world: World) -> Outcome:
    """Wait for who writes into the store, then remove everything."""
    if image.transfer and world.is_alive(image):
        return Wait(1.0, "an upload into this image is ending")
    staged = [image.staged.name] if image.staged else []
    for name in (image.location, image.transfer, *staged, *image.leftovers):
        if name:
            world.remove_blob(name)
    return GONE


def _adopt(image: Image, staged: Stored) -> Outcome:
    """End an import: staged bytes become the image's own, if they are what it says."""
    image.staged = None
    why = refusal(staged.found, image.disk_format, image.container_format) or staged.flaw
    if why:
        image.status, image.fault = "queued", why
        image.leftovers = [*image.leftovers, staged.name]
        return AGAIN
    image.status, image.fault = "active", None
    image.size, image.virtual_size = staged.size, staged.found.virtual_size
    image.checksum, image.hash_value = staged.checksum, staged.hash_value
    image.location, image.url = staged.name, staged.url
    return AGAIN


def _fetch(image: Image, world: World) -> Outcome:
    """Choose a name, commit it, then bring the bytes there."""
    if not image.transfer:
        image.transfer, image.transfer_seen, image.status = world.new_name(), world.now(), "saving"
        return AGAIN
    try:
        return AGAIN if world.fetch(image) else Wait(0.5, "fetching the data", FETCH_PATIENCE)
    except FileExistsError:  # an attempt that was killed after its last byte: begin anew under another name
        image.leftovers = [*image.leftovers, image.transfer]
        image.transfer = ""
        return AGAIN
    except Exception as error:
        why = world.hopeless(error)
        begun = image.feed.at if image.feed else 0.0
        late = world.now() - image.transfer_seen > STALL_PATIENCE or world.now() - begun > FETCH_PATIENCE
        if not why and not late:
            raise
        return _kill(image, why or str(error))


def _kill(image: Image, why: str) -> Outcome:
    image.status, image.fault = "killed", why
    if image.transfer:
        image.leftovers = [*image.leftovers, image.transfer]
        image.transfer = ""
    return AGAIN


def _watch(image: Image, world: World) -> Outcome:
    """An upload whose process was killed leaves its image queued again."""
    if world.is_alive(image):
        return Wait(DEAD / 2, "an upload is under way", UPLOAD_PATIENCE)
    image.leftovers = [*image.leftovers, image.transfer]
    image.transfer, image.status = "", "queued"
    image.fault = "The upload was cut off: the process that received it ended. Upload again."
    return AGAIN


def overdue(image: Image, why: str) -> Outcome:
    """Give up waiting: record why."""
    image.fault = why
    if image.deleting:
        return Wait(30.0, f"still: {why}")
    if image.feed is not None and image.status in ("queued", "saving"):
        return _kill(image, why)
    return Wait(30.0, f"still: {why}")
