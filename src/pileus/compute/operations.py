"""Every operation of compute: importing this registers them all."""

from pileus.compute import (
    aggregate,
    availability_zone,
    extensions,
    flavor,
    hypervisors,
    keypair,
    quota,
    server_group,
    services,
    usage,
    versions,
)
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
    "actions", "aggregate", "api", "attachments", "availability_zone", "changes", "consoles", "extensions", "flavor",
    "history", "hypervisors", "images", "interfaces", "keypair", "metadata", "migrations", "quota", "reports",
    "server_group", "services", "tags", "usage", "versions",
]  # fmt: skip
