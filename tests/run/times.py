"""Where the seconds go: one JSON object a line, in the directory that FLOTILLA_TIMES names.

The runner writes its commands there, pytest its tests (results.py), Ansible its tasks (callback/flotilla_times.py),
and tests what they take for a span of its own. Without the variable, nothing is written.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def record(kind: str, **fields: Any) -> None:
    """Write a line down, with the command and the test that it belongs to."""
    directory = os.environ.get("FLOTILLA_TIMES")
    if directory:
        write(Path(directory), {"kind": kind, **belongs_to(os.environ), **fields})


def write(directory: Path, line: Mapping[str, Any]) -> None:
    """Append a line to this process's file."""
    with (directory / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def belongs_to(environment: Mapping[str, str]) -> dict[str, str]:
    """The runner's command, and pytest's test without its phase: `file.py::test_name (call)`."""
    test = environment.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    return {"job": environment.get("FLOTILLA_JOB", ""), "test": test}


def read(directory: Path) -> list[Record]:
    """All lines, in no order. A line that was cut when its writer was killed is left out."""
    found: list[Record] = []
    for path in directory.glob("*.jsonl"):
        for line in path.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def processors() -> tuple[float, float]:
    """Seconds that all processors worked, whoever it was for, and that passed for them (proc(5): /proc/stat)."""
    counted = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    user, nice, system, idle, waiting, *others = map(int, counted)
    second = os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + sum(others)
    return busy / second, (busy + idle + waiting) / second


@contextmanager
def span(name: str) -> Iterator[None]:
    """What is done in the block is a row of the table, under this name; what Ansible does in it counts there."""
    start = time.time()
    try:
        yield
    finally:
        record("span", name=name, start=start, end=time.time())
