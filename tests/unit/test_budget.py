"""What an environment may cost, as its inventory says it."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.budget import read
from hypothesis import given
from hypothesis import strategies as st

GOOD = {"name": "staging", "monthly_usd": 30, "alert_percent": 80}


def place(variable: str, value: str) -> str:
    return f"{variable}.yml:1"


def test_a_budget_is_shown_as_a_person_says_it() -> None:
    found, problems = read({**GOOD, "monthly_usd": 30.5}, place)
    assert (str(found), problems) == ("30.5 USD a month, alert at 80 %", [])
    assert read(None, place) == (None, [])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("30", "environment_budget: is not a mapping"),
        ({**GOOD, "montly_usd": 1}, "environment_budget.montly_usd: is not known (did you mean `monthly_usd`?)"),
        ({**GOOD, "name": " "}, "environment_budget.name: is not a name"),
        ({**GOOD, "monthly_usd": "30 USD"}, "environment_budget.monthly_usd: is not a number above 0"),
        ({**GOOD, "alert_percent": 101}, "environment_budget.alert_percent: is not a number above 0 and up to 100"),
        ({"name": "staging", "monthly_usd": 30}, "environment_budget.alert_percent: is not a number"),
    ],
)
def test_what_is_wrong_is_told_with_an_example(value: Any, message: str) -> None:
    found, (problem,) = read(value, place)
    assert found is None
    assert str(problem).startswith(f"environment_budget.yml:1: {message}")
    assert problem.next == "write it as {name: staging, monthly_usd: 30, alert_percent: 80}"


@given(st.recursive(st.none() | st.text() | st.floats(), lambda inner: st.dictionaries(st.text(), inner)))
def test_nothing_breaks_it(value: Any) -> None:
    found, problems = read(value, place)
    assert not (found and problems)
