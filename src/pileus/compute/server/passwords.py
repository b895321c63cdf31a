"""Administrator passwords on their way into a guest: its config drive has them, the metadata service never.

Source: Compute API user guide, "Metadata" (`admin_pass` of meta_data.json, on config drives alone).
"""

import secrets
import string
from typing import Literal

from msgspec import Struct

from pileus.compute.server.rows import Server
from pileus.core.context import Context
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.identity import facade as identity

Purpose = Literal["create", "rescue"]  # rebuilding is creating again


class Password(Struct, frozen=True, kw_only=True):
    """The password of a server with a config drive, sealed."""

    id: str  # SERVER-ID/PURPOSE
    server_id: str
    purpose: Purpose
    sealed_password: str


PASSWORDS = Table(Password, "server_passwords")


def new_password() -> str:
    """An administrator password as upstream makes them: 12 letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))


def keep_password(ctx: Context, server: Server, purpose: Purpose, password: str) -> None:
    """Have the config drive of a server tell this password from its next start on; without one nothing is kept."""
    if not server.config_drive:
        return
    forget_password(ctx.tx, server.id, purpose)
    sealed = identity.seal(ctx.settings.keys_folder, password)
    row = Password(id=f"{server.id}/{purpose}", server_id=server.id, purpose=purpose, sealed_password=sealed)
    PASSWORDS.insert(ctx.tx, row)


def forget_password(tx: Tx, server_id: str, purpose: Purpose) -> None:
    """The guest is not told any more."""
    PASSWORDS.delete(tx, server_id=server_id, purpose=purpose)


def sealed_password(tx: Tx, server: Server) -> str:
    """What the config drive shall tell now, sealed; "" for nothing."""
    found = {row.purpose: row.sealed_password for row in PASSWORDS.all(tx, server_id=server.id)}
    return (found.get("rescue", "") if server.rescue is not None else "") or found.get("create", "")
