"""The operator's rules: taken over while the cloud runs, whole or not at all."""

import os
from pathlib import Path

import pytest

from pileus.core.policy import Enforcer, PolicyError
from pileus.core.policy_files import PolicyFiles

MEMBER, READER = {"roles": ("member",)}, {"roles": ("reader",)}


@pytest.fixture
def enforcer() -> Enforcer:
    made = Enforcer()
    made.declare("see", "role:reader")
    made.declare("change", "role:member")
    return made


def later(files: PolicyFiles) -> None:
    """A second later."""
    files._looked = 0.0
    files.refresh()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns + 1_000_000))


def test_files_are_taken_over_when_they_change_and_forgotten_when_they_go(tmp_path: Path, enforcer: Enforcer) -> None:
    files = PolicyFiles(tmp_path, enforcer)
    files.load()
    assert enforcer.passes("see", READER, {}) and not enforcer.passes("see", MEMBER, {})
    write(tmp_path / "policy.yaml", '"see": "role:member"\n')
    later(files)
    assert enforcer.passes("see", MEMBER, {}) and not enforcer.passes("see", READER, {})
    write(tmp_path / "policy.d" / "10-more.yaml", 'see: "!"\nchange: "@"\n')
    later(files)
    assert not enforcer.passes("see", MEMBER, {}) and enforcer.passes("change", READER, {})
    (tmp_path / "policy.d" / "10-more.yaml").unlink()
    later(files)
    assert enforcer.passes("see", MEMBER, {}) and not enforcer.passes("change", READER, {})


@pytest.mark.parametrize(
    "text",
    ["see: [1]\n", "- a\n", "see: 'role:'x'\n", "nobody_knows: '@'\n", "see: 'rule:missing'\n", "see: '(role:a'\n",
     "change: '@'\nsee: 'role:a or'\n", "see: 5\n"],
)  # fmt: skip
def test_what_cannot_be_read_changes_nothing_and_stops_a_start(tmp_path: Path, enforcer: Enforcer, text: str) -> None:
    files = PolicyFiles(tmp_path, enforcer)
    files.load()
    before = dict(enforcer.texts)
    write(tmp_path / "policy.yaml", text)
    later(files)
    assert enforcer.texts == before and enforcer.passes("see", READER, {}) and not enforcer.passes("change", READER, {})
    with pytest.raises(PolicyError):
        PolicyFiles(tmp_path, enforcer).load()


def test_a_decision_is_explained(enforcer: Enforcer) -> None:
    enforcer.declare("own", "rule:see and (user_id:%(user_id)s or not role:member)")
    passes, lines = enforcer.explain("own", {"roles": ("reader", "member"), "user_id": "eve"}, {"user_id": "bob"})
    assert not passes and lines[0].startswith("no   own: ")
    assert any("see: role:reader" in line and line.startswith("yes") for line in lines)
    assert any("user_id of the target is 'bob'" in line and "user_id is 'eve'" in line for line in lines)
    assert enforcer.explain("nothing", {}, {}) == (False, ["no   nothing: there is no such rule"])
