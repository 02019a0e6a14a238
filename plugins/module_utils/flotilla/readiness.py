"""Is a colour ready? Flotilla's own verdict over what the engine says of its containers.

`docker compose up --wait` calls a crash loop without a health check healthy, and fails on a
one-shot that finished well; so the engine is polled and judged here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .engine import End


class State(StrEnum):
    """The verdict on one container, or on a whole colour."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class Verdict:
    """What was found, with one line of reason a container that is not ready: `{service: reason}`."""

    state: State
    reasons: Mapping[str, str]


def judge_container(
    container: Mapping[str, Any], *, one_shot: bool, uptime: float, stable_seconds: float
) -> tuple[State, str]:
    """The verdict on one container from its `inspect`.

    uptime: seconds since the container was first seen running.
    stable_seconds: how long a container without a health check must have run without a restart.
    """
    state = container["State"]
    if state.get("OOMKilled"):
        return State.FAILED, "killed: out of memory"
    restarts = int(container.get("RestartCount", 0))
    if restarts > 0:
        return State.FAILED, f"restarted {restarts} {'time' if restarts == 1 else 'times'}"
    status = state.get("Status")
    if status == "exited":
        if one_shot and state.get("ExitCode") == 0:
            return State.READY, "finished"
        return State.FAILED, f"exited with code {state.get('ExitCode')}"
    if status in ("dead", "removing"):
        return State.FAILED, f"is {status}"
    if status != "running":
        return State.WAITING, f"is {status}" + (f": {state['Error']}" if state.get("Error") else "")
    if one_shot:
        return State.WAITING, "still runs"
    health = (state.get("Health") or {}).get("Status", "none")
    if health == "healthy":
        return State.READY, "healthy"
    if health == "unhealthy":
        return State.FAILED, "unhealthy"
    if health == "starting":
        return State.WAITING, "its health check has not passed yet"
    if uptime >= stable_seconds:
        return State.READY, f"runs for {stable_seconds:g} s without a restart"
    return State.WAITING, "has no health check and runs too short a time to be called stable"


def judge(
    containers: Sequence[Mapping[str, Any]],
    *,
    expected: Collection[str],
    one_shots: Collection[str],
    uptimes: Mapping[str, float],
    stable_seconds: float,
) -> Verdict:
    """The verdict on a colour: failed when one container is, ready when all expected services are."""
    reasons: dict[str, str] = {}
    worst = State.READY
    seen = set()
    for container in containers:
        service = service_of(container)
        if service not in expected:
            continue
        seen.add(service)
        state, reason = judge_container(
            container,
            one_shot=service in one_shots,
            uptime=uptimes.get(str(container["Id"]), 0.0),
            stable_seconds=stable_seconds,
        )
        if state is not State.READY:
            reasons[service] = reason
        if state is State.FAILED:
            worst = State.FAILED
        elif state is State.WAITING and worst is State.READY:
            worst = State.WAITING
    for service in sorted(set(expected) - seen):
        reasons[service] = "has no container yet"
        worst = State.WAITING if worst is State.READY else worst
    return Verdict(worst, reasons)


def service_of(container: Mapping[str, Any]) -> str:
    """The Compose service of an inspected container."""
    return str(container["Config"]["Labels"].get("com.docker.compose.service", ""))


_READ_ONLY = re.compile(r"read-only file ?system|\bEROFS\b|\bErrno 30\b", re.IGNORECASE)
_FULL = re.compile(r"no space left on device|\bENOSPC\b|\bErrno 28\b", re.IGNORECASE)
_REFUSED = re.compile(
    r"operation not permitted|permission denied|\b(?:EPERM|EACCES)\b|\bErrno (?:1|13)\b", re.IGNORECASE
)


def way_out(service: str, said: str, *, read_only: bool, drops: bool, user: str) -> list[str]:
    """The keys that lift a limit which a container seems to have run into, by what it said at its end.

    read_only, drops, user: whether its root file system is read-only, whether capabilities were taken from it, and
    who it runs as ('' for the image's own user).
    """
    lines = []
    if read_only and _READ_ONLY.search(said):
        lines.append(
            f"its root file system is read-only. Name the directory that it writes to in services.{service}.tmpfs, or "
            f"mount a volume there; services.{service}.read_only: false lets it write anywhere"
        )
    if read_only and _FULL.search(said):
        lines.append(
            "its /tmp is memory, of half its limit and 256 MB at most, unless its file says otherwise. Write the size "
            f"that it needs, services.{service}.tmpfs: ['/tmp:exec,mode=1777,size=1g'], or give it a volume on /tmp"
        )
    if drops and _REFUSED.search(said):
        whom = f"the user {user}" if user else "the image's user"
        lines.append(
            f"it runs as {whom}, with no capability that services.{service}.cap_add does not name. Add what it needs "
            f"there, give its files to that user, or write another services.{service}.user"
        )
    return lines


def explain(container: Mapping[str, Any], log: str, ports: Sequence[int], last_end: End | None = None) -> str:
    """What a person needs to see why a container failed: exit code, OOM, last probes, ports, last lines.

    last_end: how a container that was restarted ended before; its own state tells of this start only.
    """
    state, restarts = container["State"], int(container.get("RestartCount", 0))
    status, code, starved = state.get("Status"), state.get("ExitCode"), bool(state.get("OOMKilled"))
    if last_end:
        status = f"{status} again" if status == "running" else status
        code, starved = last_end.exit_code, starved or last_end.out_of_memory
    known = last_end or not restarts or status != "running"
    how = f"exit code {code}, out of memory: {'yes' if starved else 'no'}" if known else "how it ended: forgotten"
    lines = [
        f"{service_of(container)}: {status}, {how}, restarts: {restarts}, "
        f"listens on: {', '.join(map(str, ports)) or 'nothing'}"
    ]
    probes = (state.get("Health") or {}).get("Log") or []
    for probe in probes[-2:]:
        output = " ".join(str(probe.get("Output", "")).split())[:300]
        lines.append(f"  probe: exit {probe.get('ExitCode')}: {output}")
    log_lines = log.strip().splitlines()[-20:]
    lines += [f"  log: {line}" for line in log_lines]
    host = container.get("HostConfig") or {}
    said = "\n".join(
        [*log_lines, str(state.get("Error") or ""), *(str(probe.get("Output", "")) for probe in probes[-2:])]
    )
    hints = way_out(
        service_of(container),
        said,
        read_only=bool(host.get("ReadonlyRootfs")),
        drops=bool(host.get("CapDrop")),
        user=str(container["Config"].get("User") or ""),
    )
    lines += [f"  perhaps: {hint}" for hint in hints]
    return "\n".join(lines)
