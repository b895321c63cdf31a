"""This cloud as a SAML service provider towards one identity provider, in pysaml2's terms.

Each protocol of each identity provider has one address, which is all of: the entity id, where our metadata is read,
and where assertions are taken.  What was asserted for one of them is worth nothing at another.
"""

import functools
import logging
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from pileus.core.config import SamlProvider
from pileus.core.errors import NotFound, ServiceUnavailable
from pileus.identity.federation.saml_keys import shown_keys, signing_key

PROTOCOLS = ("saml2", "mapped")  # names of protocols that are spoken in SAML
logging.getLogger("saml2").setLevel(logging.CRITICAL)  # it logs whole messages; why one is refused, we say ourselves
log = logging.getLogger("pileus.identity")
SKEW_SECONDS = 60  # that clocks may differ


class Peer(Struct, frozen=True, kw_only=True):
    """An identity provider and the address at which it finds us."""

    idp_id: str
    protocol_id: str
    url: str
    trusted: SamlProvider
    keys_folder: Path


def peer_of(settings: Any, idp_id: str, protocol_id: str) -> Peer:
    """The peer that an identity provider and protocol mean; raises NotFound unless it is configured."""
    trusted = settings.config.federation.saml.providers.get(idp_id)
    if trusted is None or protocol_id not in PROTOCOLS:
        raise NotFound(f"The identity provider {idp_id[:64]} does not speak SAML by the protocol {protocol_id[:64]}.")
    # The configured address, never the one that the client named: an assertion is bound to it.
    path = f"identity_providers/{quote(idp_id, safe='')}/protocols/{protocol_id}/saml2"
    here = f"{settings.config.url}/identity/v3/OS-FEDERATION/{path}"
    return Peer(idp_id=idp_id, protocol_id=protocol_id, url=here, trusted=trusted, keys_folder=settings.keys_folder)


def config_of(peer: Peer) -> Any:
    """Our own side of a peer with what it says of itself; raises ServiceUnavailable when its metadata cannot be read.

    A changed metadata file or key is seen with the next use.
    """
    keys = shown_keys(peer.keys_folder)
    try:
        seen = tuple((str(path), path.stat().st_mtime_ns) for path in (Path(peer.trusted.metadata), *keys))
    except OSError as error:
        raise ServiceUnavailable(f"The metadata of {peer.idp_id} cannot be read: {error.strerror}.") from None
    try:
        return _config(peer.url, peer.trusted, seen)
    except Exception as error:  # the library raises what it likes
        log.warning("the metadata of %s is wrong: %s", peer.idp_id, error)
        raise ServiceUnavailable(f"The metadata of {peer.idp_id} is wrong ({type(error).__name__}).") from None


@functools.lru_cache(maxsize=64)
def _config(url: str, trusted: SamlProvider, seen: tuple[tuple[str, int], ...]) -> Any:
    from saml2.config import SPConfig

    metadata, *keys = (path for path, _ in seen)
    return SPConfig().load({
        **own_keys(keys),
        "entityid": url,
        "metadata": {"local": [metadata]},
        "accepted_time_diff": SKEW_SECONDS,
        "allow_unknown_attributes": True,
        "service": {"sp": {
            "endpoints": {"assertion_consumer_service": endpoints(url)},
            "want_assertions_signed": True,  # the assertion itself, whatever is signed around it
            "want_response_signed": False,
            "allow_unsolicited": True,  # saml_response asks for more than the library would
            "authn_requests_signed": True,
            "name_id_policy_format": "",
        }},
    })  # fmt: skip


def asking_client(peer: Peer) -> Any:
    """A client that signs what it asks of a peer; one for all requests."""
    key = signing_key(peer.keys_folder)
    return _asking_client(config_of(peer), key, key.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _asking_client(config: Any, key: Path, _changed: int) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from saml2.client import Saml2Client
    from saml2.sigver import RSACrypto

    client = Saml2Client(config=config)
    client.sec.key_file = str(key)
    # Our own key, which need not be proven to be one: that would stop all else in this process for a tenth of a second.
    loaded = load_pem_private_key(key.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    client.sec.sec_backend = RSACrypto(loaded)
    return client


def own_keys(keys: list[str]) -> dict[str, Any]:
    """Whose certificates are shown: the part of pysaml2's settings that service and identity provider share.

    Not the key itself: the library would read it for each message, with a test that takes a tenth of a second.
    """
    return {"xmlsec_binary": xmlsec(), "cert_file": keys[0], "additional_cert_files": keys[1:]}


def xmlsec() -> str:
    """The program that makes and checks XML signatures; raises ServiceUnavailable without it."""
    found = shutil.which("xmlsec1")
    if found is None:
        raise ServiceUnavailable("SAML needs the program xmlsec1 (Debian's package of this name) on the controller.")
    return found


def endpoints(url: str) -> list[tuple[str, str]]:
    """Where assertions are taken, by binding."""
    from saml2 import BINDING_HTTP_POST, BINDING_PAOS

    return [(url, BINDING_HTTP_POST), (url, BINDING_PAOS)]


def issuer_of(peer: Peer, config: Any) -> str:
    """The entity whose word is taken; raises ServiceUnavailable unless the metadata names just one, or the wanted."""
    entities = list(config.metadata.identity_providers())
    wanted = peer.trusted.entity_id
    if wanted in entities:
        return wanted
    if wanted or len(entities) != 1:
        raise ServiceUnavailable(f"The metadata of {peer.idp_id} names {len(entities)} entities: set entity_id to one.")
    return str(entities[0])


def metadata_of(peer: Peer) -> bytes:
    """Our metadata for a peer."""
    return describe(config_of(peer))


def describe(config: Any) -> bytes:
    """The metadata of what a configuration says."""
    from saml2.metadata import entity_descriptor

    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + str(entity_descriptor(config)).encode()
