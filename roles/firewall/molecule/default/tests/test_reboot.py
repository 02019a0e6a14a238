"""The last test: afterwards the neighbour and the host's own servers are gone."""

from __future__ import annotations

import json
from pathlib import Path

import docker

from roles.firewall.molecule.default.tests.reach import Droplet
from tests.lab.waiting import eventually


def test_a_reboot_opens_nothing_for_a_moment(lab: Path, droplet: Droplet) -> None:
    (found,) = json.loads((lab.parent / "lab.json").read_text())["droplets"]
    docker.from_env(timeout=300).containers.get(found["container"]).restart(timeout=60)
    opened = []

    def back() -> bool:
        # The same container publishes both.
        opened.append(droplet.from_here(droplet.public, 8081))
        return droplet.from_here(droplet.public, 8080)

    eventually(back, why="the published port comes back", pause=0.05)
    assert not any(opened)
    assert not droplet.from_here(droplet.public, 8081)
    assert not droplet.from_here(droplet.private, 5432)
    assert droplet.from_here(droplet.public, 22)
