"""Inspection of image bytes: whatever comes, it ends with an answer and keeps little."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.image import qcow2
from pileus.image.inspection import Findings, Inspector, refusal
from pileus.image.ranges import parse_range

MAGICS = [
    b"QFI\xfb\0\0\0\3", b"KDMV\1\0\0\0", b"conectix", b"vhdxfile", b"QED\0", b"LUKS\xba\xbe\0\1", b"<<< Oracle VM",
    b"# Disk DescriptorFile\n", b"",
]  # fmt: skip


def inspect(*parts: bytes) -> Findings:
    inspector = Inspector(1 << 40)
    for part in parts:
        inspector.eat(part)
    return inspector.finish()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(MAGICS),
    st.lists(st.binary(max_size=3000), max_size=4),
    st.sampled_from(["raw", "qcow2", "vmdk", "iso", None]),
)
def test_no_bytes_break_the_inspection(magic: bytes, parts: list[bytes], claimed: str | None) -> None:
    found = inspect(magic, *parts)
    assert found.formats and isinstance(refusal(found, claimed, "bare"), str)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=4000))
def test_no_tables_break_the_reading_of_qcow2(tail: bytes) -> None:
    data = b"QFI\xfb\0\0\0\3" + tail
    assert isinstance(qcow2.problem(io.BytesIO(data), len(data)), str)


def test_how_the_bytes_were_cut_does_not_matter() -> None:
    data = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, 1 << 30, 0, 0, 65536, 0, 0, 0, 0, 0, 0, 0, 4, 104
    )
    data = data.ljust(70000, b"\0")
    whole = inspect(data)
    assert whole.formats == ["qcow2"] and whole.virtual_size == 1 << 30 and not whole.unsafe
    assert inspect(*(data[i : i + 7] for i in range(0, len(data), 7))) == whole


@pytest.mark.parametrize(
    ("formats", "claimed", "container", "taken"),
    [
        (["raw"], "raw", "bare", True),
        (["gpt"], "raw", "bare", True),
        (["gpt"], "ami", "ami", True),
        (["qcow2"], "raw", "bare", False),
        (["qcow2"], "qcow2", "bare", True),
        (["gpt", "qcow2"], "qcow2", "bare", False),
        (["iso"], "iso", "bare", True),
        (["gpt", "iso"], "iso", "bare", True),
        (["iso", "qcow2"], "iso", "bare", False),
        (["raw"], "vmdk", "bare", False),
        (["raw"], "vmdk", "ova", True),
        (["raw"], None, "bare", False),
    ],
)
def test_which_content_is_taken_for_which_claim(formats: list[str], claimed: str, container: str, taken: bool) -> None:
    said = refusal(Findings(formats=formats, virtual_size=1), claimed, container)
    assert (said == "") is taken and (taken or claimed is None or claimed in said)


def test_a_lie_is_known_before_the_last_byte() -> None:
    inspector = Inspector(1 << 40)
    inspector.eat(b"not a qcow2 at all".ljust(4096, b"."))
    assert inspector.sure_not("qcow2") and not inspector.sure_not("raw")


@settings(max_examples=200)
@given(st.text(max_size=30), st.integers(0, 1000))
def test_no_range_header_reaches_outside_of_an_image(text: str, size: int) -> None:
    for asked in (text, f"bytes={text}"):
        part = parse_range(asked, size)
        assert part is None or 0 <= part.first <= part.first + part.length <= size
