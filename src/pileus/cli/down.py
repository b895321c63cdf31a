"""pileus down and purge: stop everything and leave the host as it was."""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from pileus.core.config import Config
from pileus.roles import joining
from pileus.roles.supervisor import end_orphans, lives, processes

STOP_SECONDS = 30.0


def stop_processes(config: Config) -> bool:
    """End the supervisor and its children, and what a supervisor that was killed left; whether all are gone."""
    run = config.folder / "run"
    found = processes(run)
    if found:
        with suppress(ProcessLookupError):
            os.kill(found["supervisor"], signal.SIGTERM)
            os.kill(found["supervisor"], signal.SIGCONT)
        ends = time.monotonic() + STOP_SECONDS
        while any(lives(pid) for pid in found.values()) and time.monotonic() < ends:
            time.sleep(0.05)
    if not run.exists():
        return True
    try:
        os.close(end_orphans(run))
    except BlockingIOError:
        return False
    return not any(lives(pid) for pid in found.values())


def down(config: Config, _arguments: list[str]) -> int:
    """Stop processes, guests and networks; data stays, and guests that ran will run again after `up`."""
    from pileus.roles import node

    if not is_ours(config):
        print("Pileus has nothing in", config.state)
        return 0
    if not stop_processes(config):
        print("pileus down: the processes did not end", file=sys.stderr)
        return 1
    node.tear_down(config)
    print("Pileus is down. Data is kept in", config.state)
    return 0


def is_ours(config: Config) -> bool:
    """Whether Pileus made the state folder."""
    return (config.folder / "passwords").exists() or joining.membership(config) is not None


def purge(config: Config, arguments: list[str]) -> int:
    """Down, and remove all data of this machine."""
    if config.folder.exists() and not is_ours(config):
        print(f"pileus purge: {config.state} does not look like Pileus' own folder; nothing removed", file=sys.stderr)
        return 1
    status = down(config, arguments)
    if status == 0 and config.folder.exists():
        for pool in config.pools.values():
            for name in ("volumes", "snapshots", "partial") if pool.path else ():
                shutil.rmtree(Path(pool.path) / name, ignore_errors=True)
        shutil.rmtree(config.folder)
        print("Removed", config.state)
        if config.database:
            print("Kept the database: drop it yourself when nobody else uses it")
    return status
