"""From what the hosts said at first to what is done with them: pure functions over results, for the controller.

A result is what the module `flotilla_release` returned for a host, or what Ansible made of a host that it could
not reach (`unreachable`) and of a module that broke (`failed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .fleet import Left, Roll, Step, budgets, lease_seconds, recovery
from .journal import Phase
from .targets import NoTargetError, choose, kept_database, targets

Result = Mapping[str, Any]
Results = Mapping[str, Result]


def failed(result: Result | None) -> bool:
    """Whether a phase was tried on a host and did not do its work."""
    if not result or (result.get("skipped") and "ok" not in result and "lost" not in result):
        return False
    return result.get("ok") is not True


def lost(result: Result | None) -> bool:
    """Whether the host could not be reached, or said nothing that can be understood."""
    return failed(result) and "ok" not in (result or {})


def why(result: Result) -> str:
    """What a failed phase said, for a person."""
    if result.get("unreachable"):
        return f"it cannot be reached: {' '.join(str(result.get('msg', '')).split())}"
    return str(result.get("explanation") or result.get("msg") or "it said nothing").strip()


def explain(app: str, results: Sequence[tuple[str, Result]]) -> str:
    """What the hosts that failed said, host by host; empty when none did."""
    return "\n".join(f"{app} on {host}:\n{why(result)}" for host, result in results if failed(result))


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    refusal: why nothing is begun; empty otherwise.  work: the hosts that get the release.
    lock: the locks have to be taken (again) before anything is done.  superseded: tokens of dead runs.
    recover: host → what it does with what an earlier run left.  release, version: for a rollback, where it goes.
    lease, deadline: phase → seconds.  notes: what a person should know.
    """

    refusal: str = ""
    work: tuple[str, ...] = ()
    lock: bool = False
    superseded: tuple[str, ...] = ()
    recover: Mapping[str, Step] = field(default_factory=dict)
    release: str = ""
    version: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    roll: Roll | None = None
    lease: Mapping[str, float] = field(default_factory=dict)
    deadline: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def go(self) -> bool:
        """Whether the release is prepared on the hosts now."""
        return bool(self.work) and not (self.refusal or self.lock or self.recover)

    def as_data(self) -> dict[str, Any]:
        """For templates."""
        data = asdict(self)
        data["recover"] = {host: str(step) for host, step in self.recover.items()}
        data["go"] = self.go
        data["first"] = not (self.refusal or self.go) and (self.lock or bool(self.recover))
        return data


@dataclass(frozen=True)
class Context:
    """What the controller knows beside the results.

    hosts: the app hosts of this run, by name; the first is the one whose lock decides.  skipped: those left out.
    token: of this run.  dead: whether the run of a lease (`machine`, `process`) is known to be gone.
    command: to run this again.  arguments: its inventories, as `-i a -i b`.
    check: check mode, in which nothing is locked.
    """

    app: Mapping[str, Any]
    hosts: tuple[str, ...]
    skipped: tuple[str, ...]
    token: str
    dead: Callable[[str, str], bool]
    command: str
    check: bool = False
    arguments: str = ""

    @property
    def name(self) -> str:
        return str(self.app["name"])


def plan_deploy(said: Results, context: Context, attempts: Sequence[tuple[str, Result]] = ()) -> Plan:
    """What a deploy does after its hosts were asked. `attempts`: what locking and recovering came to, if tried."""
    refusal, superseded = _refusal(said, context, attempts)
    if refusal:
        return Plan(refusal=refusal, superseded=superseded)
    digests = next((dict(result["digests"]) for result in said.values() if result.get("digests")), {})
    differs = any(_differs(result, digests) for result in said.values())
    roll = Roll.of(context.hosts, next(iter(said.values())).get("update") or {})
    common = _common(said, context, roll, superseded, attempts)
    work = context.hosts if differs or common["recover"] else ()
    notes = tuple(dict.fromkeys(note for result in said.values() for note in result.get("notes") or ()))
    return _locked(Plan(work=work, digests=digests, notes=notes, **common), said, context, attempts)


def plan_rollback(
    said: Results,
    context: Context,
    attempts: Sequence[tuple[str, Result]] = (),
    *,
    wanted: str = "",
    across: bool = False,
) -> Plan:
    """What a rollback does after its hosts were asked."""
    refusal, superseded = _refusal(said, context, attempts)
    if refusal:
        return Plan(refusal=refusal, superseded=superseded)
    live = {host: str(result["live"]["release"]) for host, result in said.items()}
    barriers = {b["release"]: b for result in said.values() for b in result.get("barriers") or ()}
    found = targets({host: result["releases"] for host, result in said.items()})
    common = _common(said, context, Roll.of(context.hosts, {}), superseded, attempts)
    if common["recover"]:
        # What serves is not settled yet: the target is chosen when it is.
        return _locked(Plan(work=context.hosts, **common), said, context, attempts)
    try:
        target = choose(
            found,
            live,
            [barriers[name] for name in sorted(barriers)],
            wanted=wanted,
            across=across,
            command=context.command,
        )
    except NoTargetError as error:
        return Plan(refusal=f"{context.name}: {error}", superseded=superseded)
    work = tuple(host for host in context.hosts if live[host] != target.id)
    plan = _again(target.id, work, said, context, attempts, superseded)
    held = [release for result in said.values() for release in result["releases"]]
    note = kept_database(held, target.id, max(live.values()), context.arguments)
    return replace(plan, notes=(note,) if note else ())


def plan_restart(said: Results, context: Context, attempts: Sequence[tuple[str, Result]] = ()) -> Plan:
    """What a restart does after its hosts were asked: the release that serves everywhere, in the other colour."""
    refusal, superseded = _refusal(said, context, attempts)
    if refusal:
        return Plan(refusal=refusal, superseded=superseded)
    common = _common(said, context, Roll.of(context.hosts, {}), superseded, attempts)
    if common["recover"]:
        return _locked(Plan(work=context.hosts, **common), said, context, attempts)
    live = {host: str(result["live"]["release"]) for host, result in said.items()}
    serving = set(live.values())
    if len(serving) > 1 or "" in serving:
        now = ", ".join(f"{release or 'nothing'} on {host}" for host, release in live.items())
        what = f"{context.name}: the hosts do not serve one release ({now}). Next: deploy it to all of them"
        return Plan(refusal=what, superseded=superseded)
    return _again(serving.pop(), context.hosts, said, context, attempts, superseded)


def _again(
    release: str,
    work: tuple[str, ...],
    said: Results,
    context: Context,
    attempts: Sequence[tuple[str, Result]],
    superseded: tuple[str, ...],
) -> Plan:
    """The plan for a release that the hosts have already."""
    record = next(one for one in next(iter(said.values()))["releases"] if one["id"] == release)
    roll = Roll.of(work, _rollback_config(record))
    common = _common(said, context, roll, superseded, attempts)
    plan = Plan(work=work, release=release, version=str(record["version"]), **common)
    return _locked(plan, said, context, attempts)


def list_targets(said: Results, context: Context) -> str:
    """The releases that a rollback can go to, one a line."""
    live = [str(result["live"]["release"]) for result in said.values() if not failed(result)]
    found = targets({host: result["releases"] for host, result in said.items() if not failed(result)})
    return "\n".join(target.line(live) for target in found) or f"{context.name}: no release is kept on any host"


def _rollback_config(record: Mapping[str, Any]) -> dict[str, Any]:
    """`rollback_config` of a release, and where it is silent its `update_config`."""
    update, rollback = record.get("update") or {}, record.get("rollback") or {}
    stated = {name: rollback[name] for name in rollback.get("stated", ())}
    return {**update, **stated, "stated": sorted({*update.get("stated", ()), *stated})}


def _differs(result: Result, digests: Mapping[str, str]) -> bool:
    wanted = {service: digests.get(image, image) for service, image in result["images"].items()}
    return not result["matches"] or dict(result["live_images"]) != wanted


def _refusal(said: Results, context: Context, attempts: Sequence[tuple[str, Result]]) -> tuple[str, tuple[str, ...]]:
    """Why nothing may be begun, and the tokens of runs that are known to be dead."""
    parts = [explain(context.name, [*said.items(), *attempts])]
    if away := [host for host, result in said.items() if lost(result)]:
        names, command = ", ".join(away), context.command
        parts.append(
            f"Next: start {names} and run again; or leave out what is down on purpose: {command} "
            f"-e skip_hosts={','.join([*context.skipped, *away])}"
        )
    superseded = []
    for result in said.values():
        holder = (result.get("lock") or {}).get("by")
        if not holder:
            continue
        if context.dead(str(holder["machine"]), str(holder["process"])):
            superseded.append(str(holder["token"]))
        else:
            parts.append(str(result["lock"]["message"]))
    return "\n".join(filter(None, dict.fromkeys(parts))), tuple(dict.fromkeys(superseded))


def _common(
    said: Results,
    context: Context,
    roll: Roll,
    superseded: tuple[str, ...],
    attempts: Sequence[tuple[str, Result]],
) -> dict[str, Any]:
    left = {
        host: Left(Phase(journal["phase"]), journal["live"], journal["candidate"])
        for host, result in said.items()
        for journal in [result["journal"]]
    }
    budget = budgets(context.app, roll)
    return {
        "superseded": superseded,
        # Check mode ends nothing, so that it can say what comes afterwards.
        "recover": {} if context.check else recovery(left, context.skipped),
        "roll": roll,
        "lease": {phase: lease_seconds(phase, budget, roll) for phase in budget},
        "deadline": budget,
    }


def _locked(plan: Plan, said: Results, context: Context, attempts: Sequence[tuple[str, Result]]) -> Plan:
    """The plan with what is still to be done about locks. What was tried and did not help is a refusal."""
    held = context.check or bool(said[context.hosts[0]]["lock"]["held"])
    needed = bool(plan.work) and not held
    if attempts and (needed or plan.recover):
        left = ", ".join(plan.recover) or context.hosts[0]
        return Plan(refusal=f"{context.name}: {left} could not be made ready. Next: {context.command}")
    return replace(plan, lock=needed)
