"""Waiting in a lab: for what comes late, and for a deploy to be in a phase."""

from __future__ import annotations

import shlex
import subprocess

from tests.e2e.fleet import APP, Environment
from tests.lab.waiting import GENEROUS_SECONDS, eventually

__all__ = ["GENEROUS_SECONDS", "eventually", "in_phase"]

# Runs on a host. It says when the journal of an app is in a phase; when asked to, it kills what works on the app first.
WATCHER = """
import glob, json, os, signal, sys, time
phase, victim, app, seconds = sys.argv[1:]
deadline = time.monotonic() + float(seconds)
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
print("reached", flush=True)
"""


def in_phase(
    host: Environment, phase: str, *, kill: bool = False, app: str = APP, seconds: float = GENEROUS_SECONDS
) -> None:
    """Return at the moment at which a deploy comes to a phase on a host; fails when it never does.

    kill: kill what works on the app there, first. Nothing comes between the host's word and the caller's next step,
    not the end of a session either: what a test does in a phase is to be done in that phase.
    """
    words = ("python3", "-c", WATCHER, phase, "host" if kill else "", app, f"{seconds:g}")
    with subprocess.Popen(
        host.ssh_command(shlex.join(words)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdout and watcher.stderr
        try:
            said = watcher.stdout.readline()
            assert said.strip() == "reached", f"{host.host}: {watcher.stderr.read()}"
        finally:
            watcher.kill()
