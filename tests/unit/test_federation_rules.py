"""The mapping engine: which rules apply, what fills which place, and that no value is ever more than a value."""

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.cli.mapping import mapping
from pileus.core.config import Config
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


@pytest.mark.parametrize(
    "bomb", ["(a+)+$", "(a|aa)+$", "(.*a){25}$", "(a|a?)+$", "(a*)*$", "^(a+){2,30}$", "(([a-z])+.)+[A-Z]([a-z])+$"]
)
@pytest.mark.parametrize("condition", ["any_one_of", "blacklist"])
def test_a_pattern_that_takes_for_ever_ends_the_log_in(bomb: str, condition: str) -> None:
    started = time.monotonic()
    chosen = rule({"type": "X", condition: [bomb] * 5, "regex": True})
    with contextlib.suppress(Unmapped):  # some of them are quickly known to fit, or not to
        mapped(chosen, NAME=["ann"], X=["a" * 4000 + "b"] * 5)
    assert time.monotonic() - started < 10


def test_why_a_pattern_ended_a_log_in_is_told() -> None:
    chosen = rule({"type": "X", "any_one_of": ["(a+)+$"], "regex": True})
    assert "take too long" in refused(chosen, NAME=["ann"], X=["a" * 4000 + "b"])


def test_an_operator_tries_rules_before_anybody_logs_in_by_them(tmp_path: Path, capsys: Any) -> None:
    rules, assertion = tmp_path / "rules.json", tmp_path / "assertion.json"
    groups = {"groups": "{1}", "domain": {"name": "corp"}}
    rules.write_text(json.dumps([rule({"type": "GROUPS"}, USER, groups)]))
    assertion.write_text(json.dumps({"NAME": "ann", "GROUPS": ["dev", "ops"]}))
    files = [str(rules), str(assertion)]
    assert mapping(Config(), files) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "ann" and [group["name"] for group in shown["groups"]] == ["dev", "ops"]
    assertion.write_text("{}")
    assert mapping(Config(), files) == 1 and "no rule" in capsys.readouterr().out
    for wrong in ("{", "[]", "{}", '[{"remote": []}]', '{"rules": 5}'):
        rules.write_text(wrong)
        assert mapping(Config(), files) == 2 and capsys.readouterr().err.strip()


NAMES = st.sampled_from(["A", "B", "C"])
TEXTS = st.sampled_from(["{0}", "{1}", "{0}-{1}", "x", "['p', 'q']", "{", "{9}", "[", "{0!r}", "(("])
CONDITION = st.sampled_from(["any_one_of", "not_any_of", "whitelist", "blacklist"])
REMOTES = st.one_of(
    st.fixed_dictionaries({"type": NAMES}),
    st.builds(lambda name, kind, values: {"type": name, kind: values}, NAMES, CONDITION, st.lists(TEXTS, max_size=3)),
    st.builds(lambda name, kind: {"type": name, kind: ["^.x?"], "regex": True}, NAMES, CONDITION),
)
DOMAINS = st.fixed_dictionaries({}, optional={"id": TEXTS, "name": TEXTS})
KINDS = st.sampled_from(["ephemeral", "local"])
LOCALS = st.fixed_dictionaries({"domain": st.just({"id": "d"})}, optional={
    "user": st.fixed_dictionaries({}, optional={
        "id": TEXTS, "name": TEXTS, "email": TEXTS, "domain": DOMAINS, "type": KINDS}),
    "group": st.fixed_dictionaries({"id": TEXTS}), "groups": TEXTS, "group_ids": TEXTS,
    "projects": st.lists(st.fixed_dictionaries({"name": TEXTS, "roles": st.just([{"name": "r"}])}), max_size=2),
})  # fmt: skip
ANY_RULES = st.lists(
    st.fixed_dictionaries({"remote": st.lists(REMOTES, min_size=1, max_size=3), "local": st.lists(LOCALS, max_size=3)}),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(ANY_RULES, st.sampled_from(["1.0", "2.0"]), st.dictionaries(NAMES, st.lists(st.text(max_size=5), max_size=3)))
def test_rules_that_are_accepted_map_or_refuse_whatever_is_asserted(
    rules: list[dict[str, Any]], version: str, attributes: dict[str, list[str]]
) -> None:
    check(rules, version)
    try:
        found = apply(rules, version, attributes)
    except Unmapped:
        return
    said = [value for values in attributes.values() for value in values]
    written = [*re.findall(r"'([^']*)'", repr(rules)), ""]
    for text in (found.user_id, found.name, *(group.id or group.name for group in found.groups)):
        assert text in written or any(value in text for value in said) or text in ("p", "q")


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
