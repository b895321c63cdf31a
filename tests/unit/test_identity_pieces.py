"""Tokens, key rings, remembered passwords, access rules: without a database."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.core.access import permits
from pileus.core.ids import new_hex
from pileus.identity.catalog import endpoint_url
from pileus.identity.keys import KeyRing, create_ring, rotate
from pileus.identity.passwords import REMEMBER_SECONDS, Passwords, Verified
from pileus.identity.token import MAX_LENGTH, METHODS, SCOPES, Payload, new_audit_id, read, sign


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    path = tmp_path_factory.mktemp("keys") / "ring.json"
    create_ring(path)
    return KeyRing(path)


hex_ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
user_ids = st.one_of(hex_ids, st.binary(min_size=32, max_size=32).map(bytes.hex), st.uuids().map(str))


@given(
    user=user_ids, target=st.one_of(hex_ids, st.sampled_from(["default", ""])),
    credential=st.one_of(hex_ids, st.just("")), scope=st.sampled_from(SCOPES),
    methods=st.lists(st.sampled_from(METHODS), unique=True), issued=st.floats(0, 4e9), life=st.floats(0, 1e6),
    generations=st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)),
)  # fmt: skip
def test_a_token_says_what_was_signed_in_at_most_255_characters(
    ring: KeyRing, user: str, target: str, credential: str, scope: str, methods: list[str], issued: float,
    life: float, generations: tuple[int, int],
) -> None:  # fmt: skip
    payload = Payload(
        user_id=user, methods=tuple(sorted(methods, key=METHODS.index)), scope=scope, scope_id=target,  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it
        issued_at=issued, expires_at=issued + life, audit_id=new_audit_id(), parent_audit_id=new_audit_id(),
        user_generation=generations[0], scope_generation=generations[1], application_credential_id=credential,
    )  # fmt: skip
    token = sign(payload, ring, 1.0)
    assert len(token) <= MAX_LENGTH and token.isascii() and read(token, ring) == payload


@given(text=st.text(max_size=300))
def test_what_we_did_not_sign_says_nothing(ring: KeyRing, text: str) -> None:
    assert read(text, ring) is None


@given(at=st.integers(0, 157), bit=st.integers(0, 5))
def test_no_character_of_a_token_can_be_changed(ring: KeyRing, at: int, bit: int) -> None:
    payload = Payload(user_id=new_hex(), methods=("password",), issued_at=1.0, expires_at=2.0, audit_id=new_audit_id())
    token = sign(payload, ring, 1.0)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at %= len(token)
    changed = alphabet[alphabet.index(token[at]) ^ 1 << bit]
    assert read(token[:at] + changed + token[at + 1 :], ring) is None


def test_another_ring_reads_nothing(ring: KeyRing, tmp_path: Path) -> None:
    payload = Payload(user_id="u", methods=("token",), issued_at=1.0, expires_at=2.0, audit_id=new_audit_id())
    create_ring(tmp_path / "other.json")
    assert read(sign(payload, ring, 1.0), KeyRing(tmp_path / "other.json")) is None


def test_a_ring_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ring.json"
    create_ring(path)
    before = path.read_bytes()
    create_ring(path)
    assert path.read_bytes() == before and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["ring.json"]


def test_a_rotated_key_signs_after_its_lead_and_old_ones_leave_when_out_of_use(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    create_ring(path)
    ring = KeyRing(path)
    first = ring.current(1000.0)
    second = rotate(path, now=1000.0, keep_seconds=100, lead_seconds=30)
    os.utime(path, ns=(1, 1))  # whatever the clock of the file system says
    assert ring.current(1010.0) == first and ring.current(1030.0) == second and ring.find(first.id) == first
    rotate(path, now=1200.0, keep_seconds=100)
    os.utime(path, ns=(2, 2))
    assert ring.find(first.id) is None and ring.find(second.id) == second
    assert "***" in repr(first) and first.secret.hex() not in repr(first)


def test_only_the_same_password_of_the_same_owner_and_hash_is_remembered() -> None:
    now = [0.0]
    verified = Verified(lambda: now[0])
    verified.add("owner", "hash", "right")
    assert verified.knows("owner", "hash", "right")
    assert not verified.knows("owner", "hash", "wrong") and not verified.knows("other", "hash", "right")
    assert not verified.knows("owner", "another hash", "right")
    now[0] = REMEMBER_SECONDS + 1
    assert not verified.knows("owner", "hash", "right")


async def all_of(passwords: Passwords, stored: str) -> list[bool]:
    return [await passwords.verify("o", stored, p) for p in ("right", "wrong", "right", "")]


def test_passwords_are_verified() -> None:
    import asyncio

    passwords = Passwords(64, 1)
    stored = passwords.hash_now("right")
    assert stored.startswith("$argon2id$") and stored != passwords.hash_now("right")
    assert asyncio.run(all_of(passwords, stored)) == [True, False, True, False]
    assert asyncio.run(all_of(passwords, "")) == [False] * 4
    assert asyncio.run(all_of(passwords, "no hash at all")) == [False] * 4


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/v2.1/servers", "/v2.1/servers", True),
        ("/v2.1/servers", "/v2.1/servers/1", False),
        ("/v2.1/servers/*", "/v2.1/servers/1", True),
        ("/v2.1/servers/*", "/v2.1/servers/1/action", False),
        ("/v2.1/servers/{server_id}/action", "/v2.1/servers/1/action", True),
        ("/v2.1/servers/**", "/v2.1/servers/1/action", True),
        ("/v2.1/server.", "/v2.1/servers", False),
        ("/v2.1/*s", "/v2.1/servers", True),
        ("**", "/anything/at/all", True),
    ],
)
def test_access_rules_match_paths(pattern: str, path: str, fits: bool) -> None:
    rules = (("compute", "GET", pattern),)
    assert permits(rules, "compute", "GET", path) is fits
    assert not permits(rules, "compute", "POST", path) and not permits(rules, "image", "GET", path)


@pytest.mark.parametrize(
    ("template", "project", "url"),
    [
        ("http://a/v3", "", "http://a/v3"),
        ("http://a/%(tenant_id)s", "p", "http://a/p"),
        ("http://a/AUTH_$(project_id)s", "p", "http://a/AUTH_p"),
        ("http://a/AUTH_$(project_id)s", "", None),
        ("http://a/$(user_id)s", "", "http://a/u"),
    ],
)
def test_endpoint_templates(template: str, project: str, url: str | None) -> None:
    assert endpoint_url(template, project, "u") == url
