"""The `pileus` command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pileus import __version__
from pileus.core.config import load_config

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("pileus.cli.up", "start the cloud on this machine and wait until it answers"),
    "down": ("pileus.cli.down", "stop everything and leave the host as it was; data stays"),
    "purge": ("pileus.cli.down", "down, and remove all data"),
    "bootstrap": ("pileus.cli.bootstrap", "make what a new cloud needs to be administered, without starting it"),
    "status": ("pileus.cli.status", "what runs, where it answers, what warns"),
    "doctor": ("pileus.cli.doctor", "what this machine lacks, and what to type"),
    "verify": ("pileus.cli.verify", "compare records with reality; prints nothing when all is well"),
    "why": ("pileus.cli.why", "tell the story of one resource: pileus why server ID"),
    "demo": ("pileus.cli.demo", "make networks, an image, flavors, a demo user, and a first server"),
    "ssh": ("pileus.cli.shell", "log in to a server by its name or floating address"),
    "shell": ("pileus.cli.shell", "run a command beside the public network (default: a shell)"),
    "join-token": ("pileus.cli.join", "on a controller: make a token by which one machine may join as a node"),
    "join": ("pileus.cli.join", "on that machine: join the cloud, pileus join URL TOKEN"),
    "policy": ("pileus.cli.policy", "list the rules of policy, or explain: policy explain USER OPERATION [TARGET]"),
    "mapping": ("pileus.cli.mapping", "what rules of federation make of an assertion: mapping RULES ASSERTION"),
    "audit": ("pileus.cli.keys", "print the audit trail, or prove with --verify that nobody changed it"),
    "rotate-keys": ("pileus.cli.keys", "put new keys of tokens, credentials and audit in use"),
    "recover-admin": ("pileus.cli.keys", "let user admin in again, with a new password"),
    "logs": ("pileus.cli.logs", "print the log, or the lines of one request"),
}


def parser() -> argparse.ArgumentParser:
    """The command line; each subcommand's module adds its own arguments when it is chosen."""
    top = argparse.ArgumentParser("pileus", description="A cloud that speaks OpenStack's APIs.")
    top.add_argument("--version", action="version", version=f"pileus {__version__}")
    top.add_argument("--config", type=Path, help="settings file (default: PILEUS_CONFIG or /etc/pileus/pileus.toml)")
    chosen = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, text) in COMMANDS.items():
        chosen.add_parser(name, help=text, add_help=False)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    import importlib

    given, rest = parser().parse_known_args(arguments)
    module = importlib.import_module(COMMANDS[given.command][0])
    run: Callable[..., int] = getattr(module, given.command.replace("-", "_"))
    try:
        return run(load_config(given.config), rest)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read us has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PermissionError as error:
        print(f"pileus {given.command}: {error}. Run it as root.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
