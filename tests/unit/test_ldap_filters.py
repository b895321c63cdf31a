"""LDAP filters: whatever is put in is a value and nothing else, judged by another's parser."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ldap3.operation.search import AND, MATCH_EQUAL, MATCH_PRESENT, MATCH_SUBSTRING, parse_filter
from ldap3.protocol.convert import prepare_filter_for_sending as sent

from pileus.identity.ldap import filters
from pileus.identity.ldap.driver import place_key
from pileus.identity.ldap.options import check_filter

HOSTILE = st.text(
    st.one_of(st.sampled_from("()&|!*\\=<>~:\0, "), st.characters(exclude_categories=["Cs"])), max_size=30
)
COMPARISONS = {
    "equals": (MATCH_EQUAL, "value"),
    "contains": (MATCH_SUBSTRING, "any"),
    "startswith": (MATCH_SUBSTRING, "initial"),
    "endswith": (MATCH_SUBSTRING, "final"),
}


@given(text=HOSTILE, comparison=st.sampled_from(sorted(COMPARISONS)))
@example(text="*)(uid=*", comparison="equals")
@example(text="\\2a", comparison="contains")
def test_a_value_stays_one_value(text: str, comparison: str) -> None:
    whole = filters.both(("(objectClass=person)", filters.compared("cn", comparison, text)))
    [both] = parse_filter(whole, None, False, False, None, False).elements
    assert both.tag == AND and len(both.elements) == 2
    node = both.elements[1]
    if not text:
        assert node.tag == MATCH_PRESENT
        return
    tag, part = COMPARISONS[comparison]
    assert node.tag == tag and node.assertion["attr"] == "cn"
    found: Any = node.assertion[part]
    assert sent(found[0] if part == "any" else found) == text.encode()


@given(raw=st.binary(min_size=16, max_size=16))
def test_a_guid_is_found_by_the_text_that_shows_it(raw: bytes) -> None:
    text = filters.text_of("objectGUID", raw)
    assert UUID(text).bytes_le == raw
    [node] = parse_filter(filters.equals("objectGUID", text), None, False, False, None, False).elements
    assert node.tag == MATCH_EQUAL and sent(node.assertion["value"]) == raw


@given(text=st.text(st.sampled_from("()&|!a=*\\~<>: \0"), max_size=14))
def test_a_configured_filter_is_one_whole_filter_or_refused(text: str) -> None:
    try:
        check_filter("user_filter", text)
    except ValueError:
        return
    if text:
        [both] = parse_filter(filters.both(("(a=b)", text)), None, False, False, None, False).elements
        assert both.tag == AND and len(both.elements) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("uid=A,ou=B,dc=c", "UID=a, OU=b,DC=C"),
        ("uid=a\\,b,dc=c", "uid=a\\,B,dc=c"),
        ("no name at all", "NO name at all"),
    ],
)
def test_equal_places_have_equal_keys(one: str, other: str) -> None:
    assert place_key(one) == place_key(other)


def test_a_place_of_two_parts_is_not_one_below_the_other() -> None:
    assert place_key("uid=a+cn=b,dc=c") != place_key("uid=a,cn=b,dc=c")
