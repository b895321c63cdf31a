"""What this cloud asks of an identity provider, and how it knows the answer again.

The request that is under way is sealed and kept by the client: in a cookie by browsers, in the relay state by clients
of the enhanced profile (ECP).  So a response is taken only from whom the question was given to, and nothing is stored
for those who never come back.
"""

import hashlib
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from pileus.core.errors import ServiceUnavailable
from pileus.identity.federation.saml_message import ASSERTION, ECP, PAOS, SOAP, Wrong
from pileus.identity.federation.saml_peer import Peer, asking_client, issuer_of
from pileus.identity.sealing import seal, unseal

COOKIE = "pileus-saml"
PAOS_TYPE = "application/vnd.paos+xml"
ANSWER_SECONDS = 900  # time to log in at the identity provider


class Asked(Struct, frozen=True, kw_only=True, tag_field="kind", tag="saml-request"):
    """A request that waits for its response."""

    id: str
    url: str  # our address to which the response must come
    until: float
    origin: str = ""  # the dashboard that gets the token; "": the client itself does


class Question(Struct, frozen=True, kw_only=True):
    """An answer of ours that carries a request to the identity provider."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask_browser(peer: Peer, origin: str, now: float) -> Question:
    """Send a browser to the identity provider, by redirect where it can, else by a form that posts itself."""
    from saml2.client_base import SignOnError
    from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

    client = asking_client(peer)
    issuer = issuer_of(peer, client.config)
    try:
        identifier, _, found = client.prepare_for_negotiated_authenticate(
            issuer, sign=True, sigalg=SIG_RSA_SHA256, digest_alg=DIGEST_SHA256
        )
    except SignOnError:
        raise ServiceUnavailable(f"{peer.idp_id} takes requests neither by redirect nor by form.") from None
    asked = Asked(id=identifier, url=peer.url, until=now + ANSWER_SECONDS, origin=origin)
    headers = {**{name.lower(): value for name, value in found["headers"]}, "cache-control": "no-store",
               "set-cookie": cookie(peer, asked, seal_request(peer, asked))}  # fmt: skip
    body = found["data"] if isinstance(found["data"], bytes) else str(found["data"] or "").encode()
    return Question(status=int(found["status"]), headers=headers, body=body)


def cookie_name(request_id: str) -> str:
    """A name for each request, so that tabs of one browser do not hide each other's."""
    return f"{COOKIE}-{hashlib.sha256(request_id.encode()).hexdigest()[:16]}"


def cookie(peer: Peer, asked: Asked, value: str) -> str:
    """A cookie for our one address; the response comes as a post from another site, which Secure ones may follow."""
    address = urlsplit(peer.url)
    cross_site = "; Secure; SameSite=None" if address.scheme == "https" else ""
    life = ANSWER_SECONDS if value else 0
    return f"{cookie_name(asked.id)}={value}; Path={address.path}; Max-Age={life}; HttpOnly{cross_site}"


def ask_ecp(peer: Peer, now: float) -> Question:
    """Give a client of the enhanced profile the request that it shall hand to the identity provider."""
    from lxml import etree
    from saml2 import BINDING_PAOS, BINDING_SOAP
    from saml2.s_utils import UnsupportedBinding
    from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

    client = asking_client(peer)
    try:
        destination = client._sso_location(issuer_of(peer, client.config), BINDING_SOAP)
    except UnsupportedBinding:  # the client knows where to go; the address in the metadata is only a further check
        destination = None
    identifier, request = client.create_authn_request(
        destination, binding=BINDING_PAOS, sign=True, sign_alg=SIG_RSA_SHA256, digest_alg=DIGEST_SHA256
    )
    sealed = seal_request(peer, Asked(id=identifier, url=peer.url, until=now + ANSWER_SECONDS))
    envelope = etree.Element(SOAP + "Envelope", nsmap={"S": SOAP[1:-1], "paos": PAOS[1:-1], "ecp": ECP[1:-1]})
    header = etree.SubElement(envelope, SOAP + "Header")
    marks = {SOAP + "actor": "http://schemas.xmlsoap.org/soap/actor/next", SOAP + "mustUnderstand": "1"}
    etree.SubElement(header, PAOS + "Request", {**marks, "responseConsumerURL": peer.url, "service": ECP[1:-1]})
    asking = etree.SubElement(header, ECP + "Request", marks)
    etree.SubElement(asking, ASSERTION + "Issuer").text = peer.url
    etree.SubElement(header, ECP + "RelayState", marks).text = sealed
    etree.SubElement(envelope, SOAP + "Body").append(etree.fromstring(str(request).encode()))
    headers = {"content-type": PAOS_TYPE, "cache-control": "no-store"}
    return Question(status=200, headers=headers, body=bytes(etree.tostring(envelope)))


def speaks_ecp(headers: Mapping[str, str]) -> bool:
    """Whether a client says that it is one of the enhanced profile."""
    return PAOS_TYPE in headers.get("accept", "") and ECP[1:-1] in headers.get("paos", "")


def seal_request(peer: Peer, asked: Asked) -> str:
    """A request under way, as the client keeps it."""
    return seal(peer.keys_folder, msgspec.json.encode(asked).decode())


def known_request(peer: Peer, sealed: str, now: float) -> Asked:
    """The request that a client kept; raises Wrong for what is none of ours, or no longer under way."""
    try:
        asked = msgspec.json.decode(unseal(peer.keys_folder, sealed), type=Asked)
    except (ServiceUnavailable, msgspec.DecodeError):
        raise Wrong("the request that is answered is none of ours") from None
    if asked.url != peer.url or asked.until < now:
        raise Wrong("the request that is answered was another one, or too long ago")
    return asked
