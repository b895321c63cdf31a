"""What requests about servers may hold at each microversion.  Source: Compute API reference, "Servers (servers)"."""

from typing import Any

from pileus.core.fields import Field, Fields
from pileus.core.schema import LOOSE_BOOLEAN, METADATA, NAME, Schema

UUID: Schema = {"type": "string", "format": "uuid"}
REFERENCE: Schema = {"type": ["string", "integer"], "minLength": 1, "maxLength": 2048}
COUNT: Schema = {"type": ["integer", "string"], "pattern": "^[1-9][0-9]{0,5}$", "minimum": 1, "maximum": 999999}
DISK_CONFIG: Schema = {"enum": ["AUTO", "MANUAL"]}
PASSWORD: Schema = {"type": "string", "maxLength": 255}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"}
USER_DATA: Schema = {"type": "string", "format": "base64", "maxLength": 65535}
USER_DATA_OR_NULL: Schema = {"type": ["string", "null"], "format": "base64", "maxLength": 65535}
DESCRIPTION: Schema = {"type": ["string", "null"], "maxLength": 255, "pattern": r"^[^\u0000-\u0008\u000b-\u001f]*$"}
NAME_OR_NULL: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
HOSTNAME: Schema = {
    "type": "string", "minLength": 2, "maxLength": 63, "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$",
}  # fmt: skip
LONG_HOSTNAME: Schema = {
    "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$",
}  # fmt: skip
FQDN: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-]*$"}
IPV4: Schema = {"type": "string", "format": "ipv4"}
IPV6: Schema = {"type": "string", "format": "ipv6"}
CERTIFICATES: Schema = {
    "type": ["array", "null"], "minItems": 1, "maxItems": 50, "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}  # fmt: skip
PERSONALITY: Schema = {
    "type": "array",
    "maxItems": 5,
    "items": {
        "type": "object",
        "properties": {
            "path": {"type": "string", "maxLength": 255},
            "contents": {"type": "string", "format": "base64", "maxLength": 14000},
        },
        "required": ["path", "contents"],
        "additionalProperties": False,
    },
}
HINTS: Schema = {
    "type": "object",
    "properties": {
        "group": {"oneOf": [UUID, {"type": "array", "items": UUID, "minItems": 1, "maxItems": 1}]},
        "different_host": {"oneOf": [UUID, {"type": "array", "items": UUID}]},
        "same_host": {"oneOf": [UUID, {"type": "array", "items": UUID}]},
        "query": {"type": ["string", "object"]},
        "target_cell": NAME,
        "different_cell": {"type": ["string", "array"], "items": {"type": "string"}},
        "build_near_host_ip": {"type": "string", "format": "ip"},
        "cidr": {"type": "string", "pattern": "^/[0-9a-f.:]+$"},
    },
}
_SIZE: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]{1,9}$", "minimum": 1, "maximum": 0x7FFFFFFF}
_DEVICE: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._/-]*$"}
_LEGACY: dict[str, Any] = {
    "virtual_name": {"type": "string", "maxLength": 255},
    "volume_id": UUID,
    "snapshot_id": UUID,
    "volume_size": {"oneOf": [_SIZE, {"type": "null"}]},
    "device_name": _DEVICE,
    "delete_on_termination": LOOSE_BOOLEAN,
    "no_device": {},
    "connection_info": {"type": "string", "maxLength": 16777215},
}
_MAPPING: dict[str, Any] = {
    **_LEGACY,
    "source_type": {"enum": ["volume", "image", "snapshot", "blank"]},
    "uuid": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-]*$"},
    "image_id": UUID,
    "destination_type": {"enum": ["local", "volume"]},
    "guest_format": {"type": "string", "maxLength": 255},
    "device_type": {"type": "string", "maxLength": 255},
    "disk_bus": {"type": "string", "maxLength": 255},
    "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]{1,9}$", "maximum": 999999999},
}
_VOLUME_TYPE: Schema = {"type": ["string", "null"], "minLength": 0, "maxLength": 255}


def _mappings(**more: Any) -> Schema:
    item = {"type": "object", "properties": {**_MAPPING, **more}, "additionalProperties": False}
    return {"type": "array", "items": item, "maxItems": 128}


def _networks(network_id: Schema, **more: Any) -> Schema:
    port = {"type": ["string", "null"], "format": "uuid"}
    ip: Schema = {"type": "string", "format": "ip"}
    item = {
        "type": "object",
        "properties": {"fixed_ip": ip, "port": port, "uuid": network_id, **more},
        "additionalProperties": False,
    }
    return {"type": "array", "items": item, "maxItems": 128}


def _or_word(networks: Schema) -> Schema:
    return {"oneOf": [networks, {"enum": ["none", "auto"]}]}


_TEXT: Schema = {"type": "string"}
_MAPPINGS = "block_device_mapping_v2"
CREATE = Fields(
    "server",
    "servers",
    (
        Field("name", "C", NAME),
        Field("flavorRef", "C", REFERENCE),
        Field("imageRef", "c", {"oneOf": [UUID, {"type": "string", "maxLength": 0}]}),
        Field("adminPass", "c", PASSWORD),
        Field("metadata", "c", METADATA),
        Field("networks", "c", _networks(_TEXT), until="2.31"),
        Field("networks", "c", _networks(_TEXT, tag=TAG), since="2.32", until="2.36"),
        Field("networks", "C", _or_word(_networks(UUID)), since="2.37", until="2.41"),
        Field("networks", "C", _or_word(_networks(UUID, tag=TAG)), since="2.42"),
        Field("OS-DCF:diskConfig", "c", DISK_CONFIG),
        Field("accessIPv4", "c", IPV4),
        Field("accessIPv6", "c", IPV6),
        Field("personality", "c", PERSONALITY, until="2.56"),
        Field("availability_zone", "c", NAME),
        Field("block_device_mapping", "c", {
            "type": "array", "maxItems": 128,
            "items": {"type": "object", "properties": _LEGACY, "additionalProperties": False},
        }),
        Field(_MAPPINGS, "c", _mappings(), until="2.31"),
        Field(_MAPPINGS, "c", _mappings(tag=TAG), since="2.32", until="2.32"),
        Field(_MAPPINGS, "c", _mappings(), since="2.33", until="2.41"),
        Field(_MAPPINGS, "c", _mappings(tag=TAG), since="2.42", until="2.66"),
        Field(_MAPPINGS, "c", _mappings(tag=TAG, volume_type=_VOLUME_TYPE), since="2.67"),
        Field("config_drive", "c", LOOSE_BOOLEAN),
        Field("key_name", "c", NAME),
        Field("min_count", "c", COUNT),
        Field("max_count", "c", COUNT),
        Field("return_reservation_id", "c", LOOSE_BOOLEAN),
        Field("security_groups", "c", {
            "type": "array", "maxItems": 128,
            "items": {"type": "object", "properties": {"name": NAME}, "additionalProperties": False},
        }),
        Field("user_data", "c", USER_DATA),
        Field("description", "c", DESCRIPTION, since="2.19"),
        Field("tags", "c", {"type": "array", "items": TAG, "maxItems": 50}, since="2.52"),
        Field("trusted_image_certificates", "c", CERTIFICATES, since="2.63"),
        Field("host", "c", FQDN, since="2.74"),
        Field("hypervisor_hostname", "c", FQDN, since="2.74"),
        Field("hostname", "c", HOSTNAME, since="2.90", until="2.93"),
        Field("hostname", "c", LONG_HOSTNAME, since="2.94"),
    ),
)  # fmt: skip
UPDATE = Fields(
    "server",
    "servers",
    (
        Field("name", "u", NAME),
        Field("OS-DCF:diskConfig", "u", DISK_CONFIG),
        Field("accessIPv4", "u", {"oneOf": [IPV4, {"type": "string", "maxLength": 0}]}),
        Field("accessIPv6", "u", {"oneOf": [IPV6, {"type": "string", "maxLength": 0}]}),
        Field("description", "u", DESCRIPTION, since="2.19"),
        Field("hostname", "u", HOSTNAME, since="2.90", until="2.93"),
        Field("hostname", "u", LONG_HOSTNAME, since="2.94"),
        Field("pinned_availability_zone", "u", NAME_OR_NULL, since="2.104"),
    ),
)
# An action's body is read like a create: Fields turns "c" into its schema.
REBUILD = Fields(
    "rebuild",
    "",
    (
        Field("imageRef", "C", UUID),
        Field("name", "c", NAME),
        Field("adminPass", "c", PASSWORD),
        Field("metadata", "c", METADATA),
        Field("preserve_ephemeral", "c", LOOSE_BOOLEAN),
        Field("OS-DCF:diskConfig", "c", DISK_CONFIG),
        Field("accessIPv4", "c", IPV4),
        Field("accessIPv6", "c", IPV6),
        Field("personality", "c", PERSONALITY, until="2.56"),
        Field("description", "c", DESCRIPTION, since="2.19"),
        Field("key_name", "c", NAME_OR_NULL, since="2.54"),
        Field("user_data", "c", USER_DATA_OR_NULL, since="2.57"),
        Field("trusted_image_certificates", "c", CERTIFICATES, since="2.63"),
        Field("hostname", "c", HOSTNAME, since="2.90", until="2.93"),
        Field("hostname", "c", LONG_HOSTNAME, since="2.94"),
    ),
)
