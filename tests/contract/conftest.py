"""Back ends for contract suites: SQLite in a folder, PostgreSQL started on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.db.connect import Database, connect
from pileus.db.migrate import migrate


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
