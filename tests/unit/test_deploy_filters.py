"""What a play registered, read for the whole fleet, and the small shapes that playbooks hand over."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
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

PATH = Path(__file__).parents[2] / "plugins/filter/flotilla_deploy.py"
spec = importlib.util.spec_from_file_location("flotilla_deploy", PATH)
assert spec and spec.loader
filters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(filters)

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
