"""A restart: which release it is about, what its outcome is, and what becomes of the release on a host."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.outcome import HostEnd, Outcome, judge
from flotilla.plan import Context, Plan, plan_restart

BLUE = {"release": "r2", "version": "2.0", "colour": "blue"}
GREEN = {**BLUE, "colour": "green"}
RELEASES = [
    {"id": name, "version": f"{name[1:]}.0", "standing": standing, "lacks": "", "update": {}, "rollback": {}}
    for name, standing in (("r1", "proven"), ("r2", "live"))
]


def surveyed(live: str, **changes: Any) -> dict[str, Any]:
    return {
        "ok": True,
        "live": {"release": live, "version": "", "colour": "blue"},
        "journal": {"phase": "idle", "live": live, "candidate": ""},
        "releases": RELEASES,
        "barriers": [],
        "lock": {"held": True, "by": None, "message": ""},
        **changes,
    }


def plan(first: dict[str, Any], second: dict[str, Any]) -> Plan:
    known = Context({"name": "notes"}, ("app-1", "app-2"), (), "mine", lambda machine, process: False, "again")
    return plan_restart({"app-1": first, "app-2": second}, known)


def test_it_is_about_what_serves_on_all_hosts() -> None:
    found = plan(surveyed("r2"), surveyed("r2"))
    assert (found.go, found.release, found.version, found.work) == (True, "r2", "2.0", ("app-1", "app-2"))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (surveyed("r1"), "the hosts do not serve one release (r2 on app-1, r1 on app-2)"),
        (surveyed(""), "the hosts do not serve one release (r2 on app-1, nothing on app-2)"),
        ({"unreachable": True, "msg": "no route"}, "it cannot be reached"),
    ],
)
def test_it_is_refused_where_hosts_disagree(second: dict[str, Any], expected: str) -> None:
    found = plan(surveyed("r2"), second)
    assert not found.go
    assert expected in found.refusal


def test_what_was_cut_short_is_ended_first() -> None:
    journal = {"phase": "committed", "live": "r2", "candidate": "r2"}
    found = plan(surveyed("r2", journal=journal), surveyed("r2"))
    assert not found.go
    assert list(found.recover) == ["app-1"]


@pytest.mark.parametrize(
    ("serves", "moved", "outcome"),
    [
        ([GREEN, GREEN], True, Outcome.DEPLOYED),
        ([BLUE, BLUE], False, Outcome.REFUSED),
        ([BLUE, BLUE], True, Outcome.REVERTED),
        ([GREEN, BLUE], True, Outcome.MIXED),
    ],
)
def test_it_is_done_when_the_release_serves_in_its_other_colour(
    serves: list[dict[str, str]], moved: bool, outcome: Outcome
) -> None:
    hosts = [HostEnd(f"app-{number}", BLUE, found, True) for number, found in enumerate(serves)]
    assert judge(hosts, "r2", moved=moved, again=True) is outcome
