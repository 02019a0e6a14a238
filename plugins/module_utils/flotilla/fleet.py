"""What a fleet does with what its hosts say: pure functions over plain data, for the controller.

A host decides nothing by itself but to take its own traffic back: whether a release goes on or goes away is
decided here, for all hosts together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .journal import Phase


class Step(StrEnum):
    """What the hosts do with a release that a crashed run left unfinished."""

    FORWARD = "forward"
    BACK = "back"


@dataclass(frozen=True)
class Left:
    """A host's journal. live, candidate: release ids, empty for none."""

    phase: Phase
    live: str
    candidate: str


# The phases that a fleet may still choose for; in the others the host itself has begun to go one way.
UNDECIDED = (Phase.PREPARED, Phase.COMMITTING, Phase.COMMITTED)


def recovery(left: Mapping[str, Left], absent: Collection[str] = ()) -> dict[str, Step]:
    """What each host with an unfinished release does, so that afterwards all serve the same one.

    absent: app hosts of the environment that nobody could ask.

    - A host that began to go one way goes on: preparing and aborting back, finishing forward.
    - Finishing begins only when the fleet had decided for the release, so a host that is finishing takes the others
      forward, and so does one that has finished and serves it those that have committed it.
    - Otherwise the release goes forward when every app host has committed it, each with its window passed; if a
      single one has not, or cannot be asked, all go back: the old release still runs everywhere.
    """
    steps = {}
    for host, found in left.items():
        if found.phase in UNDECIDED:
            steps[host] = _way_of(found.candidate, left, absent)
        elif found.phase is not Phase.IDLE:
            steps[host] = Step.FORWARD if found.phase is Phase.FINISHING else Step.BACK
    return steps


def _way_of(release: str, left: Mapping[str, Left], absent: Collection[str]) -> Step:
    hosts = left.values()
    phases = {host.phase if host.candidate == release else Phase.IDLE for host in hosts}
    finished = any(host.phase is Phase.IDLE and host.live == release for host in hosts)
    decided = Phase.FINISHING in phases or (finished and Phase.COMMITTED in phases)
    everywhere = phases == {Phase.COMMITTED} and not absent
    return Step.FORWARD if decided or everywhere else Step.BACK


def batches(hosts: Sequence[str], update: Mapping[str, Any]) -> list[list[str]]:
    """In which order the hosts commit: the first by name alone (the canary), then batches.

    `parallelism` of `update_config`, where the file states it, is the size of the batches after the canary (0: all
    together); otherwise each is twice as large as the one before.
    """
    rest = sorted(hosts)
    stated = "parallelism" in update.get("stated", ())
    size, found = 1, []
    while rest:
        found.append(rest[:size])
        rest = rest[size:]
        size = (int(update["parallelism"]) or len(rest) or 1) if stated else size * 2
    return found


# What watches a release when its file does not say: Swarm's five seconds, and a little more patience with failures.
MONITOR_SECONDS = 5.0
FAILURE_RATIO = 0.05


@dataclass(frozen=True)
class Roll:
    """How the hosts commit. Durations in seconds. failure_action: `rollback`, `pause` or `continue`.

    order: `start-first`, or `stop-first`: a balancer drains the host; the old release stops before the new one boots.
    """

    batches: tuple[tuple[str, ...], ...]
    delay: float
    monitor: float
    failure_ratio: float
    failure_action: str
    order: str = "start-first"

    @classmethod
    def of(cls, hosts: Sequence[str], update: Mapping[str, Any]) -> Roll:
        """From `update_config` (or `rollback_config`), as a host resolved it."""
        monitor = update.get("monitor_seconds")
        ratio = update.get("max_failure_ratio", FAILURE_RATIO)
        return cls(
            batches=tuple(tuple(batch) for batch in batches(hosts, update)),
            delay=float(update.get("delay_seconds", 0.0)),
            monitor=MONITOR_SECONDS if monitor is None else float(monitor),
            failure_ratio=float(ratio) if "max_failure_ratio" in update.get("stated", ()) else FAILURE_RATIO,
            failure_action=str(update.get("failure_action", "rollback")),
            order=str(update.get("order", "start-first")),
        )


# Beyond the deadlines of its steps, what a phase may take on a slow host, and what Ansible needs between two.
SLACK_SECONDS = 60.0
# A container's stop_grace_period is seldom longer; a lease is renewed before and after.
GRACE_SECONDS = 120.0
VERIFY_SECONDS = 40.0


def budgets(app: Mapping[str, Any], roll: Roll, *, rollback: bool = False) -> dict[str, float]:
    """Phase → seconds that it may take on a host; none can hang for longer."""
    deadlines = app.get("deadlines") or {}
    ready = float(deadlines.get("ready_seconds", 120))
    drain = float(deadlines.get("drain_seconds", 30)) + GRACE_SECONDS
    bring = float(deadlines.get("pull_seconds", 600)) + ready
    if app.get("migration"):
        bring += float(app["migration"].get("timeout_seconds", 600))
    # A window's last probes may take as long again, or ten seconds: see `window.py`.
    watched = roll.monitor + max(roll.monitor, 10.0) if roll.monitor else 0.0
    # The host is drained, the old release stops and the new one boots, or the other way round when that failed.
    replaced = 2 * (drain + ready + GRACE_SECONDS) if roll.order == "stop-first" else 0.0
    return {
        "lock": SLACK_SECONDS,
        "prepare": (0.0 if rollback else bring) + 2 * ready + drain + SLACK_SECONDS,
        "commit": roll.delay + VERIFY_SECONDS + ready + watched + replaced + SLACK_SECONDS,
        "end": 2 * drain + replaced + SLACK_SECONDS,
        "drain": drain,
    }


def lease_seconds(phase: str, budget: Mapping[str, float], roll: Roll) -> float:
    """How long the lease must last from the beginning of `phase`: to the end of all that follows it on the host."""
    commits = budget["commit"] * len(roll.batches)
    left = {
        "drain": budget["drain"],
        "lock": budget["lock"] + SLACK_SECONDS,
        "prepare": budget["prepare"] + commits + budget["end"],
        "commit": commits + budget["end"],
        "end": budget["end"],
    }
    return left[phase]
