"""Version documents, microversion headers, extensions, error bodies, external events."""

from pathlib import Path

import pytest
from compute_client import HOST1, Compute

from pileus.core.ids import new_id


@pytest.fixture
def api(tmp_path: Path) -> Compute:
    return Compute(tmp_path)


def test_versions_are_discovered_without_a_token_and_link_to_themselves(api: Compute) -> None:
    nobody = {"x-auth-token": ""}
    versions = api.direct("GET", "/compute/", headers=nobody).json["versions"]
    assert [v["id"] for v in versions] == ["v2.0", "v2.1"]
    assert (versions[1]["min_version"], versions[1]["version"]) == ("2.1", "2.104")
    for version in versions:
        assert set(version) == {"id", "status", "version", "min_version", "updated", "links"}
        [link] = version["links"]
        shown = api.direct("GET", link["href"].removeprefix("http://cloud:5000"), headers=nobody).json["version"]
        assert set(shown) == set(version) | {"media-types"} and shown["id"] == version["id"]
        assert link in shown["links"]


def test_the_version_is_negotiated_by_either_header_and_echoed(api: Compute) -> None:
    asked = api.direct("GET", "/compute/v2.1/flavors", headers={"x-openstack-nova-api-version": "2.61"})
    assert asked.headers["x-openstack-nova-api-version"] == "2.61"
    assert asked.headers["openstack-api-version"] == "compute 2.61"
    assert "OpenStack-API-Version" in asked.headers["vary"]
    assert api.direct("GET", "/compute/v2.1/flavors").headers["x-openstack-nova-api-version"] == "2.1"
    latest = api.direct("GET", "/compute/v2.1/flavors", version="compute latest")
    assert latest.headers["openstack-api-version"] == "compute 2.104"
    assert api("GET", "/flavors", at="2.105").status == 406 and api("GET", "/flavors", at="2.0").status == 406
    assert api("GET", "/flavors", at="x").status == 400


def test_errors_are_named_as_the_reference_names_them(api: Compute) -> None:
    for answer, status, name in [
        (api("GET", "/flavors/nope"), 404, "itemNotFound"),
        (api("POST", "/flavors", {"flavor": {}}), 400, "badRequest"),
        (api("POST", "/flavors", {"flavor": {}}, caller="demo"), 403, "forbidden"),
        (api("GET", "/flavors", caller=""), 401, "unauthorized"),
        (api("PATCH", "/flavors"), 405, "badMethod"),
        (api("GET", "/nowhere"), 404, "itemNotFound"),
    ]:
        assert answer.status == status
        assert answer.json[name]["code"] == status and answer.json[name]["message"]


def test_hostile_bodies_are_refused_without_a_trace(api: Compute) -> None:
    for raw in (b"{", b"[1]", b'"x"', b"null", b"\xff\xfe", b'{"flavor": {"name": "a\\u0000b"}}', b"[" * 50_000,
                b'{"flavor":' * 5_000, b'{"flavor": {"ram": ' + b"9" * 5_000 + b"}}"):  # fmt: skip
        answer = api.direct("POST", "/compute/v2.1/flavors", caller="admin", raw=raw)
        assert answer.status == 400, (raw[:40], answer)
        assert "badRequest" in answer.json
    big = api.direct("POST", "/compute/v2.1/flavors", caller="admin", raw=b" " * 200_000)
    assert big.status == 413 and "overLimit" in big.json


def test_extensions_are_listed_and_shown(api: Compute) -> None:
    listed = api("GET", "/extensions", caller="demo").json["extensions"]
    assert {"Hosts", "Keypairs", "Quotas"} <= {one["name"] for one in listed}
    keys = {"alias", "name", "description", "links", "namespace", "updated"}
    assert all(set(one) == keys for one in listed)
    assert set(api("GET", "/extensions/os-consoles", caller="demo").json["extension"]) == keys
    assert api("GET", "/extensions/nope", caller="demo").status == 404


def test_events_are_taken_one_by_one(api: Compute) -> None:
    api.host()
    here, queued = api.server(node_id=HOST1), api.server(node_id=None)
    here_event = {"name": "network-changed", "server_uuid": here}
    taken = api("POST", "/os-server-external-events", {"events": [here_event]}, caller="service")
    assert taken.status == 200
    assert taken.json == {"events": [{**here_event, "status": "completed", "code": 200}]}
    assert api.direct.db.read(lambda tx: tx.one("select id from work where kind = 'server'")) == (here,)
    events = [
        here_event, {**here_event, "server_uuid": queued}, {**here_event, "server_uuid": new_id()},
        {"name": "volume-extended", "server_uuid": here},
        {"name": "volume-extended", "server_uuid": here, "tag": new_id()},
    ]  # fmt: skip
    mixed = api("POST", "/os-server-external-events", {"events": events}, at="2.51", caller="service")
    assert mixed.status == 207
    assert [event["code"] for event in mixed.json["events"]] == [200, 422, 404, 400, 200]


def test_events_of_later_versions_and_of_strangers_are_refused(api: Compute) -> None:
    for name, since in (("volume-extended", 51), ("power-update", 76), ("accelerator-request-bound", 82),
                        ("volume-reimaged", 93)):  # fmt: skip
        body = {"events": [{"name": name, "server_uuid": new_id(), "tag": "x"}]}
        assert api("POST", "/os-server-external-events", body, at=f"2.{since - 1}").status == 400
        assert api("POST", "/os-server-external-events", body, at=f"2.{since}").status == 207
        assert api("POST", "/os-server-external-events", body, at="2.104").status == 207
    body = {"events": [{"name": "network-changed", "server_uuid": new_id()}]}
    assert api("POST", "/os-server-external-events", body, caller="demo").status == 403
    for bad in ({}, {"events": []}, {"events": [{}]}, {"events": [{"name": "network-changed", "server_uuid": "x"}]}):
        assert api("POST", "/os-server-external-events", bad).status == 400
