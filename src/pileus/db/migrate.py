"""The schema, version by version: numbered SQL files, each applied once in one transaction.

A file speaks the subset that both engines know; `-- sqlite:` or `-- postgresql:` at the start of
a line keeps the rest of that line for one engine.
"""

from importlib import resources

from pileus.db.connect import Database, Tx


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, SQL) of every migration, in order."""
    files = (resources.files("pileus.db") / "migrations").iterdir()
    named = sorted((f for f in files if f.name.endswith(".sql")), key=lambda f: f.name)
    return [(int(f.name[:4]), f.name, f.read_text()) for f in named]


def statements(sql: str, dialect: str) -> list[str]:
    """The statements of a migration for one engine; a `;` at the end of a line ends a statement."""
    lines = []
    for line in sql.splitlines():
        line = line.removeprefix(f"-- {dialect}:")
        if not line.lstrip().startswith("--"):
            lines.append(line)
    return [part.strip() for part in "\n".join(lines).split(";\n") if part.strip().strip(";")]


def version(tx: Tx) -> int:
    """The number of the newest migration applied; 0 for an empty database."""
    row = tx.one("select max(number) from schema_version")
    return int(row[0] or 0) if row else 0


def migrate(db: Database) -> list[str]:
    """Bring the schema up to date; the names of what was applied.  Refuses a schema of the future."""
    db.transact(
        lambda tx: tx.run("create table if not exists schema_version (number bigint primary key, name text not null)")
    )
    known = migrations()

    def apply(tx: Tx) -> list[str]:
        tx.lock("schema")
        done = {row[0] for row in tx.all("select number from schema_version")}
        if done - {number for number, _, _ in known}:
            raise RuntimeError("the database was written by a newer Pileus: upgrade this one, or restore a backup")
        applied = []
        for number, name, sql in known:
            if number in done:
                continue
            for statement in statements(sql, tx.dialect):
                tx.run(statement.rstrip(";"))
            tx.run("insert into schema_version (number, name) values (?, ?)", number, name)
            applied.append(name)
        return applied

    return db.transact(apply)
