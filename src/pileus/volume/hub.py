"""The outside as volumes need it: block drivers and the point-in-time copies of hypervisors, by node."""

from typing import Protocol

from pileus.core.reconcile import Lease
from pileus.volume.drivers import Block


class Copies(Protocol):
    """The part of a hypervisor that copies the disk of a guest at one point in time."""

    def ensure_disk_copy(self, guest_id: str, disk_id: str, copy_id: str) -> int | None: ...

    def disk_copy_path(self, copy_id: str) -> str: ...

    def remove_disk_copy(self, copy_id: str) -> bool: ...


class Hub(Protocol):
    """Drivers by node, speaking under a lease."""

    def block(self, node_id: str, lease: Lease | None = None) -> Block: ...

    def hypervisor(self, node_id: str, lease: Lease | None = None) -> Copies: ...
