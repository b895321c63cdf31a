"""pileus up: start, or find already started, the cloud of this machine."""

import argparse
import json
import os
import secrets
import socket
import sys
import time
from pathlib import Path

from pileus.core.config import Config, host_and_port
from pileus.roles import joining
from pileus.roles.supervisor import alive, lives, processes

START_SECONDS = 30.0


def passwords(config: Config) -> dict[str, str]:
    """The passwords of admin and demo, made once and kept where only root reads them."""
    path = config.folder / "passwords"
    if not path.exists():
        config.folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            for name in ("admin", "demo", "alt_demo"):
                file.write(f"{name} {secrets.token_urlsafe(15)}\n")
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def clouds_yaml(config: Config, secret: dict[str, str]) -> str:
    """The client configuration: our names and the names that DevStack writes."""
    auth = f"{config.url}/identity"

    def cloud(name: str, user: str, project: str, extra: str = "") -> str:
        scope = extra or f"      project_name: {project}\n      project_domain_id: default\n"
        return (
            f"  {name}:\n    auth:\n      auth_url: {auth}\n      username: {user}\n      password: {secret[user]}\n"
            f"{scope}      user_domain_id: default\n    region_name: {config.region}\n    identity_api_version: '3'\n"
            f"    volume_api_version: '3'\n"
        )

    return "clouds:\n" + "".join(
        (
            cloud("pileus", "demo", "demo"),
            cloud("pileus-admin", "admin", "admin"),
            cloud("pileus-system-admin", "admin", "", "      system_scope: all\n"),
            cloud("devstack", "demo", "demo"),
            cloud("devstack-admin", "admin", "admin"),
            cloud("devstack-admin-demo", "admin", "demo"),
            cloud("devstack-alt", "alt_demo", "alt_demo"),
            cloud("devstack-system-admin", "admin", "", "      system_scope: all\n"),
        )
    )


def openrc(config: Config, secret: dict[str, str]) -> str:
    """Environment variables for a shell, as admin."""
    values = {
        "OS_AUTH_URL": f"{config.url}/identity/v3", "OS_USERNAME": "admin", "OS_PASSWORD": secret["admin"],
        "OS_PROJECT_NAME": "admin", "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": config.region, "OS_IDENTITY_API_VERSION": "3",
    }  # fmt: skip
    return "".join(f"export {name}='{value}'\n" for name, value in values.items())


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, unless it says so already."""
    if path.exists() and path.read_text() == text:
        return
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def up(config: Config, arguments: list[str]) -> int:
    """Start the cloud, or the node that this machine joined as; returns when it answers."""
    parser = argparse.ArgumentParser("pileus up")
    parser.add_argument("--foreground", action="store_true", help="stay attached (for a service unit)")
    given = parser.parse_args(arguments)
    member = joining.membership(config)
    admin = "" if member else write_accounts(config)
    if alive(config.folder / "run"):
        print(f"Pileus is up already: {config.url if member is None else 'a node of ' + member.url}")
        return 0
    from pileus.roles import all as everything

    if given.foreground:
        everything.run(config, admin)
        return 0
    began = time.monotonic()
    pid = everything.start_in_background(config, admin)
    if not wait(config, pid):
        print(f"Pileus did not start: see {config.folder}/logs\n{last_words(config)}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    if member:
        print(f"This node answers at {config.agent_address} after {seconds:.1f} s")
        return 0
    print(f"Pileus answers at {config.url} after {seconds:.1f} s")
    print(f"  export OS_CLIENT_CONFIG_FILE={config.folder}/clouds.yaml OS_CLOUD=pileus")
    return 0


def write_accounts(config: Config) -> str:
    """Passwords and client configurations, made once; admin's password."""
    secret = passwords(config)
    write_private(config.folder / "clouds.yaml", clouds_yaml(config, secret))
    write_private(config.folder / "openrc", openrc(config, secret))
    return secret["admin"]


def wait(config: Config, pid: int) -> bool:
    """Whether it answers, as long as its supervisor lives and START_SECONDS are not over.

    What a killed supervisor left may answer for a moment more, which does not count.
    """
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if processes(config.folder / "run").get("supervisor") == pid and answers(config):
            return True
        if not lives(pid):
            return False
        time.sleep(0.02)
    return False


def answers(config: Config) -> bool:
    """Whether the API (of a node that joined: its agent) takes connections and, the API, says that it is well."""
    if joining.membership(config):
        try:
            socket.create_connection(host_and_port(config.agent_address), 1.0).close()
        except OSError:
            return False
        return True
    from pileus.roles.controller import is_ready

    return is_ready(config)


def last_words(config: Config) -> str:
    """The last error in the logs."""
    for name in ("pileus.log", "crash.log"):
        path = config.folder / "logs" / name
        lines = path.read_text(errors="replace").splitlines()[-1:] if path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
                line = entry.get("traceback", entry["message"]).splitlines()[-1]
            except (ValueError, KeyError, IndexError):
                pass
            return str(line)
    return ""
