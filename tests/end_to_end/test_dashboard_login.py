"""A person logs in at a dashboard by an identity provider: a real browser and provider, the cloud on another site."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import browser
import pytest
import requests
from browser import Browser
from msgspec import structs

from identity_cloud import IdentityCloud
from openid_provider import CLIENT, PASSWORD, SECRET, USER, OpenidProvider
from pileus.core.config import Federation, OidcProvider
from pileus.http.server import listen, server

WAIT_SECONDS = 60.0


class Dashboard:
    """Takes the token that a browser posts to it, as Horizon does."""

    def __init__(self) -> None:
        self.posted: list[dict[str, list[str]]] = []
        dashboard = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                dashboard.posted.append(parse_qs(form))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"welcome")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/auth/websso/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def eventually(work: Callable[[], Any]) -> Any:
    """What it gives as soon as that is something."""
    ends = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < ends:
        if found := work():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    made = Dashboard()
    yield made
    made.close()


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OpenidProvider]:
    made = OpenidProvider(tmp_path)
    yield made
    made.close()


@pytest.fixture
def url(tmp_path: Path, provider: OpenidProvider, dashboard: Dashboard) -> Iterator[str]:
    """A cloud at `localhost`, which for a browser is another site than `127.0.0.1`, where the others are."""
    import asyncio

    cloud = IdentityCloud(tmp_path)
    (tmp_path / "secret").write_text(SECRET)
    oidc = OidcProvider(
        issuer=provider.issuer, client_id=CLIENT, client_secret_file=str(tmp_path / "secret"), scopes=("openid",)
    )
    federation = Federation(trusted_dashboards=(dashboard.url,), oidc={"acme": oidc})
    cloud.settings.config = structs.replace(cloud.settings.config, federation=federation)
    rules = [{"remote": [{"type": "OIDC-name"}], "local": [{"user": {"name": "{0}"}}]}]
    for path, key, fields in (
        ("mappings/acme", "mapping", {"rules": rules}),
        ("identity_providers/acme", "identity_provider", {"enabled": True}),
        ("identity_providers/acme/protocols/openid", "protocol", {"mapping_id": "acme"}),
    ):
        assert cloud("PUT", f"/OS-FEDERATION/{path}", {key: fields}).status == 201
    socket = listen("127.0.0.1", 0)
    cloud.settings.public_url = f"http://localhost:{socket.getsockname()[1]}"
    callback = "/identity/v3/OS-FEDERATION/identity_providers/acme/protocols/openid/oidc"
    provider.client(CLIENT, SECRET, cloud.settings.public_url + callback)
    front = server(cloud.direct.app)
    front.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # uvicorn's, kept from taking the tests' signals
    thread = threading.Thread(target=lambda: asyncio.run(front.serve(sockets=[socket])), daemon=True)
    thread.start()
    yield cloud.settings.public_url
    front.should_exit = True
    thread.join(10)
    cloud.close()


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_a_person_logs_in_at_a_dashboard(
    tmp_path: Path, url: str, provider: OpenidProvider, dashboard: Dashboard
) -> None:
    person = Browser(tmp_path)
    try:
        person.open(f"{url}/identity/v3/auth/OS-FEDERATION/websso/openid?origin={dashboard.url}")
        eventually(lambda: person.evaluate("location.pathname").endswith("/login.html"))
        login = json.dumps({"username": USER, "password": PASSWORD})
        consent = json.dumps({"scope": "openid"})
        for method, path, body in (("POST", "/api/auth/", login), ("PUT", f"/api/auth/grant/{CLIENT}", consent)):
            how = f"{{method: '{method}', headers: {{'content-type': 'application/json'}}, body: {json.dumps(body)}}}"
            assert person.evaluate(f"fetch('{path}', {how}).then(answer => answer.status)") == 200
        person.evaluate("location.href = new URLSearchParams(location.search).get('callback_url') + '&g_continue'")
        (form,) = eventually(lambda: dashboard.posted)
        assert eventually(lambda: person.evaluate("location.href")) == dashboard.url
        assert person.evaluate("document.body.innerText") == "welcome"
    finally:
        person.close()
    (token,) = form["token"]
    head = {"x-auth-token": token, "x-subject-token": token}
    shown = requests.get(f"{url}/identity/v3/auth/tokens", headers=head, timeout=10).json()["token"]["user"]
    assert shown["name"] == "Ann Other" and shown["OS-FEDERATION"]["identity_provider"] == {"id": "acme"}
