"""tests/run: the commands of its stages are all that there is to run, in an order that ends early."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.e2e.fleet import Lab
from tests.lab.snapshots import INPUTS
from tests.run.__main__ import main
from tests.run.jobs import ROOT
from tests.run.stages import ALL_E2E, FIRST_FILES, FIRST_ROLES, e2e, lab_of, molecule, smoke, thorough, together


def test_every_file_and_scenario_that_there_is_runs() -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests/e2e").glob("test_*.py")}
    _, thorough_files, _ = thorough()
    assert {job.name for job in (*e2e().jobs, *thorough_files.jobs)} == files
    assert {"tests/e2e/test_fleet.py", "tests/e2e/test_losses.py"} - {job.name for job in e2e().jobs} == {
        "tests/e2e/test_losses.py"
    }
    roles = {path.parents[2].name for path in ROOT.glob("roles/*/molecule/default/molecule.yml")}
    assert {job.name for job in molecule().jobs} == {f"molecule {role} default" for role in roles}
    every = ROOT.glob("roles/*/molecule/*/molecule.yml")
    names = {f"molecule {path.parents[2].name} {path.parent.name}" for path in every}
    assert {job.name for job in molecule(scenario="").jobs} == names


def test_the_labs_of_files_are_known() -> None:
    """Two files that have the same lab must not run at the same time."""
    for path in (ROOT / "tests/e2e").glob("test_*.py"):
        module = importlib.import_module(f"tests.e2e.{path.stem}")
        name = getattr(module, "LAB", Lab()).name or path.stem.removeprefix("test_").replace("_", "-")
        assert lab_of(path) == f"e2e-{name}"


def test_what_thorough_runs_is_the_rest() -> None:
    units, files, scenarios = thorough()
    assert "thorough" in units.jobs[0].command
    marked = {str(path.relative_to(ROOT)) for path in ALL_E2E if re.search(r"mark\.thorough\b", path.read_text())}
    assert marked <= {job.name for job in files.jobs}
    default = {job.name for job in molecule().jobs}
    assert {job.name for job in scenarios.jobs} | default == {job.name for job in molecule(scenario="").jobs}
    assert not {job.name for job in scenarios.jobs} & default


def test_the_longest_begin_first() -> None:
    files = [job.name for job in together(molecule(), smoke(), e2e()).jobs]
    assert [Path(name).stem for name in files[: len(FIRST_FILES)]] == list(FIRST_FILES)
    order = [job.name for job in molecule().jobs][: len(FIRST_ROLES)]
    assert order == [f"molecule {role} default" for role in FIRST_ROLES]


def test_a_file_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["e2e", "tests/e2e/test_flete.py"]) == 2
    assert capsys.readouterr().err == "FILES: tests/e2e/test_flete.py does not exist\n"


def test_what_decides_what_a_snapshot_is_like_is_there() -> None:
    """A path that has moved would no longer make another snapshot."""
    assert [path for path in INPUTS if not (ROOT / path).exists()] == []
