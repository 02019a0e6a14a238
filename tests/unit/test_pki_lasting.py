"""What is said of how long certificates last."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.pki.lasting import lasting


def entry(days: int | None, *due: str) -> dict[str, Any]:
    return {"name": "postgres", "not_after": "2031-02-03T04:05:06Z" if days else "", "days_left": days, "due": due}


def test_what_lasts_is_shown_and_no_problem() -> None:
    told = lasting({"db-1": [entry(300)]}, {}, 3000, 457)
    assert told == {
        "lines": ["certificates", "  db-1  postgres  300 days, to 2031-02-03", "  the authority that signs  3000 days"],
        "problems": [],
    }


@pytest.mark.parametrize(
    ("seen", "silent", "authority", "expected"),
    [
        (
            {"db-1": [entry(9, "it ends in 9 days")]},
            {},
            3000,
            "it ends in 9 days. Next: ansible-playbook playbooks/prov",
        ),
        ({"db-1": [entry(None, "there is none")]}, {}, 3000, "there is none"),
        ({}, {"db-1": "no route"}, None, "db-1: its certificates cannot be read: no route"),
        (
            {"db-1": [entry(300)]},
            {},
            456,
            "ends in 456 days, and signs no certificate in its last. Next: ansible-playbook",
        ),
    ],
)
def test_what_is_wrong_is_a_problem(seen: Any, silent: Any, authority: int | None, expected: str) -> None:
    (problem,) = lasting(seen, silent, authority, 457, " -i inventories/x")["problems"]
    assert expected in problem


def test_an_environment_without_certificates_says_nothing() -> None:
    assert lasting({}, {}, None, 0) == {"lines": [], "problems": []}
