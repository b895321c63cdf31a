"""A disk's bytes as a qcow2 file, in one stream: clusters of zeros are left out.

All tables stand before the data, so that nothing is written twice; where the data is must be known before, so the
disk is read twice.  Source: QEMU, docs/interop/qcow2.txt, version 3.
"""

import struct
from collections.abc import Callable, Iterator

from pileus.image.drivers import Broken

BITS = 16
CLUSTER = 1 << BITS  # bytes
_ENTRIES = CLUSTER // 8  # of one table
_REFCOUNTS = CLUSTER // 2  # 16-bit counts in one block
_COPIED = 1 << 63  # the cluster is used once
_ZEROS = bytes(CLUSTER)
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")  # 104 bytes


def folded(read: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    """The qcow2 file of a disk that `read` gives from its first byte whenever it is called.

    Raises Broken when the disk changed between the two readings.
    """
    size, used = _look(read())
    yield from _tables(size, used)
    for number, cluster in enumerate(_clusters(read())):
        if used[number]:
            yield cluster
        elif cluster != _ZEROS:
            raise Broken("the disk was written to while it was read")


def _clusters(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole clusters, the last one filled up with zeros."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= CLUSTER:
            yield bytes(held[:CLUSTER])
            del held[:CLUSTER]
    if held:
        yield bytes(held).ljust(CLUSTER, b"\0")


def _look(chunks: Iterator[bytes]) -> tuple[int, bytearray]:
    """Size of the disk in bytes, and for each cluster whether there is anything in it."""
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            yield chunk

    used = bytearray(cluster != _ZEROS for cluster in _clusters(counted()))
    return size, used


def _tables(size: int, used: bytearray) -> Iterator[bytes]:
    """Everything before the data: header, first table, reference counts, second tables."""
    groups = [used[at : at + _ENTRIES] for at in range(0, len(used), _ENTRIES)]
    seconds = [number for number, group in enumerate(groups) if any(group)]
    first_clusters = max(1, -(-len(groups) // _ENTRIES))
    fixed = 1 + first_clusters + len(seconds) + sum(used)
    blocks = 1
    while blocks * _REFCOUNTS < fixed + blocks + -(-blocks // _ENTRIES):
        blocks += 1
    counts_at = 1 + first_clusters  # in clusters, as all places here
    count_tables = -(-blocks // _ENTRIES)
    seconds_at = counts_at + count_tables + blocks
    total = fixed + blocks + count_tables
    yield _padded(_HEADER.pack(
        b"QFI\xfb", 3, 0, 0, BITS, size, 0, len(groups), CLUSTER, counts_at * CLUSTER, count_tables, 0, 0, 0, 0, 0, 4,
        _HEADER.size,
    ))  # fmt: skip
    places = {number: seconds_at + i for i, number in enumerate(seconds)}
    yield _table([places[i] * CLUSTER | _COPIED if i in places else 0 for i in range(len(groups))], first_clusters)
    yield _table([(counts_at + count_tables + i) * CLUSTER for i in range(blocks)], count_tables)
    for at in range(0, blocks * _REFCOUNTS, _REFCOUNTS):
        here = max(0, min(_REFCOUNTS, total - at))
        yield _padded(b"\0\1" * here)
    place = seconds_at + len(seconds)
    for number in seconds:
        entries = []
        for there in groups[number]:
            entries.append(place * CLUSTER | _COPIED if there else 0)
            place += there
        yield _table(entries, 1)


def _table(entries: list[int], clusters: int) -> bytes:
    return struct.pack(f">{len(entries)}Q", *entries).ljust(clusters * CLUSTER, b"\0")


def _padded(data: bytes) -> bytes:
    return data.ljust(CLUSTER, b"\0")
