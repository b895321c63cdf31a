"""Our rules against oslo.policy's own meaning of them, on thousands of random ones."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_policy import policy as oslo

from pileus.core.policy import Enforcer

NAMES = ("user_id", "project_id", "domain_id", "a.b", "flag", "roles_of.name")
VALUES = ("x", "y", "all", "True", "None", "5", "default")
ROLES = ("admin", "member", "reader", "Manager")
ATTRIBUTES = ("user_id", "project_id", "target.id", "name")
checks = st.one_of(
    st.sampled_from(["@", "!"]),
    st.builds("role:{}".format, st.sampled_from([*ROLES, "%(name)s"])),
    st.builds("{}:{}".format, st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.builds("{}:%({})s".format, st.sampled_from(NAMES), st.sampled_from(ATTRIBUTES)),
    st.builds("'{}':%({})s".format, st.sampled_from(VALUES), st.sampled_from(ATTRIBUTES)),
    st.builds("{}:%({})s".format, st.sampled_from(["None", "True", "5"]), st.sampled_from(ATTRIBUTES)),
    st.builds("rule:{}".format, st.sampled_from(["one", "two", "missing"])),
)
rules = st.recursive(
    checks,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
        st.builds("{} or {}".format, inner, checks),
        st.builds("{} and {}".format, inner, checks),
    ),
    max_leaves=6,
)
values = st.sampled_from(VALUES)
creds = st.fixed_dictionaries(
    {"roles": st.lists(st.sampled_from(ROLES), max_size=3)},
    optional={
        "user_id": values, "project_id": values, "domain_id": st.none() | values, "flag": st.booleans(),
        "a": st.dictionaries(st.just("b"), values), "roles_of": st.lists(st.dictionaries(st.just("name"), values)),
    },
)  # fmt: skip
targets = st.dictionaries(st.sampled_from(ATTRIBUTES), values)

CONF = cfg.ConfigOpts()
CONF([], project="test")
THEIRS = oslo.Enforcer(CONF, use_conf=False)


@settings(max_examples=3000, deadline=None)
@given(text=rules, one=checks.filter(lambda c: not c.startswith("rule:")), who=creds, what=targets)
def test_every_rule_means_what_oslo_policy_says(text: str, one: str, who: dict[str, Any], what: dict[str, Any]) -> None:
    texts = {"one": one, "two": "rule:one and role:member", "asked": text}
    THEIRS.set_rules(oslo.Rules.from_dict(texts), overwrite=True, use_conf=False)
    ours = Enforcer()
    for name, rule in texts.items():
        ours.declare(name, rule)
    mine = {**who, "roles": tuple(role.lower() for role in who["roles"])}
    expected = bool(THEIRS.enforce("asked", dict(what), dict(who)))
    assert ours.passes("asked", mine, what) is expected
    assert ours.explain("asked", mine, what)[0] is expected
