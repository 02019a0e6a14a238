"""The four outcomes, how a run ends on its hosts, and its last line."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.outcome import End, HostEnd, Outcome, ended, ends, judge, last_line, may_go_on, migration
from hypothesis import given
from hypothesis import strategies as st

OLD = {"release": "r1", "version": "1.0.0", "colour": "blue"}
NEW = {"release": "r2", "version": "1.1.0", "colour": "green"}
NONE = {"release": "", "version": "", "colour": ""}


def host(
    serves: dict[str, str],
    *,
    certain: bool = True,
    before: dict[str, str] = OLD,
    name: str = "app-1",
    withheld: str = "",
) -> HostEnd:
    return HostEnd(name, before, serves, certain, withheld=withheld)


@pytest.mark.parametrize(
    ("hosts", "moved", "outcome"),
    [
        ([host(NEW), host(NEW)], True, Outcome.DEPLOYED),
        ([host(OLD), host(OLD)], False, Outcome.REFUSED),
        ([host(OLD), host(OLD)], True, Outcome.REVERTED),
        ([host(NEW), host(OLD)], True, Outcome.MIXED),
        ([host(OLD), host(OLD, certain=False)], True, Outcome.MIXED),
        ([host(NEW), host(NEW, certain=False)], True, Outcome.MIXED),
        ([host(NONE, before=NONE), host(NONE, before=NONE)], True, Outcome.REFUSED),
        ([host(NONE, before=NONE), host(OLD)], True, Outcome.REVERTED),
        ([host(NEW), host(NEW, withheld="lb-1: stays out")], True, Outcome.MIXED),
        ([host(OLD), host(OLD, withheld="lb-1: stays out")], True, Outcome.MIXED),
        ([host(OLD), host(OLD, withheld="lb-1: stays out")], False, Outcome.REFUSED),
    ],
)
def test_four_outcomes(hosts: list[HostEnd], moved: bool, outcome: Outcome) -> None:
    assert judge(hosts, "r2", moved=moved) is outcome


@given(
    st.lists(
        st.builds(
            host, st.sampled_from([OLD, NEW, NONE]), certain=st.booleans(), withheld=st.sampled_from(["", "lb-1"])
        ),
        min_size=1,
    ),
    st.booleans(),
)
def test_an_outcome_never_says_more_than_is_known(found: list[HostEnd], moved: bool) -> None:
    outcome = judge(found, "r2", moved=moved)
    if outcome is Outcome.DEPLOYED:
        assert all(one.serves == NEW and one.certain and not one.withheld for one in found)
    if outcome in (Outcome.REFUSED, Outcome.REVERTED):
        assert all(one.serves != NEW and one.certain for one in found)
    if outcome is Outcome.REVERTED:
        assert not any(one.withheld for one in found)


ASKED = {"ok": True, "serves": OLD}
LOST = {"unreachable": True, "msg": "no route"}


@pytest.mark.parametrize(
    ("phases", "sent", "serves", "certain"),
    [
        ([{"ok": True, "serves": OLD}, {"ok": True, "serves": NEW}, {"ok": True, "serves": NEW}], True, NEW, True),
        ([{"ok": True, "serves": OLD}, LOST, {"ok": True, "serves": OLD}], True, OLD, True),
        ([{"ok": True, "serves": OLD}, LOST, LOST], True, OLD, False),
        ([{"ok": True, "serves": OLD}, {"ok": True, "serves": NEW}, LOST], True, NEW, False),
        ([LOST, None, LOST], False, OLD, True),
        ([], False, OLD, True),
    ],
)
def test_what_is_known_of_a_host(
    phases: list[dict[str, Any] | None], sent: bool, serves: dict[str, str], certain: bool
) -> None:
    found = ended("app-1", ASKED, phases, sent)
    assert (found.serves, found.certain) == (serves, certain)


GOOD: dict[str, Any] = {"ok": True}
BAD: dict[str, Any] = {"ok": False}


def end(committed: dict[str, dict[str, Any]], action: str = "rollback", **prepared: dict[str, Any]) -> str:
    ready = {"a": GOOD, "b": GOOD, **prepared}
    found = ends(["a", "b", "c"], ["a", "b"], True, ready, committed, action)
    return " ".join(found[name] for name in "abc")


@pytest.mark.parametrize(
    ("committed", "action", "expected"),
    [
        ({"a": GOOD, "b": GOOD}, "rollback", "finish finish release"),
        ({"a": BAD}, "rollback", "abort abort release"),
        ({"a": GOOD, "b": LOST}, "rollback", "abort abort release"),
        ({"a": GOOD, "b": BAD}, "pause", "release release release"),
        ({"a": GOOD, "b": BAD}, "continue", "finish abort release"),
        ({"a": BAD, "b": BAD}, "continue", "abort abort release"),
    ],
)
def test_failure_action_decides_how_a_failed_commit_ends(
    committed: dict[str, dict[str, Any]], action: str, expected: str
) -> None:
    assert end(committed, action) == expected


@pytest.mark.parametrize("action", ["rollback", "pause", "continue"])
def test_a_failed_prepare_always_goes_back(action: str) -> None:
    assert end({}, action, b=BAD) == "abort abort release"


def test_a_run_that_began_nothing_only_unlocks() -> None:
    assert ends(["a"], [], False, {}, {}, "rollback") == {"a": End.RELEASE}


@pytest.mark.parametrize(("action", "expected"), [("rollback", False), ("pause", False), ("continue", True)])
def test_only_continue_goes_on_after_a_failure(action: str, expected: bool) -> None:
    assert may_go_on({"a": GOOD}, {"a": BAD}, action) is expected
    assert not may_go_on({"a": BAD}, {}, action)


def test_what_became_of_the_migration_is_one_word() -> None:
    assert migration([]) == "none"
    assert migration([{"migration": "applied"}, {"migration": "none"}, None]) == "applied"
    assert migration([{"migration": "failed"}, {"migration": "none"}]) == "failed"


DETAILS = {"migration": "none", "seconds": 4.25, "next": "ansible-playbook deploy.yml", "skipped": []}


@pytest.mark.parametrize(
    ("outcome", "hosts", "details", "line"),
    [
        (
            Outcome.DEPLOYED,
            [host(NEW)],
            {},
            "notes 1.1.0: deployed, serves on app-1 (green); migration: none; 4.2 s",
        ),
        (
            Outcome.DEPLOYED,
            [host(NEW)],
            {"back_from": "1.2.0", "skipped": ["app-3"]},
            "notes 1.1.0: rolled back from 1.2.0, serves on app-1 (green); left out: app-3; migration: none; 4.2 s",
        ),
        (
            Outcome.REVERTED,
            [host(OLD)],
            {},
            "notes 1.1.0: reverted, traffic moved and moved back: 1.0.0 on app-1 (blue); migration: none; 4.2 s",
        ),
        (
            Outcome.REFUSED,
            [host(NONE, before=NONE)],
            {"migration": "failed"},
            "notes 1.1.0: refused, no traffic moved: nothing on app-1; migration: failed; 4.2 s",
        ),
        (
            Outcome.MIXED,
            [host(NEW), host(OLD, certain=False, name="app-2")],
            {},
            "notes 1.1.0: mixed: 1.1.0 on app-1 (green), app-2 was lost while it was switched; migration: none; "
            "4.2 s. Next: ansible-playbook deploy.yml",
        ),
    ],
)
def test_the_last_line(outcome: Outcome, hosts: list[HostEnd], details: dict[str, Any], line: str) -> None:
    assert last_line("notes 1.1.0", outcome, hosts, {**DETAILS, **details}) == line
