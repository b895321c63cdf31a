"""The API on a real socket, for tests that use a real client."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from identity_cloud import IdentityCloud
from pileus.http.app import App
from pileus.http.server import Limits, listen, server


@pytest.fixture
def identity_cloud() -> Iterator[Callable[[Path], IdentityCloud]]:
    """Call it with a folder: an identity service that lives until the test ends, longer than what serves it."""
    made: list[IdentityCloud] = []

    def make(folder: Path) -> IdentityCloud:
        folder.mkdir(exist_ok=True)
        made.append(IdentityCloud(folder))
        return made[-1]

    yield make
    for cloud in made:
        cloud.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Call it with an App (and Limits): it answers on a free port of loopback until the test ends; the URL."""
    running = []

    def start(app: App, limits: Limits | None = None) -> str:
        socket = listen("127.0.0.1", 0)
        front = server(app, limits=limits)
        front.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # uvicorn's, kept from taking the tests' signals
        thread = threading.Thread(target=lambda: asyncio.run(front.serve(sockets=[socket])), daemon=True)
        thread.start()
        running.append((front, thread))
        while not front.started:
            time.sleep(0.005)
        return f"http://127.0.0.1:{socket.getsockname()[1]}"

    yield start
    for front, thread in running:
        front.should_exit = True
        thread.join(10)
