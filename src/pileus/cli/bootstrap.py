"""pileus bootstrap: what a new cloud needs to be administered, without starting it and without a demo."""

import argparse
import sys
import time
from pathlib import Path

from pileus.cli.keys import record
from pileus.cli.up import passwords, write_accounts, write_private
from pileus.core.config import Config
from pileus.db.connect import Tx, connect
from pileus.identity import facade as identity
from pileus.roles import controller


def bootstrap(config: Config, arguments: list[str]) -> int:
    """Make state, schema, keys, user admin, roles, region and endpoints, where they are missing; safe to repeat."""
    parser = argparse.ArgumentParser("pileus bootstrap")
    parser.add_argument("--password-file", type=Path, metavar="FILE",
                        help="admin's password, also if there is another one already (/dev/stdin is a file, too);"
                             " without it a random one is made once")  # fmt: skip
    parser.add_argument("--region", default=config.region, help="region of the endpoints (default: the settings')")
    parser.add_argument("--public-url", default=config.url, metavar="URL",
                        help="where clients reach the APIs in this region (default: the settings')")  # fmt: skip
    given = parser.parse_args(arguments)
    secret = passwords(config)
    if given.password_file is not None:
        password = given.password_file.read_text().removesuffix("\n")
        if not password or "\n" in password:
            print(f"pileus bootstrap: {given.password_file}: expected one line, the password.", file=sys.stderr)
            return 1
        secret["admin"] = password
        write_private(config.folder / "passwords", "".join(f"{name} {word}\n" for name, word in secret.items()))
    controller.prepare(config, secret["admin"], config.service_uid)
    write_accounts(config)
    now = time.time()

    def work(tx: Tx) -> None:
        identity.bootstrap(
            tx, admin_password=secret["admin"], public_url=given.public_url, region=given.region, now=now,
            rules=config.identity,
        )  # fmt: skip
        if given.password_file is not None:
            identity.set_administrators_password(tx, secret["admin"], config.identity, now)

    db = connect(config.database_url)
    try:
        db.transact(work)
    except LookupError as why:
        print(f"pileus bootstrap: {why}.", file=sys.stderr)
        return 1
    record(config, db, "bootstrap", now)
    db.close()
    print(f"Ready: admin's password is in {config.folder}/passwords, the endpoints are at {given.public_url}.")
    return 0
