"""What an identity provider asserts, checked: signature, issuer, audience, place, time, and what it answers.

Sources: SAML 2.0 profiles section 4.1.4 (web browser), 4.2 (enhanced client), core section 2.5.
"""

import base64
import logging
from calendar import timegm
from typing import Any

from msgspec import Struct

from pileus.identity.federation.saml_message import Wrong
from pileus.identity.federation.saml_peer import SKEW_SECONDS, Peer, config_of, issuer_of

log = logging.getLogger("pileus.identity")
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
MOST_SECONDS = 86_400.0  # that an assertion may be good for


class Asserted(Struct, frozen=True, kw_only=True):
    """An assertion that passed."""

    issuer: str
    id: str
    until: float  # when nobody would take it any more, here either
    session_until: float | None  # when the user's session at the identity provider ends, if it says so
    attributes: dict[str, list[str]]


def check(peer: Peer, response: bytes, request_id: str, now: float) -> Asserted:
    """What a response asserts to us in answer to a request ("": unasked); raises Wrong.

    `response` must have passed saml_message.  To be run beside the event loop: it starts xmlsec1.
    """
    config = config_of(peer)
    parsed = verified(config, response)
    assertion = parsed.assertion
    issuer = issuer_of(peer, config)
    check_origin(parsed.response, assertion, issuer)
    check_place(peer, parsed.response, assertion)
    until = check_answer(peer, parsed.response, assertion, request_id, now)
    return Asserted(
        issuer=issuer, id=assertion.id, until=until, session_until=session_end(assertion, now),
        attributes=attributes_of(parsed, issuer),
    )  # fmt: skip


def verified(config: Any, response: bytes) -> Any:
    """The response as pysaml2 understands it, with the signature of its assertion verified; raises Wrong."""
    from saml2 import BINDING_HTTP_POST
    from saml2.client import Saml2Client
    from saml2.response import StatusError

    try:
        client = Saml2Client(config=config)  # a new one each time: it remembers whom it saw
        encoded = base64.b64encode(response).decode()
        parsed = client.parse_authn_request_response(encoded, BINDING_HTTP_POST, outstanding={})
    except StatusError as error:
        raise Wrong(f"the identity provider refused: {str(error)[-200:]}") from None
    except Exception as error:  # the library raises what it likes; whatever it is, the message did not pass
        raise Wrong(f"{type(error).__name__}: {str(error)[:400]}") from None
    if parsed is None or parsed.assertion is None or parsed.name_id is None or not parsed.assertion.signature:
        raise Wrong("the response is not for us, or holds no signed assertion of a subject")
    return parsed


def check_origin(response: Any, assertion: Any, issuer: str) -> None:
    """Said by the one whose word this identity provider is; raises Wrong."""
    given = [text_of(part.issuer) for part in (response, assertion) if part.issuer is not None]
    if not given or set(given) != {issuer} or assertion.issuer is None:
        raise Wrong(f"issued by {given}, not by {issuer}")


def check_place(peer: Peer, response: Any, assertion: Any) -> None:
    """Meant for us and sent to this address; raises Wrong."""
    if response.destination and response.destination != peer.url:
        raise Wrong(f"sent to {response.destination}, which is not {peer.url}")
    restrictions = assertion.conditions.audience_restriction if assertion.conditions else []
    audiences = [[text_of(audience) for audience in one.audience] for one in restrictions]
    if not audiences or not all(peer.url in meant for meant in audiences):
        raise Wrong(f"meant for {audiences}, not for {peer.url}")


def check_answer(peer: Peer, response: Any, assertion: Any, request_id: str, now: float) -> float:
    """The time until which the assertion is good, if it answers what we asked; raises Wrong.

    A response that nobody asked for is taken only from those of whom that is expected, and says so by
    answering nothing.
    """
    if not request_id and not peer.trusted.unsolicited:
        raise Wrong("nobody asked for this, and the identity provider is not configured to speak unasked")
    if (response.in_response_to or "") != request_id:
        raise Wrong(f"answers {response.in_response_to}, not {request_id or 'nothing'}")
    ends = []
    for confirmation in assertion.subject.subject_confirmation:
        data = confirmation.subject_confirmation_data
        if confirmation.method != BEARER or data is None or data.recipient != peer.url or not data.not_on_or_after:
            continue
        if (data.in_response_to or "") == request_id:
            ends.append(data.not_on_or_after)
    if not ends:
        raise Wrong("no confirmation of the subject is for its bearer, here, now and in answer to the request")
    conditions = assertion.conditions
    until = min([seconds(end) for end in (*ends, conditions.not_on_or_after) if end]) + SKEW_SECONDS
    if not now < until < now + MOST_SECONDS or (
        conditions.not_before and seconds(conditions.not_before) > now + SKEW_SECONDS
    ):
        raise Wrong("the assertion is not good at this time, or for too long")
    return until


def text_of(element: Any) -> str:
    """What an element of the library's holds, without the blanks around it."""
    return (element.text or "").strip()


def session_end(assertion: Any, now: float) -> float | None:
    """When the session at the identity provider ends, past which no token shall live; raises Wrong if it has."""
    ends = [seconds(s.session_not_on_or_after) for s in assertion.authn_statement if s.session_not_on_or_after]
    if ends and min(ends) <= now:
        raise Wrong("the session at the identity provider is over")
    return min(ends, default=None)


def seconds(text: str) -> float:
    """A time of SAML (UTC) as seconds since the epoch."""
    from saml2.time_util import str_to_time

    return float(timegm(str_to_time(text)))


def attributes_of(parsed: Any, issuer: str) -> dict[str, list[str]]:
    """What the assertion says of its subject: attributes by their names, friendly names and usual names.

    The subject's own id is REMOTE_USER; who says it, Shib-Identity-Provider and MELLON_IDP: the names by which
    mappings written for the usual modules of web servers know them.  Raises Wrong without a subject.
    """
    from saml2.attribute_converter import to_local_name

    found: dict[str, list[str]] = {}
    for statement in parsed.assertion.attribute_statement:
        for attribute in statement.attribute:
            values = [text_of(value) for value in attribute.attribute_value]
            known = to_local_name(parsed.attribute_converters, attribute)
            for name in {attribute.name, attribute.friendly_name, known} - {None, ""}:
                found.setdefault(name, []).extend(values)
    subject = text_of(parsed.assertion.subject.name_id)
    if not subject:
        raise Wrong("the assertion names no subject")
    return {**found, "REMOTE_USER": [subject], "Shib-Identity-Provider": [issuer], "MELLON_IDP": [issuer]}
