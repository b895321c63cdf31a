"""Volume types, what they choose, limits, and what the operator sees of block storage."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.core.ids import new_id
from pileus.core.nodes import NODES
from pileus.db.connect import Tx
from volume_cloud import VolumeCloud

ADMIN = {"caller": "admin"}
DEMO = "d" * 32


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[VolumeCloud]:
    made = VolumeCloud(tmp_path)
    yield made
    made.close()


def new_type(cloud: VolumeCloud, name: str, public: bool = True, **specs: str) -> str:
    body = {"name": name, "extra_specs": specs, "os-volume-type-access:is_public": public}
    return str(cloud.made("POST", "/types", {"volume_type": body}, **ADMIN)["id"])


def test_types_are_made_shown_changed_and_deleted(cloud: VolumeCloud) -> None:
    body = {"volume_type": {"name": "t", "description": "d", "extra_specs": {"k": "v"}}}
    assert cloud.call("POST", "/types", body).status == 403
    made = cloud.made("POST", "/types", body, **ADMIN)
    assert set(made) == {"id", "name", "description", "is_public", "extra_specs", "os-volume-type-access:is_public"}
    assert cloud.call("POST", "/types", body, **ADMIN).status == 409
    path = f"/types/{made['id']}"
    assert set(cloud.made("GET", path, **ADMIN)) == set(made) | {"qos_specs_id"}
    assert cloud.made("GET", path)["extra_specs"] == {}, "specs of the operator are not for users"
    changed = cloud.made("PUT", path, {"volume_type": {"name": "u"}}, **ADMIN)
    assert changed["name"] == "u" and set(changed) == set(made) - {"os-volume-type-access:is_public"}
    assert cloud.call("PUT", path, {"volume_type": {"name": "  "}}, **ADMIN).status == 400
    assert cloud.call("PUT", path, {"volume_type": {}}, **ADMIN).status == 400
    assert {t["name"] for t in cloud.call("GET", "/types").json["volume_types"]} == {"u", "__DEFAULT__"}
    volume_id = cloud.volume(volume_type="__DEFAULT__")
    assert cloud.see(volume_id)["volume_type"] == "__DEFAULT__"
    assert cloud.call("DELETE", path, **ADMIN).status == 202 and cloud.call("GET", path).status == 404
    default = cloud.made("GET", "/types/default")
    assert default["name"] == "__DEFAULT__"
    assert cloud.call("DELETE", f"/types/{default['id']}", **ADMIN).status == 400


@pytest.mark.parametrize("wrong", [
    {}, {"name": ""}, {"name": "x" * 256}, {"name": "t", "extra_specs": {"a b": "c"}}, {"name": "t", "extra_specs": 1},
    {"name": "t", "more": 1}, {"name": "t", "os-volume-type-access:is_public": "maybe"},
])  # fmt: skip
def test_a_type_that_makes_no_sense_is_400(cloud: VolumeCloud, wrong: object) -> None:
    assert cloud.call("POST", "/types", {"volume_type": wrong}, **ADMIN).status == 400


def test_extra_specs(cloud: VolumeCloud) -> None:
    path = f"/types/{new_type(cloud, 't')}/extra_specs"
    assert cloud.made("POST", path, {"extra_specs": {"a": "1", "multiattach": "<is> True"}}, **ADMIN)["a"] == "1"
    assert cloud.call("PUT", path + "/a", {"a": "2"}, **ADMIN).json == {"a": "2"}
    assert cloud.call("PUT", path + "/a", {"b": "2"}, **ADMIN).status == 400
    assert cloud.call("GET", path + "/a", **ADMIN).json == {"a": "2"} and cloud.call("GET", path + "/a").status == 404
    assert cloud.call("GET", path).json == {"extra_specs": {"multiattach": "<is> True"}}
    assert cloud.call("DELETE", path + "/a").status == 403
    assert cloud.call("DELETE", path + "/a", **ADMIN).status == 202
    assert cloud.call("DELETE", path + "/a", **ADMIN).status == 404
    cloud.volume(volume_type="t")
    assert cloud.call("DELETE", path + "/multiattach", **ADMIN).status == 400, "volumes of the type rely on it"


def test_private_types_are_for_those_who_were_let_in(cloud: VolumeCloud) -> None:
    type_id = new_type(cloud, "secret", public=False)
    assert cloud.call("GET", f"/types/{type_id}").status == 404
    assert cloud.call("POST", "/volumes", {"volume": {"size": 1, "volume_type": "secret"}}).status == 404
    grant = {"addProjectAccess": {"project": DEMO}}
    assert cloud.act(type_id, grant, "types").status in (403, 404)
    assert cloud.act(type_id, grant, "types", **ADMIN).status == 202
    assert cloud.act(type_id, grant, "types", **ADMIN).status == 409
    listed = cloud.call("GET", f"/types/{type_id}/os-volume-type-access", **ADMIN).json
    assert listed == {"volume_type_access": [{"volume_type_id": type_id, "project_id": DEMO}]}
    assert "secret" in [t["name"] for t in cloud.call("GET", "/types").json["volume_types"]]
    assert "secret" not in [t["name"] for t in cloud.call("GET", "/types", caller="other").json["volume_types"]]
    assert "secret" in [t["name"] for t in cloud.call("GET", "/types?is_public=None", **ADMIN).json["volume_types"]]
    assert cloud.act(type_id, {"removeProjectAccess": {"project": DEMO}}, "types", **ADMIN).status == 202
    assert cloud.act(type_id, {"removeProjectAccess": {"project": DEMO}}, "types", **ADMIN).status == 404
    assert cloud.act(new_type(cloud, "open"), grant, "types", **ADMIN).status == 409


def test_a_type_chooses_the_back_end(cloud: VolumeCloud) -> None:
    new_type(cloud, "first", volume_backend_name="file")
    new_type(cloud, "other", volume_backend_name="second")
    for name, host in (("first", "node1@file#file"), ("other", "node1@second#second")):
        volume_id = cloud.volume(volume_type=name)
        assert cloud.see(volume_id, **ADMIN)["os-vol-host-attr:host"] == host
        clone = cloud.volume(source_volid=volume_id)
        assert cloud.see(clone, **ADMIN)["os-vol-host-attr:host"] == host
        wrong = {"size": 1, "source_volid": volume_id, "volume_type": "other" if name == "first" else "first"}
        assert cloud.call("POST", "/volumes", {"volume": wrong}).status == 400


def test_a_type_that_no_pool_serves_ends_in_error_with_the_reasons(cloud: VolumeCloud) -> None:
    new_type(cloud, "odd", storage_protocol="tape")
    volume_id = cloud.volume(volume_type="odd")
    assert cloud.status(volume_id) == "error"
    found = cloud.call("GET", "/messages").json["messages"]
    assert [m["resource_uuid"] for m in found] == [volume_id]
    assert set(found[0]) == {"id", "event_id", "user_message", "message_level", "resource_type", "resource_uuid",
                             "request_id", "created_at", "guaranteed_until", "links"}  # fmt: skip
    text = found[0]["user_message"]
    assert "No valid backend" in text and "node1@second#second: storage_protocol: 'tape' wanted" in text
    path = f"/messages/{found[0]['id']}"
    assert cloud.made("GET", path) == found[0] and cloud.call("GET", path, caller="other").status == 404
    assert cloud.call("GET", "/messages", version="3.2").status == 404
    assert cloud.call("DELETE", path, caller="reader").status == 403
    assert cloud.call("DELETE", path).status == 204 and cloud.call("GET", path).status == 404
    assert cloud.call("DELETE", f"/volumes/{volume_id}").status == 202
    cloud.run()
    assert cloud.leftovers() == []


def test_retype_changes_the_type_where_the_pool_can_serve_it(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    new_type(cloud, "same", volume_backend_name="file")
    new_type(cloud, "other", volume_backend_name="second")
    assert cloud.act(volume_id, {"os-retype": {"new_type": "same", "migration_policy": "never"}}).status == 202
    assert cloud.see(volume_id)["volume_type"] == "same"
    assert cloud.act(volume_id, {"os-retype": {"new_type": "same"}}).status == 400
    for policy in ({}, {"migration_policy": "never"}):
        refused = cloud.act(volume_id, {"os-retype": {"new_type": "other", **policy}})
        text = refused.json["badRequest"]["message"]
        assert refused.status == 400 and "second" in text and "migration_policy on-demand" in text
    assert cloud.act(volume_id, {"os-retype": {"new_type": new_id()}}).status == 404


def test_encryption_of_types_is_kept_and_their_volumes_are_refused(cloud: VolumeCloud) -> None:
    type_id = new_type(cloud, "safe")
    path = f"/types/{type_id}/encryption"
    wanted = {"provider": "luks", "control_location": "front-end", "key_size": "256", "cipher": "aes-xts-plain64"}
    assert cloud.call("GET", path, **ADMIN).json == {}
    assert cloud.call("POST", path, {"encryption": wanted}).status == 403
    assert cloud.call("POST", path, {"encryption": {"provider": "x"}}, **ADMIN).status == 400
    made = cloud.made("POST", path, {"encryption": wanted}, **ADMIN)
    assert made["key_size"] == 256
    assert cloud.call("POST", path, {"encryption": wanted}, **ADMIN).status == 400
    shown = cloud.call("GET", path, **ADMIN).json
    assert set(shown) == {"volume_type_id", "encryption_id", "key_size", "provider", "control_location", "cipher",
                          "deleted", "created_at", "updated_at", "deleted_at"}  # fmt: skip
    assert cloud.call("GET", path + "/cipher", **ADMIN).json == {"cipher": "aes-xts-plain64"}
    answer = cloud.call("POST", "/volumes", {"volume": {"size": 1, "volume_type": "safe"}})
    assert answer.status == 400 and "encryption" in answer.json["badRequest"]["message"]
    changed = cloud.call("PUT", f"{path}/{made['encryption_id']}", {"encryption": {"key_size": 128}}, **ADMIN)
    assert changed.json == {"encryption": {"key_size": 128}}
    assert cloud.call("DELETE", path + "/provider", **ADMIN).status == 202
    assert cloud.call("DELETE", path + "/provider", **ADMIN).status == 404
    cloud.volume(volume_type="safe")
    assert cloud.call("POST", path, {"encryption": wanted}, **ADMIN).status == 400, "the type is in use"


def test_qos_specs(cloud: VolumeCloud) -> None:
    body = {"qos_specs": {"name": "q", "consumer": "front-end", "read_iops_sec": "2000"}}
    assert cloud.call("POST", "/qos-specs", body).status == 403
    answer = cloud.call("POST", "/qos-specs", body, **ADMIN)
    made = answer.json["qos_specs"]
    assert set(answer.json) == {"qos_specs", "links"} and made["specs"] == {"read_iops_sec": "2000"}
    assert cloud.call("POST", "/qos-specs", body, **ADMIN).status == 409
    wrong = {"qos_specs": {"name": "r", "consumer": "nobody"}}
    assert cloud.call("POST", "/qos-specs", wrong, **ADMIN).status == 400
    path, type_id = f"/qos-specs/{made['id']}", new_type(cloud, "t")
    assert cloud.call("PUT", path, {"qos_specs": {"a": "b"}}, **ADMIN).json == {"qos_specs": {"a": "b"}}
    assert cloud.call("PUT", path + "/delete_keys", {"keys": ["a"]}, **ADMIN).status == 202
    assert cloud.call("PUT", path + "/delete_keys", {"keys": ["a"]}, **ADMIN).status == 404
    assert cloud.call("GET", f"{path}/associate?vol_type_id={type_id}", **ADMIN).status == 202
    assert cloud.call("GET", f"{path}/associate?vol_type_id={type_id}").status == 403
    assert cloud.call("GET", f"{path}/associate", **ADMIN).status == 400
    assert cloud.call("GET", f"{path}/associations", **ADMIN).json == {
        "qos_associations": [{"association_type": "volume_type", "id": type_id, "name": "t"}]
    }
    assert cloud.made("GET", f"/types/{type_id}", **ADMIN)["qos_specs_id"] == made["id"]
    assert cloud.call("DELETE", path, **ADMIN).status == 400
    assert cloud.call("GET", f"{path}/disassociate?vol_type_id={type_id}", **ADMIN).status == 202
    cloud.call("GET", f"{path}/associate?vol_type_id={type_id}", **ADMIN)
    assert cloud.call("GET", f"{path}/disassociate_all", **ADMIN).status == 202
    assert cloud.call("GET", "/qos-specs", **ADMIN).json["qos_specs"][0]["name"] == "q"
    assert cloud.call("DELETE", path, **ADMIN).status == 202 and cloud.call("GET", path, **ADMIN).status == 404


def test_a_project_may_have_a_default_type_of_its_own(cloud: VolumeCloud) -> None:
    type_id = new_type(cloud, "mine")
    body = {"default_type": {"volume_type": "mine"}}
    assert cloud.call("PUT", f"/default-types/{DEMO}", body).status == 403
    assert cloud.call("GET", f"/default-types/{DEMO}", **ADMIN).status == 404
    set_ = cloud.made("PUT", f"/default-types/{DEMO}", body, **ADMIN)
    assert set_ == {"project_id": DEMO, "volume_type_id": type_id}
    assert cloud.call("GET", "/default-types", **ADMIN).json == {"default_types": [set_]}
    assert cloud.made("GET", "/types/default")["name"] == "mine"
    assert cloud.see(cloud.volume())["volume_type"] == "mine"
    assert cloud.call("DELETE", f"/default-types/{DEMO}", **ADMIN).status == 204
    assert cloud.see(cloud.volume())["volume_type"] == "__DEFAULT__"


def test_limits_hold_and_usage_is_counted(cloud: VolumeCloud) -> None:
    path = f"/os-quota-sets/{DEMO}"
    limits = {"quota_set": {"volumes": 2, "gigabytes": 5, "snapshots": 1}}
    assert cloud.call("PUT", path, limits).status == 403
    assert cloud.made("PUT", path, limits, **ADMIN)["volumes"] == 2
    volume_id = cloud.volume(size=2)
    for wanted in ({"size": 4}, {"size": 1}, {"size": 1}):
        answer = cloud.call("POST", "/volumes", {"volume": wanted})
    assert answer.status == 413 and answer.json["overLimit"]["code"] == 413, answer
    assert "exceeded" in answer.json["overLimit"]["message"] and answer.headers["retry-after"] == "0"
    assert cloud.act(volume_id, {"os-extend": {"new_size": 5}}).status == 413
    assert cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}}).status == 202
    assert cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}}).status == 413
    used = cloud.made("GET", path + "?usage=true")
    assert used["volumes"] == {"limit": 2, "in_use": 2, "reserved": 0} and used["gigabytes"]["in_use"] == 5
    assert used["volumes___DEFAULT__"]["in_use"] == 2 and used["snapshots___DEFAULT__"]["in_use"] == 1
    absolute = cloud.made("GET", "/limits")["absolute"]
    assert (absolute["totalVolumesUsed"], absolute["maxTotalVolumes"], absolute["totalGigabytesUsed"]) == (2, 2, 5)
    below = cloud.call("PUT", path, {"quota_set": {"volumes": 1}}, **ADMIN)
    assert below.status == 400 and "Current usage is 2" in below.json["badRequest"]["message"]
    cloud.run()
    cloud.call("DELETE", f"/volumes/{volume_id}?cascade=1")
    cloud.run()
    assert cloud.made("GET", path + "?usage=true")["gigabytes"]["in_use"] == 1
    assert cloud.call("DELETE", path, **ADMIN).status == 200
    assert cloud.made("GET", path)["volumes"] == 10 and cloud.made("GET", path)["id"] == DEMO
    assert cloud.call("GET", path, caller="other").status == 403


def test_a_type_has_limits_too(cloud: VolumeCloud) -> None:
    new_type(cloud, "rare")
    path = f"/os-quota-sets/{DEMO}"
    cloud.made("PUT", path, {"quota_set": {"volumes_rare": 1, "per_volume_gigabytes": 3}}, **ADMIN)
    cloud.volume(volume_type="rare")
    assert cloud.call("POST", "/volumes", {"volume": {"size": 1, "volume_type": "rare"}}).status == 413
    assert cloud.call("POST", "/volumes", {"volume": {"size": 4}}).status == 400
    for wrong in ({"nothing": 1}, {"volumes": "x"}, {"volumes": -2}, {"volumes": 10**12}, {}):
        assert cloud.call("PUT", path, {"quota_set": wrong}, **ADMIN).status == 400, wrong


def test_the_defaults_of_all_projects(cloud: VolumeCloud) -> None:
    path = "/os-quota-class-sets/default"
    before = cloud.made("GET", path, **ADMIN)
    assert before["id"] == "default" and before["volumes"] == 10 and before["groups"] == 10
    assert cloud.made("PUT", path, {"quota_class_set": {"volumes": 3}}, **ADMIN)["volumes"] == 3
    assert cloud.made("GET", f"/os-quota-sets/{DEMO}/defaults", **ADMIN)["volumes"] == 3
    assert cloud.made("GET", f"/os-quota-sets/{DEMO}")["volumes"] == 3
    assert cloud.call("PUT", "/os-quota-class-sets/x", {"quota_class_set": {"volumes": 3}}, **ADMIN).status == 400
    assert cloud.call("GET", path).status == 403


def test_what_an_operator_says_of_a_pool_can_be_asked_for(cloud: VolumeCloud) -> None:
    cloud.report()

    def say(tx: Tx) -> None:
        node = NODES.all(tx)[0]
        said = [{**pool, "capabilities": {"ssd": "true", "vendor_name": "Open Source"}} for pool in node.pools[1:]]
        NODES.update(tx, {"pools": node.pools[:1] + said}, id=node.id)

    cloud.db.transact(say)
    assert cloud.call("GET", "/capabilities/node1@second", **ADMIN).json["vendor_name"] == "Open Source"
    kind = {"name": "fast", "extra_specs": {"ssd": "<is> True", "vendor_name": "Open Source"}}
    cloud.made("POST", "/types", {"volume_type": kind}, **ADMIN)
    made = cloud.made("POST", "/volumes", {"volume": {"size": 1, "volume_type": "fast"}})
    cloud.run()
    assert cloud.made("GET", f"/volumes/{made['id']}", **ADMIN)["os-vol-host-attr:host"] == "node1@second#second"


def test_pools_services_hosts_and_zones(cloud: VolumeCloud) -> None:
    cloud.volume(size=3)
    cloud.report()
    assert cloud.call("GET", "/scheduler-stats/get_pools").status == 403
    pools = cloud.call("GET", "/scheduler-stats/get_pools?detail=True", **ADMIN).json["pools"]
    assert [p["name"] for p in pools] == ["node1@file#file", "node1@second#second"]
    assert pools[0]["capabilities"]["free_capacity_gb"] == 997.0
    assert cloud.call("GET", "/scheduler-stats/get_pools", **ADMIN).json["pools"][0] == {"name": "node1@file#file"}
    shown = cloud.call("GET", "/capabilities/node1@file", **ADMIN).json
    assert shown["namespace"] == "OS::Storage::Capabilities::node1@file"
    assert cloud.call("GET", "/capabilities/nowhere", **ADMIN).status == 404
    services = cloud.call("GET", "/os-services", **ADMIN).json["services"]
    assert {(s["binary"], s["host"], s["state"]) for s in services} == {
        ("cinder-scheduler", "node1", "up"), ("cinder-volume", "node1@file", "up"),
        ("cinder-volume", "node1@second", "up"),
    }  # fmt: skip
    only = cloud.call("GET", "/os-services?binary=cinder-volume&host=node1@second", **ADMIN, version="3.0").json
    assert set(only["services"][0]) == {"binary", "host", "zone", "status", "state", "updated_at", "disabled_reason",
                                        "replication_status", "active_backend_id", "frozen"}  # fmt: skip
    hosts = cloud.call("GET", "/os-hosts", **ADMIN).json["hosts"]
    assert {h["host_name"] for h in hosts} == {"node1", "node1@file", "node1@second"}
    usage = cloud.call("GET", "/os-hosts/node1@file", **ADMIN).json["host"]
    assert [u["resource"]["project"] for u in usage] == ["(total)", DEMO]
    assert usage[0]["resource"]["total_volume_gb"] == "3"
    assert cloud.call("GET", "/os-hosts/x", **ADMIN).status == 404
    zones = cloud.call("GET", "/os-availability-zone").json
    assert zones == {"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": True}}]}


def test_a_disabled_back_end_takes_no_volumes(cloud: VolumeCloud) -> None:
    new_type(cloud, "other", volume_backend_name="second")
    body = {"binary": "cinder-volume", "host": "node1@second"}
    assert cloud.call("PUT", "/os-services/disable", body).status == 403
    reason = {**body, "disabled_reason": "repair"}
    answer = cloud.call("PUT", "/os-services/disable-log-reason", reason, **ADMIN).json
    assert answer == {"disabled": True, "status": "disabled", "host": "node1@second", "service": "cinder-volume",
                      "binary": "cinder-volume", "disabled_reason": "repair"}  # fmt: skip
    assert cloud.status(cloud.volume(volume_type="other")) == "error"
    assert cloud.call("PUT", "/os-services/enable", body, **ADMIN).status == 200
    assert cloud.status(cloud.volume(volume_type="other")) == "available"
    assert cloud.call("PUT", "/os-services/disable", body, **ADMIN).status == 200
    assert cloud.call("PUT", "/os-services/disable", {"binary": "x", "host": "y"}, **ADMIN).status == 404
    assert cloud.call("PUT", "/os-services/disable", {"host": "y"}, **ADMIN).status == 400
    cloud.call("PUT", "/os-services/enable", body, **ADMIN)
    assert cloud.call("PUT", "/os-services/freeze", {"host": "node1@second"}, **ADMIN).status == 200
    assert cloud.status(cloud.volume(volume_type="other")) == "error"
    assert cloud.call("PUT", "/os-services/thaw", {"host": "nowhere"}, **ADMIN).status == 400
    assert cloud.call("PUT", "/os-services/thaw", {"host": "node1@second"}, **ADMIN).status == 200
    assert cloud.status(cloud.volume(volume_type="other")) == "available"


def test_clients_find_out_what_there_is(cloud: VolumeCloud) -> None:
    root = cloud.api("GET", "/volume", caller="")
    assert root.status == 300 and root.json["versions"][0]["version"] == "3.71"
    one = cloud.api("GET", "/volume/v3/", caller="")
    assert one.status == 200 and one.json == root.json
    version = one.json["versions"][0]
    assert version["min_version"] == "3.0" and version["links"][1]["href"] == "http://cloud:5000/volume/v3/"
    assert "os-volume-actions" in {e["alias"] for e in cloud.call("GET", "/extensions").json["extensions"]}
    assert cloud.call("GET", "/extensions/encryption").json["extension"]["alias"] == "encryption"
    assert cloud.call("GET", "/extensions/nothing").status == 404
    filters = cloud.call("GET", "/resource_filters?resource=volume").json["resource_filters"][0]["filters"]
    assert {"name", "name~", "status", "metadata"} <= set(filters)
    assert cloud.call("GET", "/resource_filters?resource=x").status == 400
    assert cloud.api("GET", "/volume/v3/volumes", version="volume 3.72").status == 406
