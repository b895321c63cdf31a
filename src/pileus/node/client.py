"""A node as controllers see it: the drivers' Protocols over HTTP, fenced by a lease."""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import quote

import msgspec

from pileus.compute.drivers import Capabilities, Guest, GuestSeen, ImageSource
from pileus.network.drivers import Group, Port, PortSeen, Router, Segment
from pileus.node.relay import join
from pileus.node.wire import ERRORS, VERBS, NodeError, Tls, encode, open_connection
from pileus.volume.drivers import Connection, Pool, Snapshot, Volume, VolumeSeen

CALL_SECONDS = 30.0
CHUNK = 1 << 18
HEAD_LIMIT = 4096


class Wire:
    """Calls to one node; connections are kept for each thread.

    `request_id` tells for which request of a user a call is made, "" for none: the node's log says so too.
    """

    def __init__(self, url: str, tls: Tls | None = None, request_id: Callable[[], str] = str):
        self.url, self.tls, self.request_id = url, tls, request_id
        self._local = threading.local()

    def call(self, family: str, verb: str, lease: tuple[str, int] | None, **arguments: Any) -> Any:
        """One driver verb; raises what the driver raised, or ConnectionError when the node does not answer."""
        headers = {"content-type": "application/json"}
        if lease is not None:
            headers["x-lease"], headers["x-epoch"] = lease[0], str(lease[1])
        if request_id := self.request_id():
            headers["x-request-id"] = request_id
        status, raw = self._exchange(f"/v1/{family}/{verb}", encode(arguments), headers)
        if status == 200:
            return VERBS[family, verb].result.decode(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])["result"])
        try:
            said = msgspec.json.decode(raw, type=dict[str, str])
        except msgspec.MsgspecError:
            raise NodeError(f"node {self.url} answered {status}") from None
        raise ERRORS.get(said.get("error", ""), NodeError)(said.get("message", ""))

    def _exchange(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send on the kept connection, once more on a new one if the node had closed it."""
        for attempt in (0, 1):
            connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
            fresh = connection is None
            if connection is None:
                connection = self._local.connection = open_connection(self.url, CALL_SECONDS, self.tls)
            try:
                connection.request("POST", path, body, dict(headers))
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if fresh or attempt:
                    raise ConnectionError(f"node {self.url} does not answer: {error}") from None
        raise AssertionError("unreachable")

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file on the node; raises LookupError, or ConnectionError when cut."""
        connection = open_connection(self.url, CALL_SECONDS, self.tls)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200:
                raise LookupError(answer.read(500).decode(errors="replace"))
            while chunk := answer.read(CHUNK):
                yield chunk
            if answer.length:
                raise ConnectionError(f"node {self.url}: the file was cut")
        except http.client.HTTPException as error:
            raise ConnectionError(f"node {self.url}: {error}") from None
        finally:
            connection.close()

    def console(self, guest_id: str, kind: str) -> socket.socket:
        """A raw stream to a guest's screen or serial line; raises LookupError when there is none."""
        connection = open_connection(self.url, CALL_SECONDS, self.tls)
        connection.connect()
        stream = cast(socket.socket, connection.sock)
        path = f"/v1/console/{quote(guest_id)}/{kind}"
        stream.sendall(f"GET {path} HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = stream.recv(1)  # one at a time: what follows the head is the guest's and must not be swallowed
            if not byte or len(head) > HEAD_LIMIT:
                raise ConnectionError(f"node {self.url} did not answer")
            head += byte
        if not head.startswith(b"HTTP/1.1 101 "):
            raise LookupError(f"guest {guest_id} has no {kind} console")
        return plain(stream)


def plain(stream: socket.socket) -> socket.socket:
    """The stream as a socket that an event loop may read: one under TLS is joined to a pair of ours."""
    if not isinstance(stream, ssl.SSLSocket):
        return stream
    ours, theirs = socket.socketpair()
    threading.Thread(target=join, args=(stream, ours), name="console", daemon=True).start()
    return theirs


class Remote:
    """What the three clients share: the wire, and the lease under which they speak."""

    family = ""

    def __init__(self, wire: Wire, lease: tuple[str, int] | None = None):
        self.wire, self.lease = wire, lease

    def _call(self, verb: str, **arguments: Any) -> Any:
        return self.wire.call(self.family, verb, self.lease, **arguments)


class HypervisorClient(Remote):
    """compute.drivers.Hypervisor on another side of a socket."""

    family = "hypervisor"

    def capabilities(self) -> Capabilities:
        return cast(Capabilities, self._call("capabilities"))

    def ensure_image(self, image: ImageSource) -> int | None:
        return cast(int | None, self._call("ensure_image", image=image))

    def ensure_guest(self, guest: Guest) -> GuestSeen | None:
        return cast(GuestSeen | None, self._call("ensure_guest", guest=guest))

    def observe_guest(self, guest_id: str) -> GuestSeen | None:
        return cast(GuestSeen | None, self._call("observe_guest", guest_id=guest_id))

    def list_guests(self) -> Sequence[str]:
        return cast(Sequence[str], self._call("list_guests"))

    def remove_guest(self, guest_id: str) -> bool:
        return cast(bool, self._call("remove_guest", guest_id=guest_id))

    def console_log(self, guest_id: str, limit: int) -> bytes:
        return cast(bytes, self._call("console_log", guest_id=guest_id, limit=limit))

    def console_socket(self, guest_id: str, kind: Literal["vnc", "serial"]) -> str:
        return cast(str, self._call("console_socket", guest_id=guest_id, kind=kind))

    def ensure_disk_copy(self, guest_id: str, disk_id: str, copy_id: str) -> int | None:
        return cast(int | None, self._call("ensure_disk_copy", guest_id=guest_id, disk_id=disk_id, copy_id=copy_id))

    def disk_copy_path(self, copy_id: str) -> str:
        return cast(str, self._call("disk_copy_path", copy_id=copy_id))

    def remove_disk_copy(self, copy_id: str) -> bool:
        return cast(bool, self._call("remove_disk_copy", copy_id=copy_id))

    def list_disk_copies(self) -> Sequence[str]:
        return cast(Sequence[str], self._call("list_disk_copies"))

    def list_image_drafts(self) -> Sequence[str]:
        return cast(Sequence[str], self._call("list_image_drafts"))

    def diagnostics(self, guest_id: str) -> Mapping[str, object]:
        return cast(Mapping[str, object], self._call("diagnostics", guest_id=guest_id))

    def inject_nmi(self, guest_id: str) -> None:
        self._call("inject_nmi", guest_id=guest_id)


class SwitchClient(Remote):
    """network.drivers.Switch on another side of a socket."""

    family = "switch"

    def netns(self) -> str:
        return cast(str, self._call("netns"))

    def ensure_segment(self, segment: Segment) -> bool | None:
        return cast(bool | None, self._call("ensure_segment", segment=segment))

    def remove_segment(self, segment_id: str) -> bool:
        return cast(bool, self._call("remove_segment", segment_id=segment_id))

    def ensure_port(self, port: Port) -> PortSeen | None:
        return cast(PortSeen | None, self._call("ensure_port", port=port))

    def remove_port(self, port_id: str) -> bool:
        return cast(bool, self._call("remove_port", port_id=port_id))

    def ensure_group(self, group: Group) -> bool:
        return cast(bool, self._call("ensure_group", group=group))

    def remove_group(self, group_id: str) -> bool:
        return cast(bool, self._call("remove_group", group_id=group_id))

    def ensure_router(self, router: Router) -> bool | None:
        return cast(bool | None, self._call("ensure_router", router=router))

    def remove_router(self, router_id: str) -> bool:
        return cast(bool, self._call("remove_router", router_id=router_id))

    def list_things(self) -> Mapping[str, Sequence[str]]:
        return cast(Mapping[str, Sequence[str]], self._call("list_things"))


class BlockClient(Remote):
    """volume.drivers.Block on another side of a socket."""

    family = "block"

    def pools(self) -> Sequence[Pool]:
        return cast(Sequence[Pool], self._call("pools"))

    def ensure_volume(self, volume: Volume) -> VolumeSeen | None:
        return cast(VolumeSeen | None, self._call("ensure_volume", volume=volume))

    def remove_volume(self, pool: str, volume_id: str) -> bool:
        return cast(bool, self._call("remove_volume", pool=pool, volume_id=volume_id))

    def ensure_snapshot(self, snapshot: Snapshot) -> bool | None:
        return cast(bool | None, self._call("ensure_snapshot", snapshot=snapshot))

    def remove_snapshot(self, pool: str, snapshot_id: str) -> bool:
        return cast(bool, self._call("remove_snapshot", pool=pool, snapshot_id=snapshot_id))

    def ensure_export(self, pool: str, volume_id: str, node: str) -> Connection | None:
        return cast(Connection | None, self._call("ensure_export", pool=pool, volume_id=volume_id, node=node))

    def remove_export(self, pool: str, volume_id: str, node: str) -> bool:
        return cast(bool, self._call("remove_export", pool=pool, volume_id=volume_id, node=node))

    def volume_path(self, pool: str, volume_id: str) -> str:
        return cast(str, self._call("volume_path", pool=pool, volume_id=volume_id))

    def revert(self, pool: str, volume_id: str, snapshot_id: str) -> bool | None:
        return cast(bool | None, self._call("revert", pool=pool, volume_id=volume_id, snapshot_id=snapshot_id))

    def list_things(self) -> Sequence[str]:
        return cast(Sequence[str], self._call("list_things"))
