"""A whole fake cloud behind the real HTTP server, as a process of its own: `python served.py FOLDER LIMITS`.

LIMITS is JSON of pileus.http.server.Limits.  It prints the port that it chose; SIGTERM ends it.
"""

import sys
from pathlib import Path

import msgspec
import uvloop

from cloud import FakeCloud
from pileus.http.server import Limits, allow_many_files, listen, serve, server


def main(folder: str, limits: str) -> None:
    """Serve until a signal comes."""
    allow_many_files()
    cloud = FakeCloud(Path(folder))
    socket = listen("127.0.0.1", 0)
    print(socket.getsockname()[1], flush=True)
    uvloop.run(serve({server(cloud.api.app, limits=msgspec.json.decode(limits, type=Limits)): [socket]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
