"""Disks become qcow2 files that QEMU reads back to the same bytes."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.image.drivers import Broken
from pileus.image.folding import CLUSTER, folded


def pieces(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def disk(clusters: int, used: set[int], tail: int = 0) -> bytes:
    """A disk with something in these clusters, and `tail` bytes after the last whole one."""
    data = bytearray(clusters * CLUSTER + tail)
    for number in used:
        data[number * CLUSTER + 17] = 1 + number % 255
    if tail:
        data[-1] = 9
    return bytes(data)


def qemu_img(*words: str) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "data",
    [
        disk(1, set()),
        disk(1, {0}),
        disk(40, {0, 7, 39}, tail=512),
        disk(300, set(range(300))),
        disk(8200, {0, 8191, 8192}),  # two second-level tables
        disk(8300, {8250}),  # the first second-level table is left out
        disk(500, set(random.Random(7).sample(range(500), 211))),
    ],
    ids=["empty", "one", "tail", "full", "two tables", "a hole of a table", "random"],
)  # fmt: skip
def test_what_is_folded_unfolds_to_the_same_bytes(data: bytes, tmp_path: Path) -> None:
    file, raw = tmp_path / "d.qcow2", tmp_path / "d.raw"
    with file.open("wb") as target:
        target.writelines(folded(lambda: pieces(data)))
    assert "No errors" in qemu_img("check", "-f", "qcow2", str(file))
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(file), str(raw))
    assert raw.read_bytes() == data
    zeros = sum(1 for at in range(0, len(data), CLUSTER) if not data[at : at + CLUSTER].strip(b"\0"))
    assert file.stat().st_size < len(data) - zeros * CLUSTER + 12 * CLUSTER


def test_a_disk_that_changes_meanwhile_is_no_image() -> None:
    readings = iter((disk(4, {1}), disk(4, {1, 2})))
    with pytest.raises(Broken, match="written to"):
        list(folded(lambda: pieces(next(readings))))
