"""The guests' service listens where the networks are now."""

import http.client
import socket
from collections.abc import Iterator

import pytest

from pileus.metadata.service import MetadataService


class Networks:
    """Networks whose namespaces are told apart by a number, each with one address on this machine."""

    def __init__(self) -> None:
        self.homes: dict[str, int] = {}
        self.opened: list[socket.socket] = []
        self.asked: list[str] = []

    def open(self, network_id: str) -> socket.socket:
        listening = socket.create_server(("127.0.0.1", 0))
        self.opened.append(listening)
        return listening

    def ask(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(path)
        return 200, b"{}"


@pytest.fixture
def networks() -> Iterator[tuple[Networks, MetadataService]]:
    made = Networks()
    service = MetadataService(lambda: list(made.homes), made.open, made.ask, lambda network_id: made.homes[network_id])
    yield made, service
    made.homes.clear()
    service.follow()


def answers(listening: socket.socket) -> bool:
    connection = http.client.HTTPConnection(*listening.getsockname(), timeout=5)
    try:
        connection.request("GET", "/openstack/latest/meta_data.json")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def test_a_network_is_served_while_it_is_there(networks: tuple[Networks, MetadataService]) -> None:
    made, service = networks
    made.homes["n1"] = 7
    service.follow()
    assert answers(made.opened[0]) and made.asked == ["/node/v1/metadata/n1/127.0.0.1/openstack/latest/meta_data.json"]
    service.follow()
    assert len(made.opened) == 1
    made.homes.clear()
    service.follow()
    assert made.opened[0].fileno() == -1


def test_a_network_made_anew_between_two_looks_is_served_in_its_new_namespace(
    networks: tuple[Networks, MetadataService],
) -> None:
    made, service = networks
    made.homes["n1"] = 7
    service.follow()
    made.homes["n1"] = 8
    service.follow()
    assert len(made.opened) == 2 and made.opened[0].fileno() == -1 and answers(made.opened[1])
