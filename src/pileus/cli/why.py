"""pileus why: the story of one resource, and what it waits for."""

import argparse

from pileus.core import clock
from pileus.core.config import Config
from pileus.core.events import story
from pileus.db.connect import Tx, connect


def why(config: Config, arguments: list[str]) -> int:
    """Print all events of a resource and the engine's view of it."""
    parser = argparse.ArgumentParser("pileus why")
    parser.add_argument("kind", help="server, port, network, router, volume, snapshot, attachment, image, …")
    parser.add_argument("id")
    given = parser.parse_args(arguments)
    db = connect(config.database_url)

    def tell(tx: Tx) -> int:
        events = story(tx, given.kind, given.id)
        for event in events:
            by = f" by {event.user_id}" if event.user_id else ""
            print(clock.iso(event.at), event.action, event.phase + by, event.message or "", event.request_id or "")
        work = tx.one("select due, why, attempts from work where kind = ? and id = ?", given.kind, given.id)
        if work is None:
            print("nothing is to be done for it" if events else f"no {given.kind} {given.id} is known")
            return int(not events)
        due, reason, attempts = work
        print("at rest" if due is None else f"to be looked at {clock.iso(due)}", f"waits: {reason}" if reason else "",
              f"({attempts} attempts)" if attempts else "")  # fmt: skip
        return 0

    return db.read(tell)
