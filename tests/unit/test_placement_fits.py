"""Fits and misfits, the search for candidates, and the languages of the query string."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.core.errors import BadRequest
from pileus.core.paging import Query
from pileus.placement.candidates import Node, search
from pileus.placement.fits import Inventory, Stock, free_share, holds, misfit
from pileus.placement.request import read

LATEST = (1, 39)
A, B = "aaaaaaaa-0000-0000-0000-000000000000", "bbbbbbbb-0000-0000-0000-000000000000"


def request(text: str, version: tuple[int, int] = LATEST) -> Any:
    return read(Query(parse_qs(text, keep_blank_values=True)), version)


def node(
    name: str,
    have: Mapping[str, int],
    *,
    parent: str | None = None,
    root: str = "",
    traits: str = "",
    aggregates: str = "",
) -> Node:
    return Node(
        id=name,
        parent_id=parent,
        root_id=root or name,
        traits=frozenset(traits.split()),
        aggregates=frozenset(aggregates.split()),
        stocks={key: Stock.of(Inventory(total)) for key, total in have.items()},
    )


def found(nodes: list[Node], text: str, **more: Any) -> list[Any]:
    return [candidate.allocations for candidate in search(nodes, request(text), **more)]


@pytest.mark.parametrize(
    ("stock", "amount", "why"),
    [
        (None, 1, "1 wanted, none offered"),
        (Stock.of(Inventory(10), 10), 1, "1 wanted, 0 of 10 free"),
        (Stock.of(Inventory(10, 2), 5), 4, "4 wanted, 3 of 8 free"),
        (Stock.of(Inventory(4, 0, 2.0), 7), 2, "2 wanted, 1 of 8 free"),
        (Stock.of(Inventory(10), 30), 1, "1 wanted, 0 of 10 free"),
        (Stock.of(Inventory(10, 0, 1.0, 2, 4)), 1, "1 wanted, only 2 to 4 may be taken at once"),
        (Stock.of(Inventory(10, 0, 1.0, 2, 4)), 5, "5 wanted, only 2 to 4 may be taken at once"),
        (Stock.of(Inventory(10, 0, 1.0, 1, 10, 3)), 4, "4 wanted, only multiples of 3 may be taken"),
    ],
)
def test_a_misfit_says_what_is_missing(stock: Stock | None, amount: int, why: str) -> None:
    assert misfit(amount, stock) == why
    assert not holds({} if stock is None else {"X": stock}, {"X": amount})


@given(st.integers(1, 100), st.integers(0, 50), st.floats(0.1, 16), st.integers(0, 200), st.integers(1, 100))
def test_what_fits_leaves_nothing_overdrawn(total: int, reserved: int, ratio: float, used: int, amount: int) -> None:
    stock = Stock.of(Inventory(total, reserved, ratio), used)
    fits = misfit(amount, stock) is None
    assert fits == holds({"X": stock}, {"X": amount})
    assert fits == (used + amount <= Inventory(total, reserved, ratio).capacity)
    assert not fits or 0 <= free_share({"X": amount}, {"X": stock}) <= 1


def test_a_tree_of_one_serves_all_groups_or_none() -> None:
    one = node("n", {"VCPU": 4, "DISK_GB": 10}, traits="HW")
    assert found([one], "resources=VCPU:2&required=HW") == [{"n": {"VCPU": 2}}]
    assert found([one], "resources=VCPU:2&required=!HW") == []
    assert found([one], "resources=VCPU:2&required=in:HW,SW") == [{"n": {"VCPU": 2}}]
    assert found([one], "resources=VCPU:2&resources1=VCPU:2") == [{"n": {"VCPU": 4}}]
    assert found([one], "resources=VCPU:3&resources1=VCPU:2") == []
    assert found([one], "resources1=VCPU:1&resources2=VCPU:1&group_policy=none") == [{"n": {"VCPU": 2}}]
    assert found([one], "resources1=VCPU:1&resources2=VCPU:1&group_policy=isolate") == []


def test_groups_take_from_children_and_stay_apart_when_isolated() -> None:
    tree = [
        node("n", {"VCPU": 8}, root="n"),
        node("nic1", {"VF": 2}, parent="n", root="n", traits="FAST"),
        node("nic2", {"VF": 2}, parent="n", root="n"),
    ]
    assert found(tree, "resources=VCPU:1&resources1=VF:1&required1=FAST") == [{"n": {"VCPU": 1}, "nic1": {"VF": 1}}]
    both = "resources=VCPU:1&resources1=VF:1&resources2=VF:1&group_policy="
    assert len(found(tree, both + "none")) == 4
    assert found(tree, both + "isolate") == [{"n": {"VCPU": 1}, "nic1": {"VF": 1}, "nic2": {"VF": 1}}] * 2
    assert found(tree, "resources=VCPU:1,VF:1", nested=False) == []
    assert len(found(tree, "resources=VCPU:1&resources1=VF:2&resources2=VF:1&group_policy=none")) == 2


def test_the_plain_group_may_spread_its_traits_and_groups_may_have_to_stand_together() -> None:
    tree = [
        node("n", {}, root="n", traits="ROOT"),
        node("numa0", {"VCPU": 4}, parent="n", root="n", traits="CPU"),
        node("fpga0", {"FPGA": 1}, parent="numa0", root="n", traits="CARD"),
        node("numa1", {"VCPU": 4}, parent="n", root="n"),
    ]
    assert found(tree, "resources=VCPU:1,FPGA:1&required=CPU,CARD") == [{"numa0": {"VCPU": 1}, "fpga0": {"FPGA": 1}}]
    near = "resources_C=VCPU:1&resources_F=FPGA:1&group_policy=none"
    assert len(found(tree, near)) == 2
    assert found(tree, near + "&same_subtree=_C,_F") == [{"numa0": {"VCPU": 1}, "fpga0": {"FPGA": 1}}]
    assert found(tree, "resources=VCPU:1&root_required=!ROOT") == []
    assert len(found(tree, "resources=VCPU:1&root_required=ROOT")) == 2


def test_a_pool_shared_through_an_aggregate_serves_only_its_neighbours() -> None:
    shares = "MISC_SHARES_VIA_AGGREGATE"
    nodes = [
        node("near", {"VCPU": 1}, aggregates=A),
        node("far", {"VCPU": 1}, aggregates=B),
        node("pool", {"DISK_GB": 100}, traits=shares, aggregates=A),
    ]
    assert found(nodes, "resources=VCPU:1,DISK_GB:10") == [{"near": {"VCPU": 1}, "pool": {"DISK_GB": 10}}]
    assert found(nodes, "resources=DISK_GB:10") == [{"pool": {"DISK_GB": 10}}]
    assert found(nodes, f"resources=VCPU:1&member_of={B}") == [{"far": {"VCPU": 1}}]
    assert found(nodes, f"resources=VCPU:1&member_of=!{B}") == [{"near": {"VCPU": 1}}]
    assert found(nodes, f"resources=VCPU:1&member_of=in:{A},{B}&limit=1") == [{"near": {"VCPU": 1}}]


@pytest.mark.parametrize(
    "text",
    [
        "", "resources=", "resources=VCPU", "resources=VCPU:0", "resources=VCPU:-1", "resources=VCPU:x",
        "resources=VCPU:99999999999999999999", "required=HW", "resources=VCPU:1&limit=0", "resources=VCPU:1&foo=1",
        "resources=VCPU:1&required=", "resources=VCPU:1&required=A,!A", "resources=VCPU:1&member_of=x",
        f"resources=VCPU:1&member_of={A},{B}", "resources=VCPU:1&group_policy=no",
        "resources1=VCPU:1&resources2=VCPU:1", "resources=VCPU:1&in_tree=x", "resources=VCPU:1&required1=HW",
        "resources_A=VCPU:1&same_subtree=_B", "resources=VCPU:1&resources=VCPU:2",
        "resources=VCPU:1&root_required=in:A,B",
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        request(text)


def test_older_versions_do_not_know_newer_parameters() -> None:
    for text, since in [
        ("resources=VCPU:1&limit=2", (1, 16)),
        ("resources=VCPU:1&required=HW", (1, 17)),
        (f"resources=VCPU:1&member_of={A}", (1, 21)),
        ("resources=VCPU:1&required=!HW", (1, 22)),
        ("resources1=VCPU:1", (1, 25)),
        (f"resources=VCPU:1&in_tree={A}", (1, 31)),
        (f"resources=VCPU:1&member_of=!{A}", (1, 32)),
        ("resources_COMPUTE=VCPU:1", (1, 33)),
        ("resources=VCPU:1&root_required=HW", (1, 35)),
        ("resources1=VCPU:1&same_subtree=1", (1, 36)),
        ("resources=VCPU:1&required=HW&required=SW", (1, 39)),
    ]:
        request(text, since)
        with pytest.raises(BadRequest):
            request(text, (1, since[1] - 1))


def test_the_search_is_bounded() -> None:
    tree = [node("n", {}, root="n")] + [node(f"c{i}", {"VF": 1}, parent="n", root="n") for i in range(40)]
    many = "&".join(f"resources{i}=VF:1" for i in range(1, 9))
    assert len(found(tree, f"{many}&group_policy=isolate&limit=3")) <= 3
