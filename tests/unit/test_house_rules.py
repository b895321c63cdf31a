"""What no file of the product may contain, read from its syntax trees; each exception stands here with its reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pileus
from pileus.core.policy import Enforcer
from pileus.roles.controller import services

SRC = Path(pileus.__file__).parent
TREES = {str(path.relative_to(SRC)): ast.parse(path.read_text(), str(path)) for path in sorted(SRC.rglob("*.py"))}

LONGEST_FILE, LONGEST_FUNCTION = 450, 60
LONG_FILES = {"drivers/switch/linux/driver.py": 490}  # one driver, whose verbs share their wishes; it must not grow

FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.spawnl", "commands.getoutput",
    "subprocess.getoutput", "subprocess.getstatusoutput", "pickle.load", "pickle.loads", "marshal.load",
    "marshal.loads", "shelve.open", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "tempfile.mktemp",
    "ssl._create_unverified_context", "random.choice", "random.choices", "random.randbytes", "random.getrandbits",
}  # fmt: skip
ALLOWED_CALLS = {
    ("roles/kept.py", "pickle.load"): "the journal of the fake drivers, in a folder that only root writes",
}
# Comparisons by == of what sounds secret but is not, or is compared with what the same request holds.
COMPARED = {
    "drivers/image_cache.py": "the checksum of an image, which is public",
    "identity/login.py": "a stored hash with itself at another time",
    "identity/user.py": "a stored hash with itself at another time; two fields of one request",
    "identity/token.py": "a token with its own canonical form",
}
SECRET = re.compile(r"(^|_)(token|secret|password|passphrase|digest|hexdigest|hmac|signature|hash|auth_key)$")


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return ""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


@pytest.mark.parametrize("file", TREES)
def test_nothing_runs_what_was_sent(file: str) -> None:
    for name, call in calls(TREES[file]):
        if name in FORBIDDEN and (file, name) not in ALLOWED_CALLS:
            pytest.fail(f"{file}:{call.lineno} calls {name}")
        for keyword in call.keywords:
            if keyword.arg == "shell" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                pytest.fail(f"{file}:{call.lineno} starts a shell")


def last_name(node: ast.expr) -> str:
    """What a value is called where it is compared."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    if isinstance(node, ast.Subscript):
        return str(node.slice.value) if isinstance(node.slice, ast.Constant) else ""
    return dotted(node).rpartition(".")[2]


@pytest.mark.parametrize("file", TREES)
def test_secrets_are_compared_in_constant_time(file: str) -> None:
    """By hmac.compare_digest (CWE-208): == tells by its time how much was right."""
    if file in COMPARED:
        return
    for node in ast.walk(TREES[file]):
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) for side in sides):
            continue
        assert not any(SECRET.search(last_name(side)) for side in sides), f"{file}:{node.lineno} {ast.unparse(node)}"


def test_exceptions_are_of_files_that_there_are() -> None:
    assert {file for file, _ in ALLOWED_CALLS} | set(COMPARED) | set(LONG_FILES) <= set(TREES)


def test_files_and_functions_can_be_read_at_once() -> None:
    lengths = {file: len((SRC / file).read_text().splitlines()) for file in TREES}
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:5]
    too_long = [file for file, length in lengths.items() if length > LONG_FILES.get(file, LONGEST_FILE)]
    assert not too_long, f"{too_long}; the longest: {longest}"
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{file}:{node.lineno} {node.name} has {length} lines"


def rules_asked_for(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The rules that are named by a constant where one is asked for or a field is guarded by it."""
    for name, call in calls(tree):
        asked = [call.args[0]] if name.endswith((".allows", ".enforce")) and call.args else []
        if name == "Field":
            asked += [keyword.value for keyword in call.keywords if keyword.arg in ("see", "set")]
        for value in asked:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                yield value.value, call.lineno


def test_every_rule_that_is_asked_for_is_declared() -> None:
    """A misspelt rule never passes, which would look like a missing right."""
    declared = {name for service in services() for name in service.rules}
    for file, tree in TREES.items():
        for rule, line in rules_asked_for(tree):
            assert rule in declared, f"{file}:{line} asks for {rule}, which no service declares"


def test_every_rule_refers_to_rules_that_there_are() -> None:
    enforcer = Enforcer()
    for service in services():
        for name, text in service.rules.items():
            enforcer.declare(name, text, service.type)
    enforcer.check_references()


def test_no_header_says_who_asks() -> None:
    """It is known from the token alone, and from connections we know by their certificate."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.fullmatch(r"x-(user|roles?|project|tenant|domain|is-admin|forwarded|real)[a-z-]*",
                                        node.value.lower()), f"{file}:{node.lineno} {node.value}"  # fmt: skip


def test_nothing_is_left_to_be_done() -> None:
    for file in TREES:
        for number, line in enumerate((SRC / file).read_text().splitlines(), 1):
            assert not re.search(r"#.*\b(TODO|FIXME|XXX|HACK)\b", line), f"{file}:{number} {line.strip()}"
