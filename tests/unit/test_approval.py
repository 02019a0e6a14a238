"""Approval where the environment demands it, and hosts that are left out on purpose."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.approval import Approval, approval, host_choice_problems

COMMAND = "ansible-playbook deploy.yml -i inventories/production"


def judged(extra: dict[str, Any], *, needed: bool = True, variable: str = "version") -> Approval:
    return approval(
        needed=needed,
        environment="production",
        apps=["notes 1.1.0"],
        extra=extra,
        variable=variable,
        command=COMMAND,
    )


def test_where_it_is_not_demanded_nothing_is_asked() -> None:
    assert judged({}, needed=False) == Approval()


@pytest.mark.parametrize(("variable", "value"), [("version", "1.1.0"), ("release", "20250101T120000Z-1.1.0")])
def test_naming_it_twice_approves(variable: str, value: str) -> None:
    found = judged({variable: value, "approve": value}, variable=variable)
    assert (found.needed, found.problems, found.question) == (True, (), "")


@pytest.mark.parametrize(
    "extra", [{"version": "1.1.0", "approve": "1.1.1"}, {"approve": "1.1.0"}, {"version": "1.1.0", "approve": ""}]
)
def test_anything_else_on_the_command_line_does_not(extra: dict[str, Any]) -> None:
    (problem,) = judged(extra).problems
    assert "named twice" in problem.what
    assert problem.next == f"{COMMAND} -e version=<version> -e approve=<the same>"


def test_otherwise_a_person_is_asked_for_the_environments_name() -> None:
    found = judged({"version": "1.1.0"})
    assert found.problems == ()
    assert found.answer == "production"
    assert "notes 1.1.0 in the environment production" in found.question
    assert found.refusal and "environment_approval" in str(found.refusal)


GROUPS = {"app": ["app-1", "app-2"], "postgres": ["db-1"]}
ALL = ["app-1", "app-2", "db-1"]


def problems(present: list[str], skipped: str = "", *, limited: bool = False) -> list[str]:
    found = host_choice_problems(GROUPS, present, skipped, limited=limited, command=COMMAND)
    return [f"{problem.variable} {problem.what}: {problem.next}" for problem in found]


def test_all_hosts_are_fine() -> None:
    assert problems(ALL) == []


def test_a_host_that_is_down_is_left_out_on_purpose() -> None:
    assert problems(["app-1", "db-1"], "app-2") == []


def test_a_limit_that_keeps_the_app_hosts_together_is_fine() -> None:
    assert problems(["app-1", "app-2"], limited=True) == []


def test_a_limit_that_parts_them_is_refused() -> None:
    (problem,) = problems(["app-1"], limited=True)
    assert "--limit leaves out app-2" in problem
    assert f"{COMMAND} -e skip_hosts=app-2" in problem


def test_a_misspelt_host_is_refused() -> None:
    assert problems(ALL, "app-3, db-1")[0].startswith("skip_hosts there is no host `app-3` (did you mean `app-")


def test_somebody_must_serve() -> None:
    assert "leaves out every host of the group `app`" in problems(["db-1"], "app-1,app-2")[0]
