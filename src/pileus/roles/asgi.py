"""Whole requests and whole answers of ASGI, for the small pages and doors beside the APIs."""

from collections.abc import Mapping

from pileus.http.app import Receive, Send


async def respond(
    send: Send, status: int, body: bytes, kind: str = "text/plain", headers: Mapping[str, str] | None = None
) -> None:
    """A whole answer at once."""
    head = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(k.encode(), v.encode()) for k, v in head.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def read_all(receive: Receive, limit: int) -> bytes:
    """The body; raises ValueError past the limit."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ValueError("cut")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise ValueError("too large")
        if not message.get("more_body"):
            return b"".join(parts)
