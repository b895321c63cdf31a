"""What must hold between the rows of networking; each line names what does not."""

import json

from pileus.db.connect import Tx


def inconsistencies(tx: Tx) -> list[str]:
    """One line for each fact that is not as it must be; empty when all is well."""
    return [*_addresses(tx), *_groups(tx), *_orphans(tx), *_floating(tx)]


def _addresses(tx: Tx) -> list[str]:
    """The addresses that ports show are those that are kept unique."""
    kept: dict[str, set[str]] = {}
    for port_id, ip in tx.all("select port_id, ip from addresses"):
        kept.setdefault(port_id, set()).add(ip)
    lines = []
    for port_id, text in tx.all("select id, fixed_ips from ports"):
        shown = {fixed["ip_address"] for fixed in json.loads(text)}
        if shown != kept.get(port_id, set()):
            lines.append(f"port {port_id} shows {sorted(shown)} but holds {sorted(kept.get(port_id, ()))}")
    return lines


def _groups(tx: Tx) -> list[str]:
    kept: dict[str, set[str]] = {}
    for port_id, group_id in tx.all("select port_id, group_id from port_groups"):
        kept.setdefault(port_id, set()).add(group_id)
    lines = []
    for port_id, text in tx.all("select id, security_groups from ports"):
        shown = set(json.loads(text))
        if shown != kept.get(port_id, set()):
            lines.append(f"port {port_id} shows groups {sorted(shown)} but has {sorted(kept.get(port_id, ()))}")
    return lines


def _orphans(tx: Tx) -> list[str]:
    """Ports that networking holds for something that is gone."""
    checks = {
        "router": "select id, device_id from ports where device_owner in ('network:router_interface',"
        " 'network:router_gateway') and device_id not in (select id from routers)",
        "floating IP": "select id, device_id from ports where device_owner = 'network:floatingip'"
        " and id not in (select floating_port_id from floating_ips)",
        "network": "select p.id, p.network_id from ports p join networks n on n.id = p.network_id"
        " where n.deleting = 1 and p.deleting = 0",
    }
    return [
        f"port {port_id} belongs to {kind} {owner}, which is gone"
        for kind, sql in checks.items()
        for port_id, owner in tx.all(sql)
    ]


def _floating(tx: Tx) -> list[str]:
    sql = (
        "select f.id, f.fixed_ip_address from floating_ips f where f.port_id is not null and not exists"
        " (select 1 from addresses a where a.port_id = f.port_id and a.ip = f.fixed_ip_address)"
    )
    return [f"floating IP {floating_id} points at {ip}, which its port has not" for floating_id, ip in tx.all(sql)]
