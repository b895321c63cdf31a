"""What of servers contradicts itself, for `pileus verify`."""

from pileus.compute.server.states import failed, shown
from pileus.compute.server.whole import load
from pileus.db.connect import Tx
from pileus.network import facade as network
from pileus.placement import facade as placement
from pileus.volume import facade as volume

_CHILDREN = ("server_nics", "server_volumes", "server_tags", "server_migrations", "console_tokens", "server_passwords")


def inconsistencies(tx: Tx) -> list[str]:
    """One line each; empty when all is well."""
    found = []
    for table in _CHILDREN:
        orphans = tx.all(f"select server_id from {table} where server_id not in (select id from servers)")
        found += [f"{table} has a row of server {row[0]}, which is not there" for row in orphans]
    found += _claims(tx)
    for (server_id,) in tx.all("select id from work where kind = 'server' and due is null"):
        found += _resting(tx, server_id)
    return found


def _claims(tx: Tx) -> list[str]:
    """Allocations of nobody."""
    owners = {row[0] for row in tx.all("select id from servers")}
    owners |= {row[0] for row in tx.all("select id from server_migrations")}
    strangers = sorted(placement.consumers(tx) - owners)
    return [f"allocations of {consumer}, which is no server" for consumer in strangers]


def _resting(tx: Tx, server_id: str) -> list[str]:
    """A server that nobody looks at any more should be as it is wanted, or say why it is not."""
    whole = load(tx, server_id)
    if whole is None:
        return [f"work of server {server_id}, which is not there"]
    server, said = whole.server, []
    state = shown(server, whole.migration, whole.snapshots)
    if state.task_state is not None and not whole.snapshots and not failed(server):
        said.append(f"server {server_id} rests, but its task is {state.task_state}")
    if server.node_id is not None and server.id not in placement.consumers(tx):
        said.append(f"server {server_id} is on {server.node_name} without a claim")
    if failed(server) or server.broken:
        return said
    ports = {port.id for port in network.ports_of(tx, server_id)}
    said += [f"server {server_id} has port {n.port_id}, which is not its" for n in whole.nics if n.port_id not in ports]
    ties = {tie.id for tie in volume.attachments_of(tx, server_id)}
    said += [f"server {server_id} has no attachment {v.id}" for v in whole.volumes if v.id not in ties]
    return said
