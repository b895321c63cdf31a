"""Attacks on SAML: what is signed, wrapped, cut up, forged or said at the wrong time or place lets nobody in.

Sources: "On Breaking SAML: Be Whoever You Want to Be" (USENIX Security 2012), whose eight wrappings bear their numbers
here; CVE-2017-11427 and its kin (comments in names); CVE-2021-21239 (keys that come with the message).
"""

import copy
import logging
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod

from identity_cloud import IdentityCloud
from saml_cloud import Browser, SamlCloud
from saml_forger import DS, NAMES, SAML, SAMLP, Forger, OldSigner


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    identity = IdentityCloud(tmp_path_factory.mktemp("cloud"))
    cloud, idp = SamlCloud(identity), Forger()
    cloud.trusts("acme")
    cloud.takes_word_of("acme", idp.metadata())
    yield Browser(cloud, idp)
    identity.close()


@pytest.fixture
def browser(before: Browser) -> Browser:
    """A browser that was nowhere yet, before the one cloud of these tests."""
    return Browser(before.cloud, before.idp)


def refused(browser: Browser, caplog: pytest.LogCaptureFixture, response: Any, why: str) -> None:
    """The response lets nobody in, for this reason; the same browser gets in with a right one afterwards."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    answer = browser.bring(response)
    assert answer.status == 401 and "x-subject-token" not in answer.headers and b"token" not in answer.raw, answer
    assert why in caplog.text, caplog.text


# What is changed of a good response, and for what it is then refused.
WRONG = [
    ({"audience": "https://other/cloud"}, "AudienceRestrictions"),
    ({"audience": ""}, "meant for"),
    ({"destination": "https://other/cloud"}, "not for us"),
    ({"recipient": "https://other/cloud"}, "no confirmation"),
    ({"answers": "_other"}, "did not ask"),
    ({"answers": ""}, "did not ask"),
    ({"confirms": "_other"}, "no confirmation"),
    ({"confirms": ""}, "no confirmation"),
    ({"begins": 3600.0, "ends": 7200.0}, "ToEarly"),
    ({"ends": -3600.0}, "Condition not OK"),
    ({"confirmed_until": -3600.0}, "ResponseLifetimeExceed"),
    ({"confirmed_until": 1e6, "ends": 1e6}, "for too long"),
    ({"issuer": "https://other/idp"}, "MissingKey"),
    ({"session": -3600.0}, "ResponseLifetimeExceed"),
    ({"session": -20.0}, "the session at the identity provider is over"),
    ({"status": "Responder"}, "the identity provider refused"),
]


@pytest.mark.parametrize(("changes", "why"), WRONG, ids=str)
def test_what_an_identity_provider_says_must_be_meant_for_here_and_now(
    browser: Browser, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], why: str
) -> None:
    refused(browser, caplog, browser.good(**changes), why)


# wrapping: a part that was signed is moved, and another one stands where it stood


def parts(response: Any) -> tuple[Any, Any]:
    """The signed assertion, and a forged copy of it without a signature."""
    signed = response.find("saml:Assertion", NAMES)
    forged = copy.deepcopy(signed)
    forged.remove(forged.find("ds:Signature", NAMES))
    forged.set("ID", "_forged")
    forged.find("saml:Subject/saml:NameID", NAMES).text = "admin"
    return signed, forged


def signature_of(signed: Any) -> Any:
    return signed.find("ds:Signature", NAMES)


def wrap_1(response: Any) -> Any:
    """The signed assertion inside a copy of the response that hangs in the signature of the outer one."""
    signed, forged = parts(response)
    inner = copy.deepcopy(response)
    response.replace(signed, forged)
    signature = etree.SubElement(response, f"{{{DS}}}Signature")
    signature.append(inner)
    return response


def wrap_2(response: Any) -> Any:
    """The same with the signature beside the copy."""
    signed, forged = parts(response)
    inner = copy.deepcopy(response)
    response.replace(signed, forged)
    response.append(inner)
    return response


def wrap_3(response: Any) -> Any:
    """A forged assertion before the signed one."""
    signed, forged = parts(response)
    signed.addprevious(forged)
    return response


def wrap_4(response: Any) -> Any:
    """A forged assertion around the signed one."""
    signed, forged = parts(response)
    response.replace(signed, forged)
    forged.append(signed)
    return response


def wrap_5(response: Any) -> Any:
    """A forged assertion with the signature, the signed one at the end without."""
    signed, forged = parts(response)
    signed.addprevious(forged)
    forged.find("saml:Issuer", NAMES).addnext(signature_of(signed))
    return response


def wrap_6(response: Any) -> Any:
    """A forged assertion with the signature, in which the signed one hangs."""
    signed, forged = parts(response)
    response.replace(signed, forged)
    signature = signature_of(signed)
    forged.find("saml:Issuer", NAMES).addnext(signature)
    signature.append(signed)
    return response


def wrap_7(response: Any) -> Any:
    """The signed assertion in the extensions, where schemas look at nothing."""
    signed, forged = parts(response)
    response.replace(signed, forged)
    extensions = etree.Element(f"{{{SAMLP}}}Extensions")
    response.find("saml:Issuer", NAMES).addnext(extensions)
    extensions.append(signed)
    return response


def wrap_8(response: Any) -> Any:
    """The signed assertion in an Object of the signature, which hangs in the forged one."""
    signed, forged = parts(response)
    response.replace(signed, forged)
    signature = signature_of(signed)
    forged.find("saml:Issuer", NAMES).addnext(signature)
    etree.SubElement(signature, f"{{{DS}}}Object").append(signed)
    return response


def wrap_in_advice(response: Any) -> Any:
    signed, forged = parts(response)
    response.replace(signed, forged)
    advice = etree.Element(f"{{{SAML}}}Advice")
    forged.find("saml:Conditions", NAMES).addnext(advice)
    advice.append(signed)
    forged.find("saml:Issuer", NAMES).addnext(copy.deepcopy(signature_of(signed)))
    return response


def same_id(response: Any) -> Any:
    """A second element with the id that was signed, hidden where it does no harm to a schema."""
    signed, forged = parts(response)
    forged.set("ID", signed.get("ID"))
    forged.find("saml:Issuer", NAMES).addnext(copy.deepcopy(signature_of(signed)))
    response.replace(signed, forged)
    hidden = etree.Element(f"{{{SAMLP}}}Extensions")
    response.find("saml:Issuer", NAMES).addnext(hidden)
    signed.tag = "{urn:x}Hidden"
    hidden.append(signed)
    return response


WRAPPINGS = (wrap_1, wrap_2, wrap_3, wrap_4, wrap_5, wrap_6, wrap_7, wrap_8, wrap_in_advice, same_id)


@pytest.mark.parametrize("wrap", WRAPPINGS, ids=lambda wrap: wrap.__name__)
def test_signed_parts_that_were_moved(
    browser: Browser, caplog: pytest.LogCaptureFixture, wrap: Callable[[Any], Any]
) -> None:
    refused(browser, caplog, wrap(browser.good()), "SAML response for acme refused: ")
    assert "Error" not in caplog.text, "our own look at the shape comes first"


@pytest.mark.parametrize("wrap", WRAPPINGS, ids=lambda wrap: wrap.__name__)
def test_signed_parts_that_were_moved_are_refused_by_the_library_too(
    browser: Browser, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Any], Any]
) -> None:
    """Two walls, each of which holds alone: here without our own look at the shape."""
    monkeypatch.setattr("pileus.identity.federation.saml_message.check_response", lambda root: None)
    refused(browser, caplog, wrap(browser.good()), "SAML response for acme refused")


# what was changed after it was signed, or signed by others


def test_what_was_changed_after_it_was_signed(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("saml:Subject/saml:NameID", "saml:Issuer", ".//saml:AttributeValue", ".//saml:Audience"):
        response = browser.good()
        response.find("saml:Assertion", NAMES).find(path, NAMES).text += "x"
        refused(browser, caplog, response, "refused")


def test_what_was_not_signed(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    response = browser.good()
    signed = response.find("saml:Assertion", NAMES)
    signed.remove(signature_of(signed))
    refused(browser, caplog, response, "the assertion is not signed")
    around = browser.idp.sign(browser.idp.response(browser.place, browser.begin()))
    refused(browser, caplog, around, "the assertion is not signed")


def test_a_key_that_comes_with_the_message_is_not_believed(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    other = Forger()
    refused(browser, caplog, other.signed(other.response(browser.place, browser.begin())), "Failed to verify signature")


@pytest.mark.parametrize(
    "how",
    [
        {"signature_algorithm": SignatureMethod.RSA_SHA1},
        {"digest_algorithm": DigestAlgorithm.SHA1},
    ],
    ids=str,
)
def test_signatures_of_yesterday(browser: Browser, caplog: pytest.LogCaptureFixture, how: dict[str, Any]) -> None:
    response = browser.idp.signed(browser.idp.response(browser.place, browser.begin()), signer=OldSigner, **how)
    refused(browser, caplog, response, "which is not taken")


@pytest.mark.parametrize(
    ("tag", "algorithm"),
    [
        ("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
        ("SignatureMethod", ""),
        ("Transform", "http://www.w3.org/TR/1999/REC-xslt-19991116"),
        ("Transform", "http://www.w3.org/TR/1999/REC-xpath-19991116"),
        ("CanonicalizationMethod", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
    ],
)
def test_algorithms_that_are_not_for_this(
    browser: Browser, caplog: pytest.LogCaptureFixture, tag: str, algorithm: str
) -> None:
    response = browser.good()
    next(response.iter(f"{{{DS}}}{tag}")).set("Algorithm", algorithm)
    refused(browser, caplog, response, "which is not taken")


def test_what_is_encrypted_for_nobody(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    response = browser.good()
    signed = response.find("saml:Assertion", NAMES)
    hidden = etree.Element(f"{{{SAML}}}EncryptedAssertion")
    response.replace(signed, hidden)
    hidden.append(signed)
    refused(browser, caplog, response, "encrypted")


# what XML can do


def test_a_comment_does_not_make_another_name(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """CVE-2017-11427: the signature does not cover comments, so who is admin.evil could cut their own name short."""
    response = browser.good(name="admin.evil")
    raw = etree.tostring(response)
    for mark in (b"<!-- -->", b"<?x y?>", b"<![CDATA[]]>"):
        cut = raw.replace(b"<saml:NameID>admin.evil", b"<saml:NameID>admin" + mark + b".evil")
        assert cut != raw
        refused(browser, caplog, cut, "a comment, CDATA or a processing instruction")
    assert browser.bring(raw).status == 200, "the same without the mark is right"


def bomb(raw: bytes, document_type: bytes, use: bytes) -> bytes:
    """A response with a document type, and an entity in its name."""
    return document_type + raw.replace(b"<saml:NameID>ann", b"<saml:NameID>" + use)


LAUGHS = (
    b"<!DOCTYPE r [<!ENTITY a0 'ha'>"
    + b"".join(b"<!ENTITY a%d '%s'>" % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 12))
    + b"]>"
)


@pytest.mark.parametrize(
    ("document_type", "use"),
    [
        (b"<!DOCTYPE r [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>", b"&x;"),
        (b"<!DOCTYPE r [<!ENTITY % x SYSTEM 'http://127.0.0.1:1/x'> %x;]>", b"ann"),
        (b"<!DOCTYPE r SYSTEM 'http://127.0.0.1:1/x'>", b"ann"),
        (b"<!DOCTYPE r [<!ATTLIST r ID ID #IMPLIED>]>", b"ann"),
        (LAUGHS, b"&a11;"),
    ],
    ids=["file", "parameter", "external", "ids", "laughs"],
)
def test_entities_are_not_unfolded(
    browser: Browser, caplog: pytest.LogCaptureFixture, document_type: bytes, use: bytes
) -> None:
    raw = bomb(etree.tostring(browser.good()), document_type, use)
    began = time.monotonic()
    refused(browser, caplog, raw, "a document type")
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        refused(browser, caplog, raw.decode().encode(encoding), "refused")
    refused(browser, caplog, b'<?xml version="1.0" encoding="UTF-7"?>' + raw, "not written in UTF-8")
    refused(browser, caplog, b'<?xml version="1.0"?>' + raw, "a document type")
    assert time.monotonic() - began < 5


def test_what_is_nested_for_ever(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    raw = etree.tostring(browser.good())
    deep = raw.replace(b"</samlp:Response>", b"<a>" * 20_000 + b"</a>" * 20_000 + b"</samlp:Response>")
    began = time.monotonic()
    refused(browser, caplog, deep, "not well-formed")
    many = raw.replace(
        b"</saml:AttributeStatement>", b"<saml:Attribute Name='x'/>" * 7000 + b"</saml:AttributeStatement>"
    )
    refused(browser, caplog, many, "refused")
    assert time.monotonic() - began < 10


# whatever else


def mutated(random: Random, response: Any) -> bytes:
    """The response with one thing done to it: an element lost, doubled, moved or emptied, an attribute or a byte."""
    elements = list(response.iter())[1:]
    chosen, other = random.choice(elements), random.choice(elements)
    act = random.randrange(7)
    if act == 0:
        chosen.getparent().remove(chosen)
    elif act == 1:
        chosen.addnext(copy.deepcopy(chosen))
    elif act == 2 and chosen not in other.iterancestors() and chosen is not other:
        other.append(chosen)
    elif act == 3:
        chosen.text = None
    elif act == 4 and chosen.attrib:
        del chosen.attrib[random.choice(list(chosen.attrib))]
    elif act == 5 and chosen.attrib:
        chosen.set(random.choice(list(chosen.attrib)), random.choice(["", "x", "\u2028", "2026-13-45T99:99:99Z", "#"]))
    raw = bytearray(etree.tostring(response))
    if act == 6:
        raw[random.randrange(len(raw))] = random.randrange(256)
    return bytes(raw)


def test_whatever_is_done_to_a_response_is_refused_or_changes_nothing(browser: Browser) -> None:
    """Never another user, never an error of ours; what is not signed (the envelope) may change harmlessly."""
    random = Random(20261125)
    for turn in range(60):
        answer = browser.bring(raw := mutated(random, browser.good()))
        assert answer.status in (200, 401), (turn, answer, raw)
        assert answer.status == 401 or b"sso" in answer.raw
    names = {u["name"] for u in browser.cloud.identity("GET", "/users").json["users"]}
    assert names <= {"admin", "ann", "admin.evil"}, "the last one is of another test here"


def test_what_a_trusted_provider_leaves_empty_is_refused(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    refused(browser, caplog, browser.good(name=""), "names no subject")
    refused(browser, caplog, browser.good(issuer=""), "refused")
    for raw in (b"<saml:Issuer/>", b"<saml:Issuer> </saml:Issuer>"):
        response = etree.tostring(browser.good())
        outer = f"<saml:Issuer>{browser.idp.issuer}</saml:Issuer>".encode()
        refused(browser, caplog, response.replace(outer, raw, 1), "refused")


def test_why_is_told_to_the_operator_alone(browser: Browser) -> None:
    answer = browser.bring(browser.good(audience="https://other/cloud"))
    assert b"Audience" not in answer.raw and b"other" not in answer.raw
    app, db = browser.cloud.identity.direct.app, browser.cloud.identity.db
    browser.cloud.identity.direct.loop.run_until_complete(app.audit.flush())
    events = db.read(lambda tx: tx.all("select event from audit order by at desc limit 5"))
    assert any("AudienceRestrictions" in row[0] for row in events), events


# clients of the enhanced profile (ECP), which keep the request in the relay state

ECP, SOAP = "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp", "http://schemas.xmlsoap.org/soap/envelope/"
PAOS = {"content-type": "application/vnd.paos+xml"}


class Client:
    """A client of ECP before the cloud."""

    def __init__(self, browser: Browser):
        self.cloud, self.idp, self.place = browser.cloud, browser.idp, browser.place

    def begin(self) -> tuple[str, str]:
        """The id of a request and the relay state that came with it."""
        head = {"accept": f"*/*, {PAOS['content-type']}", "paos": f'ver="urn:liberty:paos:2003-08";"{ECP}"'}
        path = self.place.removeprefix(self.cloud.v3).removesuffix("saml2") + "auth"
        answer = self.cloud.identity("GET", path, token="", headers=head)
        assert answer.status == 200 and answer.headers["content-type"] == PAOS["content-type"], answer
        envelope = etree.fromstring(answer.raw)
        request = next(envelope.iter(f"{{{SAMLP}}}AuthnRequest"))
        assert request.get("AssertionConsumerServiceURL") == self.place
        return request.get("ID"), next(envelope.iter(f"{{{ECP}}}RelayState")).text

    def envelope(self, relay_state: str, *inside: Any) -> bytes:
        """What the client hands on."""
        made = etree.Element(f"{{{SOAP}}}Envelope")
        header = etree.SubElement(made, f"{{{SOAP}}}Header")
        if relay_state:
            etree.SubElement(header, f"{{{ECP}}}RelayState").text = relay_state
        etree.SubElement(made, f"{{{SOAP}}}Body").extend(inside)
        return etree.tostring(made)

    def good(self, request: str, **changes: Any) -> Any:
        return self.idp.signed(self.idp.response(self.place, request, **changes))

    def bring(self, raw: bytes) -> int:
        path = self.place.removeprefix(self.cloud.v3)
        answer = self.cloud.identity("POST", path, token="", headers=PAOS, raw=raw)
        assert answer.status == 201 or "x-subject-token" not in answer.headers
        return answer.status


@pytest.fixture
def client(browser: Browser) -> Client:
    return Client(browser)


def test_a_client_of_the_enhanced_profile_logs_in_once(client: Client) -> None:
    request, relay_state = client.begin()
    raw = client.envelope(relay_state, client.good(request))
    assert client.bring(raw) == 201
    assert client.bring(raw) == 401


def test_a_client_brings_the_answer_to_what_was_asked(client: Client) -> None:
    request, relay_state = client.begin()
    other, others_state = client.begin()
    assert client.bring(client.envelope("", client.good(request))) == 401, "nobody asked"
    assert client.bring(client.envelope("ss:mem:1", client.good(""))) == 401, "nobody asked"
    assert client.bring(client.envelope(others_state, client.good(request))) == 401, "something else was asked"
    assert client.bring(client.envelope(relay_state[:-1], client.good(request))) == 401, "not our seal"
    for changes in ({"recipient": "https://x/"}, {"destination": "https://x/"}, {"audience": "https://x/"}):
        assert client.bring(client.envelope(relay_state, client.good(request, **changes))) == 401, changes
    assert client.bring(client.envelope(relay_state, client.good(request))) == 201
    assert other != request


def test_a_request_is_forgotten_after_a_while(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    request, relay_state = client.begin()
    app = client.cloud.identity.direct.app
    monkeypatch.setattr(app, "clock", lambda: time.time() + 1000)
    late = client.good(request, ends=2000.0, confirmed_until=2000.0)
    assert client.bring(client.envelope(relay_state, late)) == 401
    monkeypatch.undo()
    assert client.bring(client.envelope(relay_state, late)) == 201


def test_envelopes_hold_one_response_and_nothing_else(client: Client) -> None:
    request, relay_state = client.begin()
    response = client.good(request)
    raw = client.envelope(relay_state, copy.deepcopy(response))
    assert client.bring(client.envelope(relay_state, copy.deepcopy(response), copy.deepcopy(response))) == 401
    assert client.bring(client.envelope(relay_state)) == 401
    assert client.bring(etree.tostring(response)) == 401, "no envelope"
    assert client.bring(LAUGHS + raw) == 401
    assert client.bring(raw.replace(b"</", b"<!-- --></", 1)) == 401
    for wrap in WRAPPINGS:
        wrapped = wrap(client.good(request))
        assert client.bring(client.envelope(relay_state, wrapped)) == 401, wrap.__name__
    assert client.bring(raw) == 201
