"""The stages of `make test`, and the commands that each is made of."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from tests.run.jobs import ROOT, Job, Stage

PYTEST = (sys.executable, "-m", "pytest", "-p", "tests.run.results")
# The runner's own target has made the virtual environment.
MAKE = ("make", "--old-file", "venv")
# What takes longest begins first, so that nothing long is left over at the end. Whoever is not named comes after these.
LONGEST_FILES = (
    *("test_balancer", "test_fleet", "test_first_deploy", "test_survival", "test_verbs", "test_restore"),
    *("test_foreign_app", "test_rolling_releases", "test_two_apps", "test_refusals"),
)
LONGEST_ROLES = ("restore", "backup", "acme", "app", "haproxy", "postgres", "nginx", "docker", "patch")
# The load tests share the machine with one other lab at most; the roles' tests have none.
LABS_UNDER_LOAD = 2
LABS = 3


def check(files: Collection[Path] | None = None) -> Stage:
    """Lint, types and unit tests; of these files alone when they are named."""
    jobs = [Job(name, "check", (*MAKE, name)) for name in ("lint", "types")]
    if files is None or files:
        jobs = [*units(files).jobs, *jobs]
    return Stage("check", jobs, at_once=len(jobs), needed=True)


def units(files: Collection[Path] | None = None) -> Stage:
    """The unit tests, or these files of them."""
    named = ["tests/unit"] if files is None else sorted(str(path.relative_to(ROOT)) for path in files)
    job = Job("units", "check", (*PYTEST, "-n", "auto", "-m", "not compose", *named), pytest=True)
    return Stage("check", [job])


def images() -> Stage:
    """What the labs start from: one command, so that labs that begin together do not build the same."""
    return Stage("images", [Job("images", "images", (*MAKE, "images"), timed=True)], needed=True)


def e2e(files: Iterable[Path] | None = None) -> Stage:
    """The end-to-end tests: a pytest for each file. Files that share a lab take turns."""
    return _files("e2e", (ROOT / "tests/e2e").glob("test_*.py") if files is None else files)


def smoke() -> Stage:
    """One smallest case of each of the other targets."""
    return _files("smoke", (ROOT / "tests/smoke").glob("test_*.py"))


def molecule(roles: Collection[str] = (), scenario: str = "default") -> Stage:
    """The roles' scenarios of this name, or all of them when it is empty; of these roles, or of all."""
    names = [(path.parents[2].name, path.parent.name) for path in ROOT.glob("roles/*/molecule/*/molecule.yml")]
    chosen = [
        (role, name) for role, name in names if (not roles or role in roles) and (not scenario or name == scenario)
    ]
    ordered = sorted(chosen, key=lambda pair: (_place(pair[0], LONGEST_ROLES), pair))
    return Stage("molecule", [_scenario(role, name) for role, name in ordered], at_once=LABS)


def _files(stage: str, files: Iterable[Path]) -> Stage:
    ordered = sorted(files, key=lambda path: (_place(path.stem, LONGEST_FILES), path))
    jobs = [
        Job(
            name=str(path.relative_to(ROOT)),
            stage=stage,
            command=(*PYTEST, str(path.relative_to(ROOT)), "-m", "not thorough", "--timeout", "1800"),
            pytest=True,
            lab=f"e2e-{lab_of(path)}",
            timed=True,
        )
        for path in ordered
    ]
    return Stage(stage, jobs, at_once=LABS_UNDER_LOAD)


def lab_of(path: Path) -> str:
    """The name of a file's lab, as tests/e2e/conftest.py gives it: what it shares with others, or its own."""
    shared = re.search(r"^LAB = (\w+)_LAB$", path.read_text(), re.MULTILINE)
    return shared[1].lower() if shared else path.stem.removeprefix("test_").replace("_", "-")


def _scenario(role: str, name: str) -> Job:
    return Job(
        name=f"molecule {role} {name}",
        stage="molecule",
        command=("molecule", "test", "--scenario-name", name),
        directory=ROOT / "roles" / role,
        lab=f"molecule-{role}-{name}",
        timed=True,
    )


def _place(name: str, order: tuple[str, ...]) -> int:
    return order.index(name) if name in order else len(order)
