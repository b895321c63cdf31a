"""pileus policy: the rules in force, and why one of them lets somebody do something or not."""

import argparse
import time
from typing import Any

from pileus.core.config import Config
from pileus.core.context import Caller, Context, as_target
from pileus.core.errors import Problem
from pileus.core.op import Operation
from pileus.core.policy import Enforcer, PolicyError
from pileus.core.policy_files import PolicyFiles
from pileus.db.connect import Tx, connect


def policy(config: Config, arguments: list[str]) -> int:
    """List the rules, or explain a decision."""
    parser = argparse.ArgumentParser("pileus policy")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="all rules with their defaults and what they guard")
    listing.add_argument("part", nargs="?", default="", help="only rules with this in their name")
    explain = commands.add_parser("explain", help="why USER may or may not do OPERATION to TARGET")
    explain.add_argument("user", help="id, or name in the default domain")
    explain.add_argument("operation", help="the name of a rule: identity:list_users")
    explain.add_argument(
        "target", nargs="*", help="NAME=VALUE of its attributes, or the path of what is in the database"
    )
    scope = explain.add_mutually_exclusive_group()
    scope.add_argument("--project", default="")
    scope.add_argument("--domain", default="")
    scope.add_argument("--system", action="store_true")
    given = parser.parse_args(arguments)
    try:
        enforcer = enforcer_of(config)
    except PolicyError as error:
        print(f"the operator's rules cannot be used: {error}")
        return 2
    return show_rules(enforcer, given.part) if given.command == "list" else tell(config, enforcer, given)


def operations() -> list[Operation]:
    """All operations of all services."""
    from pileus.roles.controller import services

    return [operation for service in services() for operation in service.operations]


def enforcer_of(config: Config) -> Enforcer:
    """All rules, the operator's in force; raises PolicyError."""
    from pileus.roles.controller import services

    enforcer = Enforcer()
    for service in services():
        for name, text in service.rules.items():
            enforcer.declare(name, text, service.type)
    PolicyFiles(config.policy_folder, enforcer).load()
    return enforcer


def show_rules(enforcer: Enforcer, part: str) -> int:
    """Print each rule as policy.yaml would have it, its documentation above it."""
    guarded: dict[str, list[Operation]] = {}
    for operation in operations():
        guarded.setdefault(operation.rule, []).append(operation)
    for name in sorted(n for n in enforcer.defaults if part in n):
        for operation in guarded.get(name, []):
            first = operation.doc.partition("\n")[0]
            print(f"# {operation.method} {operation.path}{' ' + operation.action if operation.action else ''}: {first}")
        if enforcer.texts[name] != enforcer.defaults[name]:
            print(f"# default: {enforcer.defaults[name]!r}")
        print(f'"{name}": "{enforcer.texts[name]}"\n')
    return 0


def tell(config: Config, enforcer: Enforcer, given: argparse.Namespace) -> int:
    """Print the decision and its reasons; 0 for yes, 1 for no, 2 when the question has no answer."""
    from pileus.identity import facade as identity

    db = connect(config.database_url)

    def decide(tx: Tx) -> int:
        caller = identity.caller_as(
            tx, given.user, project=given.project, domain=given.domain, system=given.system
        )  # fmt: skip
        target = target_of(config, tx, caller, enforcer, given)
        passes, lines = enforcer.explain(given.operation, caller.creds(), target)
        scope = caller.project_name or caller.domain_id or ("the system" if caller.system else "no scope")
        print(f"{caller.user_name} on {scope}, roles {', '.join(caller.roles) or 'none'}: {'yes' if passes else 'no'}")
        print("\n".join(lines))
        return int(not passes)

    try:
        return db.read(decide)
    except (LookupError, Problem) as error:
        print(f"pileus policy explain: {error}")
        return 2
    finally:
        db.close()


def target_of(config: Config, tx: Tx, caller: Caller, enforcer: Enforcer, given: argparse.Namespace) -> dict[str, Any]:
    """What the rule looks at: the attributes given, or what stands at a path as the operation loads it."""
    paths = [text for text in given.target if text.startswith("/")]
    if not paths:
        pairs = (text.partition("=") for text in given.target)
        return {name: value for name, _, value in pairs}
    from pileus.http.routing import Router
    from pileus.roles.controller import Settings, open_blob, services

    wanted = {operation.method for operation in operations() if operation.rule == given.operation}
    for method in sorted(wanted):
        match = Router(services()).find(method, paths[0])
        for operation in match.operations:
            if operation.rule == given.operation:
                ctx = Context(
                    tx, caller, now=time.time(), enforcer=enforcer, settings=Settings(config, open_blob(config)),
                    version=operation.service.maximum,
                )  # fmt: skip
                return dict(as_target(operation.load(ctx, **match.path)))
    raise LookupError(f"{given.operation} does not guard {paths[0]}")
