"""Users and groups of an LDAP directory (RFC 4511), only read.

Source of the options' meaning: Identity administration guide, "Integrate Identity with LDAP".
"""

import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ldap3 import BASE, DEREF_ALWAYS, DEREF_BASE, DEREF_NEVER, DEREF_SEARCH, LEVEL, SUBTREE, Connection
from ldap3.core.exceptions import LDAPInvalidDnError
from ldap3.utils.dn import parse_dn
from msgspec import structs

from pileus.identity.drivers import Asked, Away, Entry, Found, Kind
from pileus.identity.ldap import filters
from pileus.identity.ldap.connections import SUCCESS, Connections
from pileus.identity.ldap.options import LdapOptions

log = logging.getLogger("pileus.identity.ldap")
MOST = 10_000  # entries of one answer
BATCH = 50  # entries asked for by id in one filter
_SIZE_LIMIT, _NO_SUCH_OBJECT = 4, 32
_SCOPES = {"one": LEVEL, "sub": SUBTREE}
_ALIASES = {"default": DEREF_NEVER, "never": DEREF_NEVER, "searching": DEREF_SEARCH, "always": DEREF_ALWAYS,
            "finding": DEREF_BASE}  # fmt: skip
Raw = Mapping[str, Sequence[bytes]]


class Tree:
    """Where the entries of one kind stand, and which of their attributes mean what."""

    def __init__(self, options: LdapOptions, kind: Kind):
        self.kind: Kind = kind
        subtree = "Users" if kind == "user" else "UserGroups"
        self.base: str = getattr(options, f"{kind}_tree_dn") or f"ou={subtree},{options.suffix}"
        self.object_class: str = getattr(options, f"{kind}_objectclass")
        self.filter: str | None = getattr(options, f"{kind}_filter")
        self.id: str = getattr(options, f"{kind}_id_attribute")
        self.name: str = getattr(options, f"{kind}_name_attribute")
        user = kind == "user"
        self.description = options.user_description_attribute if user else options.group_desc_attribute
        self.email = options.user_mail_attribute if user else ""
        self.enabled = options.user_enabled_attribute if user else ""
        self.member = "" if user else options.group_member_attribute

    @property
    def attributes(self) -> list[str]:
        """What is read of each entry, each once."""
        wanted = (self.id, self.name, self.description, self.email, self.enabled, self.member)
        return sorted({name.lower() for name in wanted if name})

    def wanted(self, *parts: str) -> str:
        """The filter of the entries of this kind that fulfil these besides."""
        return filters.both((f"(objectClass={self.object_class})", self.filter, f"({self.id}=*)", *parts))


class LdapDirectory:
    """A directory behind the Protocol `pileus.identity.drivers.Directory`."""

    name = "ldap"

    def __init__(self, options: LdapOptions):
        self.options = options
        self._connections = Connections(options)
        self._trees: dict[Kind, Tree] = {"user": Tree(options, "user"), "group": Tree(options, "group")}

    def search(self, kind: Kind, asked: Sequence[Asked]) -> Found:
        tree = self._trees[kind]
        parts = [
            filters.compared(attribute, a.comparison, a.value)
            for a in asked
            if (attribute := {"name": tree.name, "email": tree.email, "description": tree.description}[a.field])
        ]
        return self._entries(tree, tree.wanted(*parts))

    def read(self, kind: Kind, local_ids: Sequence[str]) -> list[Entry]:
        tree = self._trees[kind]
        found: list[Entry] = []
        for start in range(0, len(local_ids), BATCH):
            batch = local_ids[start : start + BATCH]
            some = self._entries(tree, tree.wanted(filters.any_of(filters.equals(tree.id, i) for i in batch)))
            if some.truncated:
                raise Away(f"it gives no {BATCH} entries at once")
            found += some.entries
        return found

    def groups_of(self, user: Entry) -> list[Entry]:
        tree = self._trees["group"]
        called = user.local_id if self.options.group_members_are_ids else user.place
        return list(self._entries(tree, tree.wanted(filters.equals(tree.member, called))).entries)

    def users_in(self, group: Entry) -> list[Entry]:
        tree, members = self._trees["user"], sorted(group.members)[:MOST]
        if self.options.group_members_are_ids:
            return self.read("user", members)
        by_id: list[str] = []
        others: list[str] = []
        for key in members:
            attribute, value = next(iter(place_parts(key)), ("", ""))
            if attribute == tree.id.lower() and "\\" not in value:
                by_id.append(value)
            else:
                others += [key] if self._is_within(tree, key) else []
        found = [entry for entry in self.read("user", by_id) if entry.key in group.members]
        return found + [entry for key in others for entry in self._at(tree, key)]

    def accepts(self, user: Entry | None, password: str) -> bool:
        nobody = f"cn={secrets.token_hex(8)},{self._trees['user'].base}"
        return self._connections.accepts(user.place if user else nobody, password) and user is not None

    def close(self) -> None:
        self._connections.close()

    def _is_within(self, tree: Tree, place: str) -> bool:
        """Whether a search of the tree comes to a place: who stands elsewhere is no user, whatever a group says."""
        below = len(place_parts(place)) - len(place_parts(tree.base))
        return place.endswith(f",{place_key(tree.base)}") and (below == 1 or self.options.query_scope == "sub")

    def _at(self, tree: Tree, place: str) -> Sequence[Entry]:
        """The entry at one place, if it is one of this tree's kind."""
        return self._entries(tree, tree.wanted(), base=place, scope=BASE).entries

    def _entries(self, tree: Tree, text: str, *, base: str = "", scope: str = "") -> Found:
        """What a filter finds; a tree that is not there is a fault of the configuration, never an empty answer."""

        def work(connection: Connection) -> Found:
            rows, code = self._rows(connection, tree, text, base or tree.base, scope)
            if code not in (SUCCESS, _SIZE_LIMIT) and not (code == _NO_SUCH_OBJECT and base):
                log.warning("%s: search below %s: result %s", self.options.url, base or tree.base, code)
                raise Away(f"it cannot give the {tree.kind}s (LDAP result {code})")
            entries = [e for row in rows if (e := self._entry(tree, row["dn"], row["raw_attributes"])) is not None]
            if tree.kind == "user" and self.options.user_enabled_emulation:
                allowed = self._enabled_places(connection)
                entries = [structs.replace(e, enabled=place_key(e.place) in allowed) for e in entries]
            return Found(entries=entries, truncated=code == _SIZE_LIMIT or len(rows) >= MOST)

        return self._connections.use(work)

    def _enabled_places(self, connection: Connection) -> set[str]:
        """The places of those who are enabled, where a group says so; a group that is not there enables nobody."""
        options = self.options
        place = options.user_enabled_emulation_dn or f"cn=enabled_users,{self._trees['user'].base}"
        member = options.group_member_attribute if options.user_enabled_emulation_use_group_config else "member"
        connection.search(place, "(objectClass=*)", BASE, attributes=[member], time_limit=options.seconds)
        rows = [row for row in connection.response or () if row["type"] == "searchResEntry"]
        return {place_key(text) for row in rows for text in texts(row["raw_attributes"], member)}

    def _rows(
        self, connection: Connection, tree: Tree, text: str, base: str, scope: str
    ) -> tuple[list[dict[str, Any]], int]:
        """(entries, result code), page by page where pages are wanted; no more than MOST."""
        rows: list[dict[str, Any]] = []
        cookie: bytes | None = None
        while True:
            connection.search(
                base, text, scope or _SCOPES[self.options.query_scope], _ALIASES[self.options.alias_dereferencing],
                tree.attributes, size_limit=MOST, time_limit=self.options.seconds,
                paged_size=self.options.page_size or None, paged_cookie=cookie,
            )  # fmt: skip
            rows += [row for row in connection.response or () if row["type"] == "searchResEntry"]
            control = connection.result.get("controls", {}).get("1.2.840.113556.1.4.319")
            cookie = control["value"]["cookie"] if control else None
            if not cookie or len(rows) >= MOST:
                return rows[:MOST], int(connection.result["result"])

    def _entry(self, tree: Tree, place: str, raw: Raw) -> Entry | None:
        """An entry as identity knows it; None, with a line in the log, where id or name is not to be told."""
        local_id, name = one_value(raw, tree.id, place), one_value(raw, tree.name, place)
        if local_id is None or name is None or len(local_id) > 255 or len(name) > 255:
            log.info("%s is left out: it has not one %s and one %s", place, tree.id, tree.name)
            return None
        key = place_key(place) if not self.options.group_members_are_ids else local_id
        return Entry(
            kind=tree.kind, local_id=local_id, name=name, place=place, key=key,
            enabled=self._enabled(raw, place) if tree.enabled else True,
            email=first_text(raw, tree.email), description=first_text(raw, tree.description),
            members=self._members(texts(raw, tree.member)) if tree.member else frozenset(),
        )  # fmt: skip

    def _members(self, values: Iterable[str]) -> frozenset[str]:
        return frozenset(v if self.options.group_members_are_ids else place_key(v) for v in values)

    def _enabled(self, raw: Raw, place: str) -> bool:
        """Whether a user may log in: a word, a number that is not 0, or a bit that is not set."""
        options = self.options
        given = one_value(raw, options.user_enabled_attribute, place)
        value = str(options.user_enabled_default) if given is None else given
        if options.user_enabled_mask:
            number = int(value) if value.lstrip("-").isdigit() else 0
            return number & options.user_enabled_mask != options.user_enabled_mask
        word = value.strip().lower() in ("true", "1", "yes", "on", "enabled")
        return word != options.user_enabled_invert


def texts(raw: Raw, attribute: str) -> list[str]:
    """The values of an attribute that are text."""
    found = []
    for value in raw.get(attribute, ()):
        try:
            found.append(filters.text_of(attribute, value))
        except ValueError:
            continue
    return [text for text in found if text and "\0" not in text]


def first_text(raw: Raw, attribute: str) -> str:
    """The first value, which is as good as any, or ""."""
    return next(iter(texts(raw, attribute)), "") if attribute else ""


def one_value(raw: Raw, attribute: str, place: str) -> str | None:
    """The value of an attribute that has one; among several the one by which the entry is called."""
    values = texts(raw, attribute)
    if len(values) <= 1:
        return values[0] if values else None
    called = next(iter(place_parts(place)), ("", ""))
    same = [v for v in values if called[0] == attribute.lower() and v.lower() == called[1]]
    return same[0] if same else None


def place_parts(place: str) -> list[tuple[str, str]]:
    """(attribute, value) of each part of a distinguished name, in lower case; empty where it is none."""
    try:
        return [(name.lower(), value.lower()) for name, value, _ in parse_dn(place, strip=True)]
    except LDAPInvalidDnError:
        return []


def place_key(place: str) -> str:
    """A distinguished name so spelled that equal ones are equal (RFC 4518 lets case and outer blanks differ)."""
    try:
        parts = parse_dn(place, strip=True)
    except LDAPInvalidDnError:
        return place.lower()
    return "".join(f"{name}={value}{separator}" for name, value, separator in parts).lower()
