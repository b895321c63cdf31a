"""What a node remembers of a guest, in the guest's folder: enough to go on after the agent or the machine went down."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from pileus.compute.drivers import Guest, Refused

MOST_DEVICES = 28  # places on the PCI bus of either machine type


class Record(Struct, kw_only=True):
    """The last wish, and how the guest's process was started; counters are those that a start fulfilled.

    A device keeps its place for as long as the guest has it, so that a suspended guest finds its
    devices where they were.
    """

    guest: Guest
    running: Guest | None = None  # as started, with what was plugged since; None: it never was
    machine: str = ""  # pinned machine type of `running`
    ports: int = 0  # root ports that `running` was started with
    controllers: tuple[str, ...] = ()  # of `running`: they stay when the last disk on them goes
    resets: int = 0
    reboots: int = 0
    places: dict[str, int] = field(default_factory=dict)  # name of a device → 1 …
    why: Literal["", "asked", "lost"] = "asked"  # why the process ended (or will end), when it was our doing
    pressed_at: float = 0.0  # when the power button was first pressed for this stop or soft reboot
    started_at: float = 0.0

    def give_places(self, devices: Iterable[str]) -> None:
        """Have a place for each of these devices and for no others; raises Refused when there are too many."""
        wanted = list(devices)
        places = {name: place for name, place in self.places.items() if name in wanted}
        for name in wanted:
            if name not in places:
                taken = set(places.values())
                places[name] = next(number for number in range(1, len(taken) + 2) if number not in taken)
        if max(places.values(), default=0) > MOST_DEVICES:
            raise Refused(f"{len(wanted)} devices; a guest has room for {MOST_DEVICES}")
        self.places = places


def load(path: Path) -> Record | None:
    """The record of a guest, None when there is none that can be read."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Record)
    return None


def save(path: Path, record: Record) -> None:
    """Write it whole and durable; it holds keys, so it is its owner's alone."""
    draft = path.with_suffix(".new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(fd)
    draft.replace(path)
