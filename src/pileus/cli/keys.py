"""pileus rotate-keys, recover-admin, audit: what the operator does to identity on a controller itself."""

import argparse
import json
import sys
import time

from pileus.core.audit import Trail
from pileus.core.config import Config
from pileus.db.connect import Database, connect
from pileus.identity import facade as identity

DAY = 86_400.0


def rotate_keys(config: Config, arguments: list[str]) -> int:
    """Put new keys in use; what the old ones made stays good for as long as it would have been.

    The key that signs SAML is replaced in two steps, since others must learn of the new one first.
    """
    parser = argparse.ArgumentParser("pileus rotate-keys")
    parser.add_argument("ring", nargs="*", default=["tokens", "credentials", "audit"],
                        help="tokens, credentials, audit (all three unless named), or one step of saml")  # fmt: skip
    rings = parser.parse_args(arguments).ring
    if unknown := set(rings) - {"tokens", "credentials", "audit", "saml"}:
        parser.error(f"no such ring: {', '.join(sorted(unknown))}")
    db, folder, now = connect(config.database_url), config.folder / "keys", time.time()
    if "tokens" in rings:
        window = config.identity.allow_expired_window
        db.transact(lambda tx: identity.rotate_keys(tx, folder, now, window=window))
        print("tokens: signed with a new key from now on")
    if "credentials" in rings:
        count = db.transact(lambda tx: identity.rotate_credential_key(tx, folder, now))
        dropped = db.transact(lambda tx: identity.forget_keys(tx, folder, now))
        print(f"credentials: {count} secrets sealed again under a new key, {dropped} old keys dropped")
    if "audit" in rings:
        identity.rotate_audit_key(folder, now)
        print("audit: recorded under a new key from now on")
    if "saml" in rings:
        print(f"saml: {identity.rotate_signing_key(folder)}")
    db.close()
    return 0


def recover_admin(config: Config, arguments: list[str]) -> int:
    """Let user admin in again and print the new password."""
    argparse.ArgumentParser("pileus recover-admin").parse_args(arguments)
    db = connect(config.database_url)
    now = time.time()
    password = db.transact(
        lambda tx: identity.recover_administrator(
            tx, rules=config.identity, public_url=config.url, region=config.region, now=now
        )
    )
    record(config, db, "recover-admin", now)
    db.close()
    print(password)
    return 0


def record(config: Config, db: Database, command: str, now: float) -> None:
    """Leave a record of a command in the audit trail."""
    trail = identity.audit_trail(config.folder / "keys")
    db.transact(lambda tx: trail.write(tx, identity.command_event(command, now), now))


def audit(config: Config, arguments: list[str]) -> int:
    """Print the audit trail, or prove that nobody changed it."""
    parser = argparse.ArgumentParser("pileus audit")
    parser.add_argument("--verify", action="store_true", help="print what was changed, removed or added; 0 if nothing")
    parser.add_argument("--prune", type=float, metavar="DAYS",
                        help="print and remove the records that are older; the rest can still be verified")  # fmt: skip
    parser.add_argument("--last", type=int, default=50, help="how many records to print")
    given = parser.parse_args(arguments)
    db, trail = connect(config.database_url), identity.audit_trail(config.folder / "keys")
    if given.verify:
        db.transact(trail.seal)
        wrong = db.read(lambda tx: list(trail.wrong(tx)))
        print("\n".join(wrong), end="\n" if wrong else "")
        return int(bool(wrong))
    if given.prune is not None:
        return prune(config, db, trail, given.prune)
    rows = db.read(lambda tx: tx.all("select event from audit order by at desc, id limit ?", given.last))
    for row in reversed(rows):
        print(json.dumps(json.loads(row[0])))
    return 0


def prune(config: Config, db: Database, trail: Trail, days: float) -> int:
    """Print the records that are older than some days, one a line, and remove them; that this was done is recorded."""
    now = time.time()
    try:
        old = db.transact(lambda tx: trail.old(tx, now - days * DAY))
    except ValueError as why:
        print(f"pileus audit: {why}. Nothing was removed.", file=sys.stderr)
        return 1
    for one in old:
        told = {"position": one.position, "event": json.loads(one.event), "mac": one.mac, "link": one.link}
        print(json.dumps(told))
    sys.stdout.flush()  # they are printed before they are gone
    if old:
        db.transact(lambda tx: trail.prune(tx, old[-1]))
    record(config, db, "audit-prune", now)
    return 0
