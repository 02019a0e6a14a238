"""The labs that killed tests left up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.run.jobs import ROOT, Outcome

SECONDS = 120.0
# The lab of `make lab-up` and `make demo`.
DEVELOPERS = "flotilla"


def standing() -> set[str]:
    """The labs of this checkout that have a directory."""
    return {path.name for path in (ROOT / ".lab").glob("*") if path.is_dir()}


def left(outcomes: Iterable[Outcome], before: set[str]) -> set[str]:
    """The labs that a run may have left: its commands' that failed, and those that were not there before.

    What a developer keeps (FLOTILLA_KEEP, FLOTILLA_LAB), or has brought up meanwhile (make lab-up), is not among them.
    """
    failed = {outcome.job.lab for outcome in outcomes if outcome.rc != 0 and outcome.job.lab}
    scenarios = {lab for lab in failed if lab.startswith("molecule-")}
    if os.environ.get("FLOTILLA_KEEP"):
        return scenarios
    directories = standing()
    kept = {os.environ.get("FLOTILLA_LAB", ""), DEVELOPERS}
    return (scenarios | (failed & directories) | (directories - before)) - kept


def remove(names: Iterable[str]) -> None:
    """Take labs down, all at once and within two minutes; say which."""
    playbook = (str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/lab.yml", "-e", "lab_state=absent")
    downs = {}
    for name in sorted(names):
        command = ("timeout", str(SECONDS), *playbook, "-e", f"lab_name={name}")
        downs[name] = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    for name, down in downs.items():
        said, _ = down.communicate()
        print(f"removed the lab {name}" if down.returncode == 0 else f"could not remove the lab {name}:\n{said}")
