"""The sample app's store while its database goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from notes import settings, store

CONFIGURATION = settings.load({})
COUNTS = {"notes": 3, "processed": 2}


class Pool:
    """Fails as told, one error a connection, then answers."""

    def __init__(self, errors: Iterable[Exception]) -> None:
        self.errors, self.asked = iter(errors), 0

    @asynccontextmanager
    async def acquire(self, timeout: float) -> AsyncIterator[Pool]:
        self.asked += 1
        yield self

    async def fetchrow(self, statement: str, *values: Any) -> dict[str, int]:
        for error in self.errors:
            raise error
        return COUNTS


def counts(errors: Iterable[Exception]) -> tuple[dict[str, int], int]:
    """What the store says, and how often the database was asked."""

    async def asked() -> tuple[dict[str, int], int]:
        there, pool = store.Store(CONFIGURATION), Pool(errors)
        there._pool = pool
        return await there.counts(), pool.asked

    return asyncio.run(asked())


def test_a_command_is_tried_again_until_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AGAIN_SECONDS", 0.0)
    lost = [
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        ConnectionRefusedError(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
    ]
    assert counts(lost) == (COUNTS, 4)


def test_a_database_that_stays_away_is_said_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(store, "LOST_SECONDS", 0.1)
    with pytest.raises(ConnectionRefusedError):
        counts(ConnectionRefusedError() for _ in range(1000))


@pytest.mark.parametrize("error", [TimeoutError(), asyncpg.InvalidPasswordError("no"), asyncpg.DataError("no")])
def test_what_another_attempt_does_not_change_is_said_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        counts([error])
