"""What a play registered, read for the whole fleet: from `hostvars` to the pure functions that judge it.

For the controller. Every result is asked for its `purpose`, so that what hosts said about one app is never taken for
what they said about the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .balancer import balancer_trouble
from .checked import FACT as CHECKED
from .fleet import Step
from .journal import Phase
from .outcome import End, HostEnd, Outcome, ended, ends, judge, may_go_on, migration
from .plan import Context, Plan, Result, explain, list_targets, plan_deploy, plan_restart, plan_rollback
from .processes import is_dead

# What a play registers while it makes ready, see roles/app/tasks.
ATTEMPTS = ("app_locked", "app_recovered", "app_hooked", "app_pointed")


def said(hostvars: Mapping[str, Any], hosts: Iterable[str], name: str, purpose: str) -> dict[str, Result]:
    """What each host said in a phase; hosts that were not asked are left out, and what they said of another app."""
    found = {host: hostvars[host].get(name) for host in hosts}
    return {host: result for host, result in found.items() if result and result.get("purpose", purpose) == purpose}


def plan(hostvars: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """What a run does after its hosts were asked. `context`: see `app_context` in roles/app/vars/main.yml."""
    hosts, purpose = context["hosts"], context["purpose"]
    asked = said(hostvars, hosts, "app_asked", purpose)
    attempts = [pair for name in ATTEMPTS for pair in said(hostvars, hosts, name, purpose).items()]
    known = _context(context)
    if context["action"] == "rollback":
        found = plan_rollback(
            asked, known, attempts, wanted=str(context.get("wanted") or ""), across=bool(context.get("across"))
        )
    elif context["action"] == "restart":
        found = plan_restart(asked, known, attempts)
    else:
        found = plan_deploy(asked, known, attempts)
    return {
        **_named(found, context).as_data(),
        "hosts": list(hosts),
        "purpose": purpose,
        "app": known.name,
        "action": context["action"],
    }


def list_of_targets(hostvars: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """The releases that a rollback can go to, one a line."""
    return list_targets(said(hostvars, context["hosts"], "app_asked", context["purpose"]), _context(context))


def _named(found: Plan, context: Mapping[str, Any]) -> Plan:
    """A deploy's plan with the id that its release gets. Other runs ship what is there, or nothing."""
    if found.release or context["action"] != "deploy":
        return found
    return replace(found, release=context["release"], version=context["app"]["version"])


def _context(context: Mapping[str, Any]) -> Context:
    return Context(
        app=context["app"],
        hosts=tuple(context["hosts"]),
        skipped=tuple(context["skipped"]),
        token=context["token"],
        dead=is_dead,
        command=context["command"],
        check=bool(context["check"]),
        arguments=str(context.get("arguments", "")),
    )


def locked(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether the lock of the deciding host is this run's by now."""
    first = said(hostvars, plan["hosts"][:1], "app_locked", plan["purpose"])
    return any((result.get("lock") or {}).get("held") for result in first.values())


def recovered(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """The hosts that ended what an earlier run had left."""
    results = said(hostvars, plan["hosts"], "app_recovered", plan["purpose"])
    return [host for host, result in results.items() if result.get("ok") is True]


def go_on(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether the next batch may commit."""
    return may_go_on(
        _said(hostvars, plan, "app_prepared"),
        _said(hostvars, plan, "app_committed"),
        plan["roll"]["failure_action"],
    )


def returning(hostvars: Mapping[str, Any], plan: Mapping[str, Any], batch: Iterable[str]) -> list[str]:
    """The hosts of a drained batch that take traffic again: those that committed, while the run goes on."""
    if not go_on(hostvars, plan):
        return []
    committed = _said(hostvars, plan, "app_committed")
    return [host for host in batch if (committed.get(host) or {}).get("ok") is True]


def prepared(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether every host has the release ready."""
    return plan["go"] and all(result.get("ok") is True for result in _said(hostvars, plan, "app_prepared").values())


def end(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, str]:
    """How the run ends on each host; see `outcome.ends`. Empty where a host has nothing to end."""
    now = _said(hostvars, plan, "app_committed") if prepared(hostvars, plan) else {}
    action = (plan["roll"] or {}).get("failure_action", "rollback")
    found = ends(plan["hosts"], plan["work"], plan["go"], _said(hostvars, plan, "app_prepared"), now, action)
    if plan["go"]:
        return {host: str(way) for host, way in found.items()}
    return {host: str(way) if _may_hold(hostvars[host]) else "" for host, way in found.items()}


def _sent(committed: Mapping[str, Result]) -> set[str]:
    """The hosts that were told to commit."""
    return {
        host
        for host, result in committed.items()
        if not result.get("refused") and (not result.get("skipped") or "ok" in result or "lost" in result)
    }


def turns(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """The hosts that abort one after the other: with `stop-first` each is without a release for a while.

    First those whose commit failed: no traffic comes to them, and they serve for the others when those are drained.
    """
    if not plan["go"] or plan["roll"]["order"] != "stop-first":
        return []
    committed = _said(hostvars, plan, "app_committed") if prepared(hostvars, plan) else {}
    moved = _sent(committed)
    going = [host for host, way in end(hostvars, plan).items() if way == End.ABORT and host in moved]
    return sorted(going, key=lambda host: ((committed.get(host) or {}).get("ok") is True, host))


def recovery_turns(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """The same for hosts that go back to what served before a run that was cut short."""
    asked = said(hostvars, plan["hosts"], "app_asked", plan["purpose"])
    journals = {host: asked[host]["journal"] for host, step in plan["recover"].items() if step == Step.BACK}
    moved = (Phase.COMMITTING, Phase.COMMITTED, Phase.ABORTING)
    going = [host for host, journal in journals.items() if journal.get("stop_first") and journal["phase"] in moved]
    return sorted(going, key=lambda host: (journals[host]["phase"] == Phase.COMMITTED, host))


def _may_hold(variables: Mapping[str, Any]) -> bool:
    """Whether a host may have given its lock to a run that prepared nothing."""
    asked = [variables.get("app_asked") or {}, variables.get("app_locked") or {}]
    recovered = variables.get("app_recovered") or {"skipped": True}
    return any((result.get("lock") or {}).get("held") for result in asked) or not recovered.get("skipped")


def at_rest(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """The hosts that ended the run in order: nothing of it is in hand there. All of them when nothing was to do."""
    if not plan["go"]:
        return [] if plan["refusal"] or plan["first"] else list(plan["hosts"])
    results = said(hostvars, plan["hosts"], "app_ended", plan["purpose"])
    broken = _left_without(hostvars, plan)
    return [host for host in plan["hosts"] if (results.get(host) or {}).get("ok") is True and host not in broken]


def drained(hostvars: Mapping[str, Any], plan: Mapping[str, Any], balancers: Iterable[str]) -> bool:
    """Whether a balancer may keep traffic away from a host that should have it.

    It does not when nothing was drained before the run, as the check of the balancers' own hosts says, and the run
    drains nobody itself: it neither commits with `stop-first` nor ended what another run had left.
    """
    ended_before = said(hostvars, plan["hosts"], "app_recovered", plan["purpose"]).values()
    if (plan["roll"] or {}).get("order") == "stop-first" or not all(result.get("skipped") for result in ended_before):
        return True
    return any((hostvars[one].get(CHECKED) or {}).get("drained", True) for one in balancers)


def withheld(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, str]:
    """Host → why it gets no traffic after the run, by what the last tasks came to that send it there, or keep it away.

    A balancer that cannot be asked keeps traffic away where it was told to, by this run or before it: one that is down
    sends nothing anywhere, and is no reason to call a release's outcome another.
    """
    stop_first = (plan["roll"] or {}).get("order") == "stop-first"
    resting = at_rest(hostvars, plan)
    found = {}
    for host in plan["hosts"]:
        returned, away, passed = (
            hostvars[host].get(name) or {} for name in ("app_returned", "app_kept_away", "app_passed")
        )
        if host not in resting:
            by = [str(one["app_balancer"]) for one in away.get("results") or [] if not _trouble_of(one, host)]
            if by:
                found[host] = f"{', '.join(by)} sends nothing there until a run has brought it to its end"
            continue
        failures = [
            one
            for one in returned.get("results") or []
            if _trouble_of(one, host)
            and ("trouble" in one or stop_first or f"{plan['app']}/{host}" in _drained_at(hostvars, one))
        ]
        if why := balancer_trouble({"results": failures}, host) or balancer_trouble(passed):
            found[host] = why
    return found


def unheeded(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """What balancers could not do on the way, where no host is without its traffic for it; empty when they could.

    A host that is left out and could not be drained still gets requests; one that was taken back late has them again.
    """
    told = [balancer_trouble(hostvars[plan["hosts"][0]].get(name) or {}) for name in ("app_left_out", "app_sent")]
    return "\n".join(filter(None, told[:1] if withheld(hostvars, plan) else told))


def _trouble_of(result: Result, host: str) -> bool:
    """Whether a balancer could not do for a host what it was asked for."""
    return bool(result.get("failed") or result.get("unreachable")) and host in result.get("trouble", (host,))


def _drained_at(hostvars: Mapping[str, Any], result: Result) -> list[str]:
    """What a balancer kept traffic away from before the run, as far as its host was asked."""
    checked = hostvars.get(str(result.get("app_balancer"))) or {}
    return list((checked.get(CHECKED) or {}).get("drained", ()))


def _left_without(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> set[str]:
    """The hosts on which a paused `stop-first` run stopped what served, and is not known to have booted the release."""
    if plan["roll"]["order"] != "stop-first" or not prepared(hostvars, plan):
        return set()
    committed, ways = _said(hostvars, plan, "app_committed"), end(hostvars, plan)
    ended = (End.FINISH, End.ABORT)
    return {host for host in _sent(committed) if ways[host] not in ended and committed[host].get("ok") is not True}


def trouble(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """What the hosts said that failed to prepare or to commit; empty when none did."""
    results = [pair for name in ("app_prepared", "app_committed") for pair in _said(hostvars, plan, name).items()]
    return explain(plan["app"], results)


def _said(hostvars: Mapping[str, Any], plan: Mapping[str, Any], name: str) -> dict[str, Result]:
    return said(hostvars, plan["work"], name, plan["purpose"])


def came_to(hostvars: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[Outcome, list[HostEnd], str]:
    """The outcome, what is known of each host, and what became of the migration."""
    asked = said(hostvars, plan["hosts"], "app_asked", plan["purpose"])
    committed = _said(hostvars, plan, "app_committed") if prepared(hostvars, plan) else {}
    phases = [
        _said(hostvars, plan, "app_prepared"),
        committed,
        said(hostvars, plan["hosts"], "app_ended", plan["purpose"]),
    ]
    sent = _sent(committed)
    if not plan["go"]:
        phases = []
    kept_out = withheld(hostvars, plan)
    hosts = [
        ended(
            host, asked.get(host, {}), [results.get(host) for results in phases], host in sent, kept_out.get(host, "")
        )
        for host in plan["hosts"]
    ]
    again = plan.get("action") == "restart"
    if not plan["go"]:
        return Outcome.MIXED if kept_out else Outcome.REFUSED, hosts, "none"
    decided = End.FINISH in end(hostvars, plan).values()
    outcome = judge(hosts, plan["release"], moved=bool(sent), decided=decided, again=again)
    return outcome, hosts, migration(list(phases[0].values()))


def heads(
    hostvars: Mapping[str, Any], hosts: Iterable[str], names: Iterable[str], but: str = ""
) -> dict[str, list[Any]]:
    """The last entry of each host's trail, by what the host said last: number and hash; for the others' trails.

    names: of what the hosts registered.  but: the host that is told.
    """
    found: dict[str, list[Any]] = {}
    for host in sorted(set(hosts) - {but}):
        said_here = [hostvars[host].get(name) or {} for name in names]
        told = [list(result["trail"]) for result in said_here if result.get("trail")]
        if newest := max(told, key=lambda head: int(head[0]), default=None):
            found[host] = newest
    return found
