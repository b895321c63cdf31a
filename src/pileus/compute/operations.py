"""Every operation of compute: importing this registers them all."""

from pileus.compute import flavor, keypair, quota, server_group
from pileus.compute.server import (
    actions,
    api,
    attachments,
    changes,
    consoles,
    history,
    images,
    interfaces,
    metadata,
    migrations,
    reports,
    tags,
)

__all__ = [
    "actions", "api", "attachments", "changes", "consoles", "flavor", "history", "images", "interfaces", "keypair",
    "metadata", "migrations", "quota", "reports", "server_group", "tags",
]  # fmt: skip
