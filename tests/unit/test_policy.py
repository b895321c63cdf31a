"""oslo.policy's language, as its documentation describes it."""

import pytest

from pileus.core.policy import Enforcer, Parser, PolicyError

ADMIN = {"roles": ("admin",), "project_id": "p", "user_id": "u", "token": {"project": {"domain": [{"id": "d"}]}}}
MEMBER = {"roles": ("member", "reader"), "project_id": "p", "user_id": "u", "system_scope": None}


def check(text: str, creds: dict[str, object], **target: object) -> bool:
    return Parser(text, {"yes": lambda c, t: True, "no": lambda c, t: False}).parse()(creds, target)


@pytest.mark.parametrize(
    ("text", "target", "wanted"),
    [
        ("@", {}, True),
        ("!", {}, False),
        ("", {}, True),
        ("role:member", {}, True),
        ("role:Member", {}, True),
        ("role:admin", {}, False),
        ("not role:admin", {}, True),
        ("not not role:member", {}, True),
        ("project_id:%(project_id)s", {"project_id": "p"}, True),
        ("project_id:%(project_id)s", {"project_id": "q"}, False),
        ("project_id:%(project_id)s", {}, False),
        ("rule:yes and rule:no", {}, False),
        ("rule:no or rule:yes", {}, True),
        ("rule:no and rule:no or rule:yes", {}, True),
        ("rule:no and (rule:no or rule:yes)", {}, False),
        ("(rule:yes or rule:no) and not rule:no", {}, True),
        ("rule:unknown", {}, False),
        ("'x':%(kind)s", {"kind": "x"}, True),
        ("True:%(shared)s", {"shared": True}, True),
        ("True:%(shared)s", {"shared": False}, False),
        ("None:%(owner)s", {"owner": None}, True),
        ("user_id:%(target.user.id)s", {"target.user.id": "u"}, True),
        ("missing:%(project_id)s", {"project_id": "None"}, False),
        ("role:%(wanted)s", {"wanted": "reader"}, True),
    ],
)
def test_expressions(text: str, target: dict[str, object], wanted: bool) -> None:
    assert check(text, MEMBER, **target) is wanted


def test_nested_credentials_are_found() -> None:
    assert check("token.project.domain.id:d", ADMIN) and not check("token.project.domain.id:e", ADMIN)


@pytest.mark.parametrize("text", ["role:a and", "(role:a", "role:a)", "nonsense", "role:a role:b", "and"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        Parser(text, {}).parse()


def test_overrides_hold_and_unknown_names_are_refused() -> None:
    enforcer = Enforcer()
    enforcer.declare("admin", "role:admin")
    enforcer.declare("thing:get", "rule:admin")
    assert not enforcer.passes("thing:get", MEMBER, {})
    enforcer.override({"thing:get": "role:member"})
    assert enforcer.passes("thing:get", MEMBER, {})
    enforcer.override({})
    assert not enforcer.passes("thing:get", MEMBER, {})
    with pytest.raises(PolicyError, match="thing:gte"):
        enforcer.override({"thing:gte": "@"})
    assert not enforcer.passes("thing:never_declared", ADMIN, {})


def test_a_rule_has_one_default_and_refers_to_rules_that_exist() -> None:
    enforcer = Enforcer()
    enforcer.declare("a", "rule:b")
    with pytest.raises(PolicyError, match="is declared as"):
        enforcer.declare("a", "@")
    with pytest.raises(PolicyError, match="b, which does not exist"):
        enforcer.check_references()


def test_services_may_mean_different_things_by_one_name_and_then_nobody_else_can_use_it() -> None:
    enforcer = Enforcer()
    enforcer.declare("owner", "user_id:%(user_id)s", "identity")
    enforcer.declare("key:get", "rule:owner", "identity")
    enforcer.declare("owner", "project_id:%(project_id)s", "network")
    enforcer.declare("port:get", "rule:owner", "network")
    creds = {**MEMBER, "user_id": "u", "project_id": "p"}
    assert enforcer.passes("key:get", creds, {"user_id": "u"})
    assert not enforcer.passes("key:get", creds, {"user_id": "v"})
    assert enforcer.passes("port:get", creds, {"project_id": "p"})
    assert not enforcer.passes("owner", creds, {"user_id": "u", "project_id": "p"})
    assert enforcer.looks_at_target("port:get")
    enforcer.override({"owner": "role:member"})
    assert enforcer.passes("key:get", MEMBER, {}) and enforcer.passes("owner", MEMBER, {})
