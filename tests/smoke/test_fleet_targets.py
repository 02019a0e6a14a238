"""The targets that work on a fleet get past their set-up and through one smallest case."""

from __future__ import annotations

import json

from tests.e2e.fleet import FLEET_LAB, ROOT
from tests.smoke.making import make

# Whose snapshot they begin with.
LAB = FLEET_LAB


def test_bench_measures_a_pair() -> None:
    output = ROOT / "build/smoke-benchmarks.json"
    output.unlink(missing_ok=True)
    options = f"--runs 1 --only deploy_over_floor --lab e2e --output {output}"
    made = make("bench", f"BENCH={options}")
    (figure,) = json.loads(output.read_text())["benchmarks"].values()
    # On a busy machine one pair may miss the target, which the command says; that it was measured is what counts here.
    assert f"deploy_over_floor {figure['value']:.2f}" in made.output.splitlines()
    assert (made.rc == 0) == (figure["value"] <= figure["target"])


def test_faults_inject_one() -> None:
    made = make("faults", "FAULTS=-k test_an_image_that_is_not_there").succeeded()
    assert " 1 passed" in made.output
