"""Messages: where a user reads why something that was accepted did not come about.

Source: Block Storage API reference, "Messages" (3.3).
"""

from typing import Protocol

from msgspec import Struct

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Query
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.volume.listing import Lister
from pileus.volume.service import MEMBER, READER, links, missing, op, sees

KEPT = 30 * 86400.0  # seconds


class Message(Struct, frozen=True, kw_only=True):
    """One explanation."""

    id: str
    project_id: str
    request_id: str
    resource_type: str  # "VOLUME" | "VOLUME_SNAPSHOT"
    resource_id: str
    event_id: str
    level: str
    text: str
    created_at: float
    expires_at: float


MESSAGES = Table(Message, "volume_messages")
ACTIONS = {"create": "001", "delete": "013", "extend": "007", "revert": "018", "fill": "016", "upload": "003",
           "create snapshot": "010", "delete snapshot": "011"}  # fmt: skip
_links = links("messages")
MESSAGE = Fields(
    "message",
    "messages",
    (
        Field("id", "rs"),
        Field("event_id", "rqs"),
        Field("user_message", "r", get="text"),
        Field("message_level", "rqs", get="level"),
        Field("resource_type", "rqs"),
        Field("resource_uuid", "rqs", get="resource_id"),
        Field("request_id", "rqs"),
        Field("created_at", "rs", get=lambda m, _: iso_micro(m.created_at)),
        Field("guaranteed_until", "rs", get=lambda m, _: iso_micro(m.expires_at), column="expires_at"),
        Field("links", "r", get=lambda m, ctx: _links(m.id, ctx)),
    ),
)
LISTER = Lister(MESSAGE, MESSAGES, "messages", columns={"created_at": "created_at"})


class Faulty(Protocol):
    """A row whose step recorded a fault."""

    id: str
    project_id: str
    request_id: str
    fault: str | None


def tell(tx: Tx, thing: Faulty, resource_type: str, doing: str, now: float, why: str = "") -> None:
    """Explain to the owner of a resource why `doing` failed; what is too old goes."""
    tx.run("delete from volume_messages where expires_at < ?", now)
    message = Message(
        id=new_id(), project_id=thing.project_id, request_id=thing.request_id, resource_type=resource_type,
        resource_id=thing.id, event_id=f"VOLUME_{resource_type}_{ACTIONS.get(doing, '000')}_001", level="ERROR",
        text=f"{doing}: {why or thing.fault}", created_at=now, expires_at=now + KEPT,
    )  # fmt: skip
    MESSAGES.insert(tx, message)


def load_message(ctx: Context, message_id: str) -> Message:
    """A message of the caller's project; raises NotFound."""
    message = MESSAGES.get(ctx.tx, id=message_id)
    if message is None or not sees(ctx, message.project_id):
        raise missing("Message", message_id)
    return message


@op("GET", "/messages", rule="message:get_all", allow=READER, load=collection, gives=Many(MESSAGE), since="3.3")
def list_messages(ctx: Context, query: Query) -> Page:
    """List why things failed, newest first."""
    return LISTER.page(ctx, query)


@op("GET", "/messages/{message_id}", rule="message:get", allow=READER, load=load_message, gives=MESSAGE, since="3.3")
def get_message(message: Message) -> Message:
    """Show a message."""
    return message


@op("DELETE", "/messages/{message_id}", rule="message:delete", allow=MEMBER, load=load_message, ok=204, since="3.3")
def delete_message(ctx: Context, message: Message) -> Reply:
    """Delete a message that was read."""
    MESSAGES.delete(ctx.tx, id=message.id)
    return Reply()
