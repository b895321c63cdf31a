"""What a SAML message may look like before any library looks at its meaning.

XML of strangers: no document types (so no entities), no comments, no processing instructions, one assertion at the
one place where it belongs, signatures where they belong, ids that are unique, algorithms of today.  What passes means
the same to every parser behind this.  Sources: SAML 2.0 core section 5.4; "On Breaking SAML" (USENIX Security 2012)
for the wrapping of signed parts; CVE-2017-11427 and its kin for comments in names.
"""

import re
from typing import Any

from msgspec import Struct

PROTOCOL = "{urn:oasis:names:tc:SAML:2.0:protocol}"
ASSERTION = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SIGNATURE = "{http://www.w3.org/2000/09/xmldsig#}"
ECP = "{urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp}"
PAOS = "{urn:liberty:paos:2003-08}"
SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
_DSIG, _MORE, _ENC = (
    "http://www.w3.org/2000/09/xmldsig#", "http://www.w3.org/2001/04/xmldsig-more#",
    "http://www.w3.org/2001/04/xmlenc#",
)  # fmt: skip
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
# What signatures may be made with; no SHA-1, no MACs.
ALGORITHMS = {
    SIGNATURE + "SignatureMethod": {
        f"{_MORE}{kind}-sha{bits}" for kind in ("rsa", "ecdsa") for bits in (256, 384, 512)
    },
    SIGNATURE + "DigestMethod": {_ENC + "sha256", _MORE + "sha384", _ENC + "sha512"},
    SIGNATURE + "CanonicalizationMethod": {_EXCLUSIVE},
    SIGNATURE + "Transform": {_EXCLUSIVE, _DSIG + "enveloped-signature"},
}
_DECLARATION = re.compile(rb"""\s*<\?xml\s+version=["']1\.0["'](\s+encoding=["']([\w-]+)["'])?"""
                          rb"""(\s+standalone=["'](yes|no)["'])?\s*\?>""")  # fmt: skip
MOST_BYTES = 262_144  # of one message; real ones have some ten thousand


class Wrong(Exception):
    """A message that is not taken; the text is for the operator's log."""


class Message(Struct, frozen=True, kw_only=True):
    """A response, alone, and the relay state that came with it in an envelope."""

    response: bytes
    answers: str = ""  # the id of the request, as the response has it
    relay_state: str = ""


def read_xml(raw: bytes) -> Any:
    """The root element of harmless XML; raises Wrong."""
    from lxml import etree

    if len(raw) > MOST_BYTES:
        raise Wrong(f"the message is longer than {MOST_BYTES} bytes")
    declared = _DECLARATION.match(raw)
    if declared and (declared[2] or b"utf-8").lower() not in (b"utf-8", b"us-ascii"):
        raise Wrong("the message is not written in UTF-8")
    inside = raw[declared.end() :] if declared else raw
    if b"<!" in inside or b"<?" in inside or b"\0" in raw:
        raise Wrong("the message holds a document type, a comment, CDATA or a processing instruction")
    try:
        raw.decode()
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        return etree.fromstring(raw, parser)
    except (UnicodeDecodeError, etree.XMLSyntaxError) as error:
        raise Wrong(f"the message is not well-formed: {error}") from None


def plain_message(raw: bytes) -> Message:
    """A response as the POST binding brings it; raises Wrong."""
    root = read_xml(raw)
    check_response(root)
    return Message(response=raw, answers=root.get("InResponseTo", ""))


def enveloped_message(raw: bytes) -> Message:
    """A response as the reverse SOAP binding (PAOS) brings it; raises Wrong."""
    from lxml import etree

    root = read_xml(raw)
    bodies = root.findall(SOAP + "Body")
    if root.tag != SOAP + "Envelope" or len(bodies) != 1 or len(bodies[0]) != 1:
        raise Wrong("the message is no SOAP envelope with one response")
    response = bodies[0][0]
    response.tail = None
    relay_states = [element.text or "" for element in root.findall(f"{SOAP}Header/{ECP}RelayState")]
    # With the prefixes that it was signed with: the name spaces of the envelope come along.
    alone = etree.tostring(response)
    check_response(read_xml(alone))
    return Message(response=alone, relay_state=relay_states[0].strip() if len(relay_states) == 1 else "")


def check_response(root: Any) -> None:
    """Refuse what has not the one shape that a signed response has; raises Wrong."""
    if root.tag != PROTOCOL + "Response":
        raise Wrong(f"the message is no response but {str(root.tag)[:80]}")
    if next(root.iter(ASSERTION + "EncryptedAssertion", ASSERTION + "EncryptedID"), None) is not None:
        raise Wrong("the assertion is encrypted, which needs a key that this cloud does not give out")
    assertions = list(root.iter(ASSERTION + "Assertion"))
    if len(assertions) > 1 or len(list(root.iter(PROTOCOL + "Response"))) > 1:
        raise Wrong("the message holds more than one assertion or response")
    if any(assertion.getparent() is not root for assertion in assertions):
        raise Wrong("the assertion is not where it belongs")
    for signature in root.iter(SIGNATURE + "Signature"):
        parent = signature.getparent()
        if (parent is not root and parent not in assertions) or len(parent.findall(signature.tag)) != 1:
            raise Wrong("a signature is not where it belongs")
    if any(assertion.find(SIGNATURE + "Signature") is None for assertion in assertions):
        raise Wrong("the assertion is not signed")
    check_ids(root)
    check_algorithms(root)


def check_ids(root: Any) -> None:
    """Refuse two elements of one id, by whatever attribute; raises Wrong."""
    ids = [
        value for element in root.iter() for name, value in element.attrib.items()
        if name.rpartition("}")[2].lower() == "id"
    ]  # fmt: skip
    if len(ids) != len(set(ids)):
        raise Wrong("two parts of the message have one id")


def check_algorithms(root: Any) -> None:
    """Refuse signatures by algorithms that are broken or not meant for this; raises Wrong."""
    for tag, allowed in ALGORITHMS.items():
        for element in root.iter(tag):
            if element.get("Algorithm") not in allowed:
                raise Wrong(f"signed by {str(element.get('Algorithm'))[:80]}, which is not taken")
