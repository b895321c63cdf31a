"""Allocations, usages, candidates and reshaping."""

from pathlib import Path
from typing import Any

import pytest
from placement_client import NONE, U1, U2, U3, Placement, code

from direct import DEMO, Answer
from pileus.db.connect import Tx
from pileus.placement import facade

C1, C2 = (f"cccccccc-1111-4222-8333-44444444444{i}" for i in (1, 2))


@pytest.fixture
def api(tmp_path: Path) -> Placement:
    api = Placement(tmp_path)
    api.provider(U1, "one")
    api.provider(U2, "two")
    api.stock(U1, VCPU=4, MEMORY_MB=1024)
    api.stock(U2, VCPU=8, MEMORY_MB=512)
    return api


def claim(generation: int | None = None, **providers: Any) -> dict[str, Any]:
    return {
        "allocations": {p: {"resources": r} for p, r in providers.items()},
        "project_id": DEMO.project_id,
        "user_id": DEMO.user_id,
        "consumer_generation": generation,
        "consumer_type": "INSTANCE",
    }


def put(api: Placement, consumer: str, generation: int | None = None, **providers: Any) -> Answer:
    return api("PUT", f"/allocations/{consumer}", claim(generation, **providers))


def test_a_claim_is_made_changed_shown_and_given_back(api: Placement) -> None:
    assert api("GET", f"/allocations/{C1}").json == {"allocations": {}}
    assert put(api, C1, **{U1: {"VCPU": 2, "MEMORY_MB": 256}}).status == 204
    shown = api("GET", f"/allocations/{C1}").json
    assert shown == {
        "allocations": {U1: {"generation": 2, "resources": {"MEMORY_MB": 256, "VCPU": 2}}},
        "project_id": DEMO.project_id, "user_id": DEMO.user_id, "consumer_generation": 1, "consumer_type": "INSTANCE",
    }  # fmt: skip
    assert set(api("GET", f"/allocations/{C1}", at="1.0").json) == {"allocations"}
    assert put(api, C1, 1, **{U2: {"VCPU": 8}}).status == 204
    assert api("GET", f"/resource_providers/{U1}/usages").json["usages"] == {"VCPU": 0, "MEMORY_MB": 0}
    assert api("GET", f"/resource_providers/{U2}/allocations").json["allocations"] == {
        C1: {"resources": {"VCPU": 8}, "consumer_generation": 2}
    }
    assert put(api, C1, 2).status == 204
    assert api("GET", f"/allocations/{C1}").json == {"allocations": {}}
    assert api("DELETE", f"/allocations/{C1}").status == 404
    assert api.direct.db.read(facade.inconsistencies) == []


def test_a_consumer_changes_only_as_its_writer_last_saw_it(api: Placement) -> None:
    for generation, status in ((0, 409), (None, 204), (None, 409), (7, 409), (1, 204)):
        answer = put(api, C1, generation, **{U1: {"VCPU": 1}})
        assert answer.status == status, generation
        assert status != 409 or code(answer) == "placement.concurrent_update"


@pytest.mark.parametrize(
    ("resources", "status"),
    [({"VCPU": 5}, 409), ({"VCPU": 4, "MEMORY_MB": 2000}, 409), ({"DISK_GB": 1}, 409), ({"NOPE": 1}, 400),
     ({"VCPU": 0}, 400), ({"VCPU": 2**40}, 400), ({}, 400)],
)  # fmt: skip
def test_what_does_not_fit_changes_nothing(api: Placement, resources: dict[str, int], status: int) -> None:
    put(api, C1, **{U1: {"VCPU": 1}})
    assert put(api, C1, 1, **{U1: resources}).status == status
    assert api("GET", f"/allocations/{C1}").json["allocations"][U1]["resources"] == {"VCPU": 1}
    assert put(api, C2, **{NONE: {"VCPU": 1}}).status == 400
    assert put(api, "x", **{U1: {"VCPU": 1}}).status == 400


def test_older_versions_claim_in_their_own_form(api: Placement) -> None:
    listed = {"allocations": [{"resource_provider": {"uuid": U1}, "resources": {"VCPU": 1}}]}
    owner = {"project_id": "p", "user_id": "u"}
    assert api("PUT", f"/allocations/{C1}", listed, at="1.0").status == 204
    assert api("PUT", f"/allocations/{C1}", listed, at="1.8").status == 400
    assert api("PUT", f"/allocations/{C1}", {**listed, **owner}, at="1.8").status == 204
    keyed = {"allocations": {U1: {"resources": {"VCPU": 2}}}, **owner}
    assert api("PUT", f"/allocations/{C1}", keyed, at="1.12").status == 204
    assert api("PUT", f"/allocations/{C1}", {"allocations": {}, **owner}, at="1.12").status == 400
    assert api("GET", f"/allocations/{C1}").json["consumer_type"] == "unknown"
    assert (
        api("PUT", f"/allocations/{C1}", {**keyed, "consumer_generation": 3, "mappings": {"": [U1]}}, at="1.34").status
        == 204
    )
    assert api("DELETE", f"/allocations/{C1}", at="1.0").status == 204


def test_many_claims_are_all_or_none(api: Placement) -> None:
    both = {C1: claim(None, **{U1: {"VCPU": 3}}), C2: claim(None, **{U1: {"VCPU": 2}})}
    refused = api("POST", "/allocations", both)
    assert refused.status == 409 and "2 wanted, 1 of 4 free" in refused.json["errors"][0]["detail"]
    assert api.direct.db.read(facade.consumers) == set()
    assert api("POST", "/allocations", {**both, C2: claim(None, **{U1: {"VCPU": 1}})}).status == 204
    swap = {C1: claim(1), C2: claim(1, **{U1: {"VCPU": 4}})}
    assert api("POST", "/allocations", swap).status == 204
    assert api.direct.db.read(facade.consumers) == {C2}
    assert api("POST", "/allocations", {}).status == 400
    assert api("POST", "/allocations", {"x": claim()}).status == 400
    assert api("POST", "/allocations", both, at="1.12").status == 404


def test_what_is_used_cannot_be_taken_away(api: Placement) -> None:
    put(api, C1, **{U1: {"VCPU": 2}})
    for method, path, body in [
        ("DELETE", f"/resource_providers/{U1}", None),
        ("DELETE", f"/resource_providers/{U1}/inventories", None),
        ("DELETE", f"/resource_providers/{U1}/inventories/VCPU", None),
        ("PUT", f"/resource_providers/{U1}/inventories", {"resource_provider_generation": 2, "inventories": {}}),
    ]:
        answer = api(method, path, body)
        assert answer.status == 409 and code(answer).endswith(".inuse"), path


def test_usages_are_sums_that_a_reader_sees_of_the_own_project_only(api: Placement) -> None:
    put(api, C1, **{U1: {"VCPU": 2, "MEMORY_MB": 256}})
    put(api, C2, **{U1: {"VCPU": 1}})
    mine = f"/usages?project_id={DEMO.project_id}"
    assert api("GET", mine, at="1.9").json == {"usages": {"VCPU": 3, "MEMORY_MB": 256}}
    typed = {"INSTANCE": {"consumer_count": 2, "VCPU": 3, "MEMORY_MB": 256}}
    assert api("GET", mine).json == {"usages": typed}
    assert api("GET", mine + "&consumer_type=all").json == {"usages": {"all": typed["INSTANCE"]}}
    assert api("GET", mine + "&consumer_type=MIGRATION").json == {"usages": {}}
    assert api("GET", mine + f"&user_id={NONE}").json == {"usages": {}}
    assert api("GET", mine, caller="reader").status == 200
    assert api("GET", mine, caller="other").status == 403
    assert api("GET", "/usages").status == 400 and api("GET", "/usages?project_id=").status == 400
    assert api("GET", mine, at="1.8").status == 404


def test_candidates_are_claims_that_can_be_put(api: Placement) -> None:
    found = api("GET", "/allocation_candidates?resources=VCPU:2,MEMORY_MB:1024").json
    [wanted] = found["allocation_requests"]
    assert wanted == {"allocations": {U1: {"resources": {"VCPU": 2, "MEMORY_MB": 1024}}}, "mappings": {"": [U1]}}
    assert found["provider_summaries"][U1] == {
        "resources": {"VCPU": {"capacity": 4, "used": 0}, "MEMORY_MB": {"capacity": 1024, "used": 0}},
        "traits": [], "parent_provider_uuid": None, "root_provider_uuid": U1,
    }  # fmt: skip
    assert api("PUT", f"/allocations/{C1}", {**claim(), **wanted}).status == 204
    assert api("GET", "/allocation_candidates?resources=VCPU:2,MEMORY_MB:1024").json == {
        "allocation_requests": [], "provider_summaries": {}
    }  # fmt: skip


def test_candidates_have_the_shape_of_their_version(api: Placement) -> None:
    def at(version: str, query: str = "resources=VCPU:2") -> Any:
        return api("GET", f"/allocation_candidates?{query}", at=version).json

    assert api("GET", "/allocation_candidates?resources=VCPU:1", at="1.9").status == 404
    assert at("1.10")["allocation_requests"][0] == {
        "allocations": [{"resource_provider": {"uuid": U1}, "resources": {"VCPU": 2}}]
    }
    assert at("1.12")["allocation_requests"][0] == {"allocations": {U1: {"resources": {"VCPU": 2}}}}
    assert at("1.26")["provider_summaries"][U1] == {"resources": {"VCPU": {"capacity": 4, "used": 0}}, "traits": []}
    assert set(at("1.27")["provider_summaries"][U1]["resources"]) == {"VCPU", "MEMORY_MB"}
    assert len(at("1.39", "resources=VCPU:2&limit=1")["allocation_requests"]) == 1
    for bad in ("resources=NOPE:1", "resources=VCPU:1&required=NOPE", "", "resources=VCPU:1&root_required=NOPE"):
        assert api("GET", f"/allocation_candidates?{bad}").status == 400, bad


def test_reshaping_moves_inventory_and_claims_together(api: Placement) -> None:
    put(api, C1, **{U1: {"VCPU": 2, "MEMORY_MB": 256}})
    api.provider(U3, parent_provider_uuid=U1)
    record = {"total": 4}
    body = {
        "inventories": {
            U1: {"resource_provider_generation": 2, "inventories": {"MEMORY_MB": {"total": 1024}}},
            U3: {"resource_provider_generation": 0, "inventories": {"VCPU": record}},
        },
        "allocations": {C1: claim(1, **{U1: {"MEMORY_MB": 256}, U3: {"VCPU": 2}})},
    }
    assert api("POST", "/reshaper", body).status == 403  # for services alone
    assert api("POST", "/reshaper", {**body, "allocations": {}}, caller="service").status == 409
    assert api("POST", "/reshaper", body, caller="service").status == 204
    assert api("GET", f"/resource_providers/{U3}/usages").json["usages"] == {"VCPU": 2}
    assert list(api("GET", f"/resource_providers/{U1}/inventories").json["inventories"]) == ["MEMORY_MB"]
    assert api("POST", "/reshaper", body, caller="service").status == 409
    assert api("POST", "/reshaper", {"inventories": {}, "allocations": {}}, caller="service").status == 400


def test_a_node_reports_itself_and_leaves_the_operators_own_choices(api: Placement) -> None:
    def report(tx: Tx, vcpus: int, traits: list[str]) -> None:
        have = {"VCPU": facade.Inventory(vcpus, allocation_ratio=4.0), "DISK_GB": facade.Inventory(10)}
        facade.ensure_provider(tx, provider_id=U3, name="three", inventories=have, traits=traits, now=1.0)

    here = f"/resource_providers/{U3}"
    api.direct.db.transact(lambda tx: report(tx, 4, ["HW_CPU_X86_VMX"]))
    first = api("GET", here).json
    api.direct.db.transact(lambda tx: report(tx, 4, ["HW_CPU_X86_VMX"]))
    assert api("GET", here).json == first
    generation = first["generation"]
    own = {"total": 4, "allocation_ratio": 16.0, "reserved": 1, "resource_provider_generation": generation}
    assert api("PUT", f"{here}/inventories/VCPU", own).status == 200
    api("PUT", "/traits/CUSTOM_GOLD")
    traits = {"traits": ["CUSTOM_GOLD", "HW_CPU_X86_VMX"], "resource_provider_generation": generation + 1}
    assert api("PUT", f"{here}/traits", traits).status == 200
    api.direct.db.transact(lambda tx: report(tx, 8, ["HW_CPU_X86_AVX"]))
    have = api("GET", f"{here}/inventories").json["inventories"]["VCPU"]
    assert (have["total"], have["allocation_ratio"], have["reserved"]) == (8, 16.0, 1)
    assert api("GET", f"{here}/traits").json["traits"] == ["CUSTOM_GOLD", "HW_CPU_X86_AVX"]


def test_the_scheduler_is_told_the_best_first_and_what_is_missing(api: Placement) -> None:
    db = api.direct.db
    wanted = facade.Wanted(resources={"VCPU": 2, "MEMORY_MB": 256})
    assert db.read(lambda tx: facade.candidates(tx, wanted)) == [U1, U2]
    big = facade.Wanted(resources={"VCPU": 6, "MEMORY_MB": 600}, required=frozenset({"HW_CPU_X86_VMX"}))
    assert db.read(lambda tx: facade.candidates(tx, big)) == []
    assert db.read(lambda tx: facade.misfits(tx, big)) == {
        "one": ["VCPU: 6 wanted, 4 of 4 free", "trait HW_CPU_X86_VMX: required, not present"],
        "two": ["MEMORY_MB: 600 wanted, 512 of 512 free", "trait HW_CPU_X86_VMX: required, not present"],
    }
    who: dict[str, Any] = {"project_id": "p", "user_id": "u", "now": 1.0}
    db.transact(lambda tx: facade.claim(tx, consumer_id=C1, provider_id=U1, resources={"VCPU": 3, "DISK_GB": 0}, **who))
    with pytest.raises(facade.NoRoom, match=r"one: VCPU: 2 wanted, 1 of 4 free"):
        db.transact(lambda tx: facade.claim(tx, consumer_id=C2, provider_id=U1, resources={"VCPU": 2}, **who))
    for _ in range(2):
        db.transact(lambda tx: facade.move(tx, C1, C2, 2.0))
    assert db.read(lambda tx: facade.allocations(tx, C2)) == {U1: {"VCPU": 3}}
    assert db.read(lambda tx: facade.usages(tx, [U1]))[U1]["VCPU"].used == 3
    for _ in range(2):
        db.transact(lambda tx: facade.release(tx, C2))
    assert db.read(facade.consumers) == set()
    db.transact(lambda tx: facade.remove_provider(tx, U1))
    assert api("GET", f"/resource_providers/{U1}").status == 404
