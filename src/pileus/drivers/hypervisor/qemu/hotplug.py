"""Disks and network cards put into and taken out of a guest that runs.

What is there is read from QEMU each time.  Taking out needs the guest's consent and ends later
(device_del is asynchronous): it is asked for, and looked at again with the next call.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from pileus.compute.drivers import Disk, Guest, Nic, Refused

from .devices import (
    CONTROLLERS,
    block_node,
    controllers,
    disk_devices,
    disk_name,
    is_remote,
    nic_backend,
    nic_device,
    nic_name,
    node_name,
    pci,
)
from .qmp import Qmp, QmpError
from .record import Record
from .taps import open_tap


class Hotplug:
    """The devices of one running guest; `open_disk` gives a descriptor, `relay` the socket of a far disk's relay.

    `record.running` follows what is plugged, so that a suspended guest is started with it again.
    """

    def __init__(
        self, qmp: Qmp, record: Record, open_disk: Callable[[Disk], int], relay: Callable[[Disk], str]
    ) -> None:
        self.qmp, self.record = qmp, record
        self._open_disk, self._relay = open_disk, relay

    def attached(self) -> set[str]:
        """Names of the devices that the guest has now."""
        return {found["name"] for found in self.qmp.call("qom-list", {"path": "/machine/peripheral"})}

    def follow(self, wish: Guest) -> bool:
        """Come nearer to the disks and cards of the wish; True when nothing is missing or too many."""
        there = self.attached()
        before = self.record.running or wish
        disks = {disk_name(disk.id): disk for disk in (*before.disks, *wish.disks)}
        nics = {nic_name(nic.port_id): nic for nic in (*before.nics, *wish.nics)}
        wanted_disks = {disk_name(disk.id) for disk in wish.disks}
        wanted_nics = {nic_name(nic.port_id) for nic in wish.nics}
        done = True
        for name, disk in disks.items():
            if name not in wanted_disks:
                done = self._take_out(name, there, partial(self._drop_disk, disk)) and done
            elif name not in there:
                done = self._plug_disk(disk, there) and done
            elif is_remote(disk):
                self._relay(disk)
        for name, nic in nics.items():
            if name not in wanted_nics:
                done = self._take_out(name, there, partial(self._drop_nic, nic)) and done
            elif name not in there:
                self._plug_nic(nic)
        self._grow(wish)
        return done

    def _guest(self) -> Guest:
        assert self.record.running is not None, "a running guest was started"
        return self.record.running

    def _free_place(self, name: str) -> int:
        place = self.record.places[name]
        if self._guest().machine == "q35" and place > self.record.ports:
            raise Refused(f"no slot is left for {name}; a restart of the server makes room")
        return place

    def _plug_disk(self, disk: Disk, there: set[str]) -> bool:
        """Put a disk in; False while one that had its place is still being closed."""
        guest = self._guest()
        if disk.bus == "ide":
            raise Refused(f"disk {disk.id}: nothing can be plugged into an IDE bus while the server runs")
        grown = msgspec.structs.replace(guest, disks=(*(d for d in guest.disks if d.id != disk.id), disk))
        for controller in controllers(grown):
            if controller not in there:
                self.qmp.call("device_add", CONTROLLERS[controller] | pci(guest.machine, self._free_place(controller)))
                self.record.controllers = (*self.record.controllers, controller)
        name = disk_name(disk.id)
        place = self._free_place(name)
        if not self._drop_disk(disk):
            return False
        if is_remote(disk):
            self.qmp.call("blockdev-add", block_node(disk, place, self._relay(disk)))
        else:
            fd = self._open_disk(disk)
            try:
                self.qmp.call("add-fd", {"fdset-id": place, "opaque": name}, fds=[fd])
            finally:
                os.close(fd)
            self.qmp.call("blockdev-add", block_node(disk, place))
        for device in disk_devices(grown, disk, place):
            self.qmp.call("device_add", device)
        if disk.bus == "usb" and disk.device == "cdrom":
            self.qmp.call("qom-set", {"path": f"/machine/peripheral/bot{place}", "property": "attached", "value": True})
        self.record.running = grown
        return True

    def _plug_nic(self, nic: Nic) -> None:
        guest = self._guest()
        place = self._free_place(nic_name(nic.port_id))
        self._drop_nic(nic)
        fd = open_tap(nic.netns, nic.device)
        try:
            self.qmp.call("getfd", {"fdname": f"tap{place}"}, fds=[fd])
        finally:
            os.close(fd)
        self.qmp.call("netdev_add", nic_backend(place, f"tap{place}"))
        grown = msgspec.structs.replace(guest, nics=(*(n for n in guest.nics if n.port_id != nic.port_id), nic))
        self.qmp.call("device_add", nic_device(grown, nic, place))
        self.record.running = grown

    def _take_out(self, name: str, there: set[str], drop: Callable[[], bool]) -> bool:
        """Ask the guest to let go of a device; True when it did and the host's end is gone as well."""
        if name in there:
            with suppress(QmpError):  # it was asked already and has not answered
                self.qmp.call("device_del", {"id": name})
            there = self.attached()
        return name not in there and drop()

    def _drop_disk(self, disk: Disk) -> bool:
        """Close the host's end of a disk whose device is gone (or was never made); False while it is in use."""
        guest = self._guest()
        name = disk_name(disk.id)
        place = self.record.places.get(name, 0)
        if disk.bus == "usb" and disk.device == "cdrom":
            with suppress(QmpError):
                self.qmp.call("device_del", {"id": f"bot{place}"})
        if node_name(place) in {node["node-name"] for node in self.qmp.call("query-named-block-nodes", {"flat": True})}:
            try:
                self.qmp.call("blockdev-del", {"node-name": node_name(place)})
            except QmpError:  # a device that is gone lets go of its node a moment later
                return False
        for fdset in self.qmp.call("query-fdsets"):  # an open descriptor would keep the file locked
            if any(fd.get("opaque") == name for fd in fdset["fds"]):
                self.qmp.call("remove-fd", {"fdset-id": fdset["fdset-id"]})
        self.record.running = msgspec.structs.replace(guest, disks=tuple(d for d in guest.disks if d.id != disk.id))
        return True

    def _drop_nic(self, nic: Nic) -> bool:
        guest = self._guest()
        place = self.record.places.get(nic_name(nic.port_id), 0)
        with suppress(QmpError):  # gone already
            self.qmp.call("netdev_del", {"id": f"net{place}"})
        self.record.running = msgspec.structs.replace(
            guest, nics=tuple(n for n in guest.nics if n.port_id != nic.port_id)
        )
        return True

    def _grow(self, wish: Guest) -> None:
        """Tell the guest of disks that became larger (Block Storage API, "Extend a volume size", in use)."""
        guest = self._guest()
        sizes = {disk.id: disk.size_bytes for disk in guest.disks}
        grown = {disk.id: disk for disk in wish.disks if disk.size_bytes > sizes.get(disk.id, disk.size_bytes)}
        for disk_id, disk in grown.items():
            node = node_name(self.record.places[disk_name(disk_id)])
            if is_remote(disk):  # a read makes QEMU connect to the fresh relay, where it learns the new size
                self.qmp.call("human-monitor-command", {"command-line": f'qemu-io {node} "read 0 512"'})
            self.qmp.call("block_resize", {"node-name": node, "size": disk.size_bytes})
        if grown:
            disks = tuple(grown.get(disk.id, disk) for disk in guest.disks)
            self.record.running = msgspec.structs.replace(guest, disks=disks)
