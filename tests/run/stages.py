"""The stages of `make test`, and the commands that each is made of."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tests.run.jobs import ROOT, Job, Stage

PYTEST = (sys.executable, "-m", "pytest", "-p", "tests.run.results")
# The runner's own target has made the virtual environment.
MAKE = ("make", "--old-file", "venv")
# What begins first: the files of the fleet, which have one lab in turn and are the longest chain, then those with a lab
# of their own, then the chain of one host. Whoever is not named comes after these.
FIRST_FILES = (
    *("test_fleet", "test_balancer", "test_fleet_targets"),
    *("test_first_deploy", "test_restore", "test_foreign_app", "test_demo"),
    *("test_survival", "test_verbs", "test_rolling_releases", "test_two_apps", "test_refusals"),
)
FIRST_ROLES = ("restore", "backup", "acme", "app", "haproxy", "postgres", "nginx", "docker", "patch")
ALL_E2E = sorted((ROOT / "tests/e2e").glob("test_*.py"))
# The load tests share the machine with one other lab at most, be it a scenario's; of these there are three at a time.
PLACES, SHARE_UNDER_LOAD, SHARE = 6, 3, 2


def check(files: Collection[Path] | None = None) -> Stage:
    """Lint, types and unit tests; of these files alone when they are named."""
    jobs = [Job(name, "check", (*MAKE, name)) for name in ("lint", "types")]
    if files is None or files:
        jobs = [*units(files).jobs, *jobs]
    return Stage("check", jobs, places=len(jobs), needed=True)


def units(files: Collection[Path] | None = None, marks: str = "not compose", *options: str) -> Stage:
    """The unit tests, or these files of them."""
    named = ["tests/unit"] if files is None else sorted(str(path.relative_to(ROOT)) for path in files)
    job = Job(
        "units", "check", (*PYTEST, "-n", "auto", "--dist", "worksteal", "-m", marks, *options, *named), pytest=True
    )
    return Stage("check", [job])


def images() -> Stage:
    """What the labs start from: one command, so that labs that begin together do not build the same."""
    return Stage("images", [Job("images", "images", (*MAKE, "images"), timed=True)], needed=True)


def e2e(files: Iterable[Path] | None = None) -> Stage:
    """The end-to-end tests: a pytest for each file, which has a lab of its own or one that files have in turn."""
    return _files("e2e", [path for path in ALL_E2E if not _thorough(path)] if files is None else files)


def smoke() -> Stage:
    """One smallest case of each of the other targets."""
    return _files("smoke", (ROOT / "tests/smoke").glob("test_*.py"))


def together(*stages: Stage) -> Stage:
    """Stages with labs as one: the next one fills the places that the one before leaves at its end."""
    jobs = [job for stage in stages for job in stage.jobs]
    return Stage("labs", sorted(jobs, key=lambda job: _place(Path(job.name).stem, FIRST_FILES)), PLACES)


def thorough() -> list[Stage]:
    """What `make test` has no time for: many examples, the marked tests, the other scenarios."""
    files = [path for path in ALL_E2E if "thorough" in path.read_text()]
    scenarios = Stage("molecule", [job for job in molecule(scenario="").jobs if job not in molecule().jobs], PLACES)
    examples = units(None, "hypothesis and not compose", "--hypothesis-profile", "thorough", "--timeout", "1800")
    return [examples, _files("e2e", files, "thorough", 3600), scenarios]


def molecule(roles: Collection[str] = (), scenario: str = "default") -> Stage:
    """The roles' scenarios of this name, or all of them when it is empty; of these roles, or of all."""
    names = [(path.parents[2].name, path.parent.name) for path in ROOT.glob("roles/*/molecule/*/molecule.yml")]
    chosen = [
        (role, name) for role, name in names if (not roles or role in roles) and (not scenario or name == scenario)
    ]
    ordered = sorted(chosen, key=lambda pair: (_place(pair[0], FIRST_ROLES), pair))
    return Stage("molecule", [_scenario(role, name) for role, name in ordered], PLACES)


def lab_of(path: Path) -> str:
    """The lab of a file of tests: `LAB = FLEET_LAB` is one that several files have in turn, others are the file's."""
    shared = re.search(r"^LAB = (\w+)_LAB$", path.read_text(), re.MULTILINE)
    own = f"{path.parent.name}-{path.stem.removeprefix('test_')}"
    return f"e2e-{shared[1].lower()}" if shared else own.replace("_", "-")


def _files(stage: str, files: Iterable[Path], marked: str = "not thorough", seconds: int = 1800) -> Stage:
    ordered = sorted(files, key=lambda path: (_place(path.stem, FIRST_FILES), path))
    jobs = [
        Job(
            name=str(path.relative_to(ROOT)),
            stage=stage,
            command=(*PYTEST, str(path.relative_to(ROOT)), "-m", marked, "--timeout", str(seconds)),
            pytest=True,
            lab=lab_of(path),
            share=SHARE_UNDER_LOAD,
            timed=True,
        )
        for path in ordered
    ]
    return Stage(stage, jobs, PLACES)


def _scenario(role: str, name: str) -> Job:
    return Job(
        name=f"molecule {role} {name}",
        stage="molecule",
        command=("molecule", "test", "--scenario-name", name),
        directory=ROOT / "roles" / role,
        lab=f"molecule-{role}-{name}",
        share=SHARE,
        timed=True,
    )


def names(stages: Iterable[Stage]) -> Iterator[str]:
    """What there is to run, as long as nothing runs: each test of each pytest, and the other commands' names."""
    for job in (job for stage in stages for job in stage.jobs):
        if job.pytest:
            command = (*job.command, "-n", "0", "--collect-only", "-q")
            listed = subprocess.run(command, cwd=job.directory, stdout=subprocess.PIPE, text=True, check=False)
            yield from (line for line in listed.stdout.splitlines() if "::" in line)
        else:
            yield job.name


def _thorough(path: Path) -> bool:
    """Whether all tests of a file are."""
    return re.search(r"^pytestmark = pytest\.mark\.thorough$", path.read_text(), re.MULTILINE) is not None


def _place(name: str, order: tuple[str, ...]) -> int:
    return order.index(name) if name in order else len(order)
