"""The mapping engine: which rules apply, what fills which place, and that no value is ever more than a value."""

from typing import Any

import pytest

from pileus.core.errors import BadRequest
from pileus.identity.federation.mapping import check
from pileus.identity.federation.rules import DomainRef, GroupRef, Mapped, ProjectRef, Unmapped, apply

USER = {"user": {"name": "{0}"}}


def mapped(*rules: dict[str, Any], version: str = "1.0", **attributes: list[str]) -> Mapped:
    check(list(rules), version)
    return apply(rules, version, attributes)


def rule(remote: dict[str, Any], *local: dict[str, Any]) -> dict[str, Any]:
    return {"remote": [{"type": "NAME"}, remote], "local": list(local) or [USER]}


def refused(*rules: dict[str, Any], version: str = "1.0", **attributes: list[str]) -> str:
    with pytest.raises(Unmapped) as refusal:
        mapped(*rules, version=version, **attributes)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("condition", "fitting", "other"),
    [
        ({"any_one_of": ["a", "b"]}, ["x", "b"], ["x", "ab"]),
        ({"not_any_of": ["a", "b"]}, ["x", "ab"], ["x", "b"]),
        ({"any_one_of": ["^a+$"], "regex": True}, ["x", "aa"], ["ab"]),
        ({"not_any_of": ["^a+$"], "regex": True}, ["ab"], ["x", "aa"]),
    ],
)
def test_conditions_choose_the_rules_that_apply(
    condition: dict[str, Any], fitting: list[str], other: list[str]
) -> None:  # fmt: skip
    chosen = rule({"type": "KIND", **condition})
    assert mapped(chosen, NAME=["ann"], KIND=fitting).name == "ann"
    assert "no rule" in refused(chosen, NAME=["ann"], KIND=other)
    assert "no rule" in refused(chosen, NAME=["ann"])
    assert "no rule" in refused(chosen, NAME=["ann"], KIND=[])


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ({}, ["dev", "ops", "x"]),
        ({"whitelist": ["ops", "dev"]}, ["dev", "ops"]),
        ({"blacklist": ["ops"]}, ["dev", "x"]),
        ({"whitelist": ["^o"], "regex": True}, ["ops"]),
        ({"blacklist": ["^[do]"], "regex": True}, ["x"]),
        ({"whitelist": ["none"]}, []),
    ],
)
def test_lists_of_groups_are_filtered(condition: dict[str, Any], kept: list[str]) -> None:
    groups = {"groups": "{1}", "domain": {"name": "d"}}
    found = mapped(rule({"type": "GROUPS", **condition}, USER, groups), NAME=["ann"], GROUPS=["dev", "ops", "x"])
    assert [group.name for group in found.groups] == kept
    assert {group.domain for group in found.groups} <= {DomainRef(name="d")}


def test_groups_are_named_by_id_by_name_and_by_lists_of_both() -> None:
    local = [USER, {"group": {"id": "1"}}, {"group": {"name": "g", "domain": {"id": "d"}}}, {"group_ids": "{1}"},
             {"groups": "['p', 'q']", "domain": {"id": "d"}}, {"groups": "t{1}", "domain": {"id": "d"}}]  # fmt: skip
    found = mapped(rule({"type": "IDS"}, *local), NAME=["ann"], IDS=["1", "2"]).groups
    domain = DomainRef(id="d")
    assert found == (
        GroupRef(id="1"), GroupRef(name="g", domain=domain), GroupRef(id="2"), GroupRef(name="p", domain=domain),
        GroupRef(name="q", domain=domain), GroupRef(name="t1", domain=domain), GroupRef(name="t2", domain=domain),
    )  # fmt: skip


def test_all_rules_that_apply_add_up_and_the_first_user_counts() -> None:
    first = {"remote": [{"type": "NAME"}], "local": [USER, {"group": {"id": "1"}}]}
    second = {"remote": [{"type": "MAIL"}], "local": [{"user": {"name": "{0}"}, "group": {"id": "2"}}]}
    found = mapped(first, second, NAME=["ann"], MAIL=["ann@x"])
    assert found.name == "ann" and [group.id for group in found.groups] == ["1", "2"]


def test_places_fill_texts_and_need_one_value() -> None:
    local = {"user": {"id": "{0}", "name": "{0} of {1}", "email": "{1}"}}
    found = mapped(rule({"type": "X"}, local), NAME=["ann"], X=["b"])
    assert (found.user_id, found.name, found.email) == ("ann", "ann of b", "b")
    assert "needs one value" in refused(rule({"type": "X"}, local), NAME=["ann"], X=["b", "c"])
    assert "no attribute for the place {7}" in refused(
        rule({"type": "X"}, {"user": {"name": "{7}"}}), NAME=["a"], X=["b"]
    )


def test_conditions_take_no_place() -> None:
    chosen = {"remote": [{"type": "KIND", "any_one_of": ["k"]}, {"type": "NAME"}], "local": [USER]}
    assert mapped(chosen, KIND=["k"], NAME=["ann"]).name == "ann"


@pytest.mark.parametrize("hostile", ["['admins']", "{0}", "{1}", "{0.__class__}", "%s", "admins;x", "{"])
def test_a_value_stays_one_value(hostile: str) -> None:
    groups = {"groups": "{1}", "domain": {"id": "d"}}
    found = mapped(rule({"type": "GROUPS"}, USER, groups), NAME=[hostile], GROUPS=[hostile])
    assert found.name == hostile and found.groups == (GroupRef(name=hostile, domain=DomainRef(id="d")),)


def test_a_value_too_long_for_patterns_fits_none() -> None:
    long = ["a" * 5000]
    assert refused(rule({"type": "X", "any_one_of": ["a"], "regex": True}), NAME=["ann"], X=long)
    assert refused(rule({"type": "X", "not_any_of": ["b"], "regex": True}), NAME=["ann"], X=long)


def test_domains_of_users_and_projects_count_in_schema_version_2() -> None:
    roles = [{"name": "member"}, {"name": "reader"}]
    local = {"user": {"name": "{0}"}, "domain": {"name": "d"}, "projects": [{"name": "of {0}", "roles": roles}]}
    chosen = rule({"type": "NAME"}, local)
    one, two = mapped(chosen, NAME=["ann"]), mapped(chosen, version="2.0", NAME=["ann"])
    project = ProjectRef(name="of ann", roles=("member", "reader"))
    assert (one.domain, one.projects) == (None, (project,))
    assert two.domain == DomainRef(name="d") and two.projects[0].domain == DomainRef(name="d")
    local["user"], local["projects"][0]["domain"] = {"name": "{0}", "domain": {"id": "u"}}, {"id": "p"}
    own = mapped(rule({"type": "NAME"}, local), version="2.0", NAME=["ann"])
    assert own.domain == DomainRef(id="u") and own.projects[0].domain == DomainRef(id="p")


def test_local_users_keep_their_domain_in_every_version() -> None:
    local = {"user": {"name": "{0}", "type": "local", "domain": {"id": "d"}}}
    found = mapped(rule({"type": "NAME"}, local), NAME=["ann"])
    assert (found.kind, found.name, found.domain) == ("local", "ann", DomainRef(id="d"))


REMOTE = {"type": "NAME"}


@pytest.mark.parametrize(
    ("remote", "local", "named"),
    [
        ({"type": "N", "any_one_of": ["("], "regex": True}, USER, "rules/0/remote/0/any_one_of/0"),
        ({"type": "N", "any_one_of": ["a"], "whitelist": ["a"]}, USER, "rules/0/remote/0"),
        ({"type": "N", "regex": True}, USER, "rules/0/remote/0/regex"),
        ({"type": "N", "any_one_of": "a"}, USER, "any_one_of"),
        ({"any_one_of": ["a"]}, USER, "type"),
        ({"type": "N", "none_of": ["a"]}, USER, "none_of"),
        (REMOTE, {"groups": "g"}, "rules/0/local/0/domain"),
        (REMOTE, {"group": {"name": "g"}}, "rules/0/local/0/group/domain"),
        (REMOTE, {"group": {"id": "g", "name": "g"}}, "rules/0/local/0/group"),
        (REMOTE, {"group": {}}, "rules/0/local/0/group"),
        (REMOTE, {"user": {"type": "other"}}, "type"),
        (REMOTE, {"projects": [{"name": "p"}]}, "roles"),
        (REMOTE, {"projects": [{"name": "p", "roles": [], "domain": {"id": "d"}}]}, "domain"),
    ],
)
def test_rules_that_are_none_are_refused_by_their_field(
    remote: dict[str, Any], local: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadRequest, match=named):
        check([{"remote": [remote], "local": [local]}], "1.0")


@pytest.mark.parametrize("rules", [[], [{}], [{"remote": [], "local": []}], [{"remote": [REMOTE]}]])
def test_rules_need_their_parts(rules: list[dict[str, Any]]) -> None:
    with pytest.raises(BadRequest, match="rules"):
        check(rules, "1.0")
