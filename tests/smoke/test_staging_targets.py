"""The targets that work on one host get past their set-up and through one smallest case."""

from __future__ import annotations

from tests.e2e.fleet import STAGING_LAB
from tests.smoke.making import make

# Whose snapshot they begin with.
LAB = STAGING_LAB


def test_soak_ships_a_release() -> None:
    made = make("soak-staging", "DEPLOYS=1").succeeded()
    assert "1 deploys in " in made.output
    assert " 9 passed" in made.output


def test_thorough_finds_its_tests() -> None:
    made = make("thorough", "COLLECT=1").succeeded()
    assert "tests/e2e/test_losses.py::" in made.output
    assert "molecule backup faults" in made.output
