"""The table of a resource's attributes: what each is, where it appears and in which microversions.

From one table derive the validation of bodies, the rendering of answers, the filters and sort keys of
lists, and the API reference.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as datafield
from typing import Any

from pileus.core.context import Context
from pileus.core.schema import Schema

Version = tuple[int, int]
FIRST: Version = (0, 0)
LATEST: Version = (9999, 0)
Getter = Callable[[Any, Context], Any]
Sees = Callable[[Any, Context], bool]


def parse_version(text: str) -> Version:
    """(2, 79) of "2.79"."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def show_version(version: Version) -> str:
    """ "2.79" of (2, 79)."""
    return f"{version[0]}.{version[1]}"


@dataclass(frozen=True)
class Field:
    """One attribute.

    `on` holds letters: c may be given on create, C must be given on create, u may be updated, r is
    shown, q filters lists, s sorts lists.  `get` is the attribute of the row (the name, if absent) or
    a function of (row, context).  `column` is the column that filters and sorts use.  `see` and `set`
    are policy rules needed to be shown it or to give it on create or update; `see` may be a function of
    (row, context) where the row belongs to nobody and the rule is about the caller's own project.
    """

    name: str
    on: str = "r"
    schema: Schema = datafield(default_factory=dict)
    since: str = ""
    until: str = ""
    get: str | Getter | None = None
    column: str = ""
    default: Any = None
    see: str | Sees = ""
    set: str = ""
    doc: str = ""

    def first(self) -> Version:
        return parse_version(self.since) if self.since else FIRST

    def last(self) -> Version:
        return parse_version(self.until) if self.until else LATEST

    def lives_at(self, version: Version) -> bool:
        return self.first() <= version <= self.last()

    def getter(self) -> Getter:
        if callable(self.get):
            return self.get
        attribute = operator.attrgetter(self.get or self.name)
        return lambda row, _ctx: attribute(row)

    def seer(self) -> Sees | None:
        """Who may see it; None: everybody."""
        rule = self.see
        if isinstance(rule, str):
            return (lambda row, ctx: ctx.allows(rule, row)) if rule else None
        return rule


class Renderer:
    """Renders the fields of one version: plain attributes all at once, the others one by one."""

    def __init__(self, fields: Iterable[Field]):
        self._plain: list[str] = []
        self._others: list[tuple[str, Getter, Sees | None]] = []
        attributes: list[str] = []
        for field in fields:
            if callable(field.get) or field.see:
                self._others.append((field.name, field.getter(), field.seer()))
            else:
                self._plain.append(field.name)
                attributes.append(field.get or field.name)
        read = operator.attrgetter(*attributes) if attributes else lambda row: ()
        self._read: Callable[[Any], tuple[Any, ...]] = read if len(attributes) != 1 else lambda row: (read(row),)

    def __call__(self, row: Any, ctx: Context) -> dict[str, Any]:
        found = dict(zip(self._plain, self._read(row), strict=True))
        for name, get, see in self._others:
            if see is None or see(row, ctx):
                found[name] = get(row, ctx)
        return found


class Fields:
    """The attributes of one resource and the name of its envelope (`{"server": …}`)."""

    def __init__(self, key: str, plural: str, fields: Iterable[Field], *, extra: bool = False):
        self.key, self.plural, self.fields = key, plural, tuple(fields)
        self.extra = extra  # whether bodies may hold attributes that are not in the table
        self._renderers: dict[Version, Renderer] = {}

    def points(self) -> set[Version]:
        """Versions at which something changes."""
        after = {(f.last()[0], f.last()[1] + 1) for f in self.fields if f.until}
        return {f.first() for f in self.fields} | after

    def at(self, letter: str, version: Version) -> list[Field]:
        return [f for f in self.fields if letter in f.on and f.lives_at(version)]

    def body_schema(self, letter: str, version: Version) -> Schema:
        """The JSON Schema of a create ("c") or update ("u") body, envelope included."""
        fields = [f for f in self.fields if letter in f.on.lower() and f.lives_at(version)]
        inner: dict[str, Any] = {
            "type": "object",
            "properties": {f.name: f.schema for f in fields},
            "additionalProperties": self.extra,
        }
        required = [f.name for f in fields if letter.upper() in f.on]
        if required:
            inner["required"] = required
        return {"type": "object", "properties": {self.key: inner}, "required": [self.key]}

    def render(self, row: Any, ctx: Context) -> dict[str, Any]:
        """A resource as the caller's version shows it; fields that need a rule are left out without it."""
        renderer = self._renderers.get(ctx.version)
        if renderer is None:
            renderer = self._renderers[ctx.version] = Renderer(self.at("r", ctx.version))
        return renderer(row, ctx)

    def columns(self, letter: str) -> Mapping[str, str]:
        """Name → column of the filters ("q") or sort keys ("s")."""
        return {
            f.name: f.column or (f.get if isinstance(f.get, str) else f.name) for f in self.fields if letter in f.on
        }

    def defaults(self, version: Version = LATEST) -> dict[str, Any]:
        return {f.name: f.default for f in self.fields if "c" in f.on.lower() and f.lives_at(version)}
