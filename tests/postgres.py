"""PostgreSQL for tests: started on loopback as Debian packages it, ended afterwards."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
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
    """A server of our own in a folder of its own; root runs it as the user postgres, which it insists on."""

    def __init__(self, initdb: str, server: str):
        self.folder, self.server, self.port = Path(tempfile.mkdtemp(prefix="pg-")), server, free_port()
        root = os.geteuid() == 0
        self.user = "postgres" if root else pwd.getpwuid(os.geteuid()).pw_name
        if root:
            shutil.chown(self.folder, "postgres", "postgres")
        self.become = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if root else []
        command = [*self.become, initdb, "-D", self.folder / "data", "-U", self.user, "-A", "trust", "-N"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)
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
        self.running = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self.folder)
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

    def close(self) -> None:
        """End it and forget all it held."""
        self.stop()
        shutil.rmtree(self.folder)


def new_postgres() -> Postgres:
    """A server with nothing in it; skips the test where PostgreSQL is not installed."""
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed (packages.txt names it)")
    return Postgres(initdb, server)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL that all tests share: empty it, or make a database of your own in it (`new_database`)."""
    found = new_postgres()
    try:
        yield found.url
    finally:
        found.close()


def new_database(url: str, name: str) -> str:
    """An empty database of this name; its URL."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"drop database if exists {name} with (force)".encode())
        server.execute(f"create database {name}".encode())
    return urlsplit(url)._replace(path=f"/{name}").geturl()
