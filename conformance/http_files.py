"""Files over HTTP on loopback, for tests that let the cloud fetch an image."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SMALL_BYTES = 64 << 10


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: Any) -> None:
        """The run's own output is the table."""


class Files:
    """A small raw image and the guest's qcow2, served while the context lasts."""

    small, qcow2 = "small.img", "disk.qcow2"

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> "Files":
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / self.small).write_bytes(b"\0" * SMALL_BYTES)
        link = self.folder / self.qcow2
        link.unlink(missing_ok=True)
        link.symlink_to(Path(".cache/guest/disk.qcow2").resolve())
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(self.folder)))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])
