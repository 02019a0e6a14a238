"""What a run came to: one of four outcomes, from what all hosts said. Pure functions, for the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .plan import Result, Results, failed, lost, why


class Outcome(StrEnum):
    """deployed: all hosts serve the new release.  refused: no traffic moved.  reverted: it moved, and moved back.
    mixed: hosts serve different releases, or it is not known what a lost one serves, or all serve the new one and the
    run did not decide for it, or one that should have traffic gets none."""

    DEPLOYED = "deployed"
    REFUSED = "refused"
    REVERTED = "reverted"
    MIXED = "mixed"


class End(StrEnum):
    """How a run ends on a host. `release` gives the lock back and does nothing else."""

    FINISH = "finish"
    ABORT = "abort"
    RELEASE = "release"


def committed(results: Results) -> bool:
    """Whether every host has committed, and none of those that were watched meanwhile has failed."""
    return all(result.get("ok") is True for result in results.values())


def may_go_on(prepared: Results, committed_now: Results, failure_action: str) -> bool:
    """Whether the next batch may commit."""
    if any(failed(result) for result in prepared.values()):
        return False
    return failure_action == "continue" or not any(failed(result) for result in committed_now.values())


def ends(
    hosts: Sequence[str], work: Sequence[str], begun: bool, prepared: Results, committed_now: Results, action: str
) -> dict[str, End]:
    """How the run ends on each host.

    begun: whether anything was prepared.  action: `failure_action` of the release.
    """
    if not begun:
        return dict.fromkeys(hosts, End.RELEASE)
    others = {host: End.RELEASE for host in hosts if host not in work}
    if any(failed(prepared.get(host)) for host in work):
        return others | dict.fromkeys(work, End.ABORT)
    done = {host for host in work if (committed_now.get(host) or {}).get("ok") is True}
    if done == set(work):
        return others | dict.fromkeys(work, End.FINISH)
    if action == "pause":
        return dict.fromkeys(hosts, End.RELEASE)
    if action == "continue" and done:
        return others | {host: End.FINISH if host in done else End.ABORT for host in work}
    return others | dict.fromkeys(work, End.ABORT)


@dataclass(frozen=True)
class HostEnd:
    """A host at the end of a run. before, serves: release id and version, empty for none.

    certain: whether `serves` was said by the host after its last phase.
    withheld: why it gets no traffic although it should; empty when it does.
    """

    host: str
    before: Mapping[str, str]
    serves: Mapping[str, str]
    certain: bool
    trouble: str = ""
    withheld: str = ""

    def line(self) -> str:
        """What serves there, for a person."""
        colour = f" ({self.serves['colour']})" if self.serves.get("colour") else ""
        name = self.serves.get("version") or self.serves.get("release") or "nothing"
        without = " without its traffic" if self.withheld else ""
        known = f"{name} on {self.host}{colour}{without}"
        return known if self.certain else f"{self.host} was lost while it was switched"


def ended(host: str, asked: Result, phases: Sequence[Result | None], sent: bool, withheld: str = "") -> HostEnd:
    """What is known of a host. `asked`: what admit said.  `phases`: the later results, in order.

    sent: whether the host was told to commit. One that was not serves what it served.
    """
    before = asked.get("serves") or asked.get("live") or {}
    said = [result for result in phases if result]
    troubles = [why(result) for result in said if failed(result)]
    last = said[-1] if said else {}
    known = next((result["serves"] for result in reversed(said) if result.get("serves")), None)
    certain = not sent or not lost(last)
    serves = known if sent and known else before
    return HostEnd(host, before, serves, certain, troubles[0] if troubles else "", withheld)


def judge(hosts: Sequence[HostEnd], release: str, *, moved: bool, decided: bool = True, again: bool = False) -> Outcome:
    """The outcome. moved: whether any host was told to commit.  decided: whether any was told to finish.

    again: the release served before and was restarted; it is new where it serves in its other colour.
    """
    new = [
        host
        for host in hosts
        if host.certain
        and host.serves.get("release") == release
        and not (again and host.serves.get("colour") == host.before.get("colour"))
    ]
    withheld = any(host.withheld for host in hosts)
    if len(new) == len(hosts):
        return Outcome.DEPLOYED if decided and not withheld else Outcome.MIXED
    if new or not all(host.certain for host in hosts):
        return Outcome.MIXED
    first = not any(host.before.get("release") for host in hosts)
    if not moved or first:
        return Outcome.REFUSED
    return Outcome.MIXED if withheld else Outcome.REVERTED


def migration(prepared: Sequence[Result | None]) -> str:
    """none, applied or failed, by what the hosts said of it."""
    said = [str(result.get("migration", "none")) for result in prepared if result]
    return next((word for word in ("failed", "applied") if word in said), "none")


def last_line(subject: str, outcome: Outcome, hosts: Sequence[HostEnd], details: Mapping[str, Any]) -> str:
    """One line: what came of it, what serves where, what to do next.

    subject: such as `notes 1.1.0`.  details: `migration`, `seconds`, `back_from` (a rollback's), `restarted`, `next`,
    `skipped`.
    """
    serving = ", ".join(host.line() for host in hosts)
    on = ", ".join(f"{h.host} ({h.serves.get('colour') or '?'})" for h in hosts)
    tail = f"; migration: {details['migration']}; {details['seconds']:.1f} s"
    left_out = f"; left out: {', '.join(details['skipped'])}" if details.get("skipped") else ""
    match outcome:
        case Outcome.DEPLOYED:
            back = f"rolled back from {details['back_from']}" if details.get("back_from") else ""
            done = back or ("restarted" if details.get("restarted") else "deployed")
            return f"{subject}: {done}, serves on {on}{left_out}{tail}"
        case Outcome.MIXED:
            return f"{subject}: mixed: {serving}{left_out}{tail}. Next: {details['next']}"
        case Outcome.REFUSED:
            return f"{subject}: refused, no traffic moved: {serving}{left_out}{tail}"
        case Outcome.REVERTED:
            return f"{subject}: reverted, traffic moved and moved back: {serving}{left_out}{tail}"
