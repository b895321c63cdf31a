"""Credentials of users (EC2 keys, TOTP secrets, …), sealed in the database.

Source: Identity API reference, "Credentials".
"""

import hashlib
import json
from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import Schema
from pileus.db.connect import Conflict
from pileus.identity.application_credential import check_unrestricted
from pileus.identity.certificate import note_certificate
from pileus.identity.rows import PROJECTS, USERS
from pileus.identity.sealing import seal, unseal
from pileus.identity.service import ADMIN, IDENTITY, SYSTEM_READER, listed, seen, self_link
from pileus.identity.standing import effective_roles
from pileus.identity.token import Payload
from pileus.identity.watched import Watched


class Credential(Struct, frozen=True, kw_only=True):
    """A secret of a user; `sealed_blob` is what it says, encrypted."""

    id: str
    user_id: str
    project_id: str | None = None
    type: str
    sealed_blob: str


CREDENTIALS = Watched(Credential, "credentials")
_ID: Schema = {"type": ["string", "null"], "maxLength": 64}
CREDENTIAL = Fields(
    "credential",
    "credentials",
    (
        Field("id", "rq"),
        Field("user_id", "Crqu", {"type": "string", "minLength": 1, "maxLength": 64}),
        Field("project_id", "crqu", _ID),
        Field("type", "Crqu", {"type": "string", "minLength": 1, "maxLength": 255}),
        Field("blob", "Cru", {"type": "string", "maxLength": 16_384},
              get=lambda row, ctx: unseal(ctx.settings.keys_folder, row.sealed_blob)),
        Field("links", "r", get=self_link("credentials")),
    ),
    extra=True,
)  # fmt: skip
READ = f"{ADMIN} or {SYSTEM_READER} or rule:owner"
CHANGE = f"{ADMIN} or rule:owner"


def load_credential(ctx: Context, credential_id: str) -> Credential:
    """A credential that the caller may see."""
    found = CREDENTIALS.get(ctx.tx, id=credential_id)
    return seen(ctx, "identity:get_credential", "credential", credential_id, found)


def ec2_id(access: str) -> str:
    """The id of the EC2 credential with this access key."""
    return hashlib.sha256(access.encode()).hexdigest()


def check_ec2(blob: str, project_id: str | None) -> str:
    """The id of an EC2 credential with this blob; raises BadRequest."""
    try:
        content = json.loads(blob)
        access = content["access"]
    except (ValueError, TypeError, KeyError):
        raise BadRequest("blob: an ec2 credential holds a JSON object with access and secret.") from None
    if not isinstance(access, str) or not access:
        raise BadRequest("blob: access must be a text.")
    if project_id is None:
        raise BadRequest("project_id: an ec2 credential belongs to a project.")
    return ec2_id(access)


def marked(ctx: Context, blob: str) -> str:
    """The blob of an EC2 credential, with the application credential by which it is made: it can do no more."""
    token = ctx.caller.token
    if not isinstance(token, Payload) or not token.application_credential_id:
        return blob
    return json.dumps({**json.loads(blob), "app_cred_id": token.application_credential_id})


def check_marks(blob: str, before: str | None) -> None:
    """Refuse a blob that names another trust or application credential than it did; nobody sets these by hand."""
    old, new = (json.loads(text) if text else {} for text in (before, blob))
    if any(new.get(mark) != old.get(mark) for mark in ("trust_id", "app_cred_id", "access_token_id")):
        raise Forbidden("blob: trust_id, app_cred_id and access_token_id cannot be set or changed.")


def check_owner(ctx: Context, user_id: str, project_id: str | None) -> None:
    """User and project exist, and the user has a role there unless an administrator says so (CVE-2026-43001)."""
    if USERS.get(ctx.tx, id=user_id) is None:
        raise BadRequest(f"user_id: there is no user {user_id}.")
    if project_id is None:
        return
    known = PROJECTS.get(ctx.tx, id=project_id) is not None
    if known and ctx.allows("admin_required"):
        return
    if not known or not effective_roles(ctx.tx, user_id, "project", project_id, ctx.now):
        raise Forbidden(f"project_id: the user has no role on the project {project_id}.")


@IDENTITY.op(
    "GET", "/credentials", rule="identity:list_credentials", allow=READ, load=collection, gives=Many(CREDENTIAL)
)
def list_credentials(ctx: Context, query: Query) -> Page:
    """List credentials: those of the caller, or all for who may read all."""
    listing = Listing(CREDENTIALS)
    if not ctx.allows("identity:list_credentials", {"user_id": ""}):
        listing.equals("user_id", [ctx.user_id])
    return listed(ctx, CREDENTIAL, listing, query)


@IDENTITY.op(
    "GET", "/credentials/{credential_id}", rule="identity:get_credential", allow=READ, load=load_credential,
    gives=CREDENTIAL,
)  # fmt: skip
def get_credential(credential: Credential) -> Credential:
    """Show a credential."""
    return credential


@IDENTITY.op(
    "POST", "/credentials", rule="identity:create_credential", allow=CHANGE, load=collection, takes=CREDENTIAL,
    gives=CREDENTIAL, ok=201,
)  # fmt: skip
def create_credential(ctx: Context, body: dict[str, Any]) -> Credential:
    """Create a credential."""
    check_unrestricted(ctx)
    ctx.enforce("identity:create_credential", {"user_id": body["user_id"]})
    check_owner(ctx, body["user_id"], body.get("project_id"))
    identifier = check_ec2(body["blob"], body.get("project_id")) if body["type"] == "ec2" else new_hex()
    blob = body["blob"]
    if body["type"] == "ec2":
        check_marks(blob, None)
        blob = marked(ctx, blob)
    credential = Credential(
        id=identifier, user_id=body["user_id"], project_id=body.get("project_id"), type=body["type"],
        sealed_blob=seal(ctx.settings.keys_folder, blob),
    )  # fmt: skip
    try:
        CREDENTIALS.insert(ctx.tx, credential)
    except Conflict:
        raise Conflicted("Conflict occurred attempting to store credential - Duplicate entry.") from None
    note_certificate(ctx.tx, credential.id, credential.type, blob)
    return credential


@IDENTITY.op(
    "PATCH", "/credentials/{credential_id}", rule="identity:update_credential", allow=CHANGE, load=load_credential,
    takes=CREDENTIAL, gives=CREDENTIAL,
)  # fmt: skip
def update_credential(ctx: Context, credential: Credential, body: dict[str, Any]) -> Credential:
    """Update a credential; only administrators give it another owner or project (OSSA-2020-004)."""
    check_unrestricted(ctx)
    moved = any(body.get(k, getattr(credential, k)) != getattr(credential, k) for k in ("user_id", "project_id"))
    if moved or body.get("type", credential.type) != credential.type:
        ctx.enforce("admin_required")
        check_owner(ctx, body.get("user_id", credential.user_id), body.get("project_id", credential.project_id))
    if "ec2" in (credential.type, body.get("type")):
        before = unseal(ctx.settings.keys_folder, credential.sealed_blob)
        blob = body.get("blob") or before
        renamed = check_ec2(blob, body.get("project_id", credential.project_id)) != credential.id
        if renamed and not ctx.allows("admin_required"):
            raise Forbidden("blob: only administrators change the access key of an ec2 credential.")
        check_marks(blob, before if credential.type == "ec2" else None)
    changes = {k: v for k, v in body.items() if k in ("user_id", "project_id", "type")}
    if "blob" in body:
        changes["sealed_blob"] = seal(ctx.settings.keys_folder, body["blob"])
    CREDENTIALS.update(ctx.tx, changes, id=credential.id)
    changed = structs.replace(credential, **changes)
    note_certificate(ctx.tx, changed.id, changed.type, unseal(ctx.settings.keys_folder, changed.sealed_blob))
    return changed


@IDENTITY.op(
    "DELETE", "/credentials/{credential_id}", rule="identity:delete_credential", allow=CHANGE, load=load_credential,
    ok=204,
)  # fmt: skip
def delete_credential(ctx: Context, credential: Credential) -> Reply:
    """Delete a credential."""
    check_unrestricted(ctx)
    CREDENTIALS.delete(ctx.tx, id=credential.id)
    return Reply()
