"""Every module that registers operations of this API; importing this one is importing them all."""

from pileus.volume import (
    default_types,
    discovery,
    message,
    pools,
    qos_spec,
    quota_sets,
    services,
    transfer,
    type_encryption,
    volume_types,
    zone,
)
from pileus.volume.attachment import api as attachments
from pileus.volume.snapshot import api as snapshots
from pileus.volume.volume import actions, attaching, metadata
from pileus.volume.volume import api as volumes

__all__ = [
    "actions", "attaching", "attachments", "default_types", "discovery", "message", "metadata", "pools", "qos_spec",
    "quota_sets", "services", "snapshots", "transfer", "type_encryption", "volume_types", "volumes", "zone",
]  # fmt: skip
