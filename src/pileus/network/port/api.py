"""Ports: create, list, show, update, delete.  Source: Networking API reference, "Ports"."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.events import record_request
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.db.connect import Conflict
from pileus.network.conventions import (
    body_of,
    changes_of,
    check_revision,
    created,
    enforce_attributes,
    listed,
    project_of,
    shown,
)
from pileus.network.network.rows import Network, load_network
from pileus.network.port import checks
from pileus.network.port.fields import PORT
from pileus.network.port.make import (
    add_port,
    bind,
    free_mac,
    mac_in_use,
    new_port,
    node_named,
    poke_if_placed,
    readdress,
    remove_port,
    replace_groups,
    unbind,
)
from pileus.network.port.rows import DHCP, FLOATING, GATEWAY, LEG, PORTS, Port, load_port, seen_ports
from pileus.network.quota import take
from pileus.network.security_group.rows import default_group
from pileus.network.service import (
    ADMIN,
    ADMIN_OR_MEMBER,
    MEMBER,
    NET_OWNER_MEMBER,
    NET_OWNER_READER,
    NETWORK,
    READER,
    SERVICE,
)

NET_OWNER = f"({ADMIN}) or ({SERVICE}) or ({NET_OWNER_MEMBER})"
SHARED = f"{NET_OWNER} or rule:shared"
ANYBODY = f"({ADMIN}) or ({SERVICE}) or ({MEMBER})"
BY_SERVICE = f"({ADMIN}) or ({SERVICE})"
OWNED_BY_L3 = (LEG, GATEWAY, FLOATING)

for name in ("create_port", "update_port"):
    NETWORK.rule(f"{name}:device_owner", f"not rule:network_device or {NET_OWNER}")
    NETWORK.rule(f"{name}:fixed_ips", SHARED)
    NETWORK.rule(f"{name}:fixed_ips:ip_address", NET_OWNER)
    NETWORK.rule(f"{name}:fixed_ips:subnet_id", SHARED)
    NETWORK.rule(f"{name}:port_security_enabled", NET_OWNER)
    NETWORK.rule(f"{name}:binding:host_id", BY_SERVICE)
    NETWORK.rule(f"{name}:binding:profile", BY_SERVICE)
    NETWORK.rule(f"{name}:binding:vnic_type", ANYBODY)
    NETWORK.rule(f"{name}:allowed_address_pairs", NET_OWNER)
NETWORK.rule("get_port", f"({ADMIN}) or ({SERVICE}) or ({NET_OWNER_READER}) or ({READER})")
NETWORK.rule("create_port:mac_address", NET_OWNER)
NETWORK.rule("update_port:mac_address", BY_SERVICE)
for name in ("vif_type", "vif_details", "host_id", "profile"):
    NETWORK.rule(f"get_port:binding:{name}", BY_SERVICE)

_COLUMNS = {"binding:vnic_type": "vnic_type", "binding:profile": "binding_profile"}
_STANDING = (
    "mac_address",
    "admin_state_up",
    "port_security_enabled",
    "allowed_address_pairs",
    "extra_dhcp_opts",
    "dns_name",
)  # fmt: skip; what of a port its node must know, besides addresses and groups
_PLAIN = ("name", "description", "admin_state_up", "device_id", "device_owner", "binding:vnic_type", "binding:profile")


def plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of attributes that are stored as they are given; null means empty."""
    empty: dict[str, Any] = {"binding:profile": {}}
    return {_COLUMNS.get(k, k): empty.get(k, "") if given[k] is None else given[k] for k in _PLAIN if k in given}


def target_of(network: Network, project_id: str, device_owner: str) -> dict[str, Any]:
    """What rules about a port of a network may look at."""
    return {"project_id": project_id, "tenant_id": project_id, "network_project_id": network.project_id,
            "shared": network.shared, "device_owner": device_owner}  # fmt: skip


def enforce(ctx: Context, action: str, given: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    """The rules of single attributes, down to what a fixed IP names."""
    enforce_attributes(ctx, action, PORT, given, target)
    for part in ("ip_address", "subnet_id"):
        if any(part in fixed for fixed in given.get("fixed_ips") or ()):
            ctx.enforce(f"{action}:fixed_ips:{part}", target)


def make_port(ctx: Context, network: Network, project_id: str, given: Mapping[str, Any]) -> Port:
    """Create a port of a network that the caller may use; the rules of single attributes were checked."""
    take(ctx.tx, project_id, port=1)
    owner = given.get("device_owner") or ""
    secured = given.get("port_security_enabled")
    if secured is None:
        secured = network.port_security_enabled and not owner.startswith("network:")
    mac = checks.canonical_mac(given["mac_address"]) if given.get("mac_address") else free_mac(ctx.tx, network.id)
    asked = given.get("security_groups")
    if asked is not None:
        group_ids = checks.groups(ctx, asked, project_id)
    else:
        group_ids = [default_group(ctx.tx, project_id, ctx.now).id] if secured else []
    port = new_port(
        network, ctx.now, project_id=project_id, mac_address=mac, port_security_enabled=secured,
        security_groups=group_ids, allowed_address_pairs=checks.address_pairs(given.get("allowed_address_pairs"), mac),
        extra_dhcp_opts=checks.dhcp_options(given.get("extra_dhcp_opts")),
        dns_name=checks.dns_name(given.get("dns_name")),
        tags=sorted(set(given.get("tags") or ())), **plain(given),
    )  # fmt: skip
    port = add_port(ctx.tx, port, given.get("fixed_ips"))
    checks.together(
        secured=secured, group_ids=group_ids, pairs=port.allowed_address_pairs, fixed=port.fixed_ips,
        asked=asked is not None,
    )  # fmt: skip
    return _bound(ctx, port, given["binding:host_id"]) if given.get("binding:host_id") else port


def _bound(ctx: Context, port: Port, host: str) -> Port:
    """Bind to the node of a name, or off all nodes; an unknown name is kept, as a binding that failed."""
    node = node_named(ctx.tx, host) if host else None
    if node is not None:
        return bind(ctx.tx, port, node, ctx.now)
    port = unbind(ctx.tx, port, ctx.now)
    if host:
        PORTS.update(ctx.tx, {"host": host}, id=port.id)
        port = structs.replace(port, host=host)
    return port


@NETWORK.op("POST", "/ports", rule="create_port", allow=ADMIN_OR_MEMBER + f" or {SERVICE}", load=collection,
            takes=body_of(PORT), ok=201, body_limit=4 << 20)  # fmt: skip
def create_ports(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a port, or many."""
    return created(ctx, PORT, body, lambda given: create_port(ctx, given))


def create_port(ctx: Context, given: dict[str, Any]) -> Port:
    """One port as a caller asks for it."""
    project_id = project_of(ctx, "create_port", given)
    network = load_network(ctx, given["network_id"])
    owner = given.get("device_owner") or ""
    enforce(ctx, "create_port", given, target_of(network, project_id, owner))
    _check_owner(owner)
    port = make_port(ctx, network, project_id, given)
    record_request(ctx, "port", port.id, "create", "success")
    return port


def _by_fixed_ip(listing: Listing[Port], values: Sequence[str]) -> None:
    """fixed_ips=ip_address=A, subnet_id=S or ip_address_substr=T; the same name twice means either, others both."""
    asked: dict[str, list[str]] = {}
    for part in ",".join(values).split(","):
        name, equals, one = part.partition("=")
        if not equals or name not in ("ip_address", "subnet_id", "ip_address_substr"):
            raise BadRequest(f"Invalid filter fixed_ips={part[:80]}: expected ip_address=… or subnet_id=…")
        asked.setdefault(name, []).append(_canonical(one) if name == "ip_address" else one)
    terms: list[str] = []
    params: list[str] = []
    for name, wanted in asked.items():
        if name == "ip_address_substr":
            terms.append("(" + " or ".join(["replace(a.ip, ?, '') <> a.ip"] * len(wanted)) + ")")
        else:
            terms.append(f"a.{'ip' if name == 'ip_address' else name} in ({', '.join('?' * len(wanted))})")
        params += wanted
    found = f"select 1 from addresses a where a.port_id = ports.id and {' and '.join(terms)}"
    listing.where(f"exists ({found})", *params)


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _by_group(listing: Listing[Port], values: Sequence[str]) -> None:
    wanted = [part for value in values for part in value.split(",")]
    marks = ", ".join("?" * len(wanted))
    listing.where(f"ports.id in (select port_id from port_groups where group_id in ({marks}))", *wanted)


def _by_mac(listing: Listing[Port], values: Sequence[str]) -> None:
    listing.equals("mac_address", [value.lower().replace("-", ":") for value in values])


@NETWORK.op("GET", "/ports", rule="get_port", load=collection)
def list_ports(ctx: Context, query: Query) -> dict[str, Any]:
    """List ports."""
    special = {"fixed_ips": _by_fixed_ip, "security_groups": _by_group, "mac_address": _by_mac}
    return listed(ctx, PORT, seen_ports(ctx), query, special)


def _visible(ctx: Context, port_id: str) -> Port:
    return load_port(ctx, port_id)


@NETWORK.op("GET", "/ports/{port_id}", rule="get_port", load=_visible)
def get_port(ctx: Context, port: Port, query: Query) -> dict[str, Any]:
    """Show a port."""
    return shown(ctx, PORT, port, query)


@NETWORK.op("PUT", "/ports/{port_id}", rule="update_port", allow=ANYBODY, load=_visible, takes=PORT, gives=PORT)
def update_port(ctx: Context, port: Port, body: dict[str, Any]) -> Port:
    """Update a port."""
    check_revision(ctx, port)
    network = load_network(ctx, port.network_id)
    enforce(
        ctx, "update_port", body, target_of(network, port.project_id, body.get("device_owner") or port.device_owner)
    )
    return apply(ctx, port, body)


def apply(ctx: Context, port: Port, body: Mapping[str, Any]) -> Port:
    """Change a port as a body says."""
    _check_device(port, body)
    before, changed = port, plain(body)
    if body.get("mac_address"):
        changed["mac_address"] = _new_mac(port, body["mac_address"])
    secured = body.get("port_security_enabled", port.port_security_enabled)
    changed["port_security_enabled"] = secured
    if "allowed_address_pairs" in body:
        own = changed.get("mac_address", port.mac_address)
        changed["allowed_address_pairs"] = checks.address_pairs(body["allowed_address_pairs"], own)
    if "extra_dhcp_opts" in body:
        changed["extra_dhcp_opts"] = checks.dhcp_options(body["extra_dhcp_opts"], port.extra_dhcp_opts)
    if "dns_name" in body:
        changed["dns_name"] = checks.dns_name(body["dns_name"])
    changed = changes_of(ctx, port, **changed)
    try:
        PORTS.update(ctx.tx, changed, id=port.id)
    except Conflict:
        raise mac_in_use(structs.replace(port, mac_address=changed["mac_address"])) from None
    port = structs.replace(port, **changed)
    if "fixed_ips" in body:
        port = readdress(ctx.tx, port, body["fixed_ips"] or (), ctx.now)
    if "security_groups" in body:
        port = replace_groups(ctx.tx, port, checks.groups(ctx, body["security_groups"] or (), port.project_id), ctx.now)
    checks.together(
        secured=secured, group_ids=port.security_groups, pairs=port.allowed_address_pairs, fixed=port.fixed_ips,
        asked="security_groups" in body,
    )  # fmt: skip
    if any(getattr(port, name) != getattr(before, name) for name in _STANDING):
        poke_if_placed(ctx.tx, port, ctx.now)
    return _bound(ctx, port, body["binding:host_id"] or "") if "binding:host_id" in body else port


def _check_device(port: Port, body: Mapping[str, Any]) -> None:
    """What routers and floating IPs hold is not to be taken from them by way of the port."""
    device_id, owner = body.get("device_id", port.device_id), body.get("device_owner", port.device_owner)
    if port.device_owner in OWNED_BY_L3 and (device_id, owner) != (port.device_id, port.device_owner):
        raise Conflicted(
            f"Port {port.id} is used by {port.device_owner} {port.device_id}: take it off there.", kind="PortInUse"
        )
    if port.device_owner != owner:
        _check_owner(owner)


def _check_owner(device_owner: str) -> None:
    """A port that says it is a router's or DHCP's would be plugged into one: only networking itself says so."""
    if device_owner in (*OWNED_BY_L3, DHCP):
        raise BadRequest(f"Invalid input for device_owner. Reason: {device_owner} is set by networking itself.")


def _new_mac(port: Port, given: str) -> str:
    mac = checks.canonical_mac(given)
    if mac != port.mac_address and port.node_id is not None:
        raise Conflicted(
            f"Unable to complete operation on port {port.id}, port is already bound, port type: bridge, old_mac "
            f"{port.mac_address}, new_mac {mac}.",
            kind="PortBound",
        )
    return mac


@NETWORK.op("DELETE", "/ports/{port_id}", rule="delete_port",
            allow=f"({ADMIN}) or ({SERVICE}) or ({NET_OWNER_MEMBER}) or ({MEMBER})", load=_visible, ok=204)  # fmt: skip
def delete_port(ctx: Context, port: Port) -> Reply:
    """Delete a port; those of routers and floating IPs go with their owner only."""
    check_revision(ctx, port)
    if port.device_owner in OWNED_BY_L3:
        raise Conflicted(
            f"Port {port.id} cannot be deleted directly via the port API: it is in use by {port.device_owner} "
            f"{port.device_id}.",
            kind="ServicePortInUse",
        )
    remove_port(ctx.tx, port, ctx.now)
    record_request(ctx, "port", port.id, "delete", "success")
    return Reply()
