"""Valid bodies from the schemas of operations, and ways to put something else at any place of them."""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from objects import PROJECT, PUBLIC_KEY, ObjectsOfDemo

from direct import DEMO
from pileus.core.op import Operation
from pileus.core.schema import FORMATS

# Texts that some pattern or format of the APIs accepts.
TEXTS = (
    "k", "VCPU", "CUSTOM_X", "a1", "1", "9", "ab", "vda", "/dev/vdc", "/x", "unscoped", "1%", "0" * 32, "10.77.0.0/24",
    "10.9.0.77", "fd00::7", "fa:16:3e:00:00:77", "eA==", "5e0af6d5-4b14-4b6c-9d27-2b0b8e0c4a11", "2.5",
)  # fmt: skip
Path = tuple[str | int, ...]


class Sampler:
    """Valid values for a schema; `hints` gives the value of a property by its name, where that is valid there."""

    def __init__(self, hints: Mapping[str, Any], *, whole: bool, choice: int = 0):
        """`whole`: with everything that may be given, else what must be; `choice`: of alternatives."""
        self.hints, self.whole, self.choice = hints, whole, choice

    def value(self, schema: Mapping[str, Any], name: str = "") -> Any:
        """A value that fits, as far as this class understands schemas."""
        for key in ("oneOf", "anyOf"):
            if key in schema:
                options = [o for o in schema[key] if o.get("type") != "null"] or schema[key]
                chosen = {**{k: v for k, v in schema.items() if k != key}, **options[self.choice % len(options)]}
                return self.value(chosen, name)
        if "enum" in schema:
            return schema["enum"][self.choice % len(schema["enum"])]
        if name in self.hints and self.hints[name] is None and "null" in schema.get("type", ()):
            return None
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kinds = [kinds] if isinstance(kinds, str) else [k for k in kinds if k != "null"]
        kind = kinds[self.choice % len(kinds)]
        if kind == "object":
            return self._object(schema, name)
        if kind == "array":
            count = max(schema.get("minItems", 0), int(self.whole or name in self.hints))
            return [self.value(schema.get("items", {}), name) for _ in range(min(count, 2))]
        if kind in ("integer", "number"):
            hint = self.hints.get(name)
            return hint if isinstance(hint, int) else max(1, schema.get("minimum", 1))
        return True if kind == "boolean" else None if kind == "null" else self._text(schema, name)

    def _object(self, schema: Mapping[str, Any], name: str) -> dict[str, Any]:
        known = schema.get("properties", {})
        needed = set(schema.get("required", ()))
        if self.whole and schema.get("maxProperties") == 1:
            wanted = set(list(known)[self.choice % len(known) :][:1]) if known else set()
        else:
            wanted = set(known) if self.whole else needed
        found = {key: self.value(inner, key) for key, inner in known.items() if key in wanted}
        free = schema.get("additionalProperties")
        patterned = schema.get("patternProperties", {})
        if not found and (self.whole or schema.get("minProperties", 0)):
            if patterned:
                pattern, inner = next(iter(patterned.items()))
                found[self._text({"pattern": pattern}, name)] = self.value(inner)
            elif isinstance(free, Mapping):
                found[self._text(schema.get("propertyNames", {}), name)] = self.value(free)
            elif known and schema.get("minProperties", 0):
                key = list(known)[self.choice % len(known)]
                found[key] = self.value(known[key], key)
        return found

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        hint = self.hints.get(name)
        for text in (hint, *TEXTS) if isinstance(hint, str) else TEXTS:
            if fits(schema, text):
                return text
        return "x" * schema.get("minLength", 1)


def fits(schema: Mapping[str, Any], text: str) -> bool:
    """Whether a text satisfies length, pattern and format."""
    if not schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 1 << 30):
        return False
    if "pattern" in schema and re.search(schema["pattern"], text) is None:
        return False
    return "format" not in schema or FORMATS[schema["format"]](text)


def places(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every place in a body: its objects, lists and plain values, outermost first."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:1]):
            yield from places(inner, (*at, index))


def at(value: Any, place: Path) -> Any:
    """What stands at a place of a body."""
    for step in place:
        value = value[step]
    return value


def put(base: Any, whole: Any, place: Path, value: Any) -> Any:
    """A copy of `base` with a value at a place; where `base` does not reach so far, a copy of `whole`."""
    body = copy.deepcopy(base if isinstance(base, dict) and (len(place) == 1 or place[0] in base) else whole)
    here, there = body, whole
    for step in place[:-1]:
        if isinstance(here, dict) and isinstance(there, dict):
            here.setdefault(step, copy.deepcopy(there[step]))
        elif not (isinstance(here, list) and isinstance(there, list) and step == 0 and there):
            here = None
            break
        elif not here:
            here.append(copy.deepcopy(there[0]))
        here, there = here[step], there[step]
    if not isinstance(here, dict if isinstance(place[-1], str) else list):
        body = copy.deepcopy(whole)
        here = at(body, place[:-1])
    if isinstance(here, list):
        here[:1] = [value]
    else:
        here[place[-1]] = value
    return body


class Bodies:
    """Bodies that operations accept, wherever a schema alone cannot tell how: they name the objects of demo.

    Those of them are replaced for which `others` has one of another project, by collection.
    """

    def __init__(self, objects: ObjectsOfDemo, others: Mapping[str, str] | None = None):
        self.objects, self.others = objects, others or {}
        of = self.named
        project = self.others.get("v3", PROJECT)
        segments = {
            "network_id": "networks", "port_id": "ports", "uuid": "networks", "port": "ports", "net_id": "networks",
            "security_group_id": "security-groups", "remote_group_id": "security-groups", "snapshot_id": "snapshots",
            "imageRef": "images", "image_id": "images", "flavorRef": "flavors", "service_id": "services",
            "region_id": "regions", "group": "os-server-groups", "router_id": "routers", "server_uuid": "servers",
            "allocations": "resource_providers", "inventories": "resource_providers",
        }  # fmt: skip
        self.hints: dict[str, Any] = {name: of(segment) for name, segment in segments.items()}
        volume = of("volumes", "cinder")
        self.hints |= dict.fromkeys(("volume_id", "volumeId", "volume_uuid", "source_volid"), volume)
        self.hints |= dict.fromkeys(("project_id", "tenant_id", "tenantId", "tenant", "project"), project)
        self.hints |= {
            "floating_network_id": objects.external, "subnet_id": self.others.get("subnets") or objects.empty_subnet,
            "user_id": DEMO.user_id, "idp_id": of("identity_providers"), "protocol_id": of("protocols"),
            "key_name": of("os-keypairs"), "domain_id": "default", "size": 1, "new_size": 2, "networks": "auto",
            "ip_version": 4, "cidr": "10.77.0.0/24", "direction": "ingress", "volume_type": "fast", "new_type": "fast",
            "public_key": PUBLIC_KEY, "original_password": "correct horse", "backup_type": "daily",
            "resource_provider_generation": objects.provider_generation(), "availability_zone": "nova",
        }  # fmt: skip
        binaries = {"nova": "nova-compute", "cinder": "cinder-volume"}
        hosts = {name: of("os-hosts", name) for name in binaries}
        self.by_service = {name: {"binary": binaries[name], "host": hosts[name]} for name in binaries}
        self.by_service["neutron"] = {"protocol": "tcp"}
        self.by_service["placement"] = {"uuid": of("resource_providers"), "resource_class": "CUSTOM_BRUSH"}

    def named(self, segment: str, service: str | None = None) -> str:
        return self.others.get(segment) or self.objects.named(segment, service)

    def of(self, op: Operation) -> Iterator[tuple[Any, Any]]:
        """(what must be given, all that may be given), once for each of the alternatives that schemas leave."""
        version = min(op.last, op.service.maximum)
        schema = op.request_schema(max(s for s in op.shapes() if s <= version)) or {}
        hints = {**self.hints, **self.by_service.get(op.service.name, {})}
        if op.method == "POST":
            hints["consumer_generation"] = None  # a new consumer's
        known = self.known().get((op.method, op.action or "/".join(re.sub(r"\{\w+\}", "*", op.path).split("/")[3:])))
        for choice in range(3):
            least = Sampler(hints, whole=False, choice=choice).value(schema)
            most = Sampler(hints, whole=True, choice=choice).value(schema)
            yield (least if known is None else known), most

    def known(self) -> Mapping[tuple[str, str], Any]:
        """What must be given where the schema does not say it, by method and path or action."""
        of = self.named
        limit = {"service_id": of("services"), "resource_name": "hair", "resource_limit": 1, "project_id": PROJECT}
        user = {"id": DEMO.user_id, "password": "correct horse"}
        identity = {"methods": ["password"], "password": {"user": user}}
        server = {"name": "k", "flavorRef": "nano", "imageRef": of("images"), "networks": "none"}
        route = {"destination": "10.99.0.0/24", "nexthop": "10.9.0.9"}
        return {
            ("POST", "limits"): {"limits": [limit]},
            ("POST", "auth/tokens"): {"auth": {"identity": identity}},
            ("POST", "users/*/password"): {"user": {"original_password": "correct horse", "password": "another one"}},
            ("PUT", "images/*/members/*"): {"status": "accepted"},
            ("POST", "images/*/import"): {"method": {"name": "glance-direct"}},
            ("PUT", "routers/*/remove_router_interface"): {"subnet_id": self.objects.routed_subnet},
            ("PUT", "routers/*/add_extraroutes"): {"router": {"routes": [route]}},
            ("PUT", "attachments/*"): {"attachment": {"connector": {"host": "k"}}},
            ("POST", "os-reset_status"): {"os-reset_status": {"status": "error"}},
            ("POST", "volumes"): {"volume": {"size": 1}},
            ("POST", "servers"): {"server": server},
            ("POST", "resize"): {"resize": {"flavorRef": "micro"}},
            ("POST", "addSecurityGroup"): {"addSecurityGroup": {"name": "g"}},
            ("POST", "removeSecurityGroup"): {"removeSecurityGroup": {"name": "default"}},
        }
