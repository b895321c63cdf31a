"""Keypairs: imported and made, of both kinds, one's own and others'."""

import base64
from pathlib import Path
from typing import Any

import pytest
from compute_client import Compute
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

from direct import DEMO, OTHER
from pileus.compute.quota import COMPUTE_QUOTA

KEY = (
    rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    + " me@home"
)


@pytest.fixture
def api(tmp_path: Path) -> Compute:
    return Compute(tmp_path)


def put(api: Compute, name: str, *, at: str = "2.10", caller: str = "demo", **more: Any) -> Any:
    return api("POST", "/os-keypairs", {"keypair": {"name": name, **more}}, at=at, caller=caller)


def test_an_imported_key_is_shown_as_its_version_says(api: Compute) -> None:
    first = put(api, "k", at="2.1", public_key=KEY)
    assert first.status == 200
    assert set(first.json["keypair"]) == {"name", "public_key", "fingerprint", "user_id"}
    second = put(api, "k2", at="2.2", public_key=KEY + "\n", type="ssh")
    assert second.status == 201 and second.json["keypair"]["type"] == "ssh"
    assert second.json["keypair"]["public_key"] == KEY
    shown = {"name", "public_key", "fingerprint", "user_id", "id", "created_at", "updated_at", "deleted", "deleted_at"}
    assert set(api("GET", "/os-keypairs/k", caller="demo").json["keypair"]) == shown
    assert set(api("GET", "/os-keypairs/k", at="2.2", caller="demo").json["keypair"]) == shown | {"type"}
    listed = api("GET", "/os-keypairs", caller="demo").json
    assert [set(entry["keypair"]) for entry in listed["keypairs"]] == [{"name", "public_key", "fingerprint"}] * 2
    assert set(api("GET", "/os-keypairs", at="2.2", caller="demo").json["keypairs"][0]["keypair"]) == {
        "name", "public_key", "fingerprint", "type"
    }  # fmt: skip
    digits = first.json["keypair"]["fingerprint"].split(":")
    assert len(digits) == 16 and all(len(pair) == 2 for pair in digits)


def test_a_made_ssh_key_works_and_is_told_once(api: Compute) -> None:
    made = put(api, "k", at="2.1").json["keypair"]
    private = load_ssh_private_key(made["private_key"].encode(), None)
    public = load_ssh_public_key(made["public_key"].encode())
    raw = Encoding.OpenSSH, PublicFormat.OpenSSH
    assert private.public_key().public_bytes(*raw) == public.public_bytes(*raw)
    assert "private_key" not in api("GET", "/os-keypairs/k", caller="demo").json["keypair"]


def test_a_made_certificate_is_the_users(api: Compute) -> None:
    made = put(api, "k", at="2.2", type="x509").json["keypair"]
    certificate = load_pem_x509_certificate(made["public_key"].encode())
    private = load_pem_private_key(made["private_key"].encode(), None)
    assert certificate.public_key() == private.public_key()  # type: ignore[attr-defined]  # of the object that is really there
    assert DEMO.user_id in certificate.subject.rfc4514_string()
    assert len(made["fingerprint"].split(":")) == 20
    again = put(api, "k2", at="2.2", type="x509", public_key=made["public_key"])
    assert again.json["keypair"]["fingerprint"] == made["fingerprint"]


@pytest.mark.parametrize(
    "key",
    ["", "ssh-rsa JUNK nova@ubuntu", "ssh-rsa " + "A" * 2048 + " x", "x", "ssh-rsa", f"{KEY}\n{KEY}",
     f"{KEY}\r\ncommand", "ssh-ed25519 " + base64.b64encode(b"x" * 40).decode(), "ssh-rsa é", KEY[:100]],
)  # fmt: skip
def test_what_is_no_key_is_refused(api: Compute, key: str) -> None:
    assert put(api, "k", public_key=key).status == 400
    assert put(api, "k", public_key=key, type="x509").status == 400
    assert api("GET", "/os-keypairs", caller="demo").json == {"keypairs": []}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("a b_c-1", 201, 201), ("me@home.net", 400, 201), ("k/", 400, 400), ("", 400, 400), (" k", 400, 400),
     ("k" * 256, 400, 400), ("k\n", 400, 400), ("é", 400, 400), ("k\t1", 400, 400)],
)  # fmt: skip
def test_names_are_plain_and_from_2_92_on_may_be_addresses(api: Compute, name: str, old: int, new: int) -> None:
    assert put(api, name, at="2.91", public_key=KEY).status == old
    assert put(api, name, at="2.92", caller="other", public_key=KEY).status == new


def test_from_2_92_on_no_key_is_made(api: Compute) -> None:
    assert put(api, "k", at="2.91").status == 201
    assert put(api, "k2", at="2.92").status == 400


def test_unknown_fields_and_types_are_refused(api: Compute) -> None:
    assert put(api, "k", at="2.1", type="ssh").status == 400
    assert put(api, "k", at="2.9", user_id="x").status == 400
    assert put(api, "k", at="2.2", type="gpg").status == 400
    assert put(api, "k", at="2.2", public_key=7).status == 400
    assert api("POST", "/os-keypairs", {"keypair": []}, caller="demo").status == 400
    assert api("POST", "/os-keypairs", {}, caller="demo").status == 400
    assert api("POST", "/os-keypairs", None, caller="demo").status == 400


def test_a_name_is_taken_once_by_a_user(api: Compute) -> None:
    assert put(api, "k", public_key=KEY).status == 201
    assert put(api, "k", public_key=KEY).status == 409
    assert put(api, "k", caller="other", public_key=KEY).status == 201


def test_deleting_answers_as_its_version_says(api: Compute) -> None:
    put(api, "k", public_key=KEY)
    assert api("DELETE", "/os-keypairs/k", caller="other").status == 404
    assert api("DELETE", "/os-keypairs/k", at="2.1", caller="demo").status == 202
    put(api, "k", public_key=KEY)
    assert api("DELETE", "/os-keypairs/k", at="2.2", caller="demo").status == 204
    assert api("DELETE", "/os-keypairs/k", caller="demo").status == 404


def test_an_administrator_may_act_for_others_from_2_10_on(api: Compute) -> None:
    assert put(api, "k", caller="admin", public_key=KEY, user_id=DEMO.user_id).status == 201
    mine = f"/os-keypairs/k?user_id={DEMO.user_id}"
    assert api("GET", mine, at="2.10").status == 200
    assert api("GET", mine, at="2.9").status == 404
    assert api("GET", mine, at="2.10", caller="other").status == 403
    assert api("GET", f"/os-keypairs?user_id={DEMO.user_id}", at="2.10", caller="other").status == 403
    assert put(api, "k", caller="demo", public_key=KEY, user_id=OTHER.user_id).status == 403
    assert api("DELETE", mine, at="2.10", caller="other").status == 403
    assert api("DELETE", mine, at="2.10").status == 204


def test_lists_page_from_2_35_on(api: Compute) -> None:
    for name in ("b", "a", "c"):
        put(api, name, public_key=KEY)
    page = api("GET", "/os-keypairs?limit=2", at="2.35", caller="demo").json
    assert [entry["keypair"]["name"] for entry in page["keypairs"]] == ["a", "b"]
    following = page["keypairs_links"][0]["href"].partition("/v2.1")[2]
    rest = api("GET", following, at="2.35", caller="demo").json
    assert [entry["keypair"]["name"] for entry in rest["keypairs"]] == ["c"] and "keypairs_links" not in rest
    assert len(api("GET", "/os-keypairs?limit=2", at="2.34", caller="demo").json["keypairs"]) == 3
    assert api("GET", "/os-keypairs?marker=nope", at="2.35", caller="demo").status == 400
    assert api("GET", "/os-keypairs?foo=1", at="2.75", caller="demo").status == 400


def test_the_quota_holds(api: Compute) -> None:
    api.direct.db.transact(lambda tx: COMPUTE_QUOTA.set_limits(tx, DEMO.project_id or "", {"key_pairs": 1}))
    assert put(api, "a", public_key=KEY).status == 201
    refused = put(api, "b", public_key=KEY)
    assert refused.status == 403 and "Quota exceeded" in refused.json["forbidden"]["message"]
