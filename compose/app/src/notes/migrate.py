"""Bring the schema up to date: `python3 -m notes.migrate`.

Each file `migrations/NNNN_name.sql` is applied once, in order, in a transaction of its own. An advisory lock
lets one runner work at a time; the others then find nothing left to do. A schema newer than this release is
left alone: a rollback runs the older release on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from notes import rehearse, settings, store

DIRECTORY = Path(__file__).parent / "migrations"
WAIT_SECONDS = 30.0
LOCK_KEY = 0x6E6F746573  # "notes"
# Statements that would queue behind a long transaction fail instead of blocking every reader behind them.
LOCK_TIMEOUT = "5s"

log = logging.getLogger("notes.migrate")


class MigrationError(Exception):
    """The migrations cannot be applied; the message names the file."""


@dataclass(frozen=True)
class Migration:
    """One file; `digest` tells an edited one from the one that was applied."""

    version: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations in order. Raises MigrationError on a name that does not fit, a gap or a repetition."""
    migrations = []
    for path in sorted(directory.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", path.name)
        if match is None:
            raise MigrationError(f"{path.name}: call it NNNN_name.sql")
        migrations.append(Migration(int(match[1]), path.name, path.read_text(encoding="utf-8")))
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise MigrationError(f"{migration.name}: number {expected:04d} was expected here")
    return migrations


def pending(migrations: Sequence[Migration], applied: Mapping[int, str]) -> list[Migration]:
    """Those not applied yet. `applied`: version → digest.

    Raises MigrationError if a migration was edited after it was applied.
    """
    for migration in migrations:
        if applied.get(migration.version, migration.digest) != migration.digest:
            raise MigrationError(f"{migration.name} was changed after it was applied; add a new file instead")
    return [migration for migration in migrations if migration.version not in applied]


async def connect(configuration: settings.Settings, seconds: float) -> Any:
    """Connect, waiting for a server that is not up yet. A refusal (password, database) is final."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await store.connect(configuration)
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if time.monotonic() >= deadline:
                where = f"{configuration.database_host}:{configuration.database_port}"
                raise MigrationError(f"no connection to {where} within {seconds:g} s: {error}") from error
            await asyncio.sleep(0.2)


async def run(configuration: settings.Settings, migrations: Sequence[Migration], fail: bool = False) -> list[str]:
    """Apply what is pending; returns the names of the files applied."""
    connection = await connect(configuration, WAIT_SECONDS)
    try:
        # Held until the connection ends, however the program does.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY, timeout=None)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
            " digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch("SELECT version, digest FROM schema_migrations")
        todo = pending(migrations, {row["version"]: row["digest"] for row in rows})
        for migration in todo:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name, digest) VALUES ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.digest,
                )
            log.info("applied %s", migration.name)
        if fail:
            async with connection.transaction():
                await connection.execute("CREATE TABLE rehearsal (id integer)")
                await connection.execute("SELECT 1 / 0")
    finally:
        await connection.close()
    return [migration.name for migration in todo]


def main() -> None:
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s")
    try:
        configuration = settings.load(os.environ)
        rehearsal = rehearse.parse(configuration.rehearse)
        rehearse.at_start(rehearsal)
        applied = asyncio.run(run(configuration, read(), fail=rehearsal.name == "migration_fails"))
    except (MigrationError, settings.SettingsError, rehearse.RehearsalError) as error:
        sys.exit(f"migrate: {error}")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        sys.exit(f"migrate: {type(error).__name__}: {error}")
    log.info("%d applied, schema is up to date", len(applied))


if __name__ == "__main__":
    main()
