"""Clouds that speak SAML with each other and with identity providers, on real sockets."""

import base64
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session
from lxml import etree
from msgspec import structs

from direct import Answer
from identity_cloud import PASSWORD, URL, IdentityCloud
from pileus.core.config import Federation, Saml, SamlProvider
from pileus.http.app import App
from pileus.identity.federation.saml_keys import CURRENT, signing_key
from saml_forger import Forger, question_of

FEDERATION = "/OS-FEDERATION"
DASHBOARD = "http://dashboard/auth/websso/"
# Whoever is asserted gets their name, and the groups that are asserted, if there are such.
BY_NAME = [{"remote": [{"type": "REMOTE_USER"}], "local": [{"user": {"name": "{0}"}}]}]


@functools.cache
def known_key() -> Path:
    """A key for all clouds of this process, since making one takes a while."""
    return signing_key(Path(tempfile.mkdtemp()))


class SamlCloud:
    """A cloud at an address of its own, or, without `serve`, one that is called without a socket."""

    def __init__(self, identity: IdentityCloud, serve: Callable[[App], str] | None = None):
        self.identity, self.folder = identity, identity.folder
        self.url = serve(self.identity.direct.app) if serve else URL
        self.identity.bootstrap(url=self.url)
        shutil.copy(known_key(), identity.settings.keys_folder / CURRENT)
        self.settings(Saml())

    def settings(self, saml: Saml, dashboards: tuple[str, ...] = ()) -> None:
        """Start over with these settings."""
        self.configure(Federation(saml=saml, trusted_dashboards=dashboards))

    def configure(self, federation: Federation) -> None:
        """Start over with these settings of federation."""
        settings = self.identity.settings
        settings.config = structs.replace(settings.config, public_url=self.url, federation=federation)

    @property
    def v3(self) -> str:
        return f"{self.url}/identity/v3"

    def put(self, path: str, key: str, **fields: Any) -> dict[str, Any]:
        answer = self.identity("PUT", f"{FEDERATION}/{path}", {key: fields})
        assert answer.status == 201, answer
        found: dict[str, Any] = answer.json[key]
        return found

    def protocol(self, idp: str, protocol: str = "saml2") -> str:
        """The path below FEDERATION of a protocol of an identity provider."""
        return f"identity_providers/{idp}/protocols/{protocol}"

    def trusts(self, idp: str, rules: Any = BY_NAME, *, protocol: str = "saml2", **fields: Any) -> None:
        """Register an identity provider with a mapping of its own."""
        self.put(f"mappings/{idp}", "mapping", rules=rules)
        self.put(f"identity_providers/{idp}", "identity_provider", **{"enabled": True, **fields})
        self.put(self.protocol(idp, protocol), "protocol", mapping_id=idp)

    def place(self, idp: str, protocol: str = "saml2") -> str:
        """Where assertions of an identity provider are taken."""
        return f"{self.v3}{FEDERATION}/{self.protocol(idp, protocol)}/saml2"

    def takes_word_of(self, idp: str, metadata: bytes, *, unsolicited: bool = False) -> None:
        """Configure an identity provider by its metadata."""
        path = self.folder / f"{idp}.xml"
        path.write_bytes(metadata)
        provider = SamlProvider(metadata=str(path), unsolicited=unsolicited)
        self.settings(Saml(providers={idp: provider}), (DASHBOARD,))

    def gives_word_to(self, sp: str, other: "SamlCloud", idp: str, **fields: Any) -> None:
        """Register another cloud as service provider, which knows this one by the name `idp`."""
        place = other.place(idp)
        auth_url = place.removesuffix("saml2") + "auth"
        wanted = {"auth_url": auth_url, "sp_url": place, "enabled": True, **fields}
        self.put(f"service_providers/{sp}", "service_provider", **wanted)

    def metadata(self) -> bytes:
        """What this cloud says of itself as an identity provider."""
        answer = self.identity("GET", f"{FEDERATION}/saml2/metadata", token="")
        assert answer.status == 200, answer
        return answer.raw

    def session(self, user: str = "admin", password: str = PASSWORD, project: str = "admin") -> Session:
        """A client that is logged in here by password."""
        return Session(auth=Password(
            f"{self.v3}", username=user, password=password, project_name=project, user_domain_id="default",
            project_domain_id="default",
        ))  # fmt: skip


class Browser:
    """Somebody at a browser, before a cloud that takes the word of an identity provider `acme`."""

    def __init__(self, cloud: SamlCloud, idp: Forger):
        self.cloud, self.idp = cloud, idp
        self.place = cloud.place("acme")
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> Answer:
        """One request below /v3, with the cookies that came before."""
        head = {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
        head["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        raw = urlencode(form).encode() if form is not None else None
        answer = self.cloud.identity(method, path, token="", headers=head, raw=raw)
        if given := answer.headers.get("set-cookie"):
            name, _, rest = given.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer

    def begin(self, origin: str = DASHBOARD) -> str:
        """Go to the cloud, be sent to the identity provider; the id of the request."""
        answer = self.ask("GET", f"/auth{FEDERATION}/{self.cloud.protocol('acme')}/websso?origin={origin}")
        assert answer.status == 303, answer
        return question_of(answer.headers["location"])["ID"]

    def bring(self, response: Any, place: str = "") -> Answer:
        """Post a response, an element or bytes."""
        raw = response if isinstance(response, bytes) else etree.tostring(response)
        path = (place or self.place).removeprefix(self.cloud.v3)
        return self.ask("POST", path, {"SAMLResponse": base64.b64encode(raw).decode()})

    def good(self, **changes: Any) -> Any:
        """A signed response to a request just made."""
        return self.idp.signed(self.idp.response(self.place, self.begin(), **changes))

    def refused(self, response: Any) -> bool:
        """Whether the response gets 401 and no token."""
        answer = self.bring(response)
        return answer.status == 401 and "x-subject-token" not in answer.headers and b"token" not in answer.raw
