"""Labs on which the sample app serves, from snapshots where there are any."""

from __future__ import annotations

import json
from dataclasses import asdict

from tests.e2e.facts import facts
from tests.e2e.fleet import Environment, Lab, lab_up
from tests.lab import snapshots
from tests.run.times import span

VERSION = "1.0.0"
AWAKE_SECONDS = 120


def lab_that_serves(environment: Environment, lab: Lab) -> None:
    """Provision the lab and deploy to it, or restore the snapshot of one that was; one of a name gets one now."""
    if not lab.name:
        lab_up(environment, lab)
        environment.deploy(VERSION).succeeded()
        return
    key = snapshot_key(environment, lab)
    if not snapshots.find(key):
        lab_up(environment, lab, packages=True)
        environment.deploy(VERSION).succeeded()
        with span("snapshots taken"):
            snapshots.take(key, environment.name, environment.directory, facts(environment))
    snapshot = snapshots.find(key)
    assert snapshot is not None, f"the snapshot {key} is not there"
    with span("snapshots restored"):
        snapshots.restore(snapshot, environment.directory)
        environment.live_within(AWAKE_SECONDS)


def snapshot_key(environment: Environment, lab: Lab) -> str:
    """The key of the snapshot that a lab starts from."""
    wanted = json.dumps([asdict(lab), VERSION], sort_keys=True, default=str)
    return snapshots.key_of(environment.name, snapshots.index_of(environment.name), wanted)
