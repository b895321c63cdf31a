"""The cloud's own certificate authority."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pileus.node import trust
from pileus.roles import authority


def test_it_is_made_once_and_follows_a_new_address(tmp_path: Path) -> None:
    own = authority.ensure_authority(tmp_path, "10.0.0.1:5100")
    before = own.authority.read_bytes(), own.certificate.read_bytes()
    authority.ensure_authority(tmp_path, "10.0.0.1:5100")
    assert (own.authority.read_bytes(), own.certificate.read_bytes()) == before
    authority.ensure_authority(tmp_path, "[2001:db8::1]:5100")
    assert own.authority.read_bytes() == before[0]
    names = x509.load_pem_x509_certificate(own.certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(a) for a in names.value.get_values_for_type(x509.IPAddress)] == ["2001:db8::1"]
    assert names.value.get_values_for_type(x509.DNSName) == [trust.CONTROLLER]


def test_its_secrets_are_its_owners_alone(tmp_path: Path) -> None:
    authority.ensure_authority(tmp_path, "10.0.0.1:5100")
    folder = authority.folder_of(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")} == {0o600}


def test_the_authority_decides_on_the_name_not_the_request(tmp_path: Path) -> None:
    authority.ensure_authority(tmp_path, "10.0.0.1:5100")
    key = authority.new_key()
    wish = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, trust.CONTROLLER)])
    cunning = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(wish)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(trust.CONTROLLER)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, authority.hashes.SHA256())
    )
    pem = authority.sign_node(tmp_path, cunning.public_bytes(serialization.Encoding.PEM), "n1")
    given = x509.load_pem_x509_certificate(pem)
    names = given.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [trust.node_name("n1")]
    assert not given.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("kind", ["words", "rsa", "other curve", "broken signature"])
def test_a_bad_request_is_refused(tmp_path: Path, kind: str) -> None:
    authority.ensure_authority(tmp_path, "10.0.0.1:5100")
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = authority.new_key()
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    if kind == "other curve":
        key = ec.generate_private_key(ec.SECP384R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, authority.hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    if kind == "broken signature":
        request = request[:-1] + bytes([request[-1] ^ 1])
    try:
        pem = x509.load_der_x509_csr(request).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        pem = b""
    if kind == "words":
        pem = b"-----BEGIN CERTIFICATE REQUEST-----\nhello\n-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(ValueError, match="request"):
        authority.sign_node(tmp_path, pem, "n1")


def test_a_peer_is_known_by_its_certificate_only() -> None:
    certificate = {"subjectAltName": (("DNS", "n1.node.pileus.internal"), ("IP Address", "10.0.0.1"))}
    assert trust.node_of(certificate) == "n1"
    assert trust.node_of({"subjectAltName": (("DNS", trust.CONTROLLER),)}) == ""
    assert trust.node_of({"subject": ((("commonName", "n1.node.pileus.internal"),),)}) == ""
    assert trust.node_of({}) == trust.node_of(None) == ""
