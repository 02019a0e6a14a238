"""What real traffic says of a release: requests from the edge's access log, counted and judged.

The log has one JSON object a line (role nginx). Everything here but `AccessLog` is a pure function.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contained import opened

# So many requests make a sample; when there is less traffic, probes make up the difference.
SAMPLE = 20
# Before the window is over, a release is only given up for more than a stray failure.
EARLY_FAILURES = 3
SWITCHING_PROTOCOLS = 101
# What is read of the log at once; the rest comes with the next call.
READ_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request that a release answered, or should have. seconds: None where the time says nothing (websockets)."""

    status: int
    seconds: float | None

    @property
    def failed(self) -> bool:
        return self.status == 0 or 500 <= self.status <= 599


@dataclass(frozen=True)
class Limits:
    """What is tolerated. failure_ratio: share of failed requests, 0 to 1.  p95_seconds: 0 for no limit."""

    failure_ratio: float
    p95_seconds: float


@dataclass
class Traffic:
    """All requests of a window. `probes` of them were Flotilla's own."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    probes: int = 0

    @property
    def requests(self) -> int:
        return self.statuses.total()

    @property
    def p95_seconds(self) -> float:
        """The 95th percentile by nearest rank; 0 without a request."""
        ordered = sorted(self.seconds)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else 0.0

    def add(self, requests: Iterable[Request]) -> None:
        """Count requests of clients."""
        for request in requests:
            self.statuses[request.status] += 1
            self.failed += request.failed
            if request.seconds is not None:
                self.seconds.append(request.seconds)

    def add_probe(self, request: Request) -> None:
        """Count a request of Flotilla's own."""
        self.probes += 1
        self.add([request])

    def summary(self) -> dict[str, Any]:
        """For a result: counts, and the 95th percentile in milliseconds."""
        return {
            "requests": self.requests,
            "probes": self.probes,
            "failed": self.failed,
            "p95_ms": round(self.p95_seconds * 1000),
        }


def of_release(lines: Iterable[str], app: str, release: str, target: str) -> Iterator[Request]:
    """The requests of clients that `release` answered, or that were meant for it and got no answer.

    target: the router that the edge chose for it, `<app>-router-<colour>`; a router that is away leaves no
    release in the log. Probes are left out: who sends them knows their answers.
    """
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, Mapping) or entry.get("app") != app or entry.get("probe"):
            continue
        seen = str(entry.get("release", ""))
        if seen != release and (seen or entry.get("target") != target or int(entry.get("status", 0)) < 500):
            continue
        status = int(entry.get("status", 0))
        seconds = None if status == SWITCHING_PROTOCOLS else float(entry.get("request_seconds", 0))
        yield Request(status, seconds)


def judge(traffic: Traffic, limits: Limits, *, over: bool) -> str:
    """Why the release must go, or nothing. over: whether the window has ended; before, only many failures count."""
    share = traffic.failed / traffic.requests if traffic.requests else 0.0
    if share > limits.failure_ratio and (over or traffic.failed >= EARLY_FAILURES):
        failures = ", ".join(
            f"{n} x {status or 'no answer'}" for status, n in sorted(traffic.statuses.items()) if _bad(status)
        )
        return (
            f"{traffic.failed} of {traffic.requests} requests failed ({failures}); max_failure_ratio allows "
            f"{limits.failure_ratio:.2%}"
        )
    if over and limits.p95_seconds and traffic.p95_seconds > limits.p95_seconds:
        return (
            f"the 95th percentile of {len(traffic.seconds)} requests took {traffic.p95_seconds * 1000:.0f} ms; "
            f"environment_p95_ms allows {limits.p95_seconds * 1000:.0f} ms"
        )
    return ""


def _bad(status: int) -> bool:
    return Request(status, None).failed


@dataclass
class AccessLog:
    """The edge's log, read on from a place, over rotations: logrotate renames it to `<name>.1`, Nginx makes a new one.

    inode, offset: the place. The directory is the edge's container's: what is no log of its own is not read.
    """

    path: Path
    inode: int = 0
    offset: int = 0
    _rest: bytes = b""

    @classmethod
    def at_end(cls, path: Path) -> AccessLog:
        """The log from now on."""
        there = cls(path)._entry(path.name)
        return cls(path, there.st_ino, there.st_size) if there else cls(path)

    @classmethod
    def at(cls, path: Path, place: Mapping[str, Any]) -> AccessLog:
        """The log from a place that `place()` said."""
        return cls(path, int(place["inode"]), int(place["offset"]))

    def place(self) -> dict[str, int]:
        """Where the next line will be read from."""
        return {"inode": self.inode, "offset": self.offset - len(self._rest)}

    def lines(self) -> list[str]:
        """The lines that were added since the last call."""
        found: list[bytes] = []
        name = self.path.name
        if self._inode_of(name) != self.inode:
            if self.inode and self._inode_of(f"{name}.1") == self.inode:
                found += self._read(f"{name}.1")
            # A log that is not there yet, after its rename, is asked for again: Nginx makes it in a moment.
            inode = self._inode_of(name)
            if inode:
                self.inode, self.offset, self._rest = inode, 0, b""
        if self._inode_of(name) == self.inode:
            found += self._read(name)
        return [line.decode(errors="replace") for line in found]

    def _read(self, name: str) -> list[bytes]:
        try:
            with opened(self.path.parent, below=self.path.parent) as logs, logs.open(name) as file:
                if file.seek(0, 2) < self.offset:  # cut off in place
                    self.offset, self._rest = 0, b""
                file.seek(self.offset)
                data = file.read(READ_BYTES)
        except OSError:
            return []
        self.offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def _inode_of(self, name: str) -> int:
        there = self._entry(name)
        return there.st_ino if there else 0

    def _entry(self, name: str) -> os.stat_result | None:
        try:
            with opened(self.path.parent, below=self.path.parent) as logs:
                return logs.entry(name)
        except OSError:
            return None
