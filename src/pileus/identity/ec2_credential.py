"""EC2 credentials: an access key and a secret for signed requests, kept among the credentials of a user.

Source: Identity API reference, "OS-EC2".
"""

import json
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import Forbidden
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.schema import Schema
from pileus.identity.application_credential import check_unrestricted
from pileus.identity.credential import CHANGE, CREDENTIALS, READ, Credential, check_owner, ec2_id, marked
from pileus.identity.sealing import seal, unseal
from pileus.identity.service import IDENTITY, links_beside, of_user, seen
from pileus.identity.token import Payload

EC2 = Fields(
    "credential",
    "credentials",
    (
        Field("user_id", "r"),
        Field("tenant_id", "r", get="project_id"),
        Field("access", "r", get=lambda row, ctx: ec2_blob(ctx, row)["access"]),
        Field("secret", "r", get=lambda row, ctx: ec2_blob(ctx, row)["secret"]),
        Field("trust_id", "r", get=lambda row, ctx: ec2_blob(ctx, row).get("trust_id")),
        Field("links", "r", get=lambda row, ctx: {
            "self": f"{ctx.url}/v3/users/{row.user_id}/credentials/OS-EC2/{ec2_blob(ctx, row)['access']}"}),
    ),
)  # fmt: skip
EC2_CREATE: Schema = {
    "type": "object",
    "properties": {"tenant_id": {"type": "string", "minLength": 1, "maxLength": 64}},
    "required": ["tenant_id"],
}


def ec2_blob(ctx: Context, row: Credential) -> dict[str, Any]:
    """What an EC2 credential holds."""
    content: dict[str, Any] = json.loads(unseal(ctx.settings.keys_folder, row.sealed_blob))
    return {"secret": None, **content}


def load_ec2(ctx: Context, user_id: str, access: str) -> Credential:
    """An EC2 credential of the user in the path that the caller may see."""
    found = CREDENTIALS.get(ctx.tx, id=ec2_id(access), user_id=user_id, type="ec2")
    return seen(ctx, "identity:ec2_get_credential", "credential", access, found, {"user_id": user_id})


@IDENTITY.op(
    "GET", "/users/{user_id}/credentials/OS-EC2", rule="identity:ec2_list_credentials", allow=READ, load=of_user,
    gives=Many(EC2),
)  # fmt: skip
def list_ec2(ctx: Context, user_id: str) -> Page:
    """List a user's EC2 credentials."""
    found = CREDENTIALS.all(ctx.tx, user_id=user_id, type="ec2", order="credentials.id")
    return Page(found, links_beside(ctx, f"/users/{user_id}/credentials/OS-EC2"))


@IDENTITY.op(
    "GET", "/users/{user_id}/credentials/OS-EC2/{access}", rule="identity:ec2_get_credential", allow=READ,
    load=load_ec2, gives=EC2,
)  # fmt: skip
def get_ec2(credential: Credential) -> Credential:
    """Show an EC2 credential."""
    return credential


@IDENTITY.op(
    "POST", "/users/{user_id}/credentials/OS-EC2", rule="identity:ec2_create_credential", allow=CHANGE, load=of_user,
    takes=EC2_CREATE, gives=EC2, ok=201,
)  # fmt: skip
def create_ec2(ctx: Context, user_id: str, body: dict[str, Any]) -> Credential:
    """Create an EC2 credential on a project where the user has a role."""
    check_unrestricted(ctx, by_trust=True)
    check_owner(ctx, user_id, body["tenant_id"])
    token = ctx.caller.token
    trust_id = token.trust_id if isinstance(token, Payload) else ""
    if trust_id and (body["tenant_id"], user_id) != (ctx.caller.project_id, ctx.user_id):
        raise Forbidden("A trust makes credentials for its own project and user only.")
    access = new_hex()
    blob = marked(ctx, json.dumps({"access": access, "secret": new_hex(), "trust_id": trust_id or None}))
    credential = Credential(
        id=ec2_id(access), user_id=user_id, project_id=body["tenant_id"], type="ec2",
        sealed_blob=seal(ctx.settings.keys_folder, blob),
    )  # fmt: skip
    return CREDENTIALS.insert(ctx.tx, credential)


@IDENTITY.op(
    "DELETE", "/users/{user_id}/credentials/OS-EC2/{access}", rule="identity:ec2_delete_credential", allow=CHANGE,
    load=load_ec2, ok=204,
)  # fmt: skip
def delete_ec2(ctx: Context, credential: Credential) -> Reply:
    """Delete an EC2 credential."""
    check_unrestricted(ctx)
    CREDENTIALS.delete(ctx.tx, id=credential.id)
    return Reply()
