"""Assertions that this cloud makes of its own users, for clouds that take its word.

Sources: Identity API reference, "OS-FEDERATION", "Generate a SAML assertion" (names of the attributes, envelope);
SAML 2.0 core section 2, profiles section 4.2.
"""

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from pileus.identity.federation.saml_keys import shown_keys, signing_key
from pileus.identity.federation.saml_peer import describe, own_keys, xmlsec

_NO_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # compiled when it is needed: 3 ms
_ATTRIBUTE_FORMAT = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
_CONTEXTS = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
_ACTOR = "http://schemas.xmlsoap.org/soap/actor/next"


class Claim(Struct, frozen=True, kw_only=True):
    """What is said of a user, to whom, and for how long."""

    issuer: str  # entity id of this cloud
    audience: str  # entity id of the other one
    recipient: str  # where it takes assertions
    subject: str
    attributes: dict[str, list[str]]
    now: float
    until: float  # when the assertion ends
    session_until: float  # when the user's own token ends
    context: str = "unspecified"  # how they proved who they are, by SAML's name for it

    def unwritable(self) -> list[str]:
        """The attributes that hold characters that XML cannot carry."""
        return [name for name, values in self.attributes.items() if any(re.search(_NO_XML, value) for value in values)]


def utc(at: float) -> str:
    """A time as SAML writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def response_to(claim: Claim, keys_folder: Path) -> bytes:
    """A response with the signed assertion of a claim.  To be run beside the event loop: it starts xmlsec1."""
    from saml2 import class_name, saml, samlp
    from saml2.sigver import CryptoBackendXmlSec1

    assertion = _assertion(claim)
    response = samlp.Response(
        id=_new_id(), version="2.0", issue_instant=utc(claim.now), destination=claim.recipient,
        issuer=_issuer(claim), assertion=[assertion],
        status=samlp.Status(status_code=samlp.StatusCode(value=samlp.STATUS_SUCCESS)),
    )  # fmt: skip
    backend = CryptoBackendXmlSec1(xmlsec())
    key = str(signing_key(keys_folder))
    signed: str = backend.sign_statement(str(response), class_name(saml.Assertion()), key, assertion.id)
    return signed.encode()


def _new_id() -> str:
    return "_" + secrets.token_hex(20)


def _issuer(claim: Claim) -> Any:
    from saml2 import saml

    return saml.Issuer(format=saml.NAMEID_FORMAT_ENTITY, text=claim.issuer)


def _assertion(claim: Claim) -> Any:
    from saml2 import saml
    from saml2.sigver import pre_signature_part
    from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

    now, until, identifier = utc(claim.now), utc(claim.until), _new_id()
    confirmation = saml.SubjectConfirmation(
        method=saml.SCM_BEARER,
        subject_confirmation_data=saml.SubjectConfirmationData(not_on_or_after=until, recipient=claim.recipient),
    )
    restriction = saml.AudienceRestriction(audience=[saml.Audience(text=claim.audience)])
    statement = saml.AuthnStatement(
        authn_instant=now, session_index=_new_id(), session_not_on_or_after=utc(claim.session_until),
        authn_context=saml.AuthnContext(
            authn_context_class_ref=saml.AuthnContextClassRef(text=_CONTEXTS + claim.context),
            authenticating_authority=[saml.AuthenticatingAuthority(text=claim.issuer)],
        ),
    )  # fmt: skip
    return saml.Assertion(
        id=identifier, version="2.0", issue_instant=now, issuer=_issuer(claim),
        signature=pre_signature_part(identifier, digest_alg=DIGEST_SHA256, sign_alg=SIG_RSA_SHA256),
        subject=saml.Subject(name_id=saml.NameID(text=claim.subject), subject_confirmation=[confirmation]),
        conditions=saml.Conditions(not_before=now, not_on_or_after=until, audience_restriction=[restriction]),
        authn_statement=[statement],
        attribute_statement=[saml.AttributeStatement(attribute=[_attribute(*one) for one in claim.attributes.items()])],
    )  # fmt: skip


def _attribute(name: str, values: list[str]) -> Any:
    from saml2 import saml

    written = [saml.AttributeValue(text=value) for value in values]
    return saml.Attribute(name=name, name_format=_ATTRIBUTE_FORMAT, attribute_value=written)


def in_envelope(response: bytes, relay_state: str) -> bytes:
    """A response as a client of the enhanced profile (ECP) hands it on, with the relay state that goes with it."""
    from lxml import etree

    soap, ecp = "http://schemas.xmlsoap.org/soap/envelope/", "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp"
    envelope = etree.Element(f"{{{soap}}}Envelope", nsmap={"soap": soap, "ecp": ecp})
    header = etree.SubElement(envelope, f"{{{soap}}}Header")
    marks = {f"{{{soap}}}actor": _ACTOR, f"{{{soap}}}mustUnderstand": "1"}
    etree.SubElement(header, f"{{{ecp}}}RelayState", marks).text = relay_state
    etree.SubElement(envelope, f"{{{soap}}}Body").append(etree.fromstring(response))
    return bytes(etree.tostring(envelope))


def metadata_of(issuer: str, address: str, keys_folder: Path) -> bytes:
    """The metadata of this cloud as an identity provider; `address` is where it makes assertions."""
    from saml2 import BINDING_URI
    from saml2.config import IdPConfig

    config = IdPConfig().load({
        **own_keys([str(path) for path in shown_keys(keys_folder)]),
        "entityid": issuer,
        "service": {"idp": {"endpoints": {"single_sign_on_service": [(address, BINDING_URI)]}}},
    })  # fmt: skip
    return describe(config)
