"""What a run does with what its hosts said at first."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.fleet import Step
from flotilla.plan import Context, Plan, failed, list_targets, lost, plan_deploy, plan_rollback, why

LIVE = {"release": "r1", "version": "1.0.0", "colour": "blue"}
FREE = {"held": False, "by": None, "message": ""}
MINE = {"held": True, "by": None, "message": ""}
HELD = {
    "held": False,
    "by": {"token": "theirs", "machine": "elsewhere", "process": "1:1"},
    "message": "app-1: the environment is locked by bob",
}
UNREACHABLE = {"unreachable": True, "msg": "no route to host\n"}


def admitted(**changes: Any) -> dict[str, Any]:
    result = {
        "ok": True,
        "live": LIVE,
        "live_images": {"api": "a@sha256:1"},
        "images": {"api": "a:1"},
        "journal": {"phase": "idle", "live": "r1", "candidate": ""},
        "matches": True,
        "digests": {},
        "update": {"stated": []},
        "lock": FREE,
        "notes": [],
    }
    return {**result, **changes}


def left(phase: str) -> dict[str, Any]:
    return {"journal": {"phase": phase, "live": "r1", "candidate": "r2"}, "matches": False}


FOUND = {"digests": {"a:1": "a@sha256:1"}}


def context(**changes: Any) -> Context:
    known: dict[str, Any] = {
        "app": {"name": "notes"},
        "hosts": ("app-1", "app-2"),
        "skipped": (),
        "token": "mine",
        "dead": lambda machine, process: False,
        "command": "ansible-playbook deploy.yml -i inventories/production",
    }
    return Context(**{**known, **changes})


def plan(first: dict[str, Any], second: dict[str, Any], **changes: Any) -> Plan:
    return plan_deploy({"app-1": first, "app-2": second}, context(**changes))


def test_what_serves_already_is_no_work() -> None:
    found = plan(admitted(**FOUND), admitted())
    assert (found.go, found.lock, found.refusal, found.work) == (False, False, "", ())


@pytest.mark.parametrize(
    "second",
    [
        admitted(matches=False),
        admitted(live_images={"api": "a@sha256:0"}),
        admitted(live_images={}),
    ],
)
def test_work_on_one_host_is_work_for_all(second: dict[str, Any]) -> None:
    found = plan(admitted(**FOUND, lock=MINE), second)
    assert found.go
    assert found.work == ("app-1", "app-2")


def test_a_tag_that_moved_is_work() -> None:
    assert plan(admitted(digests={"a:1": "a@sha256:2"}, lock=MINE), admitted()).go


def test_work_that_the_deciding_host_has_not_is_locked_first() -> None:
    found = plan(admitted(**FOUND), admitted(matches=False))
    assert (found.go, found.lock, found.as_data()["first"]) == (False, True, True)


def test_a_lock_that_could_not_be_had_ends_it() -> None:
    said = {"app-1": admitted(**FOUND), "app-2": admitted(matches=False)}
    found = plan_deploy(said, context(), [("app-1", {"ok": True, "lock": FREE})])
    assert "could not be made ready" in found.refusal
    assert not found.as_data()["first"]


def test_check_mode_needs_no_lock() -> None:
    found = plan(admitted(**FOUND), admitted(**left("committed")), check=True)
    assert found.go


def test_all_refusals_are_told_together() -> None:
    found = plan({"ok": False, "explanation": "no memory"}, {"ok": False, "explanation": "no disk"})
    assert found.refusal == "notes on app-1:\nno memory\nnotes on app-2:\nno disk"
    assert not found.go


def test_a_host_that_is_down_is_named_with_the_way_around_it() -> None:
    found = plan(admitted(lock=MINE), UNREACHABLE, skipped=("app-3",))
    assert "it cannot be reached: no route to host" in found.refusal
    assert "-e skip_hosts=app-3,app-2" in found.refusal


@pytest.mark.parametrize("holder", [0, 1])
def test_anothers_lock_on_any_host_is_respected(holder: int) -> None:
    said = [admitted(matches=False, lock=MINE), admitted(matches=False)]
    said[holder] = admitted(matches=False, lock=HELD)
    found = plan(*said)
    assert found.refusal == "app-1: the environment is locked by bob"
    assert not found.go


def test_a_dead_runs_lock_is_taken_over() -> None:
    found = plan(admitted(matches=False, lock=HELD), admitted(matches=False), dead=lambda machine, process: True)
    assert (found.refusal, found.superseded, found.lock) == ("", ("theirs",), True)
    found = plan(admitted(matches=False, lock=MINE), admitted(lock=HELD), dead=lambda machine, process: True)
    assert (found.go, found.superseded) == (True, ("theirs",))


def test_what_was_cut_short_is_ended_first() -> None:
    found = plan(admitted(**left("committed"), lock=MINE), admitted(**left("prepared")))
    assert found.recover == {"app-1": Step.BACK, "app-2": Step.BACK}
    assert (found.go, found.as_data()["first"]) == (False, True)


def test_a_host_that_is_left_out_keeps_a_release_from_going_forward() -> None:
    found = plan(admitted(**left("committed"), lock=MINE), admitted(**left("committed")), skipped=("app-3",))
    assert set(found.recover.values()) == {Step.BACK}


def test_the_file_decides_how_it_is_rolled() -> None:
    update = {"parallelism": 1, "monitor_seconds": 7.0, "stated": ["parallelism", "monitor_seconds"]}
    found = plan(admitted(matches=False, lock=MINE, update=update), admitted())
    assert found.roll and found.roll.monitor == 7.0


# -- rollback -----------------------------------------------------------------------------------------


def kept(name: str, standing: str, **changes: Any) -> dict[str, Any]:
    release = {"id": name, "version": f"1.{name[1:]}", "standing": standing, "lacks": "", "update": {}, "rollback": {}}
    return {**release, **changes}


def surveyed(live: str, *releases: dict[str, Any], **changes: Any) -> dict[str, Any]:
    result = {
        "ok": True,
        "live": {"release": live, "version": "", "colour": "blue"},
        "journal": {"phase": "idle", "live": live, "candidate": ""},
        "releases": list(releases),
        "barriers": [],
        "lock": MINE,
    }
    return {**result, **changes}


KEPT = (kept("r1", "proven"), kept("r2", "live"))


def back(first: dict[str, Any], second: dict[str, Any], **changes: Any) -> Plan:
    return plan_rollback({"app-1": first, "app-2": second}, context(), **changes)


def test_a_rollback_goes_to_what_all_hosts_keep() -> None:
    found = back(surveyed("r2", *KEPT), surveyed("r2", *KEPT))
    assert (found.go, found.release, found.version, found.work) == (True, "r1", "1.1", ("app-1", "app-2"))


def test_a_host_that_serves_it_already_is_left_alone() -> None:
    found = back(surveyed("r2", *KEPT), surveyed("r1", kept("r1", "live"), kept("r2", "reverted")), wanted="r1")
    assert (found.go, found.work) == (True, ("app-1",))
    assert found.roll and found.roll.batches == (("app-1",),)


def test_a_migration_that_ran_on_another_host_bars_the_way() -> None:
    barrier = {"barriers": [{"release": "r2", "version": "1.2"}]}
    assert "incompatible" in back(surveyed("r2", *KEPT), surveyed("r2", *KEPT, **barrier)).refusal
    assert back(surveyed("r2", *KEPT), surveyed("r2", *KEPT, **barrier), across=True).go


def test_rollback_config_wins_over_update_config() -> None:
    update = {"monitor_seconds": 9.0, "delay_seconds": 1.0, "stated": ["monitor_seconds", "delay_seconds"]}
    rollback = {"monitor_seconds": 0.0, "delay_seconds": 0.0, "stated": ["monitor_seconds"]}
    releases = (kept("r1", "proven", update=update, rollback=rollback), kept("r2", "live"))
    found = back(surveyed("r2", *releases), surveyed("r2", *releases))
    assert found.roll and (found.roll.monitor, found.roll.delay) == (0.0, 1.0)


def test_a_rollback_ends_what_was_cut_short_before_it_chooses() -> None:
    first = surveyed("r2", *KEPT, journal={"phase": "committed", "live": "r2", "candidate": "r3"})
    second = surveyed("r2", *KEPT, journal={"phase": "prepared", "live": "r2", "candidate": "r3"})
    found = back(first, second)
    assert found.recover == {"app-1": Step.BACK, "app-2": Step.BACK}
    assert not found.go


def test_a_list_leaves_out_hosts_that_did_not_answer() -> None:
    said = {"app-1": surveyed("r2", *KEPT), "app-2": UNREACHABLE}
    lines = list_targets(said, context()).splitlines()
    assert [line.split()[0] for line in lines] == ["r2", "r1"]
    assert "no release is kept" in list_targets({"app-1": UNREACHABLE}, context())


@pytest.mark.parametrize(
    ("result", "did_fail", "is_lost"),
    [
        (None, False, False),
        ({}, False, False),
        ({"skipped": True}, False, False),
        ({"ok": True}, False, False),
        ({"ok": False, "explanation": "x"}, True, False),
        (UNREACHABLE, True, True),
        ({"failed": True, "msg": "timed out"}, True, True),
        ({"skipped": True, "ok": True}, False, False),
        ({"skipped": True, "ok": False}, True, False),
        ({"skipped": True, "lost": True}, True, True),
    ],
)
def test_a_result_is_read(result: dict[str, Any] | None, did_fail: bool, is_lost: bool) -> None:
    assert (failed(result), lost(result)) == (did_fail, is_lost)


def test_a_failure_always_says_something() -> None:
    assert why({"ok": False}) == "it said nothing"
    assert why({"failed": True, "msg": "timed out"}) == "timed out"
