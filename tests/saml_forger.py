"""An identity provider that says whatever a test wants, made with signxml: not the library that checks it."""

import base64
import datetime
import secrets
import zlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import XMLSigner, methods
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod

SAML, SAMLP = "urn:oasis:names:tc:SAML:2.0:assertion", "urn:oasis:names:tc:SAML:2.0:protocol"
DS = "http://www.w3.org/2000/09/xmldsig#"
NAMES = {"saml": SAML, "samlp": SAMLP, "ds": DS}
SSO = "https://idp.example/sso"
ISSUER = "https://idp.example/entity"


class OldSigner(XMLSigner):
    """One that still uses SHA-1."""

    def check_deprecated_methods(self) -> None:
        pass


class Forger:
    """A key, a name, and responses signed by it."""

    def __init__(self, issuer: str = ISSUER):
        self.issuer = issuer
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name, now = (
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")]),
            datetime.datetime.now(datetime.UTC),
        )
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(1))
        self.certificate = builder.not_valid_after(now + datetime.timedelta(9)).sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def metadata(self, binding: str = "HTTP-Redirect") -> bytes:
        """What it says of itself."""
        certificate = "".join(self.pem.decode().splitlines()[1:-1])
        return f"""<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{self.issuer}">
<md:IDPSSODescriptor protocolSupportEnumeration="{SAMLP}"><md:KeyDescriptor use="signing">
<ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data>
</ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService
 Binding="urn:oasis:names:tc:SAML:2.0:bindings:{binding}" Location="{SSO}"/></md:IDPSSODescriptor>
</md:EntityDescriptor>""".encode()

    def response(self, place: str, request_id: str = "", **changes: Any) -> Any:
        """A response that is all right, but for what is changed; not signed yet."""
        at = datetime.datetime.now(datetime.UTC)

        def time(seconds: float) -> str:
            return (at + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

        said = {
            "issuer": self.issuer, "name": "ann", "audience": place, "destination": place, "recipient": place,
            "answers": request_id, "confirms": request_id, "begins": -10.0, "ends": 120.0, "confirmed_until": 120.0,
            "id": "_" + secrets.token_hex(16), "status": "Success", "session": 86_400.0, **changes,
        }  # fmt: skip
        answers = f'InResponseTo="{said["answers"]}"' if said["answers"] else ""
        confirms = f'InResponseTo="{said["confirms"]}"' if said["confirms"] else ""
        audience = (
            f"<saml:AudienceRestriction><saml:Audience>{said['audience']}</saml:Audience></saml:AudienceRestriction>"
        )
        assertion = f"""<saml:Assertion ID="{said["id"]}" Version="2.0" IssueInstant="{time(0)}">
<saml:Issuer>{said["issuer"]}</saml:Issuer><saml:Subject><saml:NameID>{said["name"]}</saml:NameID>
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData {confirms}
 NotOnOrAfter="{time(said["confirmed_until"])}" Recipient="{said["recipient"]}"/></saml:SubjectConfirmation>
</saml:Subject><saml:Conditions NotBefore="{time(said["begins"])}" NotOnOrAfter="{time(said["ends"])}">
{audience if said["audience"] else ""}</saml:Conditions><saml:AuthnStatement AuthnInstant="{time(0)}"
 SessionNotOnOrAfter="{time(said["session"])}">
<saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password
</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>
<saml:Attribute Name="urn:oid:0.9.2342.19200300.100.1.3" NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:uri">
<saml:AttributeValue>{said["name"]}@example</saml:AttributeValue></saml:Attribute></saml:AttributeStatement>
</saml:Assertion>"""
        whole = f"""<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="_{secrets.token_hex(16)}" {answers}
 Version="2.0" IssueInstant="{time(0)}" Destination="{said["destination"]}"><saml:Issuer>{said["issuer"]}</saml:Issuer>
<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:{said["status"]}"/></samlp:Status>
{assertion}</samlp:Response>"""
        return etree.fromstring(whole)

    def sign(self, element: Any, signer: type[XMLSigner] = XMLSigner, **how: Any) -> Any:
        """The element with an enveloped signature behind its issuer."""
        how = {"signature_algorithm": SignatureMethod.RSA_SHA256, "digest_algorithm": DigestAlgorithm.SHA256, **how}
        for old in element.findall("ds:Signature", NAMES):
            element.remove(old)
        issuer = element.find("saml:Issuer", NAMES)
        issuer.addnext(etree.SubElement(element, f"{{{DS}}}Signature", {"Id": "placeholder"}, {"ds": DS}))
        exclusive = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0
        made = signer(method=methods.enveloped, c14n_algorithm=exclusive, **how)
        return made.sign(element, key=self.key, cert=self.pem.decode(), reference_uri=element.get("ID"))

    def signed(self, response: Any, **how: Any) -> Any:
        """The response with its assertion signed."""
        assertion = response.find("saml:Assertion", NAMES)
        alone = etree.fromstring(etree.tostring(assertion))
        response.replace(assertion, self.sign(alone, **how))
        return response


def question_of(location: str) -> dict[str, str]:
    """What a redirect asks: the request's attributes, its relay state, its issuer."""
    query = parse_qs(urlsplit(location).query)
    request = etree.fromstring(zlib.decompress(base64.b64decode(query["SAMLRequest"][0]), -15))
    issuer = request.findtext("saml:Issuer", namespaces=NAMES)
    return {**request.attrib, "issuer": issuer, "signed_by": query.get("SigAlg", [""])[0]}
