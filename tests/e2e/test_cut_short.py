"""A controller that dies leaves the old or the new release serving, never neither; the next run ends what it began."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.fleet import APP, HOST, Environment, Live, Run, ansible_process, app_entry

# Waits for the journal to be in a phase; then, when asked to, kills what works on the app on this host.
WATCHER = """
import glob, json, os, signal, sys, time
phase, victim, app = sys.argv[1:]
deadline = time.monotonic() + 90
while time.monotonic() < deadline:
    try:
        with open(f"/opt/{app}/state.json") as file:
            if json.load(file)["phase"] == phase:
                break
    except (OSError, ValueError):
        pass
    time.sleep(0.005)
else:
    sys.exit(f"the journal was never {phase}")
if victim == "host":
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(path) == f"/run/flotilla/{app}.lock":
                os.kill(int(path.split("/")[2]), signal.SIGKILL)
        except OSError:
            pass
"""
BUSY = "another run works on"
BUSY_SECONDS = 90.0


def cut_short(environment: Environment, version: str, phase: str, victim: str) -> None:
    """Begin a deploy, and kill it (with its work on the host, or without) as soon as the journal is in a phase."""
    with ansible_process("ansible-playbook", *environment.deploy_arguments(version)) as controller:
        environment.python(WATCHER, phase, victim, APP)
        os.killpg(controller.pid, signal.SIGKILL)


def deploy_when_free(environment: Environment, version: str) -> Run:
    """Deploy; while what was begun still works on the host, the refusal must say so."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        run = environment.deploy(version)
        if run.rc == 0 or BUSY not in run.text or time.monotonic() > deadline:
            return run
        time.sleep(1)


@pytest.mark.parametrize(
    ("phase", "victim", "serves"),
    [
        ("preparing", "controller", "old"),
        ("preparing", "host", "old"),
        ("committing", "host", "old or new"),
        ("committed", "controller", "new"),
        ("finishing", "host", "new"),
    ],
)
def test_the_next_run_ends_what_was_cut_short(
    served: Environment, tmp_path: Path, phase: str, victim: str, serves: str
) -> None:
    before = served.live()
    version = {"1.0.0": "1.1.0", "1.1.0": "1.0.0"}[before.version]
    slow = served.over(tmp_path / "slow", {"apps": [app_entry(environment={"REHEARSE": "slow_start:2"})]})
    cut_short(slow, version, phase, victim)

    meanwhile = served.live()
    assert {before: "old"}.get(meanwhile, "new") in serves
    assert meanwhile.version == (before.version if meanwhile == before else version)

    run = deploy_when_free(served, version).succeeded()
    after = served.live()
    assert (after.version, after.host) == (version, HOST)
    assert list(served.colours()) == [after.colour]
    journal = served.journal()
    assert (journal["phase"], journal["candidate"]) == ("idle", None)
    assert journal["live"] == {"release": after.release, "colour": after.colour}
    assert f"{APP} {version}: " in run.text


def test_after_all_that_a_deploy_is_as_ever(served: Environment) -> None:
    before: Live = served.live()
    again = served.deploy(before.version).succeeded()
    assert again.recap[HOST].changed == 0
    assert served.live() == before
