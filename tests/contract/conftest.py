"""Back ends for contract suites: SQLite in a folder, PostgreSQL started on loopback as Debian packages it."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.db.connect import Database, connect
from pileus.db.migrate import migrate


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of our own, ended afterwards; root runs it as the user postgres, which it insists on."""
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed (packages.txt names it)")
    folder = tmp_path_factory.mktemp("pg")
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        for parent in (folder, *folder.parents[:3]):
            if str(parent) != "/tmp":
                parent.chmod(0o755)
        shutil.chown(folder, "postgres", "postgres")
    become = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if os.geteuid() == 0 else []
    data, port = folder / "data", free_port()
    subprocess.run([*become, initdb, "-D", data, "-U", user, "-A", "trust", "-N"], check=True, capture_output=True)
    options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    running = subprocess.Popen([*become, server, "-D", data, "-p", str(port), *options], stderr=subprocess.DEVNULL)
    url = f"postgresql://{user}@127.0.0.1:{port}/postgres"
    try:
        import psycopg

        for _ in range(200):
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.05)
        yield url
    finally:
        running.terminate()
        running.wait(20)


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated database on each engine."""
    if request.param == "sqlite":
        found = connect(f"sqlite://{tmp_path}/pileus.db")
    else:
        url = request.getfixturevalue("postgres_url")
        import psycopg

        with psycopg.connect(url, autocommit=True) as fresh:
            fresh.execute("drop schema public cascade")
            fresh.execute("create schema public")
        found = connect(url)
    migrate(found)
    yield found
    found.close()
