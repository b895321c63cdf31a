"""The key that signs SAML: made once, kept to its owner, replaced in two steps; SAML is loaded when it is needed."""

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from pileus.cli import doctor, keys
from pileus.core.config import Config, Federation, Saml, SamlProvider
from pileus.identity import facade
from pileus.identity.federation.saml_keys import rotate_signing_key, shown_keys, signing_key


def certificates(folder: Path) -> list[bytes]:
    return [x509.load_pem_x509_certificate(path.read_bytes()).signature for path in shown_keys(folder)]


def test_many_who_need_the_key_at_once_get_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: signing_key(tmp_path).read_bytes(), range(4)))
    assert len(set(made)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["saml.pem"]
    assert stat.S_IMODE((tmp_path / "saml.pem").stat().st_mode) == 0o600


def test_a_key_is_shown_before_it_is_used(tmp_path: Path) -> None:
    (old,) = certificates(tmp_path)
    assert "next key stands in the metadata" in rotate_signing_key(tmp_path)
    used, following = certificates(tmp_path)
    assert used == old
    assert "from now on" in rotate_signing_key(tmp_path)
    assert certificates(tmp_path) == [following]
    assert stat.S_IMODE((tmp_path / "saml.pem").stat().st_mode) == 0o600


def test_the_operator_rotates_it_by_name_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(state=str(tmp_path))
    (tmp_path / "db").mkdir()
    facade.ensure_keys(tmp_path / "keys")
    assert keys.rotate_keys(config, ["audit"]) == 0 and "saml" not in capsys.readouterr().out
    assert keys.rotate_keys(config, ["saml"]) == 0 and "saml: the next key" in capsys.readouterr().out
    assert len(certificates(tmp_path / "keys")) == 2


def test_an_api_that_nobody_asks_for_saml_does_not_load_it() -> None:
    """Half a second and 50 MB: who starts the API without it shall not pay for it."""
    program = (
        "import sys, pileus.roles.controller as c; c.services();"
        "print([m for m in ('saml2', 'lxml', 'xmlschema', 'requests', 'OpenSSL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_doctor_says_what_log_ins_by_saml_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = SamlProvider(metadata=str(tmp_path / "acme.xml"))
    config = Config(federation=Federation(saml=Saml(providers={"acme": provider})))
    ((level, what, _),) = doctor.saml(config)
    assert level == "warning" and "acme" in what and "acme.xml" in what
    (tmp_path / "acme.xml").write_text("<a/>")
    assert doctor.saml(config) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [what for _, what, _ in doctor.saml(config)] == ["xmlsec1: nobody logs in by SAML"]
