"""Identity on a store that there is, behind the real HTTP server, as a controller of its own.

`python served_identity.py FOLDER`, a folder of IdentityCloud's.  It prints the port that it chose; SIGTERM ends it.
"""

import sys
from pathlib import Path

import uvloop
from test_identity_revocation import RULES

from identity_cloud import Settings
from pileus.core.policy import Enforcer
from pileus.db.connect import connect
from pileus.http.app import App
from pileus.http.server import listen, serve, server
from pileus.http.transactions import transactions
from pileus.identity import facade


def main(folder: str) -> None:
    """Serve until a signal comes."""
    settings = Settings(Path(folder), RULES)
    front = transactions(connect(f"sqlite://{folder}/pileus.db"))
    authenticate = facade.Authenticator(settings.keys_folder)
    app = App([facade.SERVICE], front, authenticate, Enforcer(), settings=settings)
    socket = listen("127.0.0.1", 0)
    print(socket.getsockname()[1], flush=True)
    uvloop.run(serve({server(app): [socket]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
