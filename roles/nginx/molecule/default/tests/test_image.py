"""Which image the edge runs, where the inventory names it with its digest."""

from __future__ import annotations

import os
from pathlib import Path

from testinfra.host import Host

from tests.lab.scenario import converge

SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", Path(__file__).parents[1]))


def test_a_digest_is_a_pin(host: Host) -> None:
    running = "docker inspect --format '{{.Config.Image}} {{.Image}}' nginx-nginx-1"
    image, build = host.check_output(running).split()
    digest = host.check_output(f"docker image inspect --format '{{{{index .RepoDigests 0}}}}' {image}").partition("@")[
        2
    ]
    converge(SCENARIO, nginx_image=f"{image}@{digest}")
    assert host.check_output(running).split() == [f"{image}@{digest}", build]
    converge(SCENARIO)
    assert host.check_output(running).split() == [image, build]
