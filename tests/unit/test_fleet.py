"""What a fleet decides from its hosts' journals, and in which order it commits."""

from __future__ import annotations

import pytest
from flotilla.fleet import Left, Roll, Step, batches, budgets, lease_seconds, recovery
from flotilla.journal import Phase
from hypothesis import given
from hypothesis import strategies as st

IDLE_OLD = Left(Phase.IDLE, "r1", "")
IDLE_NEW = Left(Phase.IDLE, "r2", "")
PREPARING, PREPARED, COMMITTING, COMMITTED, ABORTING, FINISHING = (
    Left(phase, "r1", "r2")
    for phase in (
        Phase.PREPARING,
        Phase.PREPARED,
        Phase.COMMITTING,
        Phase.COMMITTED,
        Phase.ABORTING,
        Phase.FINISHING,
    )
)
F, B = Step.FORWARD, Step.BACK


@pytest.mark.parametrize(
    ("left", "steps"),
    [
        # Nothing was left.
        ([IDLE_OLD, IDLE_OLD], [None, None]),
        # The controller died while the release was prepared.
        ([PREPARING, PREPARED], [B, B]),
        ([PREPARED, PREPARED], [B, B]),
        ([PREPARED, IDLE_OLD], [B, None]),
        # ... while the canary committed, and between it and the rest.
        ([COMMITTING, PREPARED], [B, B]),
        ([COMMITTED, PREPARED], [B, B]),
        ([COMMITTED, COMMITTING], [B, B]),
        # ... when all had committed.
        ([COMMITTED, COMMITTED], [F, F]),
        # ... while it finished.
        ([FINISHING, COMMITTED], [F, F]),
        ([IDLE_NEW, COMMITTED], [None, F]),
        ([IDLE_NEW, FINISHING], [None, F]),
        # ... while it aborted.
        ([ABORTING, COMMITTED], [B, B]),
        ([IDLE_OLD, COMMITTED], [None, B]),
        ([ABORTING, ABORTING], [B, B]),
        ([IDLE_OLD, ABORTING], [None, B]),
        # A host was lost before it could commit, and the others went on without it.
        ([FINISHING, PREPARED], [F, F]),
        ([IDLE_NEW, PREPARED], [None, B]),
    ],
)
def test_a_cut_short_run_is_ended_for_the_fleet(left: list[Left], steps: list[Step | None]) -> None:
    hosts = {f"app-{number}": host for number, host in enumerate(left, 1)}
    found = recovery(hosts)
    assert [found.get(host) for host in hosts] == steps


def test_a_host_that_cannot_be_asked_keeps_a_release_from_going_forward() -> None:
    assert recovery({"app-1": COMMITTED}, absent=["app-2"]) == {"app-1": B}
    assert recovery({"app-1": FINISHING}, absent=["app-2"]) == {"app-1": F}


def test_two_releases_are_told_apart() -> None:
    other = Left(Phase.COMMITTED, "r1", "r0")
    assert recovery({"app-1": other, "app-2": Left(Phase.IDLE, "r3", "")}) == {"app-1": B}
    assert recovery({"app-1": FINISHING, "app-2": other}) == {"app-1": F, "app-2": B}


lefts = st.builds(Left, st.sampled_from(Phase), st.sampled_from(["r1", "r2"]), st.sampled_from(["r2", "r3"]))


@given(st.dictionaries(st.sampled_from("abcd"), lefts))
def test_who_began_to_go_one_way_goes_on(left: dict[str, Left]) -> None:
    steps = recovery(left)
    assert steps.keys() == {host for host, found in left.items() if found.phase is not Phase.IDLE}
    for host, step in steps.items():
        if left[host].phase in (Phase.PREPARING, Phase.ABORTING):
            assert step is B
        if left[host].phase is Phase.FINISHING:
            assert step is F


@given(st.dictionaries(st.sampled_from("abcd"), lefts))
def test_hosts_with_a_choice_choose_the_same(left: dict[str, Left]) -> None:
    steps = recovery(left)
    choices: dict[str, set[Step]] = {}
    for host, found in left.items():
        if found.phase in (Phase.PREPARED, Phase.COMMITTING, Phase.COMMITTED):
            choices.setdefault(found.candidate, set()).add(steps[host])
    assert all(len(chosen) == 1 for chosen in choices.values())


HOSTS = [f"app-{number}" for number in range(1, 9)]


@pytest.mark.parametrize(
    ("count", "update", "sizes"),
    [
        (1, {}, [1]),
        (2, {}, [1, 1]),
        (8, {}, [1, 2, 4, 1]),
        (8, {"parallelism": 1, "stated": []}, [1, 2, 4, 1]),
        (4, {"parallelism": 1, "stated": ["parallelism"]}, [1, 1, 1, 1]),
        (8, {"parallelism": 3, "stated": ["parallelism"]}, [1, 3, 3, 1]),
        (8, {"parallelism": 0, "stated": ["parallelism"]}, [1, 7]),
        (1, {"parallelism": 0, "stated": ["parallelism"]}, [1]),
        (0, {}, []),
    ],
)
def test_the_canary_commits_alone_and_then_batches_grow(
    count: int, update: dict[str, object], sizes: list[int]
) -> None:
    found = batches(HOSTS[:count], update)
    assert [len(batch) for batch in found] == sizes
    assert [host for batch in found for host in batch] == HOSTS[:count]


def test_a_silent_file_is_watched_with_patience() -> None:
    silent: dict[str, object] = {"parallelism": 1, "monitor_seconds": None, "max_failure_ratio": 0.0, "stated": []}
    roll = Roll.of(HOSTS, silent)
    assert (roll.monitor, roll.failure_ratio, roll.failure_action) == (5.0, 0.05, "rollback")


def test_a_file_is_obeyed() -> None:
    stated = {
        "parallelism": 2,
        "delay_seconds": 3.0,
        "monitor_seconds": 0.0,
        "max_failure_ratio": 0.0,
        "failure_action": "pause",
        "stated": ["parallelism", "delay_seconds", "monitor_seconds", "max_failure_ratio", "failure_action"],
    }
    roll = Roll.of(HOSTS[:3], stated)
    assert roll == Roll((("app-1",), ("app-2", "app-3")), 3.0, 0.0, 0.0, "pause")


@given(
    st.integers(1, 8),
    st.floats(0, 600),
    st.floats(0, 600),
    st.integers(1, 3600),
    st.booleans(),
)
def test_every_deadline_is_shorter_than_the_lease(
    count: int, monitor: float, delay: float, seconds: int, migrates: bool
) -> None:
    app = {"deadlines": dict.fromkeys(("ready_seconds", "drain_seconds", "pull_seconds"), seconds)}
    if migrates:
        app["migration"] = {"timeout_seconds": seconds}
    roll = Roll.of(HOSTS[:count], {"monitor_seconds": monitor, "delay_seconds": delay, "stated": []})
    budget = budgets(app, roll)
    for phase, deadline in budget.items():
        assert deadline <= lease_seconds(phase, budget, roll)
    # A host that commits last waits for all batches before its own.
    assert lease_seconds("prepare", budget, roll) >= budget["prepare"] + len(roll.batches) * budget["commit"]
