"""PostgreSQL for tests: started on loopback as Debian packages it, ended afterwards."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


class Postgres:
    """A server of our own in a folder; root runs it as the user postgres, which it insists on."""

    def __init__(self, folder: Path, initdb: str, server: str):
        self.folder, self.server, self.port = folder, server, free_port()
        root = os.geteuid() == 0
        self.user = "postgres" if root else pwd.getpwuid(os.geteuid()).pw_name
        if root:
            for parent in (folder, *folder.parents[:3]):
                if str(parent) != "/tmp":
                    parent.chmod(0o755)
            shutil.chown(folder, "postgres", "postgres")
        self.become = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if root else []
        command = [*self.become, initdb, "-D", folder / "data", "-U", self.user, "-A", "trust", "-N"]
        subprocess.run(command, check=True, capture_output=True)
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Run it and wait until it takes connections."""
        import psycopg

        options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        options += ["-c", f"unix_socket_directories={self.folder}"]
        command = [*self.become, self.server, "-D", self.folder / "data", "-p", str(self.port), *options]
        self.running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                psycopg.connect(self.url).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it, cutting off all who are connected; SIGQUIT is a crash."""
        self.running.send_signal(number)
        self.running.wait(20)


def new_postgres(folder: Path) -> Postgres:
    """A server in an empty folder; skips the test where PostgreSQL is not installed."""
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed (packages.txt names it)")
    return Postgres(folder, initdb, server)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL that all tests share: empty it, or make a database of your own in it (`new_database`)."""
    found = new_postgres(tmp_path_factory.mktemp("pg"))
    try:
        yield found.url
    finally:
        found.stop()


def new_database(url: str, name: str) -> str:
    """An empty database of this name; its URL."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"drop database if exists {name} with (force)".encode())
        server.execute(f"create database {name}".encode())
    return urlsplit(url)._replace(path=f"/{name}").geturl()
