"""Notes in Postgres, jobs and the visit counter in Redis.

Postgres is the truth. Redis may lose a key at any time (it runs with LRU eviction), so a job there is only
a doorbell: the worker also looks for unprocessed notes in Postgres (`unprocessed`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from notes.settings import Settings

# After the prefix of the settings.
JOBS = "jobs"
VISITS = "visits"

# A busy database is waited for; only /ready answers at once.
CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 10.0
CHECK_SECONDS = 2.0
# A database that goes away is asked again, so often and for so long: the stop of a minor upgrade, or an engine's
# restart, which takes the containers' name service with it.
AGAIN_SECONDS = 0.2
LOST_SECONDS = 15.0

# OSError includes TimeoutError.
DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
QUEUE_ERRORS = (RedisError, OSError)
# The connection is gone or cannot be made; whether the command was carried out is not known.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    OSError,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Note:
    """One row of `notes`."""

    id: str
    text: str
    release: str
    created_at: datetime
    processed_at: datetime | None
    words: int | None

    def receipt(self) -> dict[str, str]:
        """What the writer is told: the same for the first request and for every repetition."""
        return {
            "id": self.id,
            "text": self.text,
            "release": self.release,
            "created_at": self.created_at.isoformat(),
        }

    def as_dict(self) -> dict[str, str | int | None]:
        processed = self.processed_at.isoformat() if self.processed_at else None
        return {**self.receipt(), "processed_at": processed, "words": self.words}


@dataclass(frozen=True)
class Check:
    """The verdict on one dependency; `error` is empty when it answers."""

    error: str
    milliseconds: float

    def as_dict(self) -> dict[str, bool | float | str]:
        verdict: dict[str, bool | float | str] = {"ok": not self.error, "milliseconds": self.milliseconds}
        if self.error:
            verdict["error"] = self.error
        return verdict


_COLUMNS = "id, text, release, created_at, processed_at, words"


def _note(row: Any) -> Note:
    return Note(**{name: row[name] for name in _COLUMNS.split(", ")})


def _verified(settings: Settings) -> ssl.SSLContext | bool:
    """What verifies who answers, and its name; false where nothing is to be verified."""
    return ssl.create_default_context(cafile=settings.authorities) if settings.authorities else False


async def connect(settings: Settings) -> Any:
    """One connection to Postgres, for a program that needs no pool."""
    return await asyncpg.connect(
        ssl=_verified(settings),
        host=settings.database_host,
        port=settings.database_port,
        user=settings.database_user,
        password=settings.database_password or None,
        database=settings.database_name,
        timeout=CONNECT_SECONDS,
        server_settings={"application_name": f"notes {settings.identity.release}"},
    )


class Store:
    """Connections are made at the first use, so that the service starts without its dependencies."""

    def __init__(self, settings: Settings, connections: int = 8) -> None:
        self._release = settings.identity.release
        self._jobs, self._visits = (settings.redis_prefix + name for name in (JOBS, VISITS))
        self._pool: Any = asyncpg.create_pool(
            ssl=_verified(settings),
            host=settings.database_host,
            port=settings.database_port,
            user=settings.database_user,
            password=settings.database_password or None,
            database=settings.database_name,
            min_size=0,
            max_size=connections,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings={"application_name": f"notes {settings.identity.release}"},
        )
        self._redis: Any = redis.asyncio.Redis(
            host=settings.redis_host,
            port=settings.redis_port,
            username=settings.redis_user,
            password=settings.redis_password or None,
            ssl=bool(settings.authorities),
            ssl_ca_certs=settings.authorities or None,
            ssl_check_hostname=True,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=COMMAND_SECONDS,
            decode_responses=True,
        )

    async def open(self) -> None:
        """Prepare the pool; with `min_size=0` this connects to nothing."""
        await self._pool

    async def close(self) -> None:
        """Give every connection back; cut those that do not come back in time."""
        try:
            await asyncio.wait_for(self._pool.close(), COMMAND_SECONDS)
        except TimeoutError:
            self._pool.terminate()
        await self._redis.aclose()

    async def _with_connection(self, work: Callable[[Any], Awaitable[Result]]) -> Result:
        """Do some work with a connection of the pool, and again from its begin when the database is lost meanwhile.

        For work that may be done twice: what is stored has an identifier that the client chose.
        """
        deadline = time.monotonic() + LOST_SECONDS
        while True:
            try:
                async with self._pool.acquire(timeout=COMMAND_SECONDS) as connection:
                    return await work(connection)
            except TimeoutError:
                raise
            except LOST:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    # Notes

    async def add(self, note_id: str, text: str) -> tuple[Note, bool]:
        """Store a note once. Returns it and whether this call created it."""

        async def stored(connection: Any) -> tuple[Note, bool]:
            row = await connection.fetchrow(
                "INSERT INTO notes (id, text, release) VALUES ($1, $2, $3)"
                f" ON CONFLICT (id) DO NOTHING RETURNING {_COLUMNS}",
                note_id,
                text,
                self._release,
            )
            if row is not None:
                return _note(row), True
            return _note(await connection.fetchrow(f"SELECT {_COLUMNS} FROM notes WHERE id = $1", note_id)), False

        return await self._with_connection(stored)

    async def find(self, note_id: str) -> Note | None:
        row = await self._row(f"SELECT {_COLUMNS} FROM notes WHERE id = $1", note_id)
        return None if row is None else _note(row)

    async def counts(self) -> dict[str, int]:
        """{"notes": …, "processed": …}"""
        row = await self._row("SELECT count(*) AS notes, count(processed_at) AS processed FROM notes")
        return {"notes": row["notes"], "processed": row["processed"]}

    async def unprocessed(self, older_than_seconds: float, limit: int = 1000) -> list[str]:
        """Identifiers of notes that should have been processed by now, the oldest first."""
        rows = await self._with_connection(
            lambda connection: connection.fetch(
                "SELECT id FROM notes WHERE processed_at IS NULL"
                " AND created_at < now() - make_interval(secs => $1) ORDER BY created_at LIMIT $2",
                older_than_seconds,
                limit,
            )
        )
        return [row["id"] for row in rows]

    async def mark_processed(self, note_id: str, words: int) -> bool:
        """Record the result of a job; only the first call for a note does, and returns true.

        False too, where the answer to the first attempt was lost.
        """
        row = await self._row(
            "UPDATE notes SET processed_at = now(), processed_release = $2, words = $3"
            " WHERE id = $1 AND processed_at IS NULL RETURNING id",
            note_id,
            self._release,
            words,
        )
        return row is not None

    async def _row(self, statement: str, *values: Any) -> Any:
        return await self._with_connection(lambda connection: connection.fetchrow(statement, *values))

    # The queue

    async def enqueue(self, note_id: str) -> None:
        await self._redis.lpush(self._jobs, note_id)

    async def take(self, seconds: float) -> str | None:
        """Take the oldest job off the queue; None if none came in time."""
        job = await self._redis.brpop([self._jobs], seconds)
        return None if job is None else str(job[1])

    async def queue_length(self) -> int:
        return int(await self._redis.llen(self._jobs))

    # Counters and checks

    async def visit(self) -> int:
        return int(await self._redis.incr(self._visits))

    async def visits(self) -> int:
        return int(await self._redis.get(self._visits) or 0)

    async def check(self) -> dict[str, Check]:
        """Ask both dependencies at once what a request would ask of them."""
        postgres, redis_ = await asyncio.gather(_timed(self._ask_postgres()), _timed(self._ask_redis()))
        return {"postgres": postgres, "redis": redis_}

    async def _ask_postgres(self) -> None:
        async with self._pool.acquire(timeout=CHECK_SECONDS) as connection:
            await connection.fetchrow("SELECT id FROM notes LIMIT 1")

    async def _ask_redis(self) -> None:
        await self._redis.ping()


async def _timed(question: Coroutine[Any, Any, None]) -> Check:
    started = time.perf_counter()
    error = ""
    task = asyncio.create_task(question)
    # Not wait_for: to cancel a query takes as long again when the server is frozen.
    done, _ = await asyncio.wait({task}, timeout=CHECK_SECONDS)
    if not done:
        task.cancel()
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        error = f"no answer within {CHECK_SECONDS:g} s"
    elif caught := task.exception():
        error = f"{type(caught).__name__}: {caught}"
    return Check(error, round((time.perf_counter() - started) * 1000, 1))
