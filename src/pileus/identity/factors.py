"""The ways to prove who one is, one function each; PROOFS names them as `methods` of a log-in does.

Source: Identity API reference, "Authentication and token management"; TOTP: RFC 6238.
"""

from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest
from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Unauthorized
from pileus.db.connect import Tx
from pileus.http.app import Call
from pileus.http.proxies import told
from pileus.identity.credential import CREDENTIALS, Credential
from pileus.identity.directories import Door, door_of
from pileus.identity.directory_reads import log_in
from pileus.identity.login import WRONG, Proven, find_credential, find_domain, find_user
from pileus.identity.mirror import entry_of
from pileus.identity.oauth1_signature import prove_access_token
from pileus.identity.password_rules import NOBODY, count_failure, greet, greet_is_due, locked
from pileus.identity.passwords import passwords, stored_hash
from pileus.identity.rows import DEFAULT_DOMAIN, USERS, ApplicationCredential, User
from pileus.identity.sealing import unseal
from pileus.identity.token import METHODS

NO_USER = User(id=NOBODY, name="", domain_id="")
EXPIRED = "The password is expired and needs to be changed for user: {}."


class Attempt(Struct, frozen=True, kw_only=True):
    """What a password is compared with: empty when there is no such user, or when they are locked out."""

    user_id: str = ""
    stored: str = ""
    expired: bool = False
    greet: bool = False


async def prove_password(call: Call, given: Mapping[str, Any], *, expired: bool = False) -> Proven:
    """Whose password this is; raises Unauthorized.  `expired`: one that has expired is good too."""
    if (place := await call.read(lambda ctx: in_directory(ctx, given))) is not None:
        return await prove_by_directory(call, place, given)
    rules = call.app.settings.config.identity

    def look(ctx: Context) -> Attempt:
        user = find_user(ctx.tx, given) or NO_USER  # of whom as much is asked, so that time tells nothing
        attempt = Attempt(
            user_id=user.id, stored=stored_hash(ctx.tx, user.id),
            expired=user.password_expires_at is not None and user.password_expires_at <= ctx.now,
            greet=greet_is_due(ctx.tx, user.id, rules, ctx.now),
        )  # fmt: skip
        return Attempt() if locked(ctx.tx, user, rules, ctx.now) else attempt

    found: Attempt = await call.read(look)
    if not await passwords(rules).verify(found.user_id, found.stored, given["password"]):
        await fail(call, found.user_id)
    if found.expired and not expired:
        raise Unauthorized(EXPIRED.format(found.user_id))
    if found.greet:
        await call.write(lambda ctx: greet(ctx.tx, found.user_id, ctx.now))
    return Proven(user_id=found.user_id, hashes={found.user_id: found.stored})


class Place(Struct, frozen=True, kw_only=True):
    """The directory that knows somebody's password, and under which id; "": it is asked for their name."""

    door: Door
    local_id: str


def in_directory(ctx: Context, given: Mapping[str, Any]) -> Place | None:
    """Where the password of a user is checked; None: here."""
    user = find_user(ctx.tx, given)
    mapped = entry_of(ctx.tx, "user", user.id) if user is not None else None
    if user is not None and mapped is None:
        return None
    domain = find_domain(ctx.tx, given["domain"]) if "id" not in given else None
    domain_id = domain.id if domain else mapped.domain_id if mapped else ""
    door = door_of(ctx, domain_id)
    return Place(door=door, local_id=mapped.local_id if mapped and "id" in given else "") if door else None


async def prove_by_directory(call: Call, place: Place, given: Mapping[str, Any]) -> Proven:
    """Whose password this is by the word of a directory, which also counts wrong ones; raises Unauthorized."""
    user_id = await log_in(call, place.door, given, place.local_id, given["password"])
    if not user_id:
        raise Unauthorized(WRONG)
    return Proven(user_id=user_id)


async def fail(call: Call, user_id: str) -> None:
    """Count a failure, whoever it was, and raise Unauthorized."""
    rules = call.app.settings.config.identity
    if rules.lockout_failures:
        await call.write(lambda ctx: count_failure(ctx.tx, user_id or NOBODY, rules, ctx.now))
    raise Unauthorized(WRONG)


async def prove_credential(call: Call, given: Mapping[str, Any]) -> Proven:
    """The application credential whose secret this is; raises Unauthorized.

    With an id the owner is the credential's own: a `user` beside it is ignored (CVE-2026-42998).
    """

    def look(ctx: Context) -> tuple[ApplicationCredential | None, str]:
        found = find_credential(ctx.tx, given)
        return found, stored_hash(ctx.tx, found.id) if found else ""

    found: tuple[ApplicationCredential | None, str] = await call.read(look)
    credential, stored = found
    hasher = passwords(call.app.settings.config.identity)
    right = await hasher.verify(credential.id if credential else "", stored, given["secret"])
    if credential is None or not right:
        raise Unauthorized(WRONG)
    return Proven(user_id=credential.user_id, credential=credential, hashes={credential.id: stored})


async def prove_totp(call: Call, given: Mapping[str, Any]) -> Proven:
    """Whose one-time password this is; each is good once, in its own half minute and the next."""
    rules = call.app.settings.config.identity

    def check(ctx: Context) -> tuple[str, bool]:
        user = find_user(ctx.tx, given["user"])
        if user is None or locked(ctx.tx, user, rules, ctx.now):
            return "", False
        keys = ctx.settings.keys_folder
        found = CREDENTIALS.all(ctx.tx, user_id=user.id, type="totp", order="credentials.id")
        return user.id, any(spend(ctx.tx, c, unseal(keys, c.sealed_blob), given["user"], ctx.now) for c in found)

    user_id, right = await call.write(check)
    if not right:
        await fail(call, user_id)
    return Proven(user_id=user_id)


def spend(tx: Tx, credential: Credential, seed: str, given: Mapping[str, Any], now: float) -> bool:
    """Whether a passcode is right for a seed and newer than the last one that was accepted (RFC 6238 §5.2)."""
    import pyotp

    try:
        code = pyotp.TOTP(seed)
        now_step = int(now) // code.interval
        passcode = given["passcode"].encode()
        right = (s for s in (now_step, now_step - 1) if compare_digest(code.at(s * code.interval).encode(), passcode))
        step = next(right, None)
    except ValueError:  # the seed is no base32
        return False
    if step is None:
        return False
    row = tx.one("select step from totp_steps where credential_id = ?", credential.id)
    if row is not None and int(row[0]) >= step:
        return False
    tx.run(
        "insert into totp_steps (credential_id, step) values (?, ?)"
        " on conflict (credential_id) do update set step = excluded.step",
        credential.id, step,
    )  # fmt: skip
    return True


async def prove_external(call: Call, _given: Mapping[str, Any]) -> Proven:
    """The user whom a proxy before us let in, where the operator named the header that says so."""
    name = told(call, call.app.settings.config.identity.trusted_user_header)
    found: User | None = await call.read(lambda ctx: USERS.get(ctx.tx, domain_id=DEFAULT_DOMAIN, name=name))
    if not name or found is None:
        raise Unauthorized(WRONG)
    return Proven(user_id=found.id)


async def prove_oauth1(call: Call, _given: Mapping[str, Any]) -> Proven:
    """The access token by which the request is signed; raises Unauthorized."""
    access_token = await call.write(lambda ctx: prove_access_token(ctx, "POST", "/auth/tokens"))
    return Proven(user_id=access_token.user_id, access_token=access_token)


Proof = Callable[[Call, Any], Awaitable[Proven]]
PROOFS: dict[str, Proof] = {
    "password": lambda call, given: prove_password(call, given["user"]),
    "application_credential": prove_credential,
    "totp": prove_totp,
    "external": prove_external,
    "oauth1": prove_oauth1,
}
_WITHOUT_DATA = ("external", "oauth1")  # what they prove stands in headers


async def prove(call: Call) -> Mapping[str, Any]:
    """`proven`: what the methods of a log-in prove; raises Unauthorized unless all are right and of one user."""
    identity = call.body["auth"]["identity"]
    found = Proven(methods=tuple(dict.fromkeys(identity["methods"])))
    for method in found.methods:
        if method not in PROOFS and method != "token":
            raise Unauthorized(f"Attempted to authenticate with an unsupported method: {method[:64]}.")
        if method not in identity and method not in _WITHOUT_DATA:
            raise Unauthorized(WRONG)
        if method in PROOFS:
            found = found.joined(await PROOFS[method](call, identity.get(method)))
    if found.credential is not None and found.access_token is not None:
        raise BadRequest("An application credential and an OAuth access token do not go together.")
    return {"proven": found}


assert PROOFS.keys() <= set(METHODS)
