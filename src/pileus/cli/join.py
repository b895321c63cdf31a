"""pileus join-token and join: a second machine becomes a node of the cloud."""

import argparse
import sys
import time

from pileus.cli.up import up
from pileus.core.config import Config
from pileus.db.connect import connect
from pileus.roles import authority, joining
from pileus.roles.join_tokens import create_token


def join_token(config: Config, arguments: list[str]) -> int:
    """Print the command that one machine may type, once and soon, to join."""
    parser = argparse.ArgumentParser("pileus join-token")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the token is good for (default: 30)")
    given = parser.parse_args(arguments)
    if not config.controller_address:
        said = 'set controller_address = "HOST:PORT", where other machines reach this one, and start Pileus again'
        print(f"pileus join-token: {said}", file=sys.stderr)
        return 1
    authority_file = authority.ensure_authority(config.folder / "keys", config.controller_address).authority
    mark, now = authority.fingerprint(authority_file.read_bytes()), time.time()
    db = connect(config.database_url)
    token = db.transact(lambda tx: create_token(tx, fingerprint=mark, seconds=given.minutes * 60, now=now))
    db.close()
    print(f"pileus join https://{config.controller_address} {token}")
    return 0


def join(config: Config, arguments: list[str]) -> int:
    """Join a cloud with a token of its `pileus join-token`, and start the agent."""
    parser = argparse.ArgumentParser("pileus join")
    parser.add_argument("url", help="https://HOST:PORT of a controller")
    parser.add_argument("token")
    given = parser.parse_args(arguments)
    problem = unfit(config)
    if problem:
        print(f"pileus join: {problem}", file=sys.stderr)
        return 1
    try:
        member = joining.join(config, given.url, given.token)
    except (joining.JoinRefused, OSError) as error:
        print(f"pileus join: {error}", file=sys.stderr)
        return 1
    print(f"Joined {member.url} as node {member.node_id}")
    return up(config, [])


def unfit(config: Config) -> str:
    """Why this machine cannot join as it is configured; "" when it can."""
    if (config.folder / "passwords").exists():
        return f"{config.state} holds a cloud of its own; choose another state folder, or `pileus purge` it"
    if joining.membership(config):
        return "this machine is a node already; `pileus purge` makes it forget"
    if not config.agent_address:
        return 'set agent_address = "HOST:PORT", where controllers reach this machine'
    return ""
