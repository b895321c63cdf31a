"""The tables of a qcow2 file, read to see that all it refers to lies inside of it.

A file that was cut in the middle, or whose header asks for absurd tables, is found here, before any
program of ours opens it.  Source: QEMU, docs/interop/qcow2.txt.
"""

import struct
import sys
from array import array
from typing import BinaryIO

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")  # magic … snapshots_offset, 72 bytes
_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
_L1_BYTES = 32 << 20  # QEMU's own limit
_TABLES = 1 << 20  # what can be looked at in seconds
_SNAPSHOTS = 65536  # QEMU's own limit


def problem(file: BinaryIO, size: int) -> str:
    """What is wrong with a qcow2 file of `size` bytes; "" if its tables are sound."""
    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return "the qcow2 header is cut off"
    (_, _, _, _, cluster_bits, _, _, l1_size, l1_at, refcount_at, refcount_clusters, snapshots, _) = _HEADER.unpack(
        header
    )
    if not 9 <= cluster_bits <= 21:
        return f"qcow2 clusters of 2^{cluster_bits} bytes are not allowed"
    cluster = 1 << cluster_bits
    if l1_size * 8 > _L1_BYTES:
        return f"the qcow2 table of {l1_size} entries is too large"
    if snapshots > _SNAPSHOTS:
        return f"{snapshots} internal snapshots are too many"
    if l1_at + l1_size * 8 > size or refcount_at + refcount_clusters * cluster > size + cluster:
        return _cut(size, max(l1_at + l1_size * 8, refcount_at))
    return _tables(file, size, cluster_bits, _entries(file, l1_at, l1_size))


def _tables(file: BinaryIO, size: int, cluster_bits: int, l1: "array[int]") -> str:
    """Follow every second-level table once."""
    cluster = 1 << cluster_bits
    packed_mask = (1 << (62 - (cluster_bits - 8))) - 1  # where a compressed cluster begins
    tables = sorted({entry & _OFFSET for entry in l1} - {0})
    if len(tables) > _TABLES:
        return f"{len(tables)} second-level qcow2 tables are too many: use larger clusters"
    for table in tables:
        if table + cluster > size:
            return _cut(size, table + cluster)
        entries = _entries(file, table, cluster // 8)
        plain = max((entry & _OFFSET for entry in entries if not entry & _COMPRESSED), default=0)
        packed = max((entry & packed_mask for entry in entries if entry & _COMPRESSED), default=0)
        if max(plain, packed) >= size:
            return _cut(size, max(plain, packed))
    return ""


def _entries(file: BinaryIO, at: int, count: int) -> "array[int]":
    """Big-endian 64-bit numbers."""
    file.seek(at)
    numbers = array("Q", file.read(count * 8))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _cut(size: int, wanted: int) -> str:
    return f"the file is {size} bytes long, but its qcow2 tables refer to byte {wanted}: it was cut off"
