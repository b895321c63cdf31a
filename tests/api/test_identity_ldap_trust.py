"""An LDAP directory and those who mean harm: input, secrets, TLS, what is only read; and the real clients."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openstack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from openstackclient.shell import OpenStackShell
from test_identity_commands import Shell

from identity_cloud import PASSWORD as ADMIN_PASSWORD
from identity_cloud import URL
from ldap_cloud import LdapCloud
from pileus.http.app import App
from pileus.identity import facade
from slapd import PASSWORD, READER_PASSWORD, Slapd


@pytest.fixture
def slapd(tmp_path: Path) -> Iterator[Slapd]:
    made = Slapd(tmp_path / "slapd")
    yield made
    made.stop()


@pytest.fixture
def cloud(tmp_path: Path, slapd: Slapd) -> Iterator[LdapCloud]:
    made = LdapCloud(tmp_path, slapd)
    yield made
    made.close()


INJECTIONS = ("*", "a*", "*)(uid=*", "alice)(|(uid=*", "alice)(userPassword=*", "\\61lice", "alice\\00", "(uid=u1)",
              "*)(objectClass=*))(&(uid=x", "u1,ou=people", "alice)(cn=*", "\u2a20*", "|", "&")  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_value_becomes_a_filter(cloud: LdapCloud, text: str) -> None:
    cloud.slapd.person("u1", "alice")
    assert cloud.enter(text).status == 401
    for comparison in ("", "__contains", "__startswith", "__endswith", "__iexact"):
        if text in ("a*", "*") and comparison:
            continue
        assert cloud.names("users", f"&name{comparison}={quote(text)}") == set(), comparison
        assert cloud.names("groups", f"&name{comparison}={quote(text)}") == set()
    assert cloud("GET", f"/users/{quote(text, safe='')}").status == 404


def test_no_log_in_keeps_others_out(cloud: LdapCloud) -> None:
    """What the directory cannot make sense of is one refusal, not a directory that fails."""
    cloud.slapd.person("u1", "alice")
    for strange in ("\ud800", "x" * 4000, "\u0001\u202e", "\u00ad", "\U0010ffff"):
        assert cloud.enter("alice", strange).status in (400, 401)
        assert cloud.enter(strange[:255]).status in (400, 401)
        assert cloud.enter("alice").status == 201


def test_a_name_full_of_filter_characters_is_a_name(cloud: LdapCloud) -> None:
    name = "o'(bri*en)\\|&"
    cloud.slapd.person("x", name)
    cloud.slapd.person("y", "other")
    assert cloud.enter(name).json["token"]["user"]["name"] == name
    assert cloud.names("users", "&name__contains=(bri*en)") == {name}


def test_nobody_is_the_administrator_by_their_name_in_a_directory(cloud: LdapCloud) -> None:
    cloud.configure(cloud.slapd.options(), "default")
    cloud.slapd.person("u1", "admin")
    [admin] = cloud("GET", "/users?domain_id=default&name=admin").json["users"]
    assert len(admin["id"]) == 32 and cloud.by_password("admin", PASSWORD).status == 401
    assert cloud("DELETE", f"/users/{admin['id']}").status == 204
    theirs = cloud.by_password("admin", PASSWORD)
    assert theirs.status == 201 and len(theirs.json["token"]["user"]["id"]) == 64
    rules = cloud.settings.config.identity
    password = cloud.db.transact(
        lambda tx: facade.recover_administrator(tx, rules=rules, public_url=URL, region="RegionOne", now=time.time())
    )
    everywhere = {"system": {"all": True}}
    assert cloud.by_password("admin", password, everywhere).status == 201
    assert cloud.by_password("admin", PASSWORD, everywhere).status == 401


def test_the_directory_is_only_read(cloud: LdapCloud) -> None:
    cloud.slapd.team("dev", [cloud.slapd.person("u1", "alice")])
    local = cloud.make("/users", "user", name="local", password="x")["id"]
    ours = cloud.make("/groups", "group", name="ours")["id"]
    user, group = cloud.id_of("users", "alice"), cloud.id_of("groups", "dev")
    passwords = {"user": {"password": "new one", "original_password": PASSWORD}}
    refused = [
        cloud("POST", "/users", {"user": {"name": "eve", "domain_id": cloud.corp, "password": "x"}}),
        cloud("PATCH", f"/users/{user}", {"user": {"enabled": False}}),
        cloud("PATCH", f"/users/{user}", {"user": {"password": "mine now"}}),
        cloud("DELETE", f"/users/{user}"),
        cloud("POST", f"/users/{user}/password", passwords, token=""),
        cloud("POST", "/groups", {"group": {"name": "g", "domain_id": cloud.corp}}),
        cloud("PATCH", f"/groups/{group}", {"group": {"name": "x"}}),
        cloud("DELETE", f"/groups/{group}"),
        cloud("PUT", f"/groups/{group}/users/{user}"),
        cloud("PUT", f"/groups/{group}/users/{local}"),
        cloud("PUT", f"/groups/{ours}/users/{user}"),
        cloud("DELETE", f"/groups/{group}/users/{user}"),
    ]
    assert {answer.status for answer in refused} == {403}
    assert all("driver ldap" in answer.json["error"]["message"] for answer in refused)
    passwords["user"]["original_password"] = "wrong"
    assert cloud("POST", f"/users/{user}/password", passwords, token="").status == 401
    assert cloud.enter("alice").status == 201 and cloud.names("users") == {"alice"}


def test_the_password_of_the_cloud_is_never_shown(cloud: LdapCloud, caplog: pytest.LogCaptureFixture) -> None:
    here = f"/domains/{cloud.corp}/config"
    said = [cloud("GET", here), cloud("GET", f"{here}/ldap"), cloud("GET", f"{here}/ldap/password"),
            cloud("PATCH", f"{here}/ldap", {"config": {"ldap": {"page_size": 5}}})]  # fmt: skip
    assert [a.status for a in said] == [200, 200, 404, 200]
    assert cloud.configure(cloud.slapd.options(password="wrong one")).status == 200
    said.append(cloud.enter("alice"))
    assert said[-1].status == 503 and "refuses the cloud's own account" in said[-1].json["error"]["message"]
    everything = caplog.text + "".join(map(repr, said)) + repr(
        cloud.db.read(lambda tx: [tx.all(f"select * from {t}") for t in ("domain_options", "audit")])
    )  # fmt: skip
    assert READER_PASSWORD not in everything and "wrong one" not in everything


def test_the_configuration_is_checked(cloud: LdapCloud) -> None:
    here = f"/domains/{cloud.corp}/config"
    for option, value in (("page_size", "many"), ("page_size", -1), ("query_scope", "base"), ("use_tls", "perhaps"),
                          ("user_filter", "(a=b"), ("user_filter", "(a=b))(|(c=d)"), ("tls_req_cert", "x"),
                          ("user_id_attribute", "uid=*)(x"), ("alias_dereferencing", "x"), ("url", 5)):  # fmt: skip
        answer = cloud("PATCH", f"{here}/ldap", {"config": {"ldap": {option: value}}})
        assert answer.status == 400 and option in answer.json["error"]["message"], (option, answer)
    assert cloud("PATCH", f"{here}/identity", {"config": {"identity": {"driver": 5}}}).status == 400
    assert cloud("PATCH", f"{here}/ldap", {"config": {"ldap": {"page_size": "20", "use_tls": "false"}}}).status == 200
    cloud.slapd.person("u1", "alice")
    assert cloud.enter("alice").status == 201


def test_the_clients_see_the_directory_as_any_domain(
    cloud: LdapCloud, serve: Callable[[App], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The openstack command and openstacksdk, against the API on a socket."""
    dev = cloud.slapd.team("dev", [cloud.slapd.person("u1", "alice")])
    cloud.slapd.person("u2", "bob")
    address = serve(cloud.direct.app)
    cloud.bootstrap(url=address)
    shell = Shell(address, capsys)
    assert {u["Name"] for u in shell("user list --domain corp")} == {"alice", "bob"}
    assert shell("user show bob --domain corp")["name"] == "bob"
    [group] = shell("group list --domain corp")
    assert group["Name"] == "dev"
    assert [u["Name"] for u in shell(f"user list --group {group['ID']}")] == ["alice"]
    shell.quietly("group contains user dev alice --group-domain corp --user-domain corp")
    shell.quietly("role add member --project work --project-domain corp --user bob --user-domain corp")
    shell.quietly("role add reader --project work --project-domain corp --group dev --group-domain corp")
    listed = shell("role assignment list --project work --project-domain corp --effective --names")
    assert {(a["Role"], a["User"]) for a in listed} >= {("member", "bob@corp"), ("reader", "alice@corp")}
    as_bob = openstack.connect(
        auth_url=f"{address}/identity/v3", username="bob", password=PASSWORD, user_domain_name="corp",
        project_name="work", project_domain_name="corp", region_name="RegionOne",
    )  # fmt: skip
    assert as_bob.identity.get_user(as_bob.current_user_id).name == "bob"
    status = OpenStackShell().run(
        ["--os-auth-url", f"{address}/identity/v3", "--os-username", "alice", "--os-password", PASSWORD,
         "--os-user-domain-name", "corp", "--os-project-name", "work", "--os-project-domain-name", "corp",
         "token", "issue", "-f", "json"]
    )  # fmt: skip
    assert status == 0 and json.loads(capsys.readouterr().out)["project_id"] == cloud.project
    cloud.slapd.remove(dev)
    with pytest.raises(openstack.exceptions.ForbiddenException, match="driver ldap"):
        openstack.connect(
            auth_url=f"{address}/identity/v3", username="admin", password=ADMIN_PASSWORD, project_name="admin",
            user_domain_id="default", project_domain_id="default", region_name="RegionOne",
        ).identity.create_user(name="eve", domain_id=cloud.corp)  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`crt` and `key` of a server on 127.0.0.1, and `ca` that signed it."""
    folder = tmp_path_factory.mktemp("certificates")
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca, own = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("ca", "directory"))
    now = datetime.now(UTC)

    def sign(subject: x509.Name, public: Any, extension: x509.ExtensionType) -> bytes:
        made = x509.CertificateBuilder(
            ca, subject, public, x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
        ).add_extension(extension, critical=True)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    contents = {"ca": sign(ca, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=0)),
                "crt": sign(own, key.public_key(), names), "key": pem}  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


@pytest.fixture
def sure_slapd(tmp_path: Path, certificates: dict[str, Path]) -> Iterator[Slapd]:
    made = Slapd(tmp_path / "sure", certificate=certificates)
    yield made
    made.stop()


def test_over_tls_the_directory_must_prove_who_it_is(
    cloud: LdapCloud, sure_slapd: Slapd, certificates: dict[str, Path]
) -> None:
    sure_slapd.person("u1", "alice")
    plain, secure = sure_slapd.addresses
    other = secure.replace("127.0.0.1", "localhost")  # not in its certificate
    ca = str(certificates["ca"])
    for status, options in (
        (201, {"url": plain, "use_tls": True, "tls_cacertfile": ca}),
        (201, {"url": secure, "tls_cacertfile": ca}),
        (503, {"url": plain, "use_tls": True}),
        (503, {"url": secure}),
        (503, {"url": other, "tls_cacertfile": ca}),
        (201, {"url": secure, "tls_req_cert": "never"}),
        (201, {"url": f"ldap://127.0.0.1:9,{plain}"}),  # the first of two does not answer
    ):
        cloud.configure(sure_slapd.options(**options))
        assert cloud.enter("alice").status == status, options
