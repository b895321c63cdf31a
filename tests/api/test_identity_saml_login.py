"""Logging in by SAML: how it goes, and all that is refused on the way (S13, S14 and the attacks on SAML)."""

import asyncio
import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from lxml import etree

from identity_cloud import IdentityCloud
from pileus.core.clock import parse_iso
from saml_cloud import DASHBOARD, FEDERATION, Browser, SamlCloud
from saml_forger import SSO, Forger, question_of


@pytest.fixture(scope="module")
def idp() -> Forger:
    return Forger()


@pytest.fixture
def browser(tmp_path: Path, identity_cloud: Callable[[Path], IdentityCloud], idp: Forger) -> Browser:
    cloud = SamlCloud(identity_cloud(tmp_path))
    cloud.trusts("acme")
    cloud.takes_word_of("acme", idp.metadata())
    return Browser(cloud, idp)


def token_in(page: str) -> str:
    found = re.search(r'name="token" id="token" value="([^"]+)"', page)
    assert found, page
    return found[1]


def test_a_browser_logs_in_at_a_dashboard(browser: Browser) -> None:
    answer = browser.ask("GET", f"/auth{FEDERATION}/{browser.cloud.protocol('acme')}/websso?origin={DASHBOARD}")
    assert answer.status == 303 and answer.headers["location"].startswith(SSO)
    asked = question_of(answer.headers["location"])
    assert asked["issuer"] == asked["AssertionConsumerServiceURL"] == browser.place and asked["Destination"] == SSO
    assert asked["signed_by"].endswith("rsa-sha256")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and f"Path={urlsplit(browser.place).path};" in cookie
    page = browser.bring(browser.idp.signed(browser.idp.response(browser.place, asked["ID"])))
    assert page.status == 200 and page.headers["content-type"].startswith("text/html"), page.raw.decode()
    assert page.headers["cache-control"] == "no-store" and "x-subject-token" not in page.headers
    assert f'action="{DASHBOARD}" method="post"' in page.raw.decode()
    shown = browser.cloud.identity(
        "GET", "/auth/tokens", headers={"x-subject-token": token_in(page.raw.decode())}
    ).json["token"]
    assert shown["user"]["name"] == "ann" and shown["methods"] == ["saml2"]
    assert shown["user"]["OS-FEDERATION"]["identity_provider"] == {"id": "acme"}


def test_behind_tls_the_cookie_follows_a_post_from_another_site(browser: Browser) -> None:
    browser.cloud.url = "https://cloud.example.org"
    browser.cloud.takes_word_of("acme", browser.idp.metadata())
    answer = browser.ask("GET", f"/auth{FEDERATION}/{browser.cloud.protocol('acme')}/websso?origin={DASHBOARD}")
    assert answer.headers["set-cookie"].endswith("; HttpOnly; Secure; SameSite=None")
    assert question_of(answer.headers["location"])["AssertionConsumerServiceURL"] == browser.cloud.place("acme")


def test_a_dashboard_may_leave_out_the_only_provider(browser: Browser) -> None:
    for method in ("GET", "POST"):
        answer = browser.ask(method, f"/auth{FEDERATION}/websso/saml2?origin={DASHBOARD}")
        assert answer.status == 303 and answer.headers["location"].startswith(SSO)
    assert browser.ask("GET", f"/auth{FEDERATION}/websso/openid?origin={DASHBOARD}").status == 404


def test_without_a_dashboard_the_token_goes_to_who_asked(browser: Browser) -> None:
    answer = browser.ask("GET", f"{FEDERATION}/{browser.cloud.protocol('acme')}/auth")
    assert answer.status == 303
    request = question_of(answer.headers["location"])["ID"]
    taken = browser.bring(browser.idp.signed(browser.idp.response(browser.place, request)))
    assert taken.status == 201 and taken.json["token"]["user"]["name"] == "ann"
    assert browser.cloud.identity.valid(taken.headers["x-subject-token"])


def test_a_token_ends_with_the_session_at_the_provider(browser: Browser) -> None:
    answer = browser.bring(browser.good(session=600.0))
    body = browser.cloud.identity(
        "GET", "/auth/tokens", headers={"x-subject-token": token_in(answer.raw.decode())}
    ).json["token"]
    assert 540 < parse_iso(body["expires_at"]) - parse_iso(body["issued_at"]) <= 600


def test_a_provider_that_wants_a_form_gets_one(browser: Browser) -> None:
    browser.cloud.takes_word_of("acme", browser.idp.metadata("HTTP-POST"))
    answer = browser.ask("GET", f"/auth{FEDERATION}/{browser.cloud.protocol('acme')}/websso?origin={DASHBOARD}")
    assert answer.status == 200 and f'action="{SSO}"' in answer.raw.decode()
    found = re.search(r'name="SAMLRequest" value="([^"]+)"', answer.raw.decode())
    assert found
    request = etree.fromstring(base64.b64decode(found[1]))
    assert request.find("{http://www.w3.org/2000/09/xmldsig#}Signature") is not None
    response = browser.idp.signed(browser.idp.response(browser.place, request.get("ID")))
    assert browser.bring(response).status == 200


def test_both_signed_is_fine_too(browser: Browser) -> None:
    response = browser.good()
    whole = browser.idp.sign(etree.fromstring(etree.tostring(response)))
    assert browser.bring(whole).status == 200


def test_tokens_go_to_trusted_dashboards_only(browser: Browser) -> None:
    path = f"/auth{FEDERATION}/{browser.cloud.protocol('acme')}/websso"
    for origin in ("http://evil/", DASHBOARD + "x", DASHBOARD.upper()):
        assert browser.ask("GET", f"{path}?origin={origin}").status == 401
    assert browser.ask("GET", path).status == 400


def test_who_is_unknown_or_disabled_lets_nobody_in(browser: Browser) -> None:
    response = browser.good()
    browser.cloud.identity("PATCH", f"{FEDERATION}/identity_providers/acme", {"identity_provider": {"enabled": False}})
    assert browser.bring(response).status == 403
    assert browser.ask("GET", f"{FEDERATION}/{browser.cloud.protocol('acme')}/auth").status == 403
    assert browser.ask("GET", f"{FEDERATION}/{browser.cloud.protocol('other')}/auth").status == 404
    assert browser.ask("GET", f"{FEDERATION}/{browser.cloud.protocol('acme', 'openid')}/saml2").status == 404


def test_a_response_is_taken_once(browser: Browser) -> None:
    response = browser.good()
    kept = dict(browser.cookies)
    assert browser.bring(response).status == 200
    assert browser.refused(response), "its cookie is gone"
    browser.cookies = kept
    assert browser.refused(response), "the assertion was used"


def test_a_response_counts_in_the_browser_that_asked_only(browser: Browser) -> None:
    """Else somebody could log others in as themselves, and see what they do there."""
    response = browser.good()
    victim = Browser(browser.cloud, browser.idp)
    assert victim.refused(response), "asked for nothing"
    victim.begin()
    assert victim.refused(response), "asked for another one"
    victim.cookies = dict.fromkeys(browser.cookies, "00000000:forged")
    assert victim.refused(response)
    other = Browser(browser.cloud, browser.idp)
    other.begin()
    ((name, _),), ((_, value),) = browser.cookies.items(), other.cookies.items()
    victim.cookies = {name: value}
    assert victim.refused(response), "what was asked under this name is something else"
    browser.cookies = {"other": 'an "odd, (one)', **browser.cookies}
    assert browser.bring(response).status == 200


def test_tabs_of_one_browser_do_not_hide_each_other(browser: Browser) -> None:
    first, second = browser.good(), browser.good()
    assert browser.bring(first).status == 200
    assert browser.bring(second).status == 200
    assert set(browser.cookies.values()) == {""}, "what was answered is forgotten"


def test_no_provider_speaks_for_another(browser: Browser, tmp_path: Path) -> None:
    """S14: what was said to one provider's place is nothing at another one's, though it is the same key."""
    cloud = browser.cloud
    cloud.put(cloud.protocol("acme", "mapped"), "protocol", mapping_id="acme")
    response = browser.good()
    assert browser.bring(response, cloud.place("acme", "mapped")).status == 401
    assert browser.bring(response).status == 200


def test_a_response_unasked_is_not_for_browsers_even_where_clouds_may_send_them(browser: Browser) -> None:
    browser.cloud.takes_word_of("acme", browser.idp.metadata(), unsolicited=True)
    unasked = browser.idp.signed(browser.idp.response(browser.place))
    assert browser.refused(unasked)
    assert browser.refused(unasked)


def test_metadata_of_a_provider_is_read_again_when_it_changes(browser: Browser) -> None:
    other = Forger()
    response = other.signed(other.response(browser.place, browser.begin()))
    assert browser.refused(response)
    browser.cloud.takes_word_of("acme", other.metadata())
    response = other.signed(other.response(browser.place, browser.begin()))
    assert browser.bring(response).status == 200


def test_metadata_that_is_of_no_use_is_said_to_be(browser: Browser) -> None:
    path, good = browser.cloud.folder / "acme.xml", browser.idp.metadata()
    two = b"<md:EntitiesDescriptor xmlns:md='urn:oasis:names:tc:SAML:2.0:metadata'>" + good
    two += Forger("https://other/idp").metadata() + b"</md:EntitiesDescriptor>"
    wrong = [(None, "cannot be read"), (b"", "is wrong"), (b"<a/>", "names 0 entities"), (two, "names 2 entities")]
    for text, why in (*wrong, (browser.idp.metadata("SOAP"), "neither by redirect nor by form")):
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text)
        answer = browser.ask("GET", f"{FEDERATION}/{browser.cloud.protocol('acme')}/auth")
        assert answer.status == 503 and why in answer.json["error"]["message"], answer
    browser.cloud.takes_word_of("acme", good)
    assert browser.bring(browser.good()).status == 200


def test_the_event_loop_goes_on_while_a_response_is_checked(browser: Browser) -> None:
    """It takes two processes of xmlsec1 and a schema; others who ask meanwhile do not wait for that."""
    loop, gaps = browser.cloud.identity.direct.loop, [0.0]

    async def beat() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    browser.bring(browser.good())  # loads the library
    task, shares = loop.create_task(beat()), []
    for _ in range(3):
        response = browser.good()
        gaps.clear()
        began = time.perf_counter()
        assert browser.bring(response).status == 200
        shares.append(max(gaps) / (time.perf_counter() - began))
    task.cancel()
    assert min(shares) < 0.5, shares


def test_what_is_no_response_at_all(browser: Browser) -> None:
    browser.begin()
    for raw in (b"", b"x", b"<a/>", b"\xff\xfe", browser.idp.metadata()):
        assert browser.refused(raw), raw
    path = browser.place.removeprefix(browser.cloud.v3)
    assert browser.ask("POST", path, {"x": "y"}).status == 401
    assert browser.ask("POST", path).status == 400
    assert browser.ask("POST", path, {"SAMLResponse": "x" * 600_000}).status == 413
    assert browser.refused(b"<a>" + b"x" * 300_000 + b"</a>")
