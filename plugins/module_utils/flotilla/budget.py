"""`environment_budget`: what an environment may cost, and at which provider's budget it is counted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .problem import Problem, did_you_mean

BUDGET = "environment_budget"
EXAMPLE = "{name: staging, monthly_usd: 30, alert_percent: 80}"


@dataclass(frozen=True)
class Budget:
    """name: as the provider knows it.  monthly_usd: dollars.  alert_percent: of them, when somebody is told."""

    name: str
    monthly_usd: float
    alert_percent: float

    def __str__(self) -> str:
        return f"{self.monthly_usd:g} USD a month, alert at {self.alert_percent:g} %"


def read(value: Any, place: Callable[[str, str], str]) -> tuple[Budget | None, list[Problem]]:
    """The budget of an environment, and what is wrong with it."""
    if value is None:
        return None, []
    wrong = _wrong(value)
    if wrong:
        fix = f"write it as {EXAMPLE}"
        return None, [Problem(place(BUDGET, ""), variable, what, fix) for variable, what in wrong]
    return Budget(str(value["name"]), float(value["monthly_usd"]), float(value["alert_percent"])), []


def _wrong(value: Any) -> list[tuple[str, str]]:
    """Each key with what is wrong with it."""
    if not isinstance(value, Mapping):
        return [(BUDGET, "is not a mapping")]
    keys = ("name", "monthly_usd", "alert_percent")
    wrong = [(f"{BUDGET}.{key}", f"is not known{did_you_mean(str(key), keys)}") for key in value if key not in keys]
    if not isinstance(value.get("name"), str) or not value["name"].strip():
        wrong.append((f"{BUDGET}.name", "is not a name"))
    for key, most in (("monthly_usd", float("inf")), ("alert_percent", 100.0)):
        number = value.get(key)
        if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number <= most:
            wrong.append((f"{BUDGET}.{key}", "is not a number above 0" + (" and up to 100" if most == 100.0 else "")))
    return wrong
