"""Targets of the Makefile, as a person at a terminal runs them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from tests.e2e.fleet import ROOT

SECONDS = 1500.0
# What a run of the tests tells its own children, and a person's shell has not.
OURS = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER")


@dataclass(frozen=True)
class Made:
    """What came of a target; `output` has both streams."""

    rc: int
    output: str

    def succeeded(self) -> Made:
        """This one; fails the test when the target did."""
        assert self.rc == 0, f"it ended with {self.rc}:\n{self.output[-12000:]}"
        return self


def make(*arguments: str, **variables: str) -> Made:
    """Run make at the root of the project, with variables of the environment beside this one's."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | variables
    done = subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=SECONDS,
    )
    return Made(done.returncode, done.stdout)
