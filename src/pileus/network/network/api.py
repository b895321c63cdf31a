"""Networks: create, list, show, update, delete.  Source: Networking API reference, "Networks"."""

import secrets
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, ServiceUnavailable
from pileus.core.events import record_request
from pileus.core.ids import new_id
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.reconcile import forget, poke
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
from pileus.network.floating_ip.rows import FLOATING_IPS
from pileus.network.network.fields import NETWORK as FIELDS
from pileus.network.network.rows import NETWORKS, Network, load_network, seen_networks
from pileus.network.port.make import remove_port
from pileus.network.port.rows import DHCP, PORTS
from pileus.network.quota import take
from pileus.network.service import ADMIN, ADMIN_OR_MEMBER, NETWORK, READER, SERVICE
from pileus.network.subnet.rows import SUBNETS

MOST_VNI = (1 << 24) - 1  # RFC 7348 §5
MOST_MTU = {"vxlan": 1450, "flat": 1500}  # bytes; a tunnel over IPv4 costs 50
LEAST_MTU = 68  # bytes, RFC 791
_TRIES = 50

NETWORK.rule("get_network", f"({ADMIN}) or ({SERVICE}) or ({READER}) or rule:shared or rule:external")
for action in ("create", "update"):
    for attribute in (
        "shared", "router:external", "is_default", "provider:network_type", "provider:physical_network",
        "provider:segmentation_id",
    ):  # fmt: skip
        NETWORK.rule(f"{action}_network:{attribute}", ADMIN)
    NETWORK.rule(f"{action}_network:port_security_enabled", ADMIN_OR_MEMBER)
for attribute in ("network_type", "physical_network", "segmentation_id"):
    NETWORK.rule(f"get_network:provider:{attribute}", ADMIN)


@NETWORK.op("POST", "/networks", rule="create_network", allow=ADMIN_OR_MEMBER, load=collection, takes=body_of(FIELDS),
            ok=201, body_limit=4 << 20)  # fmt: skip
def create_networks(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a network, or many."""
    return created(ctx, FIELDS, body, lambda given: create_network(ctx, given))


def create_network(ctx: Context, given: dict[str, Any]) -> Network:
    """One network as a caller asks for it."""
    project_id = project_of(ctx, "create_network", given)
    enforce_attributes(ctx, "create_network", FIELDS, given, {"project_id": project_id})
    take(ctx.tx, project_id, network=1)
    kind, physical, number = _provider(given)
    if given.get("is_default") and not given.get("router:external"):
        raise BadRequest("Invalid input for is_default. Reason: only an external network can be the default one.")
    network = Network(
        id=new_id(), project_id=project_id, name=given.get("name", ""), description=given.get("description") or "",
        admin_state_up=given.get("admin_state_up", True), shared=given.get("shared", False),
        external=given.get("router:external", False), is_default=given.get("is_default", False),
        mtu=_mtu(kind, given.get("mtu")), port_security_enabled=given.get("port_security_enabled", True),
        network_type=kind, physical_network=physical, segmentation_id=number,
        dns_domain=given.get("dns_domain") or "", availability_zone_hints=given.get("availability_zone_hints", []),
        created_at=ctx.now, updated_at=ctx.now,
    )  # fmt: skip
    network = _insert(ctx, network)
    record_request(ctx, "network", network.id, "create", "success")
    return network


def _provider(given: Mapping[str, Any]) -> tuple[str, str | None, int | None]:
    """What carries the network: (type, physical network, number), from the provider attributes."""
    kind = given.get("provider:network_type") or "vxlan"
    physical, number = given.get("provider:physical_network"), given.get("provider:segmentation_id")
    if kind not in MOST_MTU:
        raise BadRequest(
            f"Invalid input for operation: network_type value '{kind}' not supported; flat and vxlan are.",
            kind="InvalidInput",
        )
    if kind == "flat" and (not physical or number is not None):
        raise BadRequest(
            "Invalid input for operation: a flat network needs provider:physical_network and has no"
            " provider:segmentation_id.",
            kind="InvalidInput",
        )
    if kind == "vxlan" and physical:
        raise BadRequest(
            "Invalid input for operation: provider:physical_network specified for vxlan network.", kind="InvalidInput"
        )
    if number is not None and not 1 <= number <= MOST_VNI:
        raise BadRequest(
            f"Invalid input for operation: provider:segmentation_id must be 1 to {MOST_VNI}.", kind="InvalidInput"
        )
    return kind, physical, number


def _mtu(kind: str, given: int | None) -> int:
    most = MOST_MTU[kind]
    if given is not None and given != 0 and not LEAST_MTU <= given <= most:
        raise BadRequest(
            f"Invalid input for operation: Requested MTU is too big, maximum is {most}; minimum is {LEAST_MTU}.",
            kind="InvalidInput",
        )
    return given or most


def _insert(ctx: Context, network: Network) -> Network:
    """Store a network; a VXLAN without a number of its own gets a random one that no other has."""
    if network.network_type == "flat" or network.segmentation_id is not None:
        try:
            return NETWORKS.insert(ctx.tx, network)
        except Conflict:
            flat = network.network_type == "flat"
            what = f"physical network {network.physical_network}" if flat else f"tunnel ID {network.segmentation_id}"
            raise Conflicted(
                f"Unable to create the network. The {what} is in use.",
                kind="FlatNetworkInUse" if flat else "TunnelIdInUse",
            ) from None
    for _ in range(_TRIES):
        number = 1 + secrets.randbelow(MOST_VNI)
        if NETWORKS.get(ctx.tx, segmentation_id=number) is None:
            return NETWORKS.insert(ctx.tx, structs.replace(network, segmentation_id=number))
    raise ServiceUnavailable(
        "Unable to create the network. No tenant network is available for allocation.", kind="NoNetworkAvailable"
    )


def _by_status(listing: Listing[Network], values: list[str]) -> None:
    if "ACTIVE" not in [value.upper() for value in values]:
        listing.where("1 = 0")


@NETWORK.op("GET", "/networks", rule="get_network", load=collection)
def list_networks(ctx: Context, query: Query) -> dict[str, Any]:
    """List networks."""
    return listed(ctx, FIELDS, seen_networks(ctx), query, {"status": _by_status})


@NETWORK.op("GET", "/networks/{network_id}", rule="get_network", load=load_network)
def get_network(ctx: Context, network: Network, query: Query) -> dict[str, Any]:
    """Show a network."""
    return shown(ctx, FIELDS, network, query)


_COLUMNS = {"router:external": "external"}


@NETWORK.op("PUT", "/networks/{network_id}", rule="update_network", allow=ADMIN_OR_MEMBER, load=load_network,
            takes=FIELDS, gives=FIELDS)  # fmt: skip
def update_network(ctx: Context, network: Network, body: dict[str, Any]) -> Network:
    """Update a network."""
    check_revision(ctx, network)
    enforce_attributes(ctx, "update_network", FIELDS, body, network)
    given: dict[str, Any] = {_COLUMNS.get(k, k): "" if v is None else v for k, v in body.items()}
    if "mtu" in given:
        given["mtu"] = _mtu(network.network_type, given["mtu"])
    changed = changes_of(ctx, network, **given)
    after = structs.replace(network, **changed)
    _check_sharing(ctx, network, after)
    NETWORKS.update(ctx.tx, changed, id=network.id)
    if after.shared != network.shared:
        SUBNETS.update(ctx.tx, {"shared": after.shared}, network_id=network.id)
    if (after.mtu, after.admin_state_up, after.dns_domain) != (network.mtu, network.admin_state_up, network.dns_domain):
        _poke_all(ctx, network)
    return after


def _check_sharing(ctx: Context, before: Network, after: Network) -> None:
    """What others use is not taken from them: shared networks and external ones."""
    used = "select 1 from ports where network_id = ? and deleting = 0 and"
    if before.shared and not after.shared:
        others = ctx.tx.one(f"{used} project_id not in (?, '')", before.id, before.project_id)
        if others:
            raise Conflicted(
                f"Unable to reconfigure sharing settings for network {before.id}. Multiple tenants are using it.",
                kind="InvalidSharedSetting",
            )
    if before.external and not after.external:
        if ctx.tx.one(f"{used} device_owner in ('network:router_gateway', 'network:floatingip')", before.id):
            raise Conflicted(
                f"External network {before.id} cannot be updated to be made non-external, since it has existing"
                " gateway ports.",
                kind="ExternalNetworkInUse",
            )


def _poke_all(ctx: Context, network: Network) -> None:
    """The segment, the ports and the routers of a network look again."""
    poke(ctx.tx, "network", network.id, ctx.now)
    for port in PORTS.all(ctx.tx, network_id=network.id):
        if port.device_owner in ("network:router_interface", "network:router_gateway"):
            poke(ctx.tx, "router", port.device_id, ctx.now)
        elif port.node_id is not None:
            poke(ctx.tx, "port", port.id, ctx.now)


@NETWORK.op("DELETE", "/networks/{network_id}", rule="delete_network", allow=ADMIN_OR_MEMBER, load=load_network, ok=204)
def delete_network(ctx: Context, network: Network) -> Reply:
    """Delete a network, its subnets and floating IPs that lead nowhere; nodes forget it before its row goes.

    Refused while a port is left on it.
    """
    check_revision(ctx, network)
    in_use = ctx.tx.one(
        "select 1 from ports where network_id = ? and deleting = 0 and device_owner <> ? and not exists (select 1"
        " from floating_ips where floating_ips.floating_port_id = ports.id and floating_ips.port_id is null)",
        network.id, DHCP,
    )  # fmt: skip
    if in_use:
        raise Conflicted(
            f"Unable to complete operation on network {network.id}. There are one or more ports still in use on the"
            " network.",
            kind="NetworkInUse",
        )
    FLOATING_IPS.delete(ctx.tx, floating_network_id=network.id)
    for port in PORTS.all(ctx.tx, network_id=network.id, deleting=False):
        remove_port(ctx.tx, port, ctx.now)
    SUBNETS.delete(ctx.tx, network_id=network.id)
    record_request(ctx, "network", network.id, "delete", "success")
    if network.nodes or PORTS.count(ctx.tx, network_id=network.id):
        NETWORKS.update(ctx.tx, {"deleting": True}, id=network.id)
        poke(ctx.tx, "network", network.id, ctx.now)
    else:
        NETWORKS.delete(ctx.tx, id=network.id)
        forget(ctx.tx, "network", network.id)
    return Reply()
