"""Every operation of compute: importing this registers them all."""

from pileus.compute import (
    aggregate,
    audit_log,
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
from pileus.compute.forwarding import floating_ips, networks, security_groups, volumes
from pileus.compute.forwarding import images as forwarded_images
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
    "actions", "aggregate", "api", "attachments", "audit_log", "availability_zone", "changes", "consoles", "extensions",
    "external_events", "flavor", "flavor_access", "flavor_extra_specs", "floating_ips", "forwarded_images", "history",
    "hosts", "hypervisors", "images", "interfaces", "keypair", "limits", "metadata", "migrations", "networks", "quota",
    "quota_class", "reports", "security_groups", "server_group", "services", "tags", "usage", "versions", "volumes",
]  # fmt: skip
