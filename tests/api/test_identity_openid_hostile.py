"""Providers of OpenID Connect that lie, stall, flood, or send us elsewhere; and tokens that nobody should believe."""

import asyncio
import base64
import hmac
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from msgspec import structs

from direct import Answer
from identity_cloud import IdentityCloud
from pileus.core.config import Federation, OidcProvider
from pileus.core.errors import ServiceUnavailable
from pileus.identity.facade import check_providers
from pileus.identity.federation import fetch, oidc_provider
from pileus.identity.federation.oidc_login import attributes_of

CLIENT = "pileus"


class Liar:
    """A provider whose every answer the test decides: by path, a JSON object, bytes, a status, or what does it all."""

    def __init__(self, shown: tuple[Path, Path] | None = None) -> None:
        """`shown`: the certificate and its key, where it has TLS."""
        self.key, self.asked = RSAKey.generate_key(2048, {"kid": "one"}), list[str]()
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                liar.asked.append(self.path)
                self.rfile.read(int(self.headers.get("content-length", "0")))
                found = liar.answers.get(self.path, 404)
                if callable(found):
                    found(self)
                    return
                if isinstance(found, int):
                    self.send_response(found)
                    self.send_header("location", f"{liar.issuer}/elsewhere")
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                raw = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_POST = do_GET  # noqa: N815 (the server calls it so)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.issuer = f"{'https' if shown else 'http'}://127.0.0.1:{self.server.server_port}"
        if shown:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*shown)
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.answers: dict[str, Any] = {}
        self.be_honest()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def be_honest(self) -> None:
        self.answers = {
            "/.well-known/openid-configuration": {
                "issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", "userinfo_endpoint": f"{self.issuer}/user",
                "introspection_endpoint": f"{self.issuer}/introspect",
                "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
            },
            "/keys": {"keys": [self.key.as_dict(private=False)]},
            "/user": {"sub": "ann", "groups": ["dev"]},
            "/introspect": {"active": False},
        }  # fmt: skip

    def claims(self, **other: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {"iss": self.issuer, "aud": CLIENT, "sub": "ann", "exp": now + 600, "iat": now, **other}
        return {name: value for name, value in usual.items() if value is not None}

    def token(self, header: Any = None, key: Any = None, **claims: Any) -> str:
        head = {"alg": "RS256", "kid": "one", **(header or {})}
        return jwt.encode(head, self.claims(**claims), key or self.key, algorithms=[head["alg"]])


class Victim:
    """A cloud that trusts the liar."""

    def __init__(self, cloud: IdentityCloud, liar: Liar):
        self.cloud, self.told = cloud, 0
        self.trust(liar)
        rules = [{"remote": [{"type": "OIDC-sub"}], "local": [{"user": {"name": "{0}"}}]}]
        for path, key, fields in (
            ("mappings/acme", "mapping", {"rules": rules}),
            ("identity_providers/acme", "identity_provider", {"enabled": True}),
            ("identity_providers/acme/protocols/openid", "protocol", {"mapping_id": "acme"}),
        ):
            assert cloud("PUT", f"/OS-FEDERATION/{path}", {key: fields}).status == 201

    def trust(self, liar: Liar, ca_file: str = "") -> None:
        """Believe this one from now on, of whom nothing is known yet."""
        oidc_provider.provider_of.cache_clear()
        secret = self.cloud.folder / "secret"
        secret.write_text("s")
        oidc = OidcProvider(issuer=liar.issuer, client_id=CLIENT, client_secret_file=str(secret), ca_file=ca_file)
        federation = Federation(oidc={"acme": oidc}, trusted_dashboards=("https://d/",))
        self.cloud.settings.config = structs.replace(self.cloud.settings.config, federation=federation)

    def log_in(self, token: str) -> Answer:
        path = "/OS-FEDERATION/identity_providers/acme/protocols/openid/auth"
        return self.cloud("POST", path, token="", headers={"authorization": f"Bearer {token}"})

    def browse(self) -> Answer:
        path = "/auth/OS-FEDERATION/identity_providers/acme/protocols/openid/websso?origin=https://d/"
        return self.cloud("GET", path, token="")

    def audited(self) -> list[dict[str, Any]]:
        """The audit trail."""
        self.cloud.direct.loop.run_until_complete(self.cloud.direct.app.audit.flush())
        events = self.cloud.db.read(lambda tx: tx.all("select event from audit order by at"))
        return [json.loads(row[0]) for row in events]

    def reasons(self) -> list[str]:
        """Why log-ins were refused, as the audit trail has it."""
        reasons = [event["reason"] for event in self.audited()]
        return [reason["why"] for reason in reasons if "why" in reason][self.told :]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Victim, Liar]]:
    liar, cloud = Liar(), IdentityCloud(tmp_path_factory.mktemp("victim"))
    yield Victim(cloud, liar), liar
    cloud.close()
    liar.close()


@pytest.fixture
def liar(pair: tuple[Victim, Liar]) -> Liar:
    pair[1].be_honest()
    pair[1].asked.clear()
    return pair[1]


@pytest.fixture
def victim(pair: tuple[Victim, Liar]) -> Victim:
    """The cloud, which has heard nothing of the provider yet."""
    pair[0].trust(pair[1])
    pair[0].told = len(pair[0].reasons())
    return pair[0]


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(liar: Liar, alg: str, secret: bytes = b"") -> str:
    """A token that names an algorithm and bears an HMAC-SHA256 under a secret, or no signature."""
    parts = ({"alg": alg, "kid": "one"}, liar.claims())
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), 'sha256')) if secret else ''}"


def test_an_honest_token_logs_in(victim: Victim, liar: Liar) -> None:
    assert victim.log_in(liar.token()).status == 201
    assert victim.log_in(liar.token(aud=["x", CLIENT])).status == 201
    assert victim.log_in(liar.token({"typ": "at+jwt"}, aud="api", client_id=CLIENT)).status == 201
    user = victim.log_in(liar.token()).json["token"]["user"]
    event = victim.audited()[-1]
    assert (event["action"], event["outcome"], event["initiator"]["id"]) == ("authenticate", "success", user["id"])


def test_unsigned_tokens_and_public_keys_as_secrets_are_refused(victim: Victim, liar: Liar) -> None:
    for alg in ("none", "None", "nOnE", "HS256", "", "RS256"):
        assert victim.log_in(by_hand(liar, alg)).status == 401, alg
    for form in (liar.key.as_pem(private=False), json.dumps(liar.key.as_dict(private=False)).encode()):
        assert victim.log_in(by_hand(liar, "HS256", form)).status == 401
    secret = OctKey.generate_key(256, {"kid": "one"})
    liar.answers["/keys"] = {"keys": [secret.as_dict(private=True)]}
    oidc_provider.provider_of.cache_clear()
    assert victim.log_in(liar.token({"alg": "HS256"}, secret)).status == 401
    assert any("HS256" in why for why in victim.reasons())


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"iss": "https://evil"}, {}), ({"iss": None}, {}), ({"aud": "another"}, {}), ({"aud": None}, {}),
        ({"aud": [1, None]}, {}), ({"aud": {"pileus": 1}}, {}), ({"exp": 1}, {}), ({"exp": None}, {}),
        ({"exp": "tomorrow"}, {}), ({"exp": 1e400}, {}), ({"nbf": 1e12}, {}), ({"iat": 1e12}, {}), ({"sub": None}, {}),
        ({"sub": ""}, {}), ({"sub": 5}, {}), ({}, {"typ": "logout+jwt"}), ({}, {"typ": "secevent+jwt"}),
    ],
)  # fmt: skip
def test_claims_that_are_wrong_or_lacking_are_refused(
    victim: Victim, liar: Liar, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    liar.answers["/user"] = 404
    assert victim.log_in(liar.token(header, **claims)).status == 401
    assert victim.reasons()


def test_signatures_of_others_are_refused(victim: Victim, liar: Liar) -> None:
    other = RSAKey.generate_key(2048, {"kid": "one"})
    assert victim.log_in(liar.token(key=other)).status == 401
    assert victim.log_in(liar.token({"jwk": other.as_dict(private=False)}, other)).status == 401, "a key in the token"
    assert victim.log_in(liar.token({"alg": "ES256"}, ECKey.generate_key("P-256"))).status == 401
    signed = liar.token().split(".")
    forged = base64url(json.dumps(liar.claims(sub="admin")).encode())
    assert victim.log_in(".".join([signed[0], forged, signed[2]])).status == 401


def test_a_stranger_cannot_make_us_ask_for_keys_at_will(victim: Victim, liar: Liar) -> None:
    assert victim.log_in(liar.token()).status == 201
    for number in range(20):
        assert victim.log_in(liar.token({"kid": str(number)})).status == 401
    assert liar.asked.count("/keys") <= 2


@pytest.mark.parametrize("about", [{"sub": "admin"}, {"groups": ["dev"]}])
def test_the_user_told_of_must_be_the_tokens(victim: Victim, liar: Liar, about: dict[str, Any]) -> None:
    liar.answers["/user"] = about
    assert victim.log_in(liar.token()).status == 401


def test_what_is_told_of_a_user_never_replaces_what_is_signed(victim: Victim, liar: Liar) -> None:
    liar.answers["/user"] = {"sub": "ann", "iss": "https://evil", "aud": "x", "name": "Ann"}
    shown = victim.log_in(liar.token())
    assert shown.status == 201 and shown.json["token"]["user"]["name"] == "ann"


def test_opaque_tokens_are_asked_about(victim: Victim, liar: Liar) -> None:
    assert victim.log_in("opaque").status == 401
    known = {"active": True, "sub": "ann", "client_id": CLIENT}
    for wrong in ({"active": "true"}, {"client_id": "another"}, {"exp": 5}, {"iss": "https://evil"}, {"sub": 5}):
        liar.answers["/introspect"] = {**known, **wrong}
        assert victim.log_in("opaque").status == 401, wrong
    liar.answers["/introspect"] = known
    assert victim.log_in("opaque").status == 201


def trickle(handler: Any) -> None:
    """An answer that never ends, a byte at a time."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def flood(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(1000):
            handler.wfile.write(b" " * 65_536)
    except OSError:
        pass


def endless_headers(handler: Any) -> None:
    try:
        for _ in range(1000):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 60_000 + b"\r\n")
    except OSError:
        pass


DOCUMENT = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    "answer",
    [404, 302, 500, b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, {"issuer": "https://evil"}, {}, trickle, flood,
     endless_headers, lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n"), lambda handler: None],
)  # fmt: skip
@pytest.mark.parametrize("path", [DOCUMENT, "/keys", "/user"])
def test_a_provider_that_misbehaves_holds_up_nobody(
    victim: Victim, liar: Liar, path: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SECONDS", 0.4)
    liar.answers[path] = answer
    started = time.monotonic()
    first = victim.log_in(liar.token())
    if path == "/user" and isinstance(answer, int):
        assert first.status == 201, "a provider may tell nothing of a user; what was signed is enough"
    else:
        assert first.status in (401, 503), first
        assert b"Traceback" not in first.raw
    assert time.monotonic() - started < 10
    assert f"{liar.issuer}/elsewhere" not in liar.asked and "/elsewhere" not in liar.asked, "redirects are not followed"


def test_a_provider_that_is_away_is_not_waited_for_by_everybody(victim: Victim, liar: Liar) -> None:
    liar.answers[DOCUMENT] = 500
    for _ in range(5):
        assert victim.log_in(liar.token()).status == 503
    assert liar.asked.count(DOCUMENT) == 1


@pytest.mark.parametrize("place", [
    "http://169.254.169.254/latest/meta-data", "http://127.0.0.1:1/keys", "http://localhost/keys", "file:///etc/passwd",
    "https://127.0.0.1/keys", "http://[::1]/keys", "//127.0.0.1/keys", "gopher://127.0.0.1/", "http://2130706433/", "",
    "http://evil@127.0.0.1:{port}/keys", "http://127.0.0.1:{port}@evil/keys", "http://127.0.0.1:{port}\\@evil/",
    "http://127.0.0.1:99999/", "http://127.0.0.1:{port}/a b", "http://127.0.0.1:{port}/\r\nx: y", 5, None, ["x"],
])  # fmt: skip
@pytest.mark.parametrize("name", ["jwks_uri", "userinfo_endpoint", "authorization_endpoint"])
def test_no_document_sends_us_to_other_places(victim: Victim, liar: Liar, place: Any, name: str) -> None:
    """S44 through this door: only the provider's own host is asked, and its browsers sent nowhere else."""
    if isinstance(place, str):
        place = place.replace("{port}", liar.issuer.rpartition(":")[2])
    liar.answers[DOCUMENT] = {**liar.answers[DOCUMENT], name: place}
    if name == "authorization_endpoint":
        answer = victim.browse()
        assert answer.status == 503 and "location" not in answer.headers
        return
    answer = victim.log_in(liar.token())
    nothing = name == "userinfo_endpoint" and not (isinstance(place, str) and place)
    assert answer.status == (201 if nothing else 503), answer
    assert not [path for path in liar.asked if path not in (DOCUMENT, "/keys")]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, for an address or name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider")])
    now = datetime.now(UTC)
    holder = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
        )
        .add_extension(x509.SubjectAlternativeName([holder]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def test_a_provider_must_show_the_certificate_of_its_name(victim: Victim, tmp_path: Path) -> None:
    right, wrong = certificate(tmp_path, "127.0.0.1"), certificate(tmp_path, "other.example.org")
    for shown, ca_file, status in ((right, str(right[0]), 201), (right, "", 503), (wrong, str(wrong[0]), 503)):
        liar = Liar(shown)
        victim.trust(liar, ca_file=ca_file)
        assert victim.log_in(liar.token()).status == status, (shown[0].name, ca_file)
        liar.close()


def test_a_provider_with_tls_leads_to_no_address_without(victim: Victim, tmp_path: Path) -> None:
    shown = certificate(tmp_path, "127.0.0.1")
    liar, plain = Liar(shown), Liar()
    for place in (f"{plain.issuer}/keys", liar.issuer.replace("https", "http") + "/keys"):
        liar.answers[DOCUMENT] = {**liar.answers[DOCUMENT], "jwks_uri": place}
        victim.trust(liar, ca_file=str(shown[0]))
        assert victim.log_in(liar.token()).status == 503
    assert not plain.asked
    liar.close(), plain.close()


def test_no_more_wait_for_a_provider_than_is_bearable(
    victim: Victim, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SECONDS", 0.5)
    liar.answers["/user"] = trickle
    provider = oidc_provider.provider_of(victim.cloud.settings.config.federation.oidc["acme"])

    async def storm() -> list[Any]:
        asking = [provider.ask(f"{liar.issuer}/user") for _ in range(oidc_provider.WAITING_MOST + 8)]
        return await asyncio.gather(*asking, return_exceptions=True)

    refused = [e for e in victim.cloud.direct.loop.run_until_complete(storm()) if isinstance(e, ServiceUnavailable)]
    assert len(refused) == 8
    liar.be_honest()
    assert victim.log_in(liar.token()).status == 201, "afterwards there is room again"


def test_the_doctor_says_of_a_provider_what_is_wrong_with_it(victim: Victim, liar: Liar) -> None:
    def found() -> tuple[str, str]:
        ((level, what, cure),) = check_providers(victim.cloud.settings.config)
        assert "acme" in what and (level == "ok" or "federation.oidc.acme" in cure)
        return level, what

    assert found()[0] == "ok"
    for change, why in (
        ({"issuer": "https://evil"}, "is not that of"), ({"jwks_uri": "https://keys.example.org/"}, "does not name"),
        ({"token_endpoint": None}, "no address"), ({"jwks_uri": f"{liar.issuer}/nowhere"}, "404"),
    ):  # fmt: skip
        liar.be_honest()
        liar.answers[DOCUMENT] = {**liar.answers[DOCUMENT], **change}
        level, what = found()
        assert level == "warning" and why in what, (change, what)
    liar.be_honest()
    liar.answers["/keys"] = {"keys": []}
    assert "no key" in found()[1]
    liar.be_honest()
    (victim.cloud.folder / "secret").unlink()
    assert "client_secret_file" in found()[1]


def test_claims_become_attributes_under_both_names() -> None:
    found = attributes_of({
        "iss": "https://id.example.org/x", "sub": "a;b",
        "n": 5, "ok": True, "groups": ["x", 1, None, {"y": 1}], "none": None, "empty": [], "a-b": "1",
        "A_B": "2", "realm": {"roles": ["r"], "d": {"e": "f"}},
    })  # fmt: skip
    assert found["OIDC-sub"] == found["HTTP_OIDC_SUB"] == ["a;b"], "nothing is split"
    assert found["OIDC-n"] == ["5"] and found["OIDC-ok"] == ["true"] and found["OIDC-groups"] == ["x", "1"]
    assert found["OIDC-realm.roles"] == ["r"] and found["OIDC-realm.d.e"] == ["f"]
    assert found["REMOTE_USER"] == ["a;b@id.example.org/x"]
    assert "OIDC-none" not in found and "OIDC-empty" not in found
    assert "HTTP_OIDC_A_B" not in found and found["OIDC-a-b"] == ["1"] and found["OIDC-A_B"] == ["2"]
