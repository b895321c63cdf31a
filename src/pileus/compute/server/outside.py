"""What a server's life needs of the outside, as the life itself sees it."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from pileus.compute.drivers import GuestSeen, Power
from pileus.compute.server.whole import Whole
from pileus.core.reconcile import Outcome


class Place(Struct, frozen=True, kw_only=True):
    """A node that was claimed."""

    node_id: str
    name: str
    zone: str


class NoValidHost(Exception):
    """The server fits nowhere; the text says for each node what was missing."""


class World(Protocol):
    """Facades and drivers under one lease.  Every call may be repeated; a text is what is waited for."""

    def now(self) -> float: ...

    def place(self, whole: Whole) -> Place:
        """Claim a node, or find the claim that stands; raises NoValidHost."""

    def unplace(self, whole: Whole) -> None:
        """Give back every claim of the server and of its migration."""

    def bind_ports(self, whole: Whole) -> str: ...

    def unbind_ports(self, whole: Whole) -> None: ...

    def give_up_ports(self, whole: Whole) -> None:
        """Ports made for the server are deleted, others are free again."""

    def connect_volumes(self, whole: Whole) -> str:
        """Reserve and export; raises Broken for a volume without which the server cannot boot."""

    def disconnect_volumes(self, whole: Whole) -> None: ...

    def give_up_volumes(self, whole: Whole) -> str: ...

    def images_ready(self, whole: Whole) -> str:
        """Whatever image the next disks are made from is on the node; raises Broken."""

    def observe(self, whole: Whole) -> GuestSeen | None: ...

    def ensure(self, whole: Whole, power: Power) -> GuestSeen | None:
        """The whole guest; raises Refused or Broken."""

    def remove_guest(self, whole: Whole) -> bool: ...

    def settle(self, whole: Whole, seen: GuestSeen | None) -> None:
        """Tell owners what the guest has now, and let go of what it no longer has."""

    def claim_new_size(self, whole: Whole) -> None:
        """Move the claim to the migration and claim the new size on the same node; raises NoValidHost."""

    def restore_claim(self, whole: Whole) -> None: ...

    def drop_old_claim(self, whole: Whole) -> None: ...

    def reimage_root(self, whole: Whole) -> str:
        """Disconnect the root volume and ask for the image's bytes in it; may be asked for twice."""

    def cancel_snapshots(self, whole: Whole) -> str: ...

    def shelve_image_state(self, whole: Whole) -> str:
        """ "active", "" while it is being made, "gone" when that failed."""

    def drop_shelve_image(self, whole: Whole) -> None: ...


Act = Callable[[Whole, World], Outcome | None]  # None: done
