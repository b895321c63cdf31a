"""pileus shell and ssh: go where floating addresses are reachable."""

import argparse
import ipaddress
import os
import sys

from pileus.core.config import Config

SSH = ("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")


def enter(config: Config, command: list[str]) -> int:
    """Become a command inside the cloud's network namespace; the API answers there at the same address."""
    if os.geteuid() != 0:
        print("pileus shell: entering the network namespace needs root", file=sys.stderr)
        return 1
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(config.folder / "clouds.yaml")}
    environment.setdefault("OS_CLOUD", "pileus")
    return os.execvpe("ip", ["ip", "netns", "exec", config.namespace, *command], environment)  # noqa: S606 (no shell)


def shell(config: Config, arguments: list[str]) -> int:
    """Run a command (default: the login shell) beside the public network."""
    return enter(config, arguments or [os.environ.get("SHELL", "/bin/sh")])


def ssh(config: Config, arguments: list[str]) -> int:
    """Log in: pileus ssh [USER@]NAME-OR-ADDRESS [COMMAND …], with the demo's key if there is one."""
    from pileus.cli.client import ApiError, Client

    parser = argparse.ArgumentParser("pileus ssh")
    parser.add_argument("where", help="[user@] and a server's name or floating address")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    user, _, name = given.where.rpartition("@")
    try:
        address = str(ipaddress.ip_address(name))
    except ValueError:
        try:
            address = Client.of(config, "demo").floating_address(name)
        except ApiError as error:
            print(f"pileus ssh: {error}", file=sys.stderr)
            return 1
    key = config.folder / "first_key"
    identity = ["-i", str(key)] if key.exists() else []
    return enter(config, [*SSH, *identity, f"{user or 'cirros'}@{address}", *given.command])
