"""Tokens for requests that were signed with an EC2 credential, asked for by the service that received them.

Source: Identity API reference, "OS-EC2" (ec2tokens) and "s3tokens".  Only programs with the role service may ask:
whoever saw one signed URL could make a token of it otherwise (CVE-2025-65073).
"""

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Unauthorized
from pileus.core.op import Reply, collection
from pileus.core.schema import Schema
from pileus.identity.auth import token_reply
from pileus.identity.credential import CREDENTIALS, Credential, ec2_id
from pileus.identity.ec2_credential import ec2_blob
from pileus.identity.login import WRONG
from pileus.identity.request_signatures import BadSignature, check_request, check_text
from pileus.identity.service import ADMIN, IDENTITY
from pileus.identity.standing import Refused, Standing, standing
from pileus.identity.trust_use import is_limited, spend_use

log = logging.getLogger("pileus.identity")
_TEXT: Schema = {"type": "string", "maxLength": 4096}
_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_MAP: Schema = {"type": "object", "maxProperties": 128}


def _body(required: tuple[str, ...], **more: Schema) -> Schema:
    fields = {"access": _ID, "signature": _ID, **more}
    inner = {"type": "object", "properties": fields, "required": ["access", "signature", *required]}
    return {"type": "object", "properties": {"credentials": inner}, "required": ["credentials"]}


EC2_REQUEST = _body(
    ("verb", "path", "params"), host=_TEXT, verb=_ID, path=_TEXT, params=_MAP, headers=_MAP, body_hash=_TEXT
)
S3_TEXT = _body(("token",), token={"type": "string", "maxLength": 65_536})
ASK = f"{ADMIN} or rule:service_role"


def known(ctx: Context, access: str, check: Callable[[str], None]) -> tuple[Credential, dict[str, Any]]:
    """The credential whose secret passes the check; raises Unauthorized, whatever was wrong."""
    found = CREDENTIALS.get(ctx.tx, id=ec2_id(access), type="ec2")
    content = ec2_blob(ctx, found) if found else {"secret": "0" * 32}
    try:
        check(str(content["secret"]))
    except BadSignature as why:
        log.info("signature refused: %s", why)
        raise Unauthorized(WRONG) from None
    if found is None or content["secret"] is None:
        raise Unauthorized(WRONG)
    return found, content


def stands(ctx: Context, credential: Credential, content: Mapping[str, Any]) -> Standing:
    """Where the owner of a credential stands: on its project, cut to what it was made by."""
    assert credential.project_id is not None, "an ec2 credential has a project"
    trust_id, credential_id = content.get("trust_id") or "", content.get("app_cred_id") or ""
    try:
        return standing(
            ctx.tx, credential.user_id, "project", credential.project_id, trust_id=trust_id,
            credential_id=credential_id, key_id="" if trust_id or credential_id else credential.id, now=ctx.now,
        )  # fmt: skip
    except Refused as why:
        log.info("signed request refused: %s", why)
        raise Unauthorized(WRONG) from None


def exchange(ctx: Context, access: str, check: Callable[[str], None]) -> Reply:
    """A token for a signed request; one of a trust whose uses are counted takes one."""
    credential, content = known(ctx, access, check)
    trust_id = content.get("trust_id") or ""
    who = stands(ctx, credential, content)
    if trust_id and is_limited(ctx.tx, trust_id):
        assert who.trust is not None, "the standing is by this trust"
        spend_use(ctx, trust_id, who.trust.trustee_user_id)
    return token_reply(ctx, who, methods=("ec2credential",))


@IDENTITY.op("POST", "/ec2tokens", rule="identity:ec2_exchange", allow=ASK, load=collection, takes=EC2_REQUEST)
def exchange_ec2(ctx: Context, whole: dict[str, Any]) -> Reply:
    """Exchange the signature of an EC2 request for a token."""
    given = {"host": "", "headers": {}, "body_hash": "", **whole["credentials"]}
    return exchange(ctx, given["access"], lambda secret: check_request(given, secret, ctx.now))


@IDENTITY.op("POST", "/s3tokens", rule="identity:s3_exchange", allow=ASK, load=collection, takes=S3_TEXT)
def exchange_s3(ctx: Context, whole: dict[str, Any]) -> Reply:
    """Exchange the signature of an S3 request, and the text that was signed, for a token."""
    given = whole["credentials"]
    try:
        text = base64.urlsafe_b64decode(given["token"]).decode()
    except (binascii.Error, ValueError):
        raise BadRequest("token: it is the signed text in base64.") from None
    return exchange(ctx, given["access"], lambda secret: check_text(text, given["signature"], secret, ctx.now))
