"""Each target that `make` lists is run by `make test`: as a stage, as part of another target, or by tests/smoke."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"test", "venv", "check", "lint", "types", "units", "images", "e2e", "molecule"}
# By whom: the demo begins with it; this file.
OTHERWISE = {"lab-up": "demo", "help": ""}


def listed() -> set[str]:
    """The targets that `make` alone names."""
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  make ([a-z-]+) ", said, re.MULTILINE))


def smoked() -> set[str]:
    """The targets that the smoke runs ask for; `soak-staging` is a part of `soak`."""
    texts = [path.read_text() for path in (ROOT / "tests/smoke").glob("test_*.py")]
    return {name.removesuffix("-staging") for text in texts for name in re.findall(r'make\("([a-z-]+)"', text)}


def test_every_target_is_run() -> None:
    assert listed() - STAGES - smoked() == set(OTHERWISE)


def test_the_readme_names_targets_that_there_are() -> None:
    named = set(re.findall(r"make ([a-z][a-z-]+)\b", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "lab-down", "check"} <= named
    assert named <= listed()
