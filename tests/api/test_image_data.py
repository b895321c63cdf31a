"""Upload, stage, import, download: what arrives is what is kept, and what is hostile is refused with the reason."""

import asyncio
import hashlib
import json
import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_cloud import OCTETS, ImageCloud
from pileus.core.errors import Conflicted
from pileus.image import rows

MIB = 1 << 20


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ImageCloud]:
    made = ImageCloud(tmp_path, image_size_cap=64 * MIB, image_limit_gib=1024)
    yield made
    assert made.leaked() == set()
    made.close()


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


def make(folder: Path, kind: str, *options: str, size: str = "16M") -> Path:
    """An image file of some format with data at both ends."""
    raw, path = folder / "disk.raw", folder / f"disk.{kind}"
    qemu_img("create", "-f", "raw", raw, size)
    with raw.open("r+b") as file:
        file.write(os.urandom(200_000))
        file.seek(-65536, os.SEEK_END)
        file.write(os.urandom(65536))
    if kind == "raw":
        return raw
    qemu_img("convert", "-f", "raw", "-O", kind, *options, raw, path)
    return path


# What is good.


def test_what_is_uploaded_is_what_is_downloaded_with_its_hashes(cloud: ImageCloud) -> None:
    data = os.urandom(3 * MIB + 17) + bytes(2 * MIB)
    image = cloud.active(data)
    assert image["status"] == "active" and image["size"] == image["virtual_size"] == len(data)
    assert image["checksum"] == hashlib.md5(data).hexdigest() and image["os_hash_algo"] == "sha512"
    assert image["os_hash_value"] == hashlib.sha512(data).hexdigest() and image["stores"] == "file"
    answer = cloud("GET", f"/images/{image['id']}/file")
    assert answer.status == 200 and answer.raw == data
    assert answer.headers["content-md5"] == image["checksum"] and answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-type"] == "application/octet-stream"


def test_ranges(cloud: ImageCloud) -> None:
    path = f"/images/{cloud.active(b'0123456789')['id']}/file"
    for asked, status, body, shown in (
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"), ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"), ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
        ("bytes=-500", 206, b"0123456789", "bytes 0-9/10"),
    ):  # fmt: skip
        answer = cloud("GET", path, headers={"range": asked})
        assert (answer.status, answer.raw, answer.headers["content-range"]) == (status, body, shown), asked
    for asked in ("bytes=10-", "bytes=5-2", "bytes=-0", "bytes=0-1,3-4", "bytes=-", "lines=1-2", "bytes=x-y"):
        answer = cloud("GET", path, headers={"range": asked})
        assert answer.status == 416 and answer.headers["content-range"] == "bytes */10", asked
    head = cloud("HEAD", path)
    assert head.status == 200 and head.raw == b"" and head.headers["content-length"] == "10"


def test_an_image_without_data_downloads_as_nothing(cloud: ImageCloud) -> None:
    answer = cloud("GET", f"/images/{cloud.create()['id']}/file")
    assert answer.status == 204 and answer.raw == b""


@pytest.mark.parametrize("kind", ["qcow2", "raw", "vmdk", "vdi", "vhdx", "vpc", "iso"])
def test_honest_files_of_each_format_are_taken(cloud: ImageCloud, tmp_path: Path, kind: str) -> None:
    if kind == "iso":
        (tmp_path / "content").write_text("x")
        path = tmp_path / "disk.iso"
        subprocess.run(["genisoimage", "-quiet", "-o", path, tmp_path / "content"], check=True)
    else:
        path = make(tmp_path, kind, *(["-o", "subformat=dynamic"] if kind == "vpc" else []))
    image = cloud.create(disk_format={"vpc": "vhd"}.get(kind, kind))
    answer = cloud.upload(image["id"], path.read_bytes())
    assert answer.status == 204, answer
    shown = cloud.show(image["id"])
    assert shown["status"] == "active" and shown["size"] == path.stat().st_size
    if kind == "qcow2":
        assert shown["virtual_size"] == 16 * MIB


@pytest.mark.parametrize(
    "options", [["-c"], ["-o", "cluster_size=2M"], ["-o", "compat=0.10"], ["-o", "preallocation=metadata"]]
)
def test_qcow2_in_every_honest_shape_is_taken(cloud: ImageCloud, tmp_path: Path, options: list[str]) -> None:
    image = cloud.create(disk_format="qcow2")
    assert cloud.upload(image["id"], make(tmp_path, "qcow2", *options).read_bytes()).status == 204


def test_a_partitioned_disk_is_raw(cloud: ImageCloud) -> None:
    sector = bytearray(512)
    sector[446:462] = struct.pack("<B3BB3BII", 0x80, 0, 2, 0, 0x83, 0, 0, 0, 2048, 2048)
    sector[510:512] = b"\x55\xaa"
    assert cloud.active(bytes(sector) + bytes(MIB))["status"] == "active"


# What is hostile.


def header(
    version: int = 3, backing: int = 0, bits: int = 16, size: int = 1 << 30, features: int = 0, l1: int = 1
) -> bytes:
    """A qcow2 header and its first tables, as one likes them."""
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", version, backing, 1 if backing else 0, bits, size, 0, l1, 65536, 131072, 1,
        0, 0, features, 0, 0, 4, 104,
    )  # fmt: skip
    return head.ljust(65536, b"\0") + bytes(3 * 65536)


def hostile(folder: Path) -> dict[str, tuple[str, bytes, str]]:
    """Name → (claimed format, bytes, what the refusal must say)."""
    base = make(folder, "qcow2")
    qemu_img("create", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", folder / "backed.qcow2", "1M")
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={folder}/d.raw,data_file_raw=on", folder / "data.qcow2", "1M")
    qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", folder / "flat.vmdk", "1M")
    qemu_img("create", "-f", "qcow2", folder / "bomb.qcow2", "4T")
    whole = base.read_bytes()
    descriptor = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "/etc/shadow" 0\n'
    iso = bytes(32768) + b"\x01CD001\x01" + bytes(64 * 1024)
    return {
        "backing file": ("qcow2", (folder / "backed.qcow2").read_bytes(), "backing file"),
        "data file": ("qcow2", (folder / "data.qcow2").read_bytes(), "data_file"),
        "flat vmdk": ("vmdk", (folder / "flat.vmdk").read_bytes(), "refused"),
        "vmdk descriptor": ("vmdk", descriptor + bytes(2048), "refused"),
        "bomb": ("qcow2", (folder / "bomb.qcow2").read_bytes(), "at most"),
        "bomb of 2^62": ("qcow2", header(size=1 << 62), "at most"),
        "truncated": ("qcow2", whole[: len(whole) // 2], "cut off"),
        "truncated header": ("qcow2", whole[:300], "no known format"),
        "qcow2 as raw": ("raw", whole, "content is qcow2"),
        "qcow2 as iso": ("iso", whole, "content is qcow2"),
        "raw as qcow2": ("qcow2", os.urandom(2 * MIB), "no known format"),
        "empty as qcow2": ("qcow2", b"", "no known format"),
        "vmdk as raw": ("raw", make(folder, "vmdk").read_bytes(), "content is vmdk"),
        "iso as raw": ("raw", iso, "content is iso"),
        "iso and qcow2": ("qcow2", header(l1=0)[:32768] + iso[32768:], "iso and qcow2"),
        "qcow2 inside ami": ("ami", whole, "content is qcow2"),
        "tiny clusters": ("qcow2", header(bits=5), "clusters"),
        "huge table": ("qcow2", header(l1=1 << 30), "too large"),
        "tables outside": ("qcow2", header(l1=1 << 21), "cut off"),
        "unknown feature": ("qcow2", header(features=1 << 40), "Unknown"),
        "version 9": ("qcow2", header(version=9), "version"),
        "qed": ("raw", b"QED\0" + bytes(MIB), "content is qed"),
        "luks": ("raw", b"LUKS\xba\xbe\x00\x01" + bytes(MIB), "luks"),
    }


def test_hostile_files_are_refused_with_the_reason_and_leave_nothing(cloud: ImageCloud, tmp_path: Path) -> None:
    for name, (claimed, data, why) in hostile(tmp_path).items():
        image = cloud.create(name=name, disk_format=claimed)
        answer = cloud.upload(image["id"], data)
        assert answer.status == 415 and why in answer.json["message"], (name, answer)
        shown = cloud.show(image["id"])
        assert shown["status"] == "queued" and shown["size"] is None and why in shown["os_glance_fault"], name
        cloud.settle()
        assert list(cloud.blob.list()) == [] and cloud.leaked() == set(), name
    image = cloud.create()
    assert cloud.upload(image["id"], b"good").status == 204


def test_a_refused_image_takes_a_better_file_afterwards(cloud: ImageCloud, tmp_path: Path) -> None:
    image = cloud.create(disk_format="qcow2")
    assert cloud.upload(image["id"], b"no qcow2").status == 415
    assert cloud.upload(image["id"], make(tmp_path, "qcow2").read_bytes()).status == 204
    assert "os_glance_fault" not in cloud.show(image["id"])


def test_too_much_is_413_announced_or_not(cloud: ImageCloud) -> None:
    image = cloud.create()
    assert cloud.upload(image["id"], b"x", **{"content-length": str(65 * MIB)}).status == 413
    assert cloud.show(image["id"])["status"] == "queued"
    answer = cloud.upload(image["id"], bytes(65 * MIB))
    assert answer.status == 413 and "at most" in answer.json["message"]
    assert cloud.show(image["id"])["status"] == "queued"
    cloud.settle()


def test_bad_sizes_and_types_are_refused(cloud: ImageCloud) -> None:
    image = cloud.create()
    path = f"/images/{image['id']}/file"
    assert cloud("PUT", path, raw=b"x").status == 415
    assert cloud.upload(image["id"], b"x", **{"x-openstack-image-size": "many"}).status == 400
    answer = cloud.upload(image["id"], b"xyz", **{"x-openstack-image-size": "5"})
    assert answer.status == 400 and "5 were announced" in answer.json["message"]
    bare = cloud("POST", "/images", {"name": "no formats"}).json
    assert cloud.upload(bare["id"], b"x").status == 400
    assert cloud.show(image["id"])["status"] == cloud.show(bare["id"])["status"] == "queued"
    cloud.settle()


def test_data_is_given_once(cloud: ImageCloud) -> None:
    image = cloud.active(b"first")
    for to in ("file", "stage"):
        assert cloud.upload(image["id"], b"second", to=to).status == 409
    assert cloud("GET", f"/images/{image['id']}/file").raw == b"first"


def test_a_cut_upload_leaves_the_image_queued_and_nothing_half_made(cloud: ImageCloud) -> None:
    image = cloud.create()
    for count in range(4):
        assert cloud.cut_upload(image["id"], [os.urandom(MIB)] * count) == []
        assert cloud.show(image["id"])["status"] == "queued" and list(cloud.blob.list()) == []
        assert cloud.leaked() == set()
    assert cloud.upload(image["id"], b"whole").status == 204


def while_uploading(cloud: ImageCloud, image_id: str, act: Callable[[], None]) -> int | None:
    """Send half of an upload, act, send the other half; the status that the upload ends with."""
    sent: list[dict[str, Any]] = []
    parts = [b"x" * MIB, b"y" * MIB]

    async def receive() -> Any:
        if len(parts) == 1:
            act()
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"/image/v2/images/{image_id}/file"
    headers = [(k.encode(), v.encode()) for k, v in {"host": "c", "x-auth-token": "demo", **OCTETS}.items()]
    scope = {"type": "http", "method": "PUT", "path": path, "scheme": "http", "query_string": b"", "headers": headers}
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cloud.direct.app(scope, receive, send))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return next((m["status"] for m in sent if m["type"] == "http.response.start"), None)


def test_a_second_upload_into_the_same_image_is_409_while_the_first_goes_on(cloud: ImageCloud) -> None:
    image = cloud.create()

    def second() -> None:
        row = cloud.row(image["id"])
        assert row is not None and row.status == "saving"
        with pytest.raises(Conflicted, match="takes its data once"):
            cloud.db.transact(lambda tx: rows.begin(tx, row, "saving", time.time()))

    assert while_uploading(cloud, image["id"], second) == 204
    assert cloud("GET", f"/images/{image['id']}/file").raw == b"x" * MIB + b"y" * MIB


def test_deleting_during_an_upload_leaves_nothing(cloud: ImageCloud) -> None:
    image = cloud.create()

    def delete() -> None:
        cloud.db.transact(lambda tx: rows.IMAGES.update(tx, {"deleting": True}, id=image["id"]))
        cloud.db.transact(lambda tx: rows.poke(tx, "image", image["id"], cloud.clock()))
        cloud.worker().run_one()
        assert cloud.row(image["id"]) is not None, "the step waits for who writes into the store"

    assert while_uploading(cloud, image["id"], delete) == 410
    cloud.settle()
    assert cloud.row(image["id"]) is None and list(cloud.blob.list()) == []


# Stage and import.


def stage_and_import(cloud: ImageCloud, image_id: str, data: bytes) -> None:
    assert cloud.upload(image_id, data, to="stage").status == 204
    assert cloud.show(image_id)["status"] == "uploading"
    answer = cloud("POST", f"/images/{image_id}/import", {"method": {"name": "glance-direct"}})
    assert answer.status == 202 and cloud.show(image_id)["status"] == "importing"
    assert cloud("POST", f"/images/{image_id}/import", {"method": {"name": "glance-direct"}}).status == 409
    cloud.settle()


def test_staged_data_becomes_the_image_by_import(cloud: ImageCloud, tmp_path: Path) -> None:
    data = make(tmp_path, "qcow2").read_bytes()
    image = cloud.create(disk_format="qcow2")
    stage_and_import(cloud, image["id"], data)
    shown = cloud.show(image["id"])
    assert shown["status"] == "active" and shown["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert shown["virtual_size"] == 16 * MIB and cloud("GET", f"/images/{image['id']}/file").raw == data
    assert len(cloud.blob.list()) == 1
    (task,) = cloud("GET", f"/images/{image['id']}/tasks").json["tasks"]
    assert task["status"] == "success" and task["input"]["import_req"]["method"]["name"] == "glance-direct"
    assert task["request_id"].startswith("req-")


def test_an_import_of_hostile_data_ends_queued_with_the_reason(cloud: ImageCloud, tmp_path: Path) -> None:
    for name, (claimed, data, why) in hostile(tmp_path).items():
        image = cloud.create(disk_format=claimed)
        stage_and_import(cloud, image["id"], data)
        shown = cloud.show(image["id"])
        assert shown["status"] == "queued" and why in shown["os_glance_fault"], name
        assert shown["os_glance_failed_import"] == "file" and list(cloud.blob.list()) == [], name
        (task,) = cloud("GET", f"/images/{image['id']}/tasks").json["tasks"]
        assert task["status"] == "failure" and why in task["message"], name


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"method": {"name": "web-download", "uri": "http://127.0.0.1/x"}}, 400),
        ({"method": {"name": "copy-image"}}, 400),
        ({"method": {"name": "glance-direct"}, "stores": ["gold"]}, 400),
        ({"method": {}}, 400),
        ({"method": "glance-direct"}, 400),
        ({}, 400),
        ({"method": {"name": "glance-direct"}}, 409),
    ],
)
def test_bad_imports_are_refused(cloud: ImageCloud, body: Any, status: int) -> None:
    image = cloud.create()
    answer = cloud("POST", f"/images/{image['id']}/import", body)
    assert answer.status == status and answer.json["message"], answer
    assert cloud.show(image["id"])["status"] == "queued"


def test_an_import_needs_formats(cloud: ImageCloud) -> None:
    image = cloud("POST", "/images", {}).json
    assert cloud.upload(image["id"], b"x", to="stage").status == 204
    assert cloud("POST", f"/images/{image['id']}/import", {"method": {"name": "glance-direct"}}).status == 400


def test_deleting_a_staged_image_removes_the_staged_bytes(cloud: ImageCloud) -> None:
    image = cloud.create()
    cloud.upload(image["id"], b"x", to="stage")
    assert len(cloud.blob.list()) == 1 and cloud.leaked() == set()
    assert cloud("DELETE", f"/images/{image['id']}").status == 204
    cloud.settle()
    assert list(cloud.blob.list()) == [] and cloud.row(image["id"]) is None


def test_a_full_store_is_said_so(cloud: ImageCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    from pileus.drivers.blob.file import FileWriter

    def full(self: FileWriter, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    image = cloud.create()
    monkeypatch.setattr(FileWriter, "write", full)
    answer = cloud.upload(image["id"], b"x")
    assert answer.status == 413 and "full" in answer.json["message"] and json.loads(answer.raw)
    assert cloud.show(image["id"])["status"] == "queued"
    cloud.settle()
