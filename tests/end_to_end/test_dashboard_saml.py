"""A person logs in at a dashboard by SAML: a real browser, SimpleSAMLphp, the cloud on another site than both."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from browser import Browser
from test_dashboard_login import Dashboard, eventually

from identity_cloud import IdentityCloud
from pileus.core.config import Federation, Saml, SamlProvider
from pileus.http.app import App
from pileus.http.server import listen, server
from saml_cloud import FEDERATION, SamlCloud
from simplesaml import PASSWORD, USER, SimpleSaml


class Served:
    """A cloud at `localhost`, which for a browser is another site than `127.0.0.1`, where the others are."""

    def __init__(self, folder: Path):
        self.identity = IdentityCloud(folder)
        self.cloud = SamlCloud(self.identity, self._serve)

    def _serve(self, app: App) -> str:
        socket = listen("127.0.0.1", 0)
        self.front = server(app)
        self.front.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # uvicorn's, kept from taking the tests' signals
        self.thread = threading.Thread(target=lambda: asyncio.run(self.front.serve(sockets=[socket])), daemon=True)
        self.thread.start()
        return f"http://localhost:{socket.getsockname()[1]}"

    def close(self) -> None:
        self.front.should_exit = True
        self.thread.join(10)
        self.identity.close()


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    made = Dashboard()
    yield made
    made.close()


@pytest.fixture
def simplesaml(tmp_path: Path) -> Iterator[SimpleSaml]:
    made = SimpleSaml(tmp_path / "simplesaml")
    yield made
    made.stop()


@pytest.fixture
def cloud(tmp_path: Path, simplesaml: SimpleSaml, dashboard: Dashboard) -> Iterator[SamlCloud]:
    (tmp_path / "cloud").mkdir()
    served = Served(tmp_path / "cloud")
    made = served.cloud
    made.trusts("acme")
    path = tmp_path / "acme.xml"
    path.write_bytes(simplesaml.metadata())
    federation = Federation(
        trusted_dashboards=(dashboard.url,), saml=Saml(providers={"acme": SamlProvider(metadata=str(path))})
    )
    made.configure(federation)
    place = made.place("acme")
    simplesaml.knows(place, made.identity("GET", place.removeprefix(made.v3), token="").raw)
    yield made
    served.close()


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_a_person_logs_in_at_a_dashboard_by_saml(
    tmp_path: Path, cloud: SamlCloud, simplesaml: SimpleSaml, dashboard: Dashboard
) -> None:
    person = Browser(tmp_path)
    try:
        person.open(f"{cloud.v3}/auth{FEDERATION}/websso/saml2?origin={dashboard.url}")
        eventually(lambda: person.evaluate("document.querySelector('input[name=password]') !== null"))
        assert person.evaluate("location.origin") == simplesaml.url
        for name, value in (("username", USER), ("password", PASSWORD)):
            person.evaluate(f"document.querySelector('input[name={name}]').value = {json.dumps(value)}")
        person.evaluate("document.querySelector('input[name=password]').form.submit()")
        (form,) = eventually(lambda: dashboard.posted)
        assert eventually(lambda: person.evaluate("location.href")) == dashboard.url
        assert person.evaluate("document.body.innerText") == "welcome"
    finally:
        person.close()
    (token,) = form["token"]
    shown = cloud.identity("GET", "/auth/tokens", headers={"x-subject-token": token}).json["token"]["user"]
    assert shown["name"] == USER and shown["OS-FEDERATION"]["identity_provider"] == {"id": "acme"}
