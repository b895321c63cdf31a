"""Every operation of compute: importing this registers them all."""

from pileus.compute import (
    aggregate,
    availability_zone,
    extensions,
    external_events,
    flavor,
    flavor_access,
    flavor_extra_specs,
    hosts,
    hypervisors,
    keypair,
    limits,
    quota,
    quota_class,
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
    "actions", "aggregate", "api", "attachments", "availability_zone", "changes", "consoles", "extensions",
    "external_events", "flavor", "flavor_access", "flavor_extra_specs", "history", "hosts", "hypervisors", "images",
    "interfaces", "keypair", "limits", "metadata", "migrations", "quota", "quota_class", "reports", "server_group",
    "services", "tags", "usage", "versions",
]  # fmt: skip
