"""What belongs to a server: metadata, tags, ports, volumes, consoles, history, and what its guest is told."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from pileus.compute import facade
from pileus.metadata.document import lookup
from server_cloud import COMPUTE, LATEST, NETWORK, ServerCloud

UNKNOWN = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerCloud]:
    made = ServerCloud(tmp_path_factory.mktemp("parts"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(cloud: ServerCloud) -> str:
    return cloud.boot({"name": "part", "metadata": {"a": "1"}, "user_data": "IyEvYmluL3NoCg=="})


def test_metadata(cloud: ServerCloud, server: str) -> None:
    path = f"{COMPUTE}/servers/{server}/metadata"
    assert cloud.call("GET", path).json == {"metadata": {"a": "1"}}
    assert cloud.call("POST", path, {"metadata": {"b": "2"}}).json == {"metadata": {"a": "1", "b": "2"}}
    assert cloud.call("PUT", f"{path}/b", {"meta": {"b": "3"}}).json == {"meta": {"b": "3"}}
    assert cloud.call("GET", f"{path}/b").json == {"meta": {"b": "3"}}
    assert cloud.call("DELETE", f"{path}/b").status == 204
    assert cloud.call("PUT", path, {"metadata": {"c": "4"}}).json == {"metadata": {"c": "4"}}
    for method, where, body, status in (
        ("GET", f"{path}/none", None, 404), ("DELETE", f"{path}/none", None, 404),
        ("PUT", f"{path}/x", {"meta": {"y": "1"}}, 400), ("PUT", f"{path}/x", {"meta": {"x": "1", "y": "1"}}, 400),
        ("POST", path, {"metadata": {"k": "v" * 256}}, 400), ("POST", path, {"metadata": {"": "v"}}, 400),
        ("POST", path, {"metadata": {"k": None}}, 400), ("POST", path, {}, 400),
        ("POST", path, {"metadata": {f"k{n}": "v" for n in range(129)}}, 403),
    ):  # fmt: skip
        assert cloud.call(method, where, body).status == status, (method, where)
    assert cloud.call("POST", path, {"metadata": {"k": "v"}}, caller="reader").status == 403


def test_tags(cloud: ServerCloud, server: str) -> None:
    path = f"{COMPUTE}/servers/{server}/tags"

    def call(method: str, where: str = path, body: object = None) -> int:
        return cloud.call(method, where, body, version=LATEST).status

    assert cloud.call("PUT", path, {"tags": ["b", "a"]}, version=LATEST).json == {"tags": ["a", "b"]}
    assert call("PUT", f"{path}/c") == 201 and call("PUT", f"{path}/c") == 204
    assert call("GET", f"{path}/c") == 204 and call("GET", f"{path}/none") == 404
    assert call("DELETE", f"{path}/c") == 204 and call("DELETE", f"{path}/c") == 404
    assert call("PUT", path, {"tags": [f"t{n}" for n in range(51)]}) == 400
    assert call("PUT", path, {"tags": ["x" * 61]}) == 400 and call("PUT", f"{path}/a,b") == 400
    assert call("PUT", path, {"tags": [f"t{n}" for n in range(50)]}) == 200 and call("PUT", f"{path}/more") == 400
    assert call("DELETE") == 204 and cloud.call("GET", path, version=LATEST).json == {"tags": []}
    assert cloud.call("GET", path, version="compute 2.25").status == 404


def test_addresses_follow_the_port_and_its_floating_ip(cloud: ServerCloud, server: str) -> None:
    (port,) = cloud.guest(server).nics
    assert cloud.call("GET", f"{COMPUTE}/servers/{server}/ips").json["addresses"]["net"][0]["version"] == 4
    assert list(cloud.call("GET", f"{COMPUTE}/servers/{server}/ips/net").json) == ["net"]
    assert cloud.call("GET", f"{COMPUTE}/servers/{server}/ips/none").status == 404
    one = cloud.call("GET", f"{COMPUTE}/servers/{server}/os-interface/{port}", version=LATEST).json
    assert one["interfaceAttachment"]["port_id"] == port and one["interfaceAttachment"]["tag"] is None


def test_interfaces_that_cannot_be(cloud: ServerCloud, server: str) -> None:
    path = f"{COMPUTE}/servers/{server}/os-interface"
    for body, status in (
        ({"net_id": UNKNOWN}, 404), ({"port_id": UNKNOWN}, 404), ({"net_id": cloud.network, "port_id": UNKNOWN}, 400),
        ({"fixed_ips": [{"ip_address": "10.9.0.9"}]}, 400), ({"net_id": "x"}, 400), ({"what": 1}, 400),
    ):  # fmt: skip
        assert cloud.call("POST", path, {"interfaceAttachment": body}).status == status, body
    assert cloud.call("GET", f"{path}/{UNKNOWN}").status == 404
    assert cloud.call("DELETE", f"{path}/{UNKNOWN}").status == 404


def test_security_groups_are_added_and_removed(cloud: ServerCloud, server: str) -> None:
    body = {"security_group": {"name": "web"}}
    assert cloud.call("POST", f"{NETWORK}/security-groups", body).status == 201
    assert cloud.act(server, "addSecurityGroup", {"name": "web"}).status == 202
    names = {g["name"] for g in cloud.show(server)["security_groups"]}
    listed = cloud.call("GET", f"{COMPUTE}/servers/{server}/os-security-groups").json["security_groups"]
    assert names == {"default", "web"} == {g["name"] for g in listed}
    assert cloud.act(server, "removeSecurityGroup", {"name": "web"}).status == 202
    assert cloud.show(server)["security_groups"] == [{"name": "default"}]
    assert cloud.act(server, "removeSecurityGroup", {"name": "web"}).status == 404
    assert cloud.act(server, "removeSecurityGroup", {"name": "default"}).status == 202
    assert "security_groups" not in cloud.show(server)
    assert cloud.act(server, "addSecurityGroup", {"name": "default"}).status == 202
    cloud.run()


def test_volume_attachments(cloud: ServerCloud, server: str) -> None:
    path, volume, other = f"{COMPUTE}/servers/{server}/os-volume_attachments", cloud.make_volume(), cloud.make_volume()
    silent = cloud.call("POST", path, {"volumeAttachment": {"volumeId": volume, "tag": "t"}}, version=LATEST)
    assert silent.status == 202 and not silent.raw
    cloud.run()
    old = cloud.call("GET", f"{path}/{volume}").json["volumeAttachment"]
    assert old == {"id": volume, "volumeId": volume, "serverId": server, "device": "/dev/vdb"}
    new = cloud.call("GET", f"{path}/{volume}", version=LATEST).json["volumeAttachment"]
    assert "id" not in new and new["tag"] == "t" and new["attachment_id"] and new["bdm_uuid"]
    for body, status in (
        ({"volumeId": volume}, 400), ({"volumeId": UNKNOWN}, 404), ({"volumeId": "x"}, 400), ({}, 400),
        ({"volumeId": other, "device": "/dev/vdb"}, 409), ({"volumeId": other, "device": "sdb"}, 400),
    ):  # fmt: skip
        assert cloud.call("POST", path, {"volumeAttachment": body}).status == status, body
    put = {"volumeAttachment": {"volumeId": volume, "delete_on_termination": True}}
    assert cloud.call("PUT", f"{path}/{volume}", put, version=LATEST).status == 202
    wrong = {"volumeAttachment": {"volumeId": volume, "tag": "other"}}
    assert cloud.call("PUT", f"{path}/{volume}", wrong, version=LATEST).status == 400
    assert cloud.call("PUT", f"{path}/{volume}", {"volumeAttachment": {"volumeId": other}}).status == 403
    assert cloud.call("GET", f"{path}/{other}").status == 404
    assert cloud.call("DELETE", f"{path}/{other}").status == 404
    assert cloud.call("DELETE", f"{path}/{volume}").status == 202
    assert cloud.call("DELETE", f"{path}/{volume}").status == 400
    cloud.run()
    assert cloud.call("GET", path).json == {"volumeAttachments": []}


def test_the_console_log_is_read_from_the_node(cloud: ServerCloud, server: str) -> None:
    cloud.machine().guests[server].log = b"one\ntwo\nthree\n"
    assert cloud.act(server, "os-getConsoleOutput").json == {"output": "one\ntwo\nthree\n"}
    assert cloud.act(server, "os-getConsoleOutput", {"length": 2}).json["output"] == "three\n"
    assert cloud.act(server, "os-getConsoleOutput", {"length": -2}).status == 400
    assert cloud.act(server, "os-getConsoleOutput", {"length": "many"}).status == 400


def test_a_console_opens_by_its_token_for_a_while(cloud: ServerCloud, server: str) -> None:
    path = f"{COMPUTE}/servers/{server}/remote-consoles"
    body = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    url = cloud.call("POST", path, body, version=LATEST).json["remote_console"]["url"]
    assert url.startswith("http://cloud:5000/vnc/vnc_lite.html?path=%3Ftoken%3D")
    token = url.rpartition("%3D")[2]
    now = cloud.clock()
    opened = cloud.db.read(lambda tx: facade.console(tx, token, now))
    assert opened is not None and opened[1:] == (server, "vnc")
    assert cloud.db.read(lambda tx: facade.console(tx, token, now + 3600)) is None
    assert cloud.db.read(lambda tx: facade.console(tx, token + "x", now)) is None
    kept = cloud.db.read(lambda tx: tx.all("select digest from console_tokens"))
    assert (hashlib.sha256(token.encode()).hexdigest(),) in kept and (token,) not in kept
    admin = cloud.call("GET", f"{COMPUTE}/os-console-auth-tokens/{token}", caller="admin", version=LATEST)
    assert admin.json["console"]["instance_uuid"] == server and admin.json["console"]["tls_port"] is None
    assert cloud.call("GET", f"{COMPUTE}/os-console-auth-tokens/{token}", version=LATEST).status == 403
    assert cloud.call("GET", f"{COMPUTE}/os-console-auth-tokens/x", caller="admin", version=LATEST).status == 404
    serial = {"remote_console": {"protocol": "serial", "type": "serial"}}
    assert cloud.call("POST", path, serial, version=LATEST).json["remote_console"]["url"].startswith("ws://cloud:5000/")
    spice = {"remote_console": {"protocol": "spice", "type": "spice-html5"}}
    assert cloud.call("POST", path, spice, version=LATEST).status == 400
    assert cloud.act(server, "os-getVNCConsole", {"type": "novnc"}, version="compute 2.1").json["console"]["url"]


def test_the_history_tells_the_story_even_after_the_end(cloud: ServerCloud) -> None:
    server = cloud.boot({"name": "told"})
    cloud.do(server, "os-stop")
    path = f"{COMPUTE}/servers/{server}/os-instance-actions"
    actions = cloud.call("GET", path, version=LATEST).json["instanceActions"]
    assert [one["action"] for one in actions] == ["stop", "create"]
    one = cloud.call("GET", f"{path}/{actions[1]['request_id']}", version=LATEST).json["instanceAction"]
    assert one["message"] is None and [event["result"] for event in one["events"]] == ["Success", "Success"]
    assert "details" not in one["events"][0] and one["events"][0]["hostId"]
    seen = cloud.call("GET", f"{path}/{actions[1]['request_id']}", version=LATEST, caller="admin").json
    assert seen["instanceAction"]["events"][0]["details"] == "scheduled to node1"
    assert seen["instanceAction"]["events"][0]["host"] == "node1"
    page = cloud.call("GET", f"{path}?limit=1", version=LATEST).json
    assert len(page["instanceActions"]) == 1 and f"marker={actions[0]['request_id']}" in page["links"][0]["href"]
    rest = cloud.call("GET", f"{path}?marker={actions[0]['request_id']}", version=LATEST).json["instanceActions"]
    assert [one["action"] for one in rest] == ["create"]
    assert cloud.call("GET", f"{path}?marker=none", version=LATEST).status == 400
    assert cloud.call("GET", f"{path}/req-none").status == 404
    cloud.delete(server)
    assert cloud.call("GET", path, version="compute 2.20").status == 404
    kept = cloud.call("GET", path, version=LATEST).json["instanceActions"]
    assert [one["action"] for one in kept] == ["delete", "stop", "create"]
    assert cloud.call("GET", path, version=LATEST, caller="other").status == 404


def test_diagnostics_and_topology(cloud: ServerCloud, server: str) -> None:
    path = f"{COMPUTE}/servers/{server}/diagnostics"
    assert cloud.call("GET", path).status == 403
    assert cloud.call("GET", path, caller="admin").json["num_cpus"] == 1
    shown = cloud.call("GET", path, caller="admin", version=LATEST).json
    assert shown["state"] == "running" and shown["num_nics"] == 1 and shown["nic_details"][0]["mac_address"]
    topology = cloud.call("GET", f"{COMPUTE}/servers/{server}/topology", version=LATEST)
    assert topology.json == {"nodes": [], "pagesize_kb": None}


def test_migrations_are_listed(cloud: ServerCloud) -> None:
    server = cloud.boot({"name": "moved"})
    cloud.do(server, "resize", {"flavorRef": "micro"})
    query = f"?instance_uuid={server}"
    (one,) = cloud.call("GET", f"{COMPUTE}/os-migrations{query}", caller="admin", version=LATEST).json["migrations"]
    assert one["status"] == "finished" and one["migration_type"] == "resize" and one["source_compute"] == "node1"
    cloud.do(server, "confirmResize")
    listed = cloud.call("GET", f"{COMPUTE}/os-migrations{query}&status=confirmed", caller="admin").json["migrations"]
    assert len(listed) == 1
    assert cloud.call("GET", f"{COMPUTE}/os-migrations").status == 403
    assert cloud.call("GET", f"{COMPUTE}/os-migrations?limit=x", caller="admin", version=LATEST).status == 400
    path = f"{COMPUTE}/servers/{server}/migrations"
    assert cloud.call("GET", path, caller="admin", version=LATEST).json == {"migrations": []}
    assert cloud.call("GET", f"{path}/1", caller="admin", version=LATEST).status == 404
    cloud.delete(server)


def test_a_guest_learns_of_itself_by_its_address(cloud: ServerCloud, server: str) -> None:
    address = cloud.show(server)["addresses"]["net"][0]["addr"]
    tree = cloud.db.read(lambda tx: facade.metadata_tree(tx, cloud.network, address))
    assert tree is not None
    told = json.loads(lookup(tree, "openstack/latest/meta_data.json") or b"")
    assert told["uuid"] == server and told["hostname"] == "part.novalocal" and told["meta"] == {"c": "4"}
    assert lookup(tree, "openstack/latest/user_data") == b"#!/bin/sh\n"
    data = json.loads(lookup(tree, "openstack/latest/network_data.json") or b"")
    assert data["links"][0]["ethernet_mac_address"]
    assert lookup(tree, "latest/meta-data/local-ipv4") == address.encode()
    assert cloud.db.read(lambda tx: facade.metadata_tree(tx, cloud.network, "10.9.0.250")) is None


def test_the_guest_posts_its_password_once(cloud: ServerCloud, server: str) -> None:
    address, path = cloud.show(server)["addresses"]["net"][0]["addr"], f"{COMPUTE}/servers/{server}/os-server-password"

    def post(data: bytes) -> bool:
        return bool(cloud.db.transact(lambda tx: facade.set_password(tx, cloud.network, address, data)))

    for bad in (b"no base64!", b"A" * 2000):
        with pytest.raises(ValueError, match=r"base64|large"):
            post(bad)
    assert post(b"c2VjcmV0") and not post(b"b3RoZXI=")
    assert cloud.call("GET", path).json == {"password": "c2VjcmV0"}
    assert cloud.call("DELETE", path).status == 204 and cloud.call("GET", path).json == {"password": ""}
    assert cloud.call("DELETE", path, caller="reader").status == 403
