"""The state of fake drivers, kept in a file: a fake node outlives its agent, as a real one does."""

import pickle
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SECONDS = 0.3


def kept(path: Path, kind: type[T]) -> T:
    """The machine of a fake driver as it was, or a new one; changes are written down as long as the process lives.

    A kill loses at most the last 0.3 seconds, which controllers make good as after a reboot.
    """
    machine = kind()
    with suppress(FileNotFoundError, EOFError, pickle.UnpicklingError):
        machine = pickle.loads(path.read_bytes())  # noqa: S301 (our own file, in a folder of root's)
    threading.Thread(target=_keep, args=(path, machine), name=path.name, daemon=True).start()
    return machine


def _keep(path: Path, machine: object) -> None:
    before = b""
    while True:
        with suppress(RuntimeError, OSError):  # a dict changed while it was read: the next look has it
            data = pickle.dumps(machine)
            if data != before:
                draft = path.with_suffix(".new")
                draft.write_bytes(data)
                draft.replace(path)
                before = data
        time.sleep(SECONDS)
