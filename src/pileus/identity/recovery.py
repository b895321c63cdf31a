"""What the operator does to identity from the machine itself: new keys, a way back in, questions about policy."""

import secrets
import time
from pathlib import Path

from pileus.core.config import Identity
from pileus.core.context import Caller
from pileus.db.connect import Tx
from pileus.identity.bootstrap import bootstrap, restore_names
from pileus.identity.keys import read_keys, rotate, write_keys
from pileus.identity.login import find_domain, find_project
from pileus.identity.mirror import step_back
from pileus.identity.password_rules import FAILURES, greet, keep_password
from pileus.identity.passwords import passwords, stored_hash
from pileus.identity.rows import ASSIGNMENTS, DEFAULT_DOMAIN, PROJECTS, ROLES, USERS, Assignment
from pileus.identity.sealing import seal, unseal
from pileus.identity.standing import Refused, standing
from pileus.identity.token import Payload, ScopeKind
from pileus.identity.tokens import CREDENTIAL_RING, caller_of
from pileus.identity.watched import changed

# Where sealed secrets stand: table, its key, the column.
SEALED = (
    ("credentials", "id", "sealed_blob"),
    ("oauth_consumers", "id", "sealed_secret"),
    ("oauth_request_tokens", "id", "sealed_secret"),
    ("oauth_access_tokens", "id", "sealed_secret"),
    ("server_passwords", "id", "sealed_password"),  # compute's
    ("domain_options", "domain_id || '/' || group_name || '/' || option_name", "sealed_value"),
)
# MFA, locks and the like, which may be what keeps the administrator out.
_HINDRANCES = ("multi_factor_auth_enabled", "lock_password")
SETTLE_SECONDS = 3600.0  # how long a key that nothing is sealed under any more is kept, for requests under way


def rotate_credential_key(tx: Tx, keys_folder: Path, now: float) -> int:
    """Seal all secrets of the database under a new key; how many there are.  To be committed before `forget_keys`."""
    rotate(keys_folder / CREDENTIAL_RING, now=now, keep_seconds=float("inf"))
    count = 0
    for table, key, column in SEALED:
        for identifier, sealed in tx.all(f"select {key}, {column} from {table}"):
            fresh = seal(keys_folder, unseal(keys_folder, sealed))
            tx.run(f"update {table} set {column} = ? where {key} = ?", fresh, identifier)
            count += 1
    changed(tx)
    return count


def forget_keys(tx: Tx, keys_folder: Path, now: float) -> int:
    """Drop the credential keys that nothing is sealed under and that were replaced a while ago; how many."""
    path = keys_folder / CREDENTIAL_RING
    used = {
        str(row[0]).partition(":")[0] for table, _, column in SEALED for row in tx.all(f"select {column} from {table}")
    }
    keys = sorted(read_keys(path), key=lambda key: key.since)
    replaced = [*(later.since for later in keys[1:]), now]
    kept = [k for k, until in zip(keys, replaced, strict=True) if k.id in used or until > now - SETTLE_SECONDS]
    if len(kept) < len(keys):
        write_keys(path, kept)
    return len(keys) - len(kept)


def recover_administrator(tx: Tx, *, rules: Identity, public_url: str, region: str, now: float) -> str:
    """Let user admin in again, with all rights and a new password, which is returned; all their old tokens end.

    What bootstrap makes is made again where it is missing, and called admin again; nothing else changes.
    """
    password = secrets.token_urlsafe(18)
    step_back(tx, DEFAULT_DOMAIN, "admin")  # nobody becomes the administrator by being called so in a directory
    restore_names(tx)
    bootstrap(tx, admin_password=password, public_url=public_url, region=region, now=now, rules=rules)
    user = USERS.get(tx, name="admin", domain_id=DEFAULT_DOMAIN)
    project = PROJECTS.get(tx, name="admin", domain_id=DEFAULT_DOMAIN)
    role = ROLES.get(tx, name="admin", domain_id=None)
    assert user is not None and project is not None and role is not None, "bootstrap made them"
    options = {name: value for name, value in user.options.items() if name not in _HINDRANCES}
    keep_password(tx, user.id, options, passwords(rules).hash_now(password), rules, now, own=True)
    FAILURES.delete(tx, user_id=user.id)
    greet(tx, user.id, now)
    changes = {"enabled": True, "options": options, "password_expires_at": None, "generation": user.generation + 1}
    USERS.update(tx, changes, id=user.id)
    PROJECTS.update(tx, {"enabled": True}, id=[project.id, DEFAULT_DOMAIN])
    for target in (project.id, DEFAULT_DOMAIN, None):
        if not ASSIGNMENTS.count(tx, role_id=role.id, user_id=user.id, target_id=target, inherited=False):
            ASSIGNMENTS.insert(tx, Assignment(role_id=role.id, user_id=user.id, target_id=target))
    return password


def set_administrators_password(tx: Tx, password: str, rules: Identity, now: float) -> None:
    """Give user admin a password, which ends their tokens; one that they have already changes nothing.

    Raises LookupError where no user of domain Default is called so.
    """
    user = USERS.get(tx, name="admin", domain_id=DEFAULT_DOMAIN)
    if user is None:
        raise LookupError("there is no user admin in the domain Default; `pileus recover-admin` brings one back")
    if passwords(rules).verify_now(stored_hash(tx, user.id), password):
        return
    expires = keep_password(tx, user.id, user.options, passwords(rules).hash_now(password), rules, now, own=True)
    USERS.update(tx, {"password_expires_at": expires, "generation": user.generation + 1}, id=user.id)


def caller_as(tx: Tx, user: str, *, project: str = "", domain: str = "", system: bool = False) -> Caller:
    """A user, by id or name in the default domain, as a token on a scope would make them; raises LookupError."""
    now = time.time()
    found = USERS.get(tx, id=user) or USERS.get(tx, domain_id=DEFAULT_DOMAIN, name=user)
    if found is None:
        raise LookupError(f"there is no user {user}")
    scope: ScopeKind = "project" if project else "domain" if domain else "system" if system else "unscoped"
    target = None
    if project:
        target = find_project(tx, {"id": project}) or find_project(
            tx, {"name": project, "domain": {"id": DEFAULT_DOMAIN}}
        )
    elif domain:
        target = find_domain(tx, {"id": domain}) or find_domain(tx, {"name": domain})
    if (project or domain) and target is None:
        raise LookupError(f"there is no {scope} {project or domain}")
    try:
        who = standing(tx, found.id, scope, target.id if target else "", now=now)
    except Refused as why:
        raise LookupError(str(why)) from None
    payload = Payload(user_id=found.id, methods=(), scope=scope, issued_at=now, expires_at=now + 1, audit_id="")
    return caller_of(payload, who)
