"""One cloud for all journeys of a module: they run in the order in which they are written."""

import os
import shutil
from collections.abc import Iterator

import pytest
from machine import Machine, guest_image


def missing() -> str:
    """Why real guests cannot run here."""
    if os.geteuid() != 0:
        return "needs root: namespaces, taps and bridges"
    absent = [p for p in ("qemu-system-x86_64", "bwrap", "dnsmasq", "nft") if shutil.which(p) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (packages.txt)"
    return "" if guest_image().exists() else "make guest builds the guest image"


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
