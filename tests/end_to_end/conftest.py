"""One cloud for all journeys of a module: they run in the order in which they are written."""

import os
from collections.abc import Iterator

import pytest
from machine import Machine, guest_image, missing


@pytest.fixture(scope="module")
def cloud() -> Iterator[Machine]:
    """A cloud with the demo in it: networks, image, flavors, users, a first server that answers over ssh."""
    if reason := missing():
        pytest.skip(reason)
    machine = Machine(f"pe{os.getpid()}")  # its own name: two runs on one machine do not meet
    try:
        machine.pileus("up")
        machine.pileus("demo", "--image", str(guest_image()))
        yield machine
    finally:
        machine.close()
