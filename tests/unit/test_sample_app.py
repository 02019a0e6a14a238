"""The sample app without its dependencies: settings, rehearsals, migrations, the worker."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import pytest
from notes import migrate, rehearse, settings, worker
from notes.store import Note

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


# Settings


def test_settings_come_from_the_environment_and_secrets_from_files(tmp_path: Path) -> None:
    password = tmp_path / "database_password"
    password.write_text("pa$word \n", encoding="utf-8")

    loaded = settings.load(
        {
            "APP_VERSION": "1.2.3",
            "FLOTILLA_RELEASE": "r1",
            "FLOTILLA_COLOUR": "blue",
            "FLOTILLA_HOST": "app-1",
            "DATABASE_HOST": "10.0.0.5",
            "DATABASE_PASSWORD_FILE": str(password),
            "DATABASE_PASSWORD": "the file wins",
            "REDIS_PASSWORD": "plain",
            "REDIS_PORT": "",
        }
    )

    assert loaded.identity == settings.Identity("notes", "1.2.3", "r1", "blue", "app-1")
    assert (loaded.database_host, loaded.database_port, loaded.redis_port) == ("10.0.0.5", 5432, 6379)
    assert loaded.database_password == "pa$word "
    assert loaded.redis_password == "plain"
    assert (loaded.redis_user, loaded.redis_prefix) == ("default", "notes:")


def test_a_password_never_shows_in_the_settings() -> None:
    loaded = settings.load({"DATABASE_PASSWORD": "hidden-1", "REDIS_PASSWORD": "hidden-2"})

    assert "hidden" not in f"{loaded} {loaded!r}"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"DATABASE_PASSWORD_FILE": "/nonexistent/file"}, "DATABASE_PASSWORD_FILE"),
        ({"DATABASE_PORT": "0"}, "DATABASE_PORT"),
        ({"REDIS_PORT": "65536"}, "REDIS_PORT"),
        ({"REDIS_PORT": "six"}, "REDIS_PORT"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
    ],
)
def test_an_unusable_setting_is_named(environment: dict[str, str], name: str) -> None:
    with pytest.raises(settings.SettingsError, match=name):
        settings.load(environment)


# Rehearsals


@pytest.mark.parametrize(
    ("text", "rehearsal"),
    [
        ("", rehearse.Rehearsal()),
        (" ", rehearse.Rehearsal()),
        ("unhealthy", rehearse.Rehearsal("unhealthy")),
        ("crash", rehearse.Rehearsal("crash", 0)),
        ("crash:2.5", rehearse.Rehearsal("crash", 2.5)),
        ("slow_start:10", rehearse.Rehearsal("slow_start", 10)),
        ("memory", rehearse.Rehearsal("memory", 2048)),
    ],
)
def test_a_rehearsal_is_read(text: str, rehearsal: rehearse.Rehearsal) -> None:
    assert rehearse.parse(text) == rehearsal


@pytest.mark.parametrize(
    "text", ["crush", "unhealthy:3", "slow_start", "crash:", "crash:x", "crash:-1", "crash:nan", ":5", "memory:1e9"]
)
def test_what_cannot_be_rehearsed_is_refused(text: str) -> None:
    with pytest.raises(rehearse.RehearsalError, match="known: crash, error_after_ready"):
        rehearse.parse(text)


def test_without_a_rehearsal_the_app_is_left_alone() -> None:
    async def app(scope: rehearse.Scope, receive: rehearse.Receive, send: rehearse.Send) -> None:
        raise NotImplementedError

    assert rehearse.wrap(app, rehearse.Rehearsal()) is app


# Migrations


def write(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).write_text(f"-- {name}", encoding="utf-8")
    return directory


def test_the_shipped_migrations_are_in_order() -> None:
    assert [migration.version for migration in migrate.read()] == list(range(1, len(migrate.read()) + 1))


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["0001_a.sql", "0003_c.sql"], "0003_c.sql: number 0002 was expected"),
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql: number 0002 was expected"),
        (["1_a.sql"], "1_a.sql: call it NNNN_name.sql"),
    ],
)
def test_a_migration_out_of_order_is_refused(tmp_path: Path, names: list[str], complaint: str) -> None:
    with pytest.raises(migrate.MigrationError, match=complaint):
        migrate.read(write(tmp_path, *names))


def test_only_what_was_not_applied_is_pending(tmp_path: Path) -> None:
    first, second = migrate.read(write(tmp_path, "0001_a.sql", "0002_b.sql"))

    assert migrate.pending([first, second], {}) == [first, second]
    assert migrate.pending([first, second], {1: first.digest}) == [second]
    assert migrate.pending([first], {1: first.digest, 2: "of a newer release"}) == []


def test_an_applied_migration_must_not_change(tmp_path: Path) -> None:
    migrations = migrate.read(write(tmp_path, "0001_a.sql"))

    with pytest.raises(migrate.MigrationError, match=r"0001_a.sql was changed after it was applied"):
        migrate.pending(migrations, {1: "another digest"})


# The worker


class Jobs:
    """A store with notes in a dictionary; `broken` calls of `take` fail first."""

    def __init__(self, queue: list[str], lost: list[str] | None = None, broken: int = 0) -> None:
        self.queue = queue
        self.lost = lost or []
        self.broken = broken
        self.unprocessed_notes = {*queue, *self.lost}
        self.results: list[tuple[str, int]] = []
        self.stop = asyncio.Event()

    async def take(self, seconds: float) -> str | None:
        if self.broken:
            self.broken -= 1
            raise ConnectionRefusedError("rehearsed")
        if self.queue:
            return self.queue.pop(0)
        self.stop.set()
        return None

    async def find(self, note_id: str) -> Note | None:
        if note_id == "unknown":
            return None
        return Note(note_id, "three little words", "r1", NOW, None if note_id in self.unprocessed_notes else NOW, 3)

    async def mark_processed(self, note_id: str, words: int) -> bool:
        first = note_id in self.unprocessed_notes
        self.unprocessed_notes.discard(note_id)
        if first:
            self.results.append((note_id, words))
        return first

    async def unprocessed(self, older_than_seconds: float) -> list[str]:
        return self.lost


def work(jobs: Jobs, heartbeat: Path) -> int:
    return asyncio.run(asyncio.wait_for(worker.work(jobs, jobs.stop, heartbeat), 10))


def test_a_job_that_comes_twice_is_done_once(tmp_path: Path) -> None:
    jobs = Jobs(["a", "b", "a", "unknown", "a"])

    assert work(jobs, tmp_path / "heartbeat") == 2
    assert jobs.results == [("a", 3), ("b", 3)]


def test_a_job_that_the_queue_lost_is_found(tmp_path: Path) -> None:
    jobs = Jobs(["a"], lost=["evicted"])

    assert work(jobs, tmp_path / "heartbeat") == 2
    assert jobs.results == [("evicted", 3), ("a", 3)]


def test_the_worker_outlives_a_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.01)
    jobs = Jobs(["a"], broken=3)

    assert work(jobs, tmp_path / "heartbeat") == 1
    assert (tmp_path / "heartbeat").exists()


def test_a_stopped_worker_takes_no_other_job(tmp_path: Path) -> None:
    jobs = Jobs(["a", "b"], lost=["c"])
    jobs.stop.set()

    assert work(jobs, tmp_path / "heartbeat") == 0
    assert jobs.queue == ["a", "b"]
