"""What is asked of a domain's directory before an operation reads our rows of its users and groups."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.fields import Fields
from pileus.core.op import Page
from pileus.core.paging import Listing, Query
from pileus.http.app import Call
from pileus.identity.directories import Door, door_of
from pileus.identity.drivers import Asked, Comparison, Directory, Entry, Kind
from pileus.identity.mirror import (
    GONE,
    DirectoryEntry,
    entry_of,
    groups_known,
    is_news,
    keep,
    keep_groups_of,
    keep_users_in,
    lose,
    members_kept,
    public_id,
    unique,
    users_known,
)
from pileus.identity.service import listed

_COMPARISONS: dict[str, Comparison] = {
    "": "equals", "iexact": "equals", "contains": "contains", "icontains": "contains", "startswith": "startswith",
    "istartswith": "startswith", "endswith": "endswith", "iendswith": "endswith",
}  # fmt: skip

KINDS: tuple[Kind, ...] = ("user", "group")
AT_ONCE = 200  # entries compared and written in one go


class Listed(Struct, frozen=True, kw_only=True):
    """What a directory said to a list: the ids of what it found."""

    ids: list[str]
    truncated: bool


async def keep_news(call: Call, door: Door, entries: Sequence[Entry]) -> None:
    """Write what we did not know; most often there is nothing, and never so much at once that others wait for it."""
    chosen = [e for kind in KINDS for e in unique(door.domain_id, (e for e in entries if e.kind == kind)).values()]
    for start in range(0, len(chosen), AT_ONCE):
        await keep_some(call, door.domain_id, chosen[start : start + AT_ONCE])
        await asyncio.sleep(0)


async def keep_some(call: Call, domain_id: str, entries: Sequence[Entry]) -> None:
    """Write these, unless they are as we know them."""
    if await call.read(lambda ctx: is_news(ctx.tx, domain_id, entries)):
        await call.write(lambda ctx: keep(ctx.tx, domain_id, entries, ctx.now))


def asked_of(query: Query) -> list[Asked]:
    """The filters of a list that the directory can apply; it may find more than fits, never less."""
    found = []
    for given in query.values:
        name, _, comparison = given.partition("__")
        value = query.one(given)
        if name == "name" and comparison in _COMPARISONS and value:
            found.append(Asked(field="name", comparison=_COMPARISONS[comparison], value=value))
    return found


async def search(call: Call, kind: Kind) -> Mapping[str, Any]:
    """`found`: what the directory of the domain that is listed has; None where it has none."""
    query = call.query
    domain_id = call.caller.domain_id or query.one("domain_id") or ""
    door: Door | None = await call.read(lambda ctx: door_of(ctx, domain_id))
    if door is None:
        return {"found": None}
    answer = await door.ask(lambda directory: directory.search(kind, asked_of(query)))
    await keep_news(call, door, answer.entries)
    return {"found": Listed(ids=list(unique(domain_id, answer.entries)), truncated=answer.truncated)}


async def search_users(call: Call) -> Mapping[str, Any]:
    """`found`, of users."""
    return await search(call, "user")


async def search_groups(call: Call) -> Mapping[str, Any]:
    """`found`, of groups."""
    return await search(call, "group")


def narrowed(ctx: Context, fields: Fields, listing: Listing[Any], query: Query, found: Listed | None) -> Page:
    """A page of a list without who is in no directory any more, and where one was asked, without whom it did not find.

    `truncated` stands beside the page where the directory had more than it gives.
    """
    table = listing.table.name
    listing.where(f"{table}.id not in ({GONE})")
    if found is not None:
        marks = ", ".join("?" * len(found.ids)) or "null"
        ours = f"{table}.id not in (select id from directory_entries)"
        listing.where(f"{table}.id in ({marks}) or {ours}", *found.ids)
    page = listed(ctx, fields, listing, query)
    if found is not None and found.truncated:
        page.beside["truncated"] = True
    return page


async def place_of(call: Call, kind: Kind, identifier: str) -> tuple[DirectoryEntry | None, Door | None]:
    """The entry that an id of the path stands for, and its directory; None of what is our own."""

    def look(ctx: Context) -> tuple[DirectoryEntry | None, Door | None]:
        mapped = entry_of(ctx.tx, kind, identifier)
        return mapped, door_of(ctx, mapped.domain_id) if mapped else None

    found: tuple[DirectoryEntry | None, Door | None] = await call.read(look)
    return found


async def read_one(call: Call, door: Door, mapped: DirectoryEntry) -> Entry | None:
    """An entry as it is now, kept; None when it left the directory."""
    found = await door.ask(lambda directory: directory.read(mapped.kind, [mapped.local_id]))
    if found:
        await keep_news(call, door, found[:1])
        return found[0]
    if not mapped.gone:
        await call.write(lambda ctx: lose(ctx.tx, [mapped]))
    return None


async def refresh_user(call: Call) -> Mapping[str, Any]:
    """Nothing for the handler: our row of the user in the path is as the directory has it."""
    await refresh(call, "user")
    return {}


async def refresh_group(call: Call) -> Mapping[str, Any]:
    """Nothing for the handler: our row of the group in the path is as the directory has it."""
    await refresh(call, "group")
    return {}


async def refresh(call: Call, kind: Kind) -> tuple[Door, Entry] | None:
    """Bring our row of the user or group in the path to what the directory has; None where it has none."""
    assert call.match is not None
    mapped, door = await place_of(call, kind, call.match.path[f"{kind}_id"])
    if mapped is None or door is None:
        return None
    entry = await read_one(call, door, mapped)
    return (door, entry) if entry else None


async def refresh_groups_of_user(call: Call) -> Mapping[str, Any]:
    """Nothing for the handler: the user in the path, and their groups, are as the directory has them."""
    found = await refresh(call, "user")
    if found:
        await keep_groups(call, *found)
    return {}


async def refresh_users_in_group(call: Call) -> Mapping[str, Any]:
    """Nothing for the handler: the group in the path, and its users, are as the directory has them."""
    found = await refresh(call, "group")
    if found:
        door, group = found
        await keep_news(call, door, await door.ask(lambda directory: directory.users_in(group)))
        group_id = public_id(door.domain_id, "group", group.local_id)
        if await call.read(lambda ctx: users_known(ctx.tx, group_id) != members_kept(ctx.tx, group, door.domain_id)):
            await call.write(lambda ctx: keep_users_in(ctx.tx, door.domain_id, group))
    return {}


async def keep_groups(call: Call, door: Door, user: Entry) -> None:
    """Read and keep the groups of a user."""
    groups = await door.ask(lambda directory: directory.groups_of(user))
    await keep_news(call, door, groups)
    user_id = public_id(door.domain_id, "user", user.local_id)

    def wanted(ctx: Context) -> set[str]:
        return {i for i in unique(door.domain_id, groups) if entry_of(ctx.tx, "group", i) is not None}

    if await call.read(lambda ctx: groups_known(ctx.tx, user_id) != wanted(ctx)):
        await call.write(lambda ctx: keep_groups_of(ctx.tx, user_id, wanted(ctx)))


async def log_in(call: Call, door: Door, given: Mapping[str, Any], local_id: str, password: str) -> str:
    """The id of the user whose password the directory accepts, "" of nobody; `local_id` where an id was given."""

    def prove(directory: Directory) -> Entry | None:
        if local_id:
            found: Sequence[Entry] = directory.read("user", [local_id])
        else:
            found = directory.search("user", [Asked(field="name", comparison="equals", value=given["name"])]).entries
        entry = next(iter(unique(door.domain_id, found).values()), None) if len(found) == 1 else None
        return entry if directory.accepts(entry, password) else None

    entry = await door.ask(prove)
    if entry is None:
        return ""
    await keep_news(call, door, [entry])
    await keep_groups(call, door, entry)
    return public_id(door.domain_id, "user", entry.local_id)
