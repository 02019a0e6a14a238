"""The queue worker: `python3 -m notes.worker`. Counts the words of each new note.

Redis says at once that there is a job; Postgres is what knows. The result is written by one conditional
UPDATE, so a job that comes twice has one effect, and a job that was lost (an evicted key, a killed worker) is
found in Postgres by the sweep. On TERM the worker finishes the job in hand and takes no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Protocol

from notes import rehearse, settings
from notes.store import DATABASE_ERRORS, QUEUE_ERRORS, Note, Store

HEARTBEAT = Path("/tmp/notes-worker")  # read by notes/health.py
TAKE_SECONDS = 1.0
SWEEP_EVERY_SECONDS = 15.0
SWEEP_OLDER_THAN_SECONDS = 10.0
PAUSE_SECONDS = 1.0

log = logging.getLogger("notes.worker")


class Jobs(Protocol):
    """What the worker needs of the store."""

    async def take(self, seconds: float) -> str | None: ...
    async def find(self, note_id: str) -> Note | None: ...
    async def mark_processed(self, note_id: str, words: int) -> bool: ...
    async def unprocessed(self, older_than_seconds: float) -> list[str]: ...


async def process(jobs: Jobs, note_id: str) -> bool:
    """Do one job; returns whether this call had an effect."""
    note = await jobs.find(note_id)
    if note is None or note.processed_at is not None:
        return False
    return await jobs.mark_processed(note_id, len(note.text.split()))


async def sweep(jobs: Jobs, stop: asyncio.Event) -> int:
    """Do every job that waited too long; returns how many were done."""
    done = 0
    for note_id in await jobs.unprocessed(SWEEP_OLDER_THAN_SECONDS):
        if stop.is_set():
            break
        done += await process(jobs, note_id)
    return done


async def work(jobs: Jobs, stop: asyncio.Event, heartbeat: Path = HEARTBEAT) -> int:
    """Work until `stop`; returns the number of jobs done. A dependency that fails is tried again."""
    done = 0
    swept_at = float("-inf")
    while not stop.is_set():
        heartbeat.touch()
        try:
            if time.monotonic() - swept_at >= SWEEP_EVERY_SECONDS:
                swept = await sweep(jobs, stop)
                swept_at = time.monotonic()
                if swept:
                    log.info("found %d notes that the queue had lost", swept)
                    done += swept
            # Not cancelled by a stop: a job on its way here would wait for the next sweep. It ends by itself.
            note_id = await jobs.take(TAKE_SECONDS)
            if note_id is not None:
                done += await process(jobs, note_id)
        except (*DATABASE_ERRORS, *QUEUE_ERRORS) as error:
            log.warning("%s: %s; trying again", type(error).__name__, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)
    return done


async def run(configuration: settings.Settings, ignore_stop: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, (lambda: None) if ignore_stop else stop.set)
    store = Store(configuration, connections=2)
    await store.open()
    log.info("worker %s of release %s started", configuration.identity.version, configuration.identity.release)
    try:
        log.info("stopped after %d jobs", await work(store, stop))
    finally:
        await store.close()


def main() -> None:
    try:
        configuration = settings.load(os.environ)
        rehearsal = rehearse.parse(configuration.rehearse)
    except (settings.SettingsError, rehearse.RehearsalError) as error:
        sys.exit(f"notes.worker: {error}")
    logging.basicConfig(level=configuration.log_level.upper(), format="%(levelname)s %(name)s %(message)s")
    rehearse.at_start(rehearsal)
    asyncio.run(run(configuration, rehearsal.name == "ignore_stop"))


if __name__ == "__main__":
    main()
