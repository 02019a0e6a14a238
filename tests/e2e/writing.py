"""A writer that knows which of its rows were acknowledged, and outlives the database it writes to."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.e2e.fleet import Environment
from tests.lab.waiting import GENEROUS_SECONDS, eventually

SESSIONS = 4
PSQL = ["docker", "exec", "--interactive", "postgres", "psql", "-XAtqU", "postgres", "-d", "notes"]
TABLE = "acknowledged"


@dataclass(frozen=True)
class Row:
    """One that was acknowledged. Times are this machine's, in seconds since the epoch."""

    number: int
    sent: float
    acknowledged: float


@dataclass
class Writer:
    """`with Writer(host) as writer: …` commits row after row into the table `acknowledged`, each by itself.

    host: the database's.  rate: rows a second, of all sessions together.  rows: what was acknowledged, complete after
    the block. It keeps them here, not on the droplet, and connects again for as long as the block lasts.
    """

    host: Environment
    rate: float = 200.0
    rows: list[Row] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _sessions: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.host.sql(f"DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (id bigint PRIMARY KEY)")
        self._threads = [threading.Thread(target=self._write, args=(one,), daemon=True) for one in range(SESSIONS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        deadline = time.monotonic() + 2
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for session in list(self._sessions.values()):
            session.kill()
        for thread in self._threads:
            thread.join()
        self.rows.sort(key=lambda row: row.acknowledged)

    def wait_for(self, more: int, seconds: float = GENEROUS_SECONDS) -> None:
        """Wait until so many more rows were acknowledged."""
        wanted = len(self.rows) + more
        eventually(lambda: len(self.rows) >= wanted, seconds, f"{wanted} rows are acknowledged", pause=0.1)

    def pace(self, seconds: float) -> float:
        """How many rows a second are acknowledged just now, by what comes in so many seconds."""
        before, began = len(self.rows), time.monotonic()
        self._ended.wait(seconds)
        return (len(self.rows) - before) / (time.monotonic() - began)

    def stored(self) -> set[int]:
        """The rows that the database has now."""
        return set(map(int, self.host.sql(f"SELECT id FROM {TABLE}")))

    def _write(self, session: int) -> None:
        number = session * 10_000_000
        while not self._ended.is_set():
            command = self.host.ssh_command(shlex.join(PSQL), "-o", "ConnectTimeout=10")
            # What it was asked last may be unsent when it ends.
            with (
                suppress(BrokenPipeError),
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    bufsize=1,
                ) as psql,
            ):
                self._sessions[session] = psql
                number = self._rows(psql, number)
                psql.kill()
            self._ended.wait(0.2)

    def _rows(self, psql: subprocess.Popen[str], number: int) -> int:
        """Write until the connection is gone. Returns the last number that was tried."""
        assert psql.stdin and psql.stdout
        due = time.monotonic()
        while not self._ended.is_set():
            number, sent = number + 1, time.time()
            try:
                psql.stdin.write(f"INSERT INTO {TABLE} VALUES ({number}) RETURNING id;\n")
            except BrokenPipeError:
                break
            if psql.stdout.readline().strip() != str(number):
                break
            self.rows.append(Row(number, sent, time.time()))
            due = max(due + SESSIONS / self.rate, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
        return number
