"""The last test: afterwards the neighbour and the host's own servers are gone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import docker

from roles.firewall.molecule.default.tests.reach import Droplet


def test_a_reboot_opens_nothing_for_a_moment(lab: Path, droplet: Droplet) -> None:
    (found,) = json.loads((lab.parent / "lab.json").read_text())["droplets"]
    docker.from_env().containers.get(found["container"]).restart(timeout=60)
    deadline = time.monotonic() + 90
    opened = False
    while not droplet.from_here(droplet.public, 8080):
        # The same container publishes both.
        opened = opened or droplet.from_here(droplet.public, 8081)
        assert time.monotonic() < deadline, "the published port does not come back"
    assert not opened
    assert not droplet.from_here(droplet.public, 8081)
    assert not droplet.from_here(droplet.private, 5432)
    assert droplet.from_here(droplet.public, 22)
