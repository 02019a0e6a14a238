"""What a play does with the balancers' answers: refuse a commit, and judge hosts by what was counted."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "plugins/filter/flotilla_balancer.py"
spec = importlib.util.spec_from_file_location("flotilla_balancer", PATH)
assert spec and spec.loader
filters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(filters)

NAMES = ("requests", "errors_5xx", "connection_errors", "response_errors", "retries", "redispatches")


def counted(requests: int, connection_errors: int = 0, response_errors: int = 0, name: str = "lb-1") -> dict[str, Any]:
    counters = dict.fromkeys(NAMES, 0)
    counters |= {"requests": requests, "connection_errors": connection_errors, "response_errors": response_errors}
    return {"app_balancer": name, "counters": {"notes": {"app-1": counters}}}


def test_a_balancer_that_could_not_is_quoted() -> None:
    asked = {
        "results": [
            {"app_balancer": "lb-1", "changed": True},
            {"app_balancer": "lb-2", "failed": True, "msg": "app-1 is the only\nhost"},
            {"app_balancer": "lb-3", "unreachable": True, "msg": "no route"},
        ]
    }
    assert filters.balancer_trouble(asked) == "lb-2: app-1 is the only host\nlb-3: no route"
    outside = {"failed": True, "msg": "no space left"}
    assert filters.balancer_trouble(outside) == "the health check: no space left"
    assert filters.balancer_trouble({"skipped": True}) == ""
    assert filters.balancer_trouble({"results": [], "skipped": True}) == ""
    assert filters.balancer_trouble({}) == ""


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (counted(100), ""),
        (counted(100, 2), ""),
        (counted(100, 4), ""),
        (counted(60, 2, 2), "lb-1: of 50 requests to app-1 4 failed (2 without a connection, 2 without an answer)"),
        (counted(10, 3), "lb-1: of 0 requests to app-1 3 failed (3 without a connection, 0 without an answer)"),
        # A reload begins to count anew.
        (counted(5, 3), "lb-1: of 5 requests to app-1 3 failed (3 without a connection, 0 without an answer)"),
    ],
)
def test_a_host_is_judged_by_what_was_counted_since(now: dict[str, Any], says: str) -> None:
    before = {"results": [counted(10)]}
    assert filters.flotilla_balancer_judged({"results": [now]}, before, "notes", "app-1", 0.05) == says


def test_what_was_not_counted_before_judges_nothing() -> None:
    now = {"results": [counted(10, 10, name="lb-2"), {"app_balancer": "lb-1", "unreachable": True}]}
    before = {"results": [counted(10)]}
    assert filters.flotilla_balancer_judged(now, before, "notes", "app-1", 0.05) == ""
    assert filters.flotilla_balancer_judged(now, {}, "notes", "app-1", 0.05) == ""
    assert filters.flotilla_balancer_judged({"results": [counted(99, 99)]}, before, "notes", "app-7", 0.05) == ""
