"""What a run saw."""

from __future__ import annotations

import enum
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


class Reason(enum.StrEnum):
    """Why a request failed."""

    CONNECT = "connect"  # no TCP connection
    TLS = "tls"  # no TLS session: wrong name, unknown CA, broken handshake
    CLOSED = "closed"  # the server hung up on a request without a byte of an answer
    TRUNCATED = "truncated"  # … in the middle of the answer
    TIMEOUT = "timeout"  # no whole answer in time
    PROTOCOL = "protocol"  # not HTTP, or not a websocket
    STATUS = "status"  # another status than expected
    CONTENT = "content"  # the expected status with the wrong body
    OVERLOAD = "overload"  # not sent: too many requests wait for their answer


class RequestError(Exception):
    """One request failed."""

    def __init__(self, reason: Reason, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.status = status


@dataclass(frozen=True)
class Failure:
    """One failed request. `at`: seconds since the run's start; `time`: seconds since the epoch."""

    at: float
    time: float
    stream: str
    reason: Reason
    detail: str
    status: int = 0
    release: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the scheduled moment to the last byte, of requests that succeeded."""

    count: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Nearest-rank percentiles of a sample; zeros for an empty one."""
        ordered = sorted(seconds)

        def rank(share: float) -> float:
            index = max(math.ceil(share * len(ordered)), 1) - 1
            return round(ordered[index] * 1000, 2) if ordered else 0.0

        return cls(len(ordered), rank(0.5), rank(0.9), rank(0.95), rank(0.99), rank(1.0))


@dataclass
class Seen:
    """How often a release answered; first and last in seconds since the epoch."""

    count: int
    first: float
    last: float


@dataclass(frozen=True)
class Answer:
    """What matters of a good answer."""

    status: int
    release: str
    colour: str


@dataclass
class Result:
    """The whole run."""

    started: float
    seconds: float = 0.0
    requests: int = 0
    succeeded: int = 0
    failures: list[Failure] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    latency: dict[str, Latency] = field(default_factory=dict)
    releases: dict[str, Seen] = field(default_factory=dict)
    colours: dict[str, int] = field(default_factory=dict)
    # Ids of POST requests: answered well, and failed (whether they were stored is not known).
    acknowledged: list[str] = field(default_factory=list)
    unacknowledged: list[str] = field(default_factory=list)
    connections: int = 0
    # Idle connections that the server had closed before they were needed again: no request was lost.
    idle_closed: int = 0
    # Websockets that the server closed properly (1000, 1001) and that were opened again.
    goodbyes: int = 0
    # How late the generator itself was at worst, in milliseconds: a large value means a starved machine.
    lag: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether anything was sent and everything was answered as expected."""
        return self.succeeded > 0 and not self.failures

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def reasons(self) -> dict[str, int]:
        """Failures by reason."""
        return dict(Counter(str(failure.reason) for failure in self.failures))

    def record(self, answer: Answer, now: float) -> None:
        """Count a good answer at `now` (seconds since the epoch)."""
        self.succeeded += 1
        self.statuses[str(answer.status)] = self.statuses.get(str(answer.status), 0) + 1
        if answer.colour:
            self.colours[answer.colour] = self.colours.get(answer.colour, 0) + 1
        if answer.release:
            seen = self.releases.setdefault(answer.release, Seen(0, now, now))
            seen.count += 1
            seen.last = max(seen.last, now)

    def fail(self, failure: Failure) -> None:
        """Count a failure."""
        self.failures.append(failure)
        if failure.status:
            self.statuses[str(failure.status)] = self.statuses.get(str(failure.status), 0) + 1

    def summary(self, shown: int = 10) -> str:
        """A few lines for a person; the first failures in full."""
        lines = [
            f"{self.requests} requests in {self.seconds:.1f} s ({self.rate:.0f}/s), {len(self.failures)} failed",
            f"{self.connections} connections, {self.idle_closed} closed while idle, {self.goodbyes} goodbyes",
            f"generator: {self.cpu_seconds:.1f} s of CPU, {self.lag:.0f} ms late at worst",
        ]
        lines += [
            f"{name}: {latency.count} answers, p50 {latency.p50} p95 {latency.p95} p99 {latency.p99}"
            f" max {latency.max} ms"
            for name, latency in self.latency.items()
        ]
        lines += [f"release {release}: {seen.count} answers" for release, seen in self.releases.items()]
        lines += [
            f"FAILED at {failure.at:.3f} s: {failure.stream} {failure.reason} {failure.status or ''}"
            f" {failure.detail} {failure.release}".rstrip()
            for failure in self.failures[:shown]
        ]
        if len(self.failures) > shown:
            lines.append(f"… and {len(self.failures) - shown} more: {self.reasons}")
        return "\n".join(lines)

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "passed": self.passed, "reasons": self.reasons}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Result:
        data: dict[str, Any] = json.loads(text)
        for derived in ("passed", "reasons"):
            data.pop(derived, None)
        failures = [Failure(**{**entry, "reason": Reason(entry["reason"])}) for entry in data.pop("failures")]
        latency = {name: Latency(**entry) for name, entry in data.pop("latency").items()}
        releases = {name: Seen(**entry) for name, entry in data.pop("releases").items()}
        return cls(failures=failures, latency=latency, releases=releases, **data)
