"""Metadata of volumes and snapshots: pairs, read and written whole or one by one.

Source: Block Storage API reference, "Volume metadata", "Snapshot metadata"; ETags since 3.15 (RFC 9110 §13.1.1).
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound, PreconditionFailed
from pileus.core.op import Loader, Reply
from pileus.volume.service import MEMBER, METADATA, ONE_ITEM, READER, envelope, op

Write = Callable[[Context, Any, dict[str, str]], None]


def etag(pairs: dict[str, str]) -> str:
    """A name for exactly these pairs."""
    digest = hashlib.sha256(msgspec.json.encode(sorted(pairs.items()))).hexdigest()
    return f'"{digest[:32]}"'


def _check(ctx: Context, pairs: dict[str, str]) -> None:
    """Refuse a write that was decided upon older pairs."""
    if ctx.version >= (3, 15) and ctx.if_match and ctx.if_match.strip() not in ("*", etag(pairs)):
        raise PreconditionFailed("The metadata has changed since it was read: read it again.")


def _key(pairs: dict[str, str], key: str) -> str:
    if key not in pairs:
        raise NotFound(f"Metadata item {key[:80]} was not found.")
    return pairs[key]


def _answer(ctx: Context, body: dict[str, Any], pairs: dict[str, str]) -> Reply:
    return Reply(body, headers={"etag": etag(pairs)} if ctx.version >= (3, 15) else {})


def register(path: str, word: str, load: Loader, write: Write, *, creates: str) -> None:
    """The six operations under `path`/metadata; `word` names the resource in rules, `creates` the rule of POST."""
    get, update, delete = (
        f"volume:get_{word}_metadata",
        f"volume:update_{word}_metadata",
        f"volume:delete_{word}_metadata",
    )
    whole, one = f"{path}/metadata", path + "/metadata/{key}"

    def loaded(ctx: Context, key: str, **ids: str) -> Any:
        return load(ctx, **ids)

    @op("GET", whole, rule=get, allow=READER, load=load)
    def list_pairs(ctx: Context, thing: Any) -> Reply:
        """Show all pairs."""
        return _answer(ctx, {"metadata": thing.metadata}, thing.metadata)

    @op("POST", whole, rule=creates, allow=MEMBER, load=load, takes=envelope("metadata", METADATA))
    def add(ctx: Context, thing: Any, body: dict[str, Any]) -> Reply:
        """Add pairs to those there are."""
        _check(ctx, thing.metadata)
        pairs = {**thing.metadata, **body["metadata"]}
        write(ctx, thing, pairs)
        return _answer(ctx, {"metadata": pairs}, pairs)

    @op("PUT", whole, rule=update, allow=MEMBER, load=load, takes=envelope("metadata", METADATA))
    def replace(ctx: Context, thing: Any, body: dict[str, Any]) -> Reply:
        """Replace all pairs."""
        _check(ctx, thing.metadata)
        write(ctx, thing, body["metadata"])
        return _answer(ctx, {"metadata": body["metadata"]}, body["metadata"])

    @op("GET", one, rule=get, allow=READER, load=loaded)
    def show(ctx: Context, thing: Any, key: str) -> Reply:
        """Show one pair."""
        return _answer(ctx, {"meta": {key: _key(thing.metadata, key)}}, thing.metadata)

    @op("PUT", one, rule=update, allow=MEMBER, load=loaded, takes=envelope("meta", ONE_ITEM))
    def put(ctx: Context, thing: Any, key: str, body: dict[str, Any]) -> Reply:
        """Set one pair."""
        if key not in body["meta"]:
            raise BadRequest("Request body and URI mismatch: the key of meta must be the key in the URL.")
        _check(ctx, thing.metadata)
        pairs = {**thing.metadata, **body["meta"]}
        write(ctx, thing, pairs)
        return _answer(ctx, {"meta": body["meta"]}, pairs)

    @op("DELETE", one, rule=delete, allow=MEMBER, load=loaded)
    def remove(ctx: Context, thing: Any, key: str) -> Reply:
        """Remove one pair."""
        _key(thing.metadata, key)
        write(ctx, thing, {k: v for k, v in thing.metadata.items() if k != key})
        return Reply()
