"""Addresses, MACs and numbers are given once, however many ask at the same time, on every store."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from direct import DEMO
from pileus.core.context import Context
from pileus.core.errors import Conflicted, OverQuota, Problem
from pileus.core.policy import Enforcer
from pileus.db.connect import Database, Tx
from pileus.network import facade as network
from pileus.network.floating_ip.api import create_floating_ip
from pileus.network.network.api import create_network
from pileus.network.quota import QUOTA
from pileus.network.subnet.api import create_subnet

THREADS = 16  # as many as the API has


def enforcer() -> Enforcer:
    made = Enforcer()
    for name, text in network.SERVICE.rules.items():
        made.declare(name, text)
    return made


RULES = enforcer()


def ctx(tx: Tx) -> Context:
    return Context(tx, DEMO, now=time.time(), enforcer=RULES)


def network_with(db: Database, cidr: str, **given: Any) -> str:
    def work(tx: Tx) -> str:
        QUOTA.set_limits(tx, DEMO.project_id or "", {"port": -1, "network": -1, "floatingip": -1})
        made = create_network(ctx(tx), {})
        create_subnet(ctx(tx), {"network_id": made.id, "ip_version": 4, "cidr": cidr, **given})
        return made.id

    return db.transact(work)


def at_once(count: int, work: Any) -> list[Any]:
    """So many calls by many threads that start together; what each returned or was refused with."""
    ready = threading.Barrier(THREADS)

    def one(number: int) -> Any:
        if number < THREADS:
            ready.wait(30)
        try:
            return work(number)
        except Problem as problem:
            return problem

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(count)))


def test_256_ports_at_once_in_a_slash_24_give_no_double(db: Database) -> None:
    network_id = network_with(db, "10.0.0.0/24")
    found = at_once(256, lambda _: db.transact(lambda tx: network.create_port(ctx(tx), network_id=network_id)))
    made = [one for one in found if isinstance(one, network.PortView)]
    refused = [one for one in found if not isinstance(one, network.PortView)]
    assert len(made) == 252  # 254 hosts without the gateway's and the DHCP server's
    assert {(one.status, one.kind) for one in refused} == {(409, "IpAddressGenerationFailure")}
    assert Counter(ip for one in made for ip, _ in one.fixed_ips).most_common(1)[0][1] == 1
    assert len({one.mac_address for one in made}) == len(made)
    assert db.read(network.inconsistencies) == []


def test_one_address_asked_for_by_many_is_given_to_one(db: Database) -> None:
    network_id = network_with(db, "10.0.0.0/24")
    asked = {"network_id": network_id, "fixed_ips": ["10.0.0.9"]}
    found = at_once(32, lambda _: db.transact(lambda tx: network.create_port(ctx(tx), **asked)))
    assert sum(isinstance(one, network.PortView) for one in found) == 1
    assert {one.kind for one in found if isinstance(one, Problem)} == {"IpAddressAlreadyAllocated"}


def test_one_mac_asked_for_by_many_is_given_to_one(db: Database) -> None:
    network_id = network_with(db, "10.0.0.0/24")
    asked = {"network_id": network_id, "mac_address": "fa:16:3e:00:00:01"}
    found = at_once(32, lambda _: db.transact(lambda tx: network.create_port(ctx(tx), **asked)))
    assert sum(isinstance(one, network.PortView) for one in found) == 1
    assert {one.kind for one in found if isinstance(one, Problem)} == {"MacAddressInUse"}


def test_a_quota_is_not_passed_by_asking_at_the_same_time(db: Database) -> None:
    network_id = network_with(db, "10.0.0.0/24")
    db.transact(lambda tx: QUOTA.set_limits(tx, DEMO.project_id or "", {"port": 11}))
    found = at_once(48, lambda _: db.transact(lambda tx: network.create_port(ctx(tx), network_id=network_id)))
    assert sum(isinstance(one, network.PortView) for one in found) == 10  # and the port of DHCP
    assert all(isinstance(one, OverQuota) for one in found if isinstance(one, Problem))


def test_every_network_has_a_number_of_its_own(db: Database) -> None:
    network_with(db, "10.0.0.0/24")
    made = at_once(64, lambda _: db.transact(lambda tx: create_network(ctx(tx), {})))
    assert len({one.segmentation_id for one in made}) == 64


def test_floating_addresses_are_given_once_and_run_out(db: Database) -> None:
    external = network_with(db, "172.24.4.0/28", enable_dhcp=False)
    db.transact(lambda tx: tx.run("update networks set external = 1 where id = ?", external))
    given = {"floating_network_id": external}
    found = at_once(20, lambda _: db.transact(lambda tx: create_floating_ip(ctx(tx), given)))
    made = [one for one in found if not isinstance(one, Problem)]
    assert len({one.floating_ip_address for one in made}) == len(made) == 13
    assert all(isinstance(one, Conflicted) for one in found if isinstance(one, Problem))


def test_overlapping_subnets_asked_for_at_once_are_made_once(db: Database) -> None:
    network_id = network_with(db, "10.0.0.0/24")
    given = {"network_id": network_id, "ip_version": 4, "cidr": "10.1.0.0/24"}
    found = at_once(16, lambda _: db.transact(lambda tx: create_subnet(ctx(tx), given)))
    assert sum(not isinstance(one, Problem) for one in found) == 1
