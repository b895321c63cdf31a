"""The unmodified openstacksdk over a real socket, and the memory that bulk data takes."""

import asyncio
import contextlib
import hashlib
import http.client
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest
from keystoneauth1 import token_endpoint
from openstack.connection import Connection

from image_cloud import OCTETS, ImageCloud
from pileus.http.server import listen, server

MIB = 1 << 20


class Served:
    """An image service behind a socket of its own."""

    def __init__(self, folder: Path):
        self.cloud = ImageCloud(folder)
        self.socket = listen("127.0.0.1", 0)
        self.port = int(self.socket.getsockname()[1])
        self.server = server(self.cloud.direct.app)
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # uvicorn's, kept from taking the tests' signals
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self.socket]))

    def connect(self, caller: str = "demo") -> Connection:
        url = f"http://127.0.0.1:{self.port}/image"
        return Connection(session=_session(url, caller), image_endpoint_override=url, image_api_version="2")

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.cloud.close()


def _session(url: str, caller: str) -> Any:
    from keystoneauth1.session import Session

    return Session(auth=token_endpoint.Token(url, caller))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served"))
    yield made
    made.close()


def test_the_sdk_uploads_shows_changes_downloads_and_deletes(served: Served, tmp_path: Path) -> None:
    image_service = served.connect().image
    data = os.urandom(3 * MIB)
    (tmp_path / "disk.raw").write_bytes(data)
    image = image_service.create_image(
        "by-sdk", filename=str(tmp_path / "disk.raw"), disk_format="raw", container_format="bare", os_distro="debian"
    )
    found = image_service.get_image(image.id)
    assert found.status == "active" and found.size == len(data) and found.os_distro == "debian"
    assert found.hash_value == hashlib.sha512(data).hexdigest()
    image_service.download_image(image.id, stream=False, output=str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    assert image_service.update_image(image.id, name="renamed", min_disk=3).min_disk == 3
    image_service.add_tag(image.id, "blue")
    assert [i.id for i in image_service.images(name="renamed", tag="blue")] == [image.id]
    image_service.deactivate_image(image.id)
    image_service.reactivate_image(image.id)
    image_service.delete_image(image.id)
    assert image_service.find_image("renamed") is None


def test_the_sdk_pages_shares_and_imports(served: Served) -> None:
    owner, other = served.connect().image, served.connect("other").image
    for i in range(30):
        owner.create_image(f"page-{i}", disk_format="raw", container_format="bare", data=None, allow_duplicates=True)
    assert len([i for i in owner.images() if i.name.startswith("page-")]) == 30
    image = owner.create_image("shared", disk_format="raw", container_format="bare", visibility="shared")
    owner.add_member(image.id, member="0" * 32)
    assert other.update_member("0" * 32, image.id, status="accepted").status == "accepted"
    assert [m.status for m in owner.members(image.id)] == ["accepted"]
    assert [i.id for i in other.images(visibility="shared")] == [image.id]
    owner.stage_image(owner.get_image(image.id), data=b"staged")
    owner.import_image(owner.get_image(image.id), method="glance-direct")
    served.cloud.settle()
    assert owner.get_image(image.id).status == "active"


def test_the_sdk_shows_why_an_upload_was_refused(served: Served) -> None:
    image_service = served.connect().image
    with pytest.raises(openstack.exceptions.HttpException, match="disk_format is qcow2, but the content is"):
        image_service.create_image("lie", disk_format="qcow2", container_format="bare", data=b"no qcow2" * 1000)
    with pytest.raises(openstack.exceptions.NotFoundException, match="No image found with ID"):
        image_service.get_image("00000000-0000-0000-0000-000000000000")


def test_a_client_that_hangs_up_in_the_middle_leaves_a_queued_image(served: Served) -> None:
    image = served.connect().image.create_image("cut", disk_format="raw", container_format="bare")
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        head = f"PUT /image/v2/images/{image.id}/file HTTP/1.1\r\nhost: x\r\nx-auth-token: demo\r\n"
        client.sendall((head + f"content-type: {OCTETS['content-type']}\r\ncontent-length: 9000000\r\n\r\n").encode())
        client.sendall(bytes(2 * MIB))
        until(lambda: served.cloud.show_status(image.id) == "saving")
    until(lambda: served.cloud.show_status(image.id) == "queued")
    assert not served.cloud.leaked()


def until(ask: Any, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < ends, "it does not happen"
        time.sleep(0.01)


def test_bulk_data_takes_constant_memory(served: Served) -> None:
    image = served.connect().image.create_image("large", disk_format="raw", container_format="bare")
    chunk, count = os.urandom(MIB), 48
    tracemalloc.start()
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    headers = {"x-auth-token": "demo", **OCTETS}
    connection.request("PUT", f"/image/v2/images/{image.id}/file", iter([chunk] * count), headers, encode_chunked=True)
    assert connection.getresponse().read() == b""
    connection.request("GET", f"/image/v2/images/{image.id}/file", headers=headers)
    answer, size = connection.getresponse(), 0
    while piece := answer.read(MIB):
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    connection.close()
    assert size == count * MIB and peak < 24 * MIB, peak


def test_a_download_that_nobody_reads_to_the_end_is_given_up(served: Served) -> None:
    image = served.connect().image.create_image(
        "long", disk_format="raw", container_format="bare", data=bytes(40 * MIB)
    )
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_connection(("127.0.0.1", served.port)) as client, contextlib.suppress(OSError):
        client.sendall(
            f"GET /image/v2/images/{image.id}/file HTTP/1.1\r\nhost: x\r\nx-auth-token: demo\r\n\r\n".encode()
        )
        client.recv(1000)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)
