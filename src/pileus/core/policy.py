"""Rules in oslo.policy's language, compiled once to closures.

A check is `role:NAME`, `rule:NAME`, `KEY:VALUE` (VALUE may hold `%(attribute)s` of the target; KEY is
an attribute of the credentials or a quoted literal), `field:RESOURCE:ATTRIBUTE=VALUE` (an attribute of
the target; `~` before VALUE makes it a regular expression), `@` (always) or `!` (never), joined by
`and`, `or`, `not` and parentheses.  Sources: oslo.policy documentation, "Policy rule expressions";
networking guide, "Authorization policy enforcement" (field checks).
A rule that is asked for but not known never passes.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

Creds = Mapping[str, Any]
Target = Mapping[str, Any]
Check = Callable[[Creds, Target], bool]

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+(?:\([^)]*\)[^\s()]*)*)")


def _always(_creds: Creds, _target: Target) -> bool:
    return True


def _never(_creds: Creds, _target: Target) -> bool:
    return False


class PolicyError(ValueError):
    """A rule that cannot be read."""


def _dig(creds: Any, path: list[str]) -> list[Any]:
    """The values found under a dotted path; lists on the way are searched."""
    if not path:
        return list(creds) if isinstance(creds, list | tuple | set | frozenset) else [creds]
    if isinstance(creds, Mapping):
        return _dig(creds[path[0]], path[1:]) if path[0] in creds else []
    if isinstance(creds, list | tuple):
        return [v for item in creds for v in _dig(item, path)]
    return []


def _generic(left: str, right: str) -> Check:
    """KEY:VALUE, compared as text."""
    literal: str | None = None
    if left[:1] in "'\"" and left[-1:] == left[:1] and len(left) > 1:
        literal = left[1:-1]
    elif left in ("True", "False", "None") or re.fullmatch(r"-?\d+(\.\d+)?", left):
        literal = left
    names = re.findall(r"%\((.+?)\)s", right)
    path = left.split(".")

    def check(creds: Creds, target: Target) -> bool:
        if any(name not in target for name in names):
            return False
        wanted = right % target if names else right
        if literal is not None:
            return literal == wanted
        if len(path) == 1:
            value = creds.get(left, check)
            if value is check:
                return False
            if not isinstance(value, list | tuple | set | frozenset):
                return str(value) == wanted
        return any(str(v) == wanted for v in _dig(creds, path))

    return check


def _field(right: str) -> Check:
    """RESOURCE:ATTRIBUTE=VALUE; the attribute may hold colons itself (`router:external`)."""
    _, _, rest = right.partition(":")
    attribute, equals, value = rest.partition("=")
    if not attribute or not equals:
        raise PolicyError(f"'field:{right}' is no check: expected field:RESOURCE:ATTRIBUTE=VALUE")
    if value.startswith("~"):
        pattern = re.compile(value[1:])
        return lambda _creds, target: pattern.match(str(target.get(attribute) or "")) is not None
    return lambda _creds, target: str(target.get(attribute)) == value


def _role(right: str) -> Check:
    names = re.findall(r"%\((.+?)\)s", right)
    fixed = right.lower()

    def check(creds: Creds, target: Target) -> bool:
        if any(name not in target for name in names):
            return False
        wanted = (right % target).lower() if names else fixed
        return wanted in creds["roles"]

    return check


class Parser:
    """Recursive descent over one expression; `rules` is looked up when a check runs."""

    def __init__(self, text: str, rules: Mapping[str, Check]):
        self.tokens = _TOKEN.findall(text)
        self.rules = rules
        self.text = text
        self.at = 0

    def parse(self) -> Check:
        if not self.tokens:
            return _always
        check = self._or()
        if self.at != len(self.tokens):
            raise PolicyError(f"cannot read {self.text!r} at {self.tokens[self.at]!r}")
        return check

    def _peek(self) -> str:
        return self.tokens[self.at].lower() if self.at < len(self.tokens) else ""

    def _or(self) -> Check:
        parts = [self._and()]
        while self._peek() == "or":
            self.at += 1
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else self.joined("or", parts)

    def _and(self) -> Check:
        parts = [self._not()]
        while self._peek() == "and":
            self.at += 1
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else self.joined("and", parts)

    def _not(self) -> Check:
        if self._peek() == "not":
            self.at += 1
            return self.negated(self._not())
        return self._atom()

    def joined(self, word: str, parts: list[Check]) -> Check:
        """Several checks by `and` or `or`."""
        if word == "or":
            return lambda c, t: any(p(c, t) for p in parts)
        return lambda c, t: all(p(c, t) for p in parts)

    def negated(self, inner: Check) -> Check:
        """The opposite of a check."""
        return lambda c, t: not inner(c, t)

    def _atom(self) -> Check:
        if self.at >= len(self.tokens):
            raise PolicyError(f"{self.text!r} ends too early")
        token = self.tokens[self.at]
        self.at += 1
        if token == "(":  # noqa: S105 (a parenthesis)
            inner = self._or()
            if self._peek() != ")":
                raise PolicyError(f"{self.text!r} lacks a closing parenthesis")
            self.at += 1
            return inner
        return self.single(token)

    def single(self, token: str) -> Check:
        """One check."""
        if token == "@":  # noqa: S105 (a rule)
            return _always
        if token == "!":  # noqa: S105 (a rule)
            return _never
        kind, colon, right = token.partition(":")
        if not colon:
            raise PolicyError(f"{token!r} in {self.text!r} is no check: expected KIND:VALUE")
        if kind == "rule":
            rules = self.rules
            return lambda c, t: rules.get(right, _never)(c, t)
        if kind == "field":
            return _field(right)
        return _role(right) if kind == "role" else _generic(kind, right)


class Told:
    """The story of one decision."""

    def __init__(self, rules: Mapping[str, Check], texts: Mapping[str, str]):
        self.rules, self.texts = rules, texts
        self.lines: list[str] = []
        self.depth = 0

    def tell(self, what: str, decide: Callable[[], bool]) -> bool:
        """One line, above those of its parts."""
        at, indent = len(self.lines), "  " * self.depth
        self.lines.append("")
        self.depth += 1
        result = decide()
        self.depth -= 1
        self.lines[at] = f"{'yes' if result else 'no '}  {indent}{what}"
        return result

    def rule(self, name: str, creds: Creds, target: Target) -> bool:
        """A rule by its name; one that names itself is told once."""
        text = self.texts.get(name)
        if text is None or self.depth > 20:
            return self.tell(f"rule:{name} is not known", lambda: False)
        check = TellingParser(text, self).parse()
        return self.tell(f"{name}: {text or '@'}", lambda: check(creds, target))


class TellingParser(Parser):
    """Compiles a text to checks that evaluate all their parts and tell what each found."""

    def __init__(self, text: str, told: Told):
        super().__init__(text, told.rules)
        self.told = told

    def joined(self, word: str, parts: list[Check]) -> Check:
        decide = any if word == "or" else all
        return lambda c, t: self.told.tell(f"({word})", lambda: decide([p(c, t) for p in parts]))

    def negated(self, inner: Check) -> Check:
        return lambda c, t: self.told.tell("not", lambda: not inner(c, t))

    def single(self, token: str) -> Check:
        kind, _, right = token.partition(":")
        if kind == "rule":
            return lambda c, t: self.told.rule(right, c, t)
        check = super().single(token)
        return lambda c, t: self.told.tell(found(token, c, t), lambda: check(c, t))


def found(token: str, creds: Creds, target: Target) -> str:
    """A check with the values that it compares."""
    kind, _, right = token.partition(":")
    names = re.findall(r"%\((.+?)\)s", right)
    given = [f"{name} of the target is {target.get(name, 'not there')!r}" for name in names]
    if kind == "role":
        given.append(f"roles are {', '.join(creds.get('roles', ())) or 'none'}")
    elif kind in creds:
        given.append(f"{kind} is {creds[kind]!r}")
    elif re.fullmatch(r"[a-z_.]+", kind) and kind != "field":
        given.append(f"{kind} is not among the credentials")
    return f"{token}   ({'; '.join(given)})" if given else token


class Enforcer:
    """All rules of the cloud by name: defaults that services declare, overridden by the operator's file.

    Two services may mean different things by one name ("owner"): each one's texts refer to its own meaning,
    and nobody can ask for such a name by itself.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.defaults: dict[str, str] = {}
        self._rules: dict[str, Check] = {}  # by a name that means one thing
        self._spaces: dict[str, dict[str, Check]] = {}  # by service
        self._declared: dict[tuple[str, str], str] = {}  # (service, name) → default
        self._current: dict[tuple[str, str], str] = {}  # (service, name) → text in force
        self._homes: dict[str, set[str]] = {}  # name → services that declare it
        self._varies: dict[tuple[str, str], bool] = {}  # what looks_at_target found, by service
        self._looking: dict[str, bool] = {}  # and for a name wherever it is declared

    def declare(self, name: str, text: str, service: str = "") -> None:
        """Register a default; within a service the same name must always mean the same."""
        if self._declared.setdefault((service, name), text) != text:
            raise PolicyError(f"rule {name} is declared as {self._declared[service, name]!r} and as {text!r}")
        self.defaults.setdefault(name, text)
        if (service, name) not in self._current:
            self._set(service, name, text)

    def override(self, rules: Mapping[str, str]) -> None:
        """The operator's rules; unknown names are refused so that a typing error cannot open a door.

        Raises PolicyError, and then nothing has changed.
        """
        unknown = sorted(set(rules) - set(self.defaults))
        if unknown:
            raise PolicyError(f"unknown policy rules: {', '.join(unknown)}")
        for name, text in rules.items():
            Parser(text, {}).parse()
            for other in re.findall(r"rule:([^\s()]+)", text):
                if other not in self.defaults:
                    raise PolicyError(f"rule {name} refers to {other}, which does not exist")
        for (service, name), text in self._declared.items():
            self._set(service, name, rules.get(name, text))

    def _set(self, service: str, name: str, text: str) -> None:
        space = self._spaces.setdefault(service, {})
        space[name] = Parser(text, ChainMap(space, self._rules)).parse()
        self._current[service, name] = self.texts[name] = text
        homes = self._homes.setdefault(name, set())
        homes.add(service)
        meanings = {self._current[home, name] for home in homes}
        if len(meanings) == 1:
            self._rules[name] = space[name]
        else:
            self._rules.pop(name, None)
        self._varies.clear()
        self._looking.clear()

    def _names(self, service: str) -> ChainMap[str, Check]:
        return ChainMap(self._spaces[service], self._rules)

    def explain(self, name: str, creds: Creds, target: Target) -> tuple[bool, list[str]]:
        """Whether a rule passes, and why: each check of its text with what it found, indented by depth."""
        services = [service for service, known in self._current if known == name]
        if not services:
            return False, [f"no   {name}: there is no such rule"]
        told = Told(self._names(services[0]), {**self.texts, **self._texts_of(services[0])})
        return told.rule(name, creds, target), told.lines

    def _texts_of(self, service: str) -> dict[str, str]:
        return {name: text for (home, name), text in self._current.items() if home == service}

    def check_references(self) -> None:
        """Raise PolicyError where a rule names another that does not exist."""
        for (service, name), text in self._current.items():
            for other in re.findall(r"rule:([^\s()]+)", text):
                if other not in self._names(service):
                    raise PolicyError(f"rule {name} refers to {other}, which does not exist")

    def looks_at_target(self, name: str) -> bool:
        """Whether what a rule says may differ from target to target (for the same credentials)."""
        known = self._looking.get(name)
        if known is None:
            homes = [service for service, rule in self._current if rule == name]
            known = self._looking[name] = any(self._looks(service, name) for service in homes)
        return known

    def _looks(self, service: str, name: str) -> bool:
        key = (service, name)
        if key not in self._varies:
            self._varies[key] = True  # of a rule that names itself
            text = self._current.get(key, "")
            others = re.findall(r"rule:([^\s()]+)", text)
            self._varies[key] = "%(" in text or "field:" in text or any(self._refers(service, o) for o in others)
        return self._varies[key]

    def _refers(self, service: str, name: str) -> bool:
        return self._looks(service, name) if (service, name) in self._current else self.looks_at_target(name)

    def passes(self, name: str, creds: Creds, target: Target) -> bool:
        """Whether the credentials satisfy a rule for a target; False for an unknown rule."""
        check = self._rules.get(name)
        return check is not None and check(creds, target)
