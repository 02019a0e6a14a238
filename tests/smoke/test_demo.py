"""The README's demo, with what it says of it: a version that the lab builds, a line at the end, and nothing left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.fleet import ROOT
from tests.smoke.making import Made, make

NAME = "smoke-demo"
MINE: dict[str, Any] = {"label": f"flotilla.lab={NAME}"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The lab is up until the end of the file."""
    home: Path = tmp_path_factory.mktemp("home")
    ports = ("HTTPS_PORT=0", "HTTP_PORT=0")
    try:
        yield make("demo", f"LAB={NAME}", *ports, "VERSION=1.2.3", FLOTILLA_HOME=str(home))
    finally:
        make("lab-down", f"LAB={NAME}")


def test_it_ends_with_what_serves(demo: Made) -> None:
    last = demo.succeeded().output.rstrip().splitlines()[-1]
    assert re.fullmatch(r"Flotilla demo: https://127\.0\.0\.1:\d+/ serves notes 1\.2\.3", last)


def test_clean_is_refused_while_a_lab_is_up(demo: Made) -> None:
    assert docker.from_env().containers.list(filters=MINE), "with nothing up, it would remove what other labs need"
    made = make("clean", "LAB=smoke-nothing")
    assert made.rc != 0
    assert "Still up: " in made.output
    assert f"{NAME}-registry" in made.output


def test_lab_down_leaves_nothing(demo: Made) -> None:
    make("lab-down", f"LAB={NAME}").succeeded()
    engine = docker.from_env()
    left = [*engine.containers.list(all=True, filters=MINE), *engine.volumes.list(filters=MINE)]
    assert [*left, *engine.networks.list(filters=MINE)] == []
    assert not (ROOT / ".lab" / NAME).exists()
