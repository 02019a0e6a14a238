"""What a play registered, read for the whole fleet, and the small shapes that playbooks hand over."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from flotilla.registered import (
    came_to,
    drained,
    end,
    go_on,
    locked,
    plan,
    prepared,
    recovery_turns,
    said,
    trouble,
    turns,
)

ROOT = Path(__file__).parents[2]


def plugin(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


filters = plugin("plugins/filter/flotilla_deploy.py")
outcomes = plugin("plugins/action/flotilla_outcome.py")

HOSTS = ["app-1", "app-2"]
PURPOSE = "deploy notes 1.1.0"
OLD = {"release": "r1", "version": "1.0.0", "colour": "blue"}
NEW = {"release": "r2", "version": "1.1.0", "colour": "green"}
UNREACHABLE = {"unreachable": True, "msg": "no route"}
CONTEXT = {
    "action": "deploy",
    "app": {"name": "notes", "version": "1.1.0"},
    "hosts": HOSTS,
    "skipped": [],
    "token": "mine",
    "command": "ansible-playbook deploy.yml -i inventories/production",
    "purpose": PURPOSE,
    "release": "r2",
    "check": False,
}


def asked(**changes: Any) -> dict[str, Any]:
    result = {
        "ok": True,
        "purpose": PURPOSE,
        "live": OLD,
        "serves": OLD,
        "live_images": {"api": "a@sha256:1"},
        "images": {"api": "a:1"},
        "journal": {"phase": "idle", "live": "r1", "candidate": ""},
        "matches": False,
        "digests": {"a:1": "a@sha256:2"},
        "update": {"stated": []},
        "lock": {"held": True, "by": None, "message": ""},
        "notes": [],
    }
    return {**result, **changes}


def ok(serves: dict[str, str], **changes: Any) -> dict[str, Any]:
    return {"ok": True, "purpose": PURPOSE, "serves": serves, "migration": "none", **changes}


def bad(serves: dict[str, str], explanation: str) -> dict[str, Any]:
    return {"ok": False, "purpose": PURPOSE, "serves": serves, "explanation": explanation}


def fleet(**registered: Sequence[dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """hostvars: the results of each registered name, in the order of the hosts."""
    registered.setdefault("app_asked", [asked(), asked()])
    return {
        host: {name: result for name, results in registered.items() if (result := results[index]) is not None}
        for index, host in enumerate(HOSTS)
    }


SKIPPED: dict[str, Any] = {"skipped": True}
READY = [ok(OLD), ok(OLD)]


def test_what_was_said_of_another_app_is_passed_over() -> None:
    hostvars = fleet(app_prepared=[{**ok(OLD), "purpose": "deploy other 1"}, UNREACHABLE])
    assert said(hostvars, HOSTS, "app_prepared", PURPOSE) == {"app-2": UNREACHABLE}


def test_the_next_batch_waits_for_the_one_before() -> None:
    planned = plan(fleet(), CONTEXT)
    assert go_on(fleet(app_prepared=READY), planned)
    assert go_on(fleet(app_prepared=READY, app_committed=[ok(NEW), SKIPPED]), planned)
    assert not go_on(fleet(app_prepared=READY, app_committed=[bad(OLD, "500"), SKIPPED]), planned)
    assert not go_on(fleet(app_prepared=READY, app_committed=[UNREACHABLE, SKIPPED]), planned)


def test_nothing_commits_unless_all_are_prepared() -> None:
    planned = plan(fleet(), CONTEXT)
    assert prepared(fleet(app_prepared=READY), planned)
    assert not prepared(fleet(app_prepared=[ok(OLD), bad(OLD, "crashed")]), planned)
    assert not prepared(fleet(app_prepared=[ok(OLD), UNREACHABLE]), planned)


@pytest.mark.parametrize(
    ("committed", "expected"),
    [
        ([ok(NEW), ok(NEW)], "finish"),
        ([bad(OLD, "500"), SKIPPED], "abort"),
        ([ok(NEW), UNREACHABLE], "abort"),
        ([ok(NEW), SKIPPED], "abort"),
    ],
)
def test_all_hosts_end_in_the_same_way(committed: list[dict[str, Any] | None], expected: str) -> None:
    hostvars = fleet(app_prepared=READY, app_committed=committed)
    assert end(hostvars, plan(hostvars, CONTEXT)) == dict.fromkeys(HOSTS, expected)


def test_a_commit_of_an_earlier_app_is_not_taken_for_this_ones() -> None:
    other = [{**ok(NEW), "purpose": "deploy other 1"}] * 2
    hostvars = fleet(app_prepared=[ok(OLD), bad(OLD, "crashed")], app_committed=other)
    assert set(end(hostvars, plan(hostvars, CONTEXT)).values()) == {"abort"}
    assert trouble(hostvars, plan(hostvars, CONTEXT)) == "notes on app-2:\ncrashed"


def test_a_refused_run_gives_back_only_what_it_has() -> None:
    hostvars = fleet(app_asked=[asked(), {"ok": False, "purpose": PURPOSE, "explanation": "no memory"}])
    assert end(hostvars, plan(hostvars, CONTEXT)) == {"app-1": "release", "app-2": ""}


def test_a_run_without_work_ends_nothing() -> None:
    idle = asked(matches=True, digests={}, images={"api": "a@sha256:1"}, lock={"held": False, "by": None})
    hostvars = fleet(app_asked=[idle, idle])
    planned = plan(hostvars, CONTEXT)
    assert (planned["go"], planned["first"]) == (False, False)
    assert end(hostvars, planned) == dict.fromkeys(HOSTS, "")


def test_the_deciding_hosts_lock_is_the_first_ones() -> None:
    planned = plan(fleet(), CONTEXT)
    assert locked(fleet(app_locked=[ok(OLD, lock={"held": True}), SKIPPED]), planned)
    assert not locked(fleet(app_locked=[SKIPPED, ok(OLD, lock={"held": True})]), planned)


@pytest.mark.parametrize(
    ("registered", "expected"),
    [
        ({"app_prepared": READY, "app_committed": [ok(NEW), ok(NEW)], "app_ended": [ok(NEW), ok(NEW)]}, "deployed"),
        ({"app_prepared": [ok(OLD), bad(OLD, "crashed")], "app_ended": [ok(OLD), ok(OLD)]}, "refused"),
        ({"app_prepared": [ok(OLD), UNREACHABLE], "app_ended": [ok(OLD), UNREACHABLE]}, "refused"),
        (
            {
                "app_prepared": READY,
                "app_committed": [bad(OLD, "500"), SKIPPED],
                "app_ended": [ok(OLD), ok(OLD)],
            },
            "reverted",
        ),
        (
            {
                "app_prepared": READY,
                "app_committed": [ok(NEW), UNREACHABLE],
                "app_ended": [ok(OLD), UNREACHABLE],
            },
            "mixed",
        ),
        (
            {
                "app_prepared": READY,
                "app_committed": [ok(NEW), UNREACHABLE],
                "app_ended": [ok(OLD), ok(OLD)],
            },
            "reverted",
        ),
        (
            {
                "app_prepared": READY,
                "app_committed": [UNREACHABLE, SKIPPED],
                "app_ended": [UNREACHABLE, ok(OLD)],
            },
            "mixed",
        ),
        (
            {"app_prepared": READY, "app_committed": [ok(NEW), ok(NEW)], "app_ended": [ok(NEW), UNREACHABLE]},
            "mixed",
        ),
        (
            {
                "app_prepared": READY,
                "app_committed": [ok(NEW), ok(NEW)],
                "app_ended": [ok(NEW), bad(NEW, "the engine did not answer")],
            },
            "deployed",
        ),
        (
            {
                "app_prepared": READY,
                "app_committed": [bad(NEW, "disk"), SKIPPED],
                "app_ended": [bad(NEW, "disk"), ok(OLD)],
            },
            "mixed",
        ),
    ],
)
def test_what_a_run_came_to(registered: dict[str, list[dict[str, Any] | None]], expected: str) -> None:
    hostvars = fleet(**registered)
    outcome, _, _ = came_to(hostvars, plan(hostvars, CONTEXT))
    assert outcome == expected


STAYS_OUT = "app-2 is not ready after 30 s and stays out. Next: look at it"
NEXT = f"Next: {CONTEXT['command']}"
DEPLOYED = {"app_prepared": READY, "app_committed": [ok(NEW), ok(NEW)], "app_ended": [ok(NEW), ok(NEW)]}
WENT_BACK = {"app_prepared": READY, "app_committed": [ok(NEW), bad(OLD, "500")], "app_ended": [ok(OLD), ok(OLD)]}
NO_WORK = [asked(matches=True, digests={}, images={"api": "a@sha256:1"})] * 2
BALANCERS = {"lb-1": {"preflight_host": {"drained": ["notes/app-2"]}}, "lb-2": {}}


def account_of(hostvars: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is told of a deploy that registered this."""
    found: dict[str, Any] = outcomes.account_of(hostvars, CONTEXT, {"started": time.time()})
    return found


def failing(balancer: str, message: str = "no route", **changes: Any) -> dict[str, Any]:
    return {"app_balancer": balancer, "failed": "unreachable" not in changes, "msg": message, **changes}


def given_back(*results: dict[str, Any]) -> list[dict[str, Any]]:
    """What a loop over the balancers registers on both hosts, the last task that sends them their traffic."""
    return [{"results": list(results), "failed": any(one.get("failed") for one in results)}] * 2


@pytest.mark.parametrize(
    "run",
    [DEPLOYED, WENT_BACK, {"app_asked": NO_WORK}],
    ids=["deployed", "reverted", "nothing to do"],
)
@pytest.mark.parametrize(
    "returned",
    [
        {"app_returned": given_back(failing("lb-1", STAYS_OUT, trouble={"app-2": STAYS_OUT}))},
        {
            "app_returned": given_back(
                {"app_balancer": "lb-1"}, failing("lb-2", STAYS_OUT, trouble={"app-2": STAYS_OUT})
            )
        },
        {"app_passed": [SKIPPED, {"failed": True, "msg": "no space left"}]},
    ],
    ids=["a balancer", "one of two", "the health check"],
)
def test_a_host_that_stays_without_its_traffic_is_told_with_the_next_command(
    run: dict[str, Any], returned: dict[str, Any]
) -> None:
    told = account_of({**fleet(**run, **returned), **BALANCERS})
    assert told["outcome"] == "mixed"
    assert re.search(r" on app-1 \([a-z]+\), 1\.\d\.0 on app-2 \([a-z]+\) without its traffic; ", told["line"])
    assert told["line"].endswith(NEXT)
    assert re.search(
        r"^app-2 gets no traffic: (lb-[12]: app-2 is not|the health check: no)", told["explanation"], re.MULTILINE
    )


def test_a_host_that_did_not_end_is_kept_from_its_traffic_and_told() -> None:
    ends = {**DEPLOYED, "app_ended": [ok(NEW), bad(NEW, "the engine did not answer")]}
    away = {"app_kept_away": given_back({"app_balancer": "lb-1"})}
    told = account_of({**fleet(**ends, **away), **BALANCERS})
    assert (told["outcome"], "app-2 (green) without its traffic" in told["line"]) == ("mixed", True)
    # The last one that takes traffic is not drained.
    last = {"app_kept_away": given_back(failing("lb-1", "the only host", trouble={"app-2": "the only host"}))}
    assert account_of({**fleet(**ends, **last), **BALANCERS})["outcome"] == "deployed"


def test_what_a_balancer_could_not_do_on_the_way_is_a_warning() -> None:
    left_out = given_back(failing("lb-1", "app-3 is the only host", trouble={"app-3": "app-3 is the only host"}))
    late = given_back(failing("lb-1", STAYS_OUT, trouble={"app-2": STAYS_OUT}))
    told = account_of({**fleet(**DEPLOYED, app_left_out=left_out, app_sent=late), **BALANCERS})
    assert (told["outcome"], told["warning"]) == ("deployed", f"lb-1: app-3 is the only host\nlb-1: {STAYS_OUT}")


def test_a_refused_deploy_stays_refused_and_names_the_host_without_traffic() -> None:
    run = {"app_prepared": [ok(OLD), bad(OLD, "crashed")], "app_ended": [ok(OLD), ok(OLD)]}
    returned = given_back(failing("lb-1", STAYS_OUT, trouble={"app-2": STAYS_OUT}))
    told = account_of({**fleet(**run, app_returned=returned), **BALANCERS})
    assert (told["outcome"], "1.0.0 on app-2 (blue) without its traffic" in told["line"]) == ("refused", True)


@pytest.mark.parametrize(
    ("order", "drained_before", "expected"),
    [
        ("start-first", [], "deployed"),
        ("start-first", ["notes/app-2"], "mixed"),
        ("stop-first", [], "mixed"),
    ],
)
def test_a_balancer_that_cannot_be_reached_keeps_traffic_away_only_where_it_was_told_to(
    order: str, drained_before: list[str], expected: str
) -> None:
    """One that is down sends nothing anywhere, and nobody is drained there that was not before."""
    first = asked(update={"stated": ["order"], "order": order})
    hostvars = fleet(app_asked=[first, first], **DEPLOYED, app_returned=given_back(failing("lb-1", unreachable=True)))
    hostvars["lb-1"] = {"preflight_host": {"drained": drained_before}}
    assert account_of(hostvars)["outcome"] == expected


def tasks_of(found: Any) -> Iterator[dict[str, Any]]:
    """All tasks of a file, also those of blocks and of plays."""
    for one in found if isinstance(found, list) else []:
        yield one
        for part in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
            yield from tasks_of(one.get(part))


def test_a_failure_that_is_ignored_is_read() -> None:
    """Else nobody hears of it."""
    files = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/vars/*.yml"), *ROOT.glob("playbooks/*.yml")]
    texts = [path.read_text() for path in (*files, *ROOT.glob("plugins/**/*.py"))]
    everything = re.sub(r"register: \w+", "", "\n".join(texts))
    ignored = [
        (str(path.relative_to(ROOT)), str(task["register"]))
        for path in files
        for task in tasks_of(yaml.safe_load(path.read_text()))
        if "register" in task and (task.get("ignore_errors") or task.get("failed_when") is False)
    ]
    assert len(ignored) > 40
    assert [place for place in ignored if not re.search(rf"\b{place[1]}\b", everything)] == []


def test_a_lost_host_that_a_later_batch_left_alone_is_still_lost() -> None:
    kept = {"skipped": True, "lost": True, "explanation": "no route"}
    hostvars = fleet(app_prepared=READY, app_committed=[kept, SKIPPED], app_ended=[UNREACHABLE, ok(OLD)])
    planned = plan(hostvars, CONTEXT)
    outcome, hosts, _ = came_to(hostvars, planned)
    assert (outcome, hosts[0].certain, hosts[1].certain) == ("mixed", False, True)
    assert "no route" in trouble(hostvars, planned)


def test_a_failed_first_deploy_is_refused() -> None:
    nothing = {"release": "", "version": "", "colour": ""}
    first = asked(live=nothing, serves=nothing, live_images={})
    hostvars = fleet(
        app_asked=[first, first],
        app_prepared=[ok(nothing), ok(nothing)],
        app_committed=[bad(nothing, "500"), SKIPPED],
        app_ended=[ok(nothing), ok(nothing)],
    )
    assert came_to(hostvars, plan(hostvars, CONTEXT))[0] == "refused"


def test_batches_say_who_is_watched_meanwhile() -> None:
    roll = {"batches": [["a"], ["b", "c"]], "delay": 2.0, "monitor": 5.0, "order": "stop-first"}
    assert filters.batches({"roll": roll}) == [
        {"commit": ["a"], "watch": [], "delay": 0.0, "seconds": 5.0, "alone": True},
        {"commit": ["b", "c"], "watch": ["a"], "delay": 2.0, "seconds": 5.0, "alone": True},
    ]
    assert filters.batches({"roll": {**roll, "monitor": 0.0}})[1]["watch"] == []
    assert not filters.batches({"roll": {**roll, "order": "start-first"}})[0]["alone"]


@pytest.mark.parametrize(
    ("skipped", "pattern"), [("", "app"), ("a", "app:!a"), ("a, b", "app:!a:!b"), (["a"], "app:!a")]
)
def test_hosts_are_left_out_of_a_pattern(skipped: Any, pattern: str) -> None:
    assert filters.without("app", skipped) == pattern


def test_only_the_stacks_of_a_host_take_its_memory() -> None:
    assert filters.stack_memory(["app", "postgres"], 512, 256, 128) == {"nginx": 128, "postgres": 512}


@pytest.mark.parametrize("action", ["rollback", "restart"])
def test_a_refused_rollback_or_restart_ships_nothing(action: str) -> None:
    context = {**CONTEXT, "action": action, "app": {"name": "notes"}, "release": "20250101T120000Z-", "wanted": "r7"}
    nothing = {"release": "", "version": "", "colour": ""}
    told = {**asked(live=nothing), "releases": [], "barriers": []}
    hostvars = {host: {"app_asked": told} for host in HOSTS}
    found = plan(hostvars, context)
    assert found["refusal"]
    assert (found["go"], found["release"], found["version"]) == (False, "", "")


def test_hosts_that_stop_first_go_back_one_after_another() -> None:
    roll = {"order": "stop-first", "failure_action": "rollback", "monitor": 5.0}
    planned = {**plan(fleet(), CONTEXT), "roll": roll}
    hostvars = {
        "app-1": {"app_prepared": ok(OLD), "app_committed": ok(NEW)},
        "app-2": {"app_prepared": ok(OLD), "app_committed": bad(NEW, "3 of 3 failed")},
    }
    assert turns(hostvars, planned) == ["app-2", "app-1"]
    assert turns(hostvars, {**planned, "roll": {**roll, "order": "start-first"}}) == []
    # One whose balancer refused the commit has moved nothing.
    hostvars["app-2"]["app_committed"] = {**bad(OLD, "the last one"), "refused": True}
    assert turns(hostvars, planned) == ["app-1"]


def test_what_stopped_first_is_recovered_one_after_another() -> None:
    def cut_short(phase: str, stop_first: bool) -> dict[str, Any]:
        journal = {"phase": phase, "live": "r1", "candidate": "r2", "stop_first": stop_first}
        return {"app_asked": asked(journal=journal)}

    planned = {**plan(fleet(), CONTEXT), "recover": dict.fromkeys(HOSTS, "back")}
    hostvars = {"app-1": cut_short("committed", True), "app-2": cut_short("aborting", True)}
    assert recovery_turns(hostvars, planned) == ["app-2", "app-1"]
    assert recovery_turns({**hostvars, "app-2": cut_short("prepared", True)}, planned) == ["app-1"]
    assert recovery_turns({host: cut_short("committed", False) for host in HOSTS}, planned) == []


@pytest.mark.parametrize(
    ("host", "order", "recovered", "expected"),
    [
        ({"drained": []}, "start-first", SKIPPED, False),
        ({"drained": ["notes/app-1"]}, "start-first", SKIPPED, True),
        ({"drained": []}, "stop-first", SKIPPED, True),
        ({"drained": []}, "start-first", UNREACHABLE, True),
        # A run that was limited to the app hosts, or a balancer that could not be read.
        ({}, "start-first", SKIPPED, True),
    ],
)
def test_the_balancers_are_told_only_where_somebody_may_be_drained(
    host: dict[str, Any], order: str, recovered: dict[str, Any], expected: bool
) -> None:
    hostvars = {**fleet(app_recovered=[recovered, SKIPPED]), "lb-1": {"preflight_host": host}}
    planned = {**plan(hostvars, CONTEXT), "roll": {"order": order}}
    assert drained(hostvars, planned, ["lb-1"]) is expected
    assert drained(hostvars, planned, ["lb-1", "lb-2"] if expected else []) is expected
