"""Times as each service writes them."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pileus.core.clock import iso, iso_micro, iso_micro_z, parse_iso

INSTANTS = st.floats(0, datetime(9999, 1, 1, tzinfo=UTC).timestamp(), allow_nan=False)


@given(INSTANTS)
def test_as_the_standard_library_writes_them(at: float) -> None:
    expected = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")[:26]
    assert iso_micro(at) == expected
    assert iso_micro_z(at) == expected + "Z"
    assert iso(at) == datetime.fromtimestamp(int(at), UTC).isoformat(timespec="seconds")[:19] + "Z"


@given(st.integers(0, 4_000_000_000))
def test_read_back(at: int) -> None:
    assert parse_iso(str(iso(at))) == parse_iso(str(iso_micro_z(at))) == at


def test_never() -> None:
    assert iso(None) is None
    assert iso_micro(None) is None
    assert iso_micro_z(None) is None
