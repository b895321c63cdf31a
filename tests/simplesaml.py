"""SimpleSAMLphp from Debian's package as an identity provider, on PHP's own web server, with a folder of its own."""

import html
import os
import re
import subprocess
import time
from pathlib import Path

import requests
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postgres import free_port
from saml_forger import Forger

WWW = Path("/usr/share/simplesamlphp/www")
USER, PASSWORD = "ann", "open sesame"
_CONFIG = """<?php
$config = [
    'baseurlpath' => '{url}/', 'certdir' => '{folder}/cert/', 'loggingdir' => '{folder}/log/',
    'datadir' => '{folder}/data/', 'tempdir' => '{folder}/tmp', 'metadatadir' => '{folder}/metadata',
    'secretsalt' => 'salt of a test', 'auth.adminpassword' => 'unused here',
    'technicalcontact_email' => 'x@example.org',
    'timezone' => 'UTC', 'logging.level' => SimpleSAML\\Logger::INFO, 'logging.handler' => 'file',
    'enable.saml20-idp' => true, 'module.enable' => ['exampleauth' => true, 'core' => true, 'saml' => true],
    'store.type' => 'phpsession', 'session.phpsession.savepath' => '{folder}/data', 'session.cookie.secure' => false,
    'language.default' => 'en', 'metadata.sources' => [['type' => 'flatfile']],
];
"""
_SOURCES = """<?php
$config = ['people' => ['exampleauth:UserPass', '{user}:{password}' => [
    'uid' => ['{user}'], 'mail' => ['{user}@example.org'], 'groups' => ['painters', 'sailors'],
]]];
"""
_HOSTED = """<?php
$metadata['{url}/entity'] = [
    'host' => '__DEFAULT__', 'privatekey' => 'idp.key', 'certificate' => 'idp.crt', 'auth' => 'people',
    'saml20.ecp' => true, 'simplesaml.nameidattribute' => 'uid',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified',
    'attributes.NameFormat' => 'urn:oasis:names:tc:SAML:2.0:attrname-format:basic',
];
"""
_REMOTE = """<?php
$metadata['{entity}'] = SimpleSAML\\Metadata\\SAMLParser::parseFile('{file}')->getMetadata20SP();
"""


class SimpleSaml:
    """The identity provider; `knows` tells it of a service provider."""

    def __init__(self, folder: Path):
        self.folder, self.url = folder, f"http://127.0.0.1:{(port := free_port())}"
        for name in ("cert", "log", "data", "tmp", "metadata"):
            (folder / name).mkdir(parents=True)
        identity = Forger()
        (folder / "cert" / "idp.crt").write_bytes(identity.pem)
        private = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "cert" / "idp.key").write_bytes(private)
        self._write("config.php", _CONFIG)
        self._write("authsources.php", _SOURCES)
        self._write("metadata/saml20-idp-hosted.php", _HOSTED)
        self._write("metadata/saml20-sp-remote.php", "<?php\n")
        self._log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            ["php", "-S", f"127.0.0.1:{port}", "-t", str(WWW)], stdout=self._log, stderr=self._log,
            env={**os.environ, "SIMPLESAMLPHP_CONFIG_DIR": str(folder)},
        )  # fmt: skip
        self._wait()

    def _write(self, name: str, text: str) -> None:
        for key, value in {"url": self.url, "folder": self.folder, "user": USER, "password": PASSWORD}.items():
            text = text.replace(f"{{{key}}}", str(value))
        (self.folder / name).write_text(text)

    def _wait(self) -> None:
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            try:
                self.metadata()
                return
            except requests.ConnectionError:
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.05)
        raise AssertionError("SimpleSAMLphp does not answer")

    @property
    def ecp_url(self) -> str:
        """Where clients of the enhanced profile go."""
        return f"{self.url}/saml2/idp/SSOService.php"

    def metadata(self) -> bytes:
        """What it says of itself."""
        answer = requests.get(f"{self.url}/saml2/idp/metadata.php", timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.content

    def knows(self, entity: str, metadata: bytes) -> None:
        """Tell it of a service provider by that one's metadata, which it reads with its own parser."""
        path = self.folder / "sp.xml"
        path.write_bytes(metadata)
        self._write("metadata/saml20-sp-remote.php", _REMOTE.replace("{entity}", entity).replace("{file}", str(path)))

    def log_in(self, session: requests.Session, location: str, password: str = PASSWORD) -> dict[str, str]:
        """Go where a cloud sent a browser, give name and password; the fields of the form that comes back."""
        asked = session.get(location, timeout=30)
        assert asked.status_code == 200, asked.text
        state = field(asked.text, "AuthState")
        form = {"AuthState": state, "username": USER, "password": password}
        answer = session.post(asked.url.partition("?")[0], data=form, timeout=30)
        assert answer.status_code == 200, answer.text
        return {
            name: field(answer.text, name) for name in ("SAMLResponse", "RelayState") if f'name="{name}"' in answer.text
        }

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()


def field(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}"\s+value="([^"]*)"', page)
    assert found, page[:3000]
    return html.unescape(found[1])
