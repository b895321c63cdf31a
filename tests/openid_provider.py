"""A real OpenID Connect provider, Debian's glewlwyd, as a process of its own on loopback."""

import socket
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SCHEMA = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
SETTINGS = """
port={port}
bind_address="127.0.0.1"
external_url="http://127.0.0.1:{port}"
login_url="login.html"
api_prefix="api"
cookie_secure=0
log_mode="console"
log_level="WARNING"
session_key="session"
session_expiration=3600
admin_scope="g_admin"
profile_scope="g_profile"
login_api_enabled=true
user_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
static_files_path="/usr/share/glewlwyd/webapp"
static_files_mime_types = (
  {{ extension = ".html"; mime_type = "text/html"; }},
  {{ extension = ".js"; mime_type = "application/javascript"; }},
  {{ extension = ".css"; mime_type = "text/css"; }},
  {{ extension = ".json"; mime_type = "application/json"; }}
);
database = {{ type = "sqlite3"; path = "{database}"; }};
"""
CLIENT, SECRET = "pileus", "client-secret"
USER, PASSWORD = "ann", "the user's password"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OpenidProvider:
    """The provider; it knows a user ann in the groups dev and ops, and a client."""

    def __init__(self, folder: Path):
        port, database = free_port(), folder / "glewlwyd.db"
        with sqlite3.connect(database) as db:
            db.executescript(SCHEMA.read_text())
        settings = folder / "glewlwyd.conf"
        settings.write_text(SETTINGS.format(port=port, database=database))
        self.log = (folder / "glewlwyd.log").open("wb")
        self.process = subprocess.Popen(["glewlwyd", "-c", str(settings)], stdout=self.log, stderr=self.log)
        self.api = f"http://127.0.0.1:{port}/api"
        self.issuer = f"{self.api}/oidc"
        self.discovery = f"{self.issuer}/.well-known/openid-configuration"
        self.administrator = requests.Session()
        self._await()
        self._set_up()

    def _await(self) -> None:
        """Log in as the administrator as soon as it answers."""
        login = {"username": "admin", "password": "password"}
        for _ in range(600):
            try:
                if self.administrator.post(f"{self.api}/auth/", json=login, timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise RuntimeError("glewlwyd does not start")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.administrator.request(method, f"{self.api}{path}", json=body, timeout=10)
        assert answer.status_code == 200, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def _set_up(self) -> None:
        module = self.ask("GET", "/mod/user/database")
        module["parameters"]["data-format"]["groups"] = {"multiple": True, "read": True, "write": True}
        self.ask("PUT", "/mod/user/database", module)
        self.ask("PUT", "/mod/user/database/reset/")
        self.ask("POST", "/mod/plugin/", {
            "module": "oidc", "name": "oidc", "display_name": "OpenID Connect", "parameters": self.parameters()
        })  # fmt: skip
        self.ask("POST", "/user/", {
            "username": USER, "name": "Ann Other", "email": "ann@example.org", "password": PASSWORD,
            "groups": ["dev", "ops"], "scope": ["openid"], "enabled": True,
        })  # fmt: skip
        self.client(CLIENT, SECRET)

    def client(self, name: str, secret: str, *redirects: str) -> None:
        """Make a client, or let it send browsers back to these addresses."""
        wanted = {
            "client_id": name, "name": name, "enabled": True, "confidential": True, "password": secret,
            "redirect_uri": list(redirects) or ["http://localhost/none"], "scope": ["openid"],
            "authorization_type": ["code", "password", "client_credentials", "refresh_token"],
            "token_endpoint_auth_method": ["client_secret_basic"],
        }  # fmt: skip
        if redirects:
            self.ask("PUT", f"/client/{name}", wanted)
        else:
            self.ask("POST", "/client/", wanted)

    def parameters(self) -> dict[str, Any]:
        """Of the provider's plugin, with a new key."""
        key = rsa.generate_private_key(65537, 2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        kinds = ("code", "id-token", "password", "client", "refresh")
        return {
            "iss": self.issuer, "jwt-type": "rsa", "jwt-key-size": "256", "key": private.decode(),
            "cert": public.decode(), "access-token-duration": 3600, "refresh-token-duration": 3600,
            "code-duration": 600, "allow-non-oidc": True, "pkce-allowed": True, "subject-type": "public",
            **{f"auth-type-{kind}-enabled": True for kind in kinds},
            "introspection-revocation-allowed": True, "introspection-revocation-allow-target-client": True,
            "claims": [{"name": "groups", "user-property": "groups", "type": "string", "scope": ["openid"]}],
            "name-claim": "mandatory", "name-claim-scope": ["openid"], "email-claim": "mandatory",
            "email-claim-scope": ["openid"], "address-claim": {"type": "no"},
        }  # fmt: skip

    def rotate(self) -> None:
        """Sign by a new key from now on."""
        plugin = self.ask("GET", "/mod/plugin/oidc")
        plugin["parameters"] = self.parameters()
        self.ask("PUT", "/mod/plugin/oidc", plugin)
        self.ask("PUT", "/mod/plugin/oidc/reset/")

    def tokens(self, client: str = CLIENT, secret: str = SECRET) -> dict[str, Any]:
        """Ann's tokens, by her password."""
        form = {"grant_type": "password", "username": USER, "password": PASSWORD, "scope": "openid"}
        answer = requests.post(f"{self.issuer}/token", data=form, auth=(client, secret), timeout=10)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def browse(self, address: str) -> str:
        """What Ann's browser does at the provider, from the address to which it was sent to where it is sent back."""
        browser = requests.Session()
        login = {"username": USER, "password": PASSWORD}
        assert browser.post(f"{self.api}/auth/", json=login, timeout=10).status_code == 200
        granted = browser.put(f"{self.api}/auth/grant/{CLIENT}", json={"scope": "openid"}, timeout=10)
        assert granted.status_code == 200
        answer = browser.get(f"{address}&g_continue", allow_redirects=False, timeout=10)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.log.close()
