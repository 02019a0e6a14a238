"""One file of tests, one lab: it is made before the first test of the file and removed after the last.

FLOTILLA_KEEP=1 leaves the labs up, to be looked at: `ssh -F .lab/e2e-<file>/ssh_config staging-1`.
FLOTILLA_LAB=<name> uses a lab that is up, with its secrets made, and leaves it up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.fleet import Environment, Lab, lab_down, lab_up, write_lab_overlay

HERE = Path(__file__).parent
# Of one test with its fixtures: the first one of a file makes the lab, maybe with all its images.
SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.lab)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="module")
def staging(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A bare droplet for the hosts of inventories/staging. The file's `LAB` says what else it wants."""
    with laboratory(request, tmp_path_factory) as environment:
        yield environment


@pytest.fixture(scope="module")
def production(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Bare droplets for the hosts of inventories/production, seen from the first app host."""
    with laboratory(request, tmp_path_factory) as environment:
        yield replace(environment.on("production-app-1"), domain="www.example.com")


@contextmanager
def laboratory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The lab of a file of tests."""
    lab: Lab = getattr(request.module, "LAB", Lab())
    stem = request.path.stem.removeprefix("test_").replace("_", "-")
    overlays = write_lab_overlay(tmp_path_factory.mktemp("overlay"), lab)
    environment = Environment(f"e2e-{stem}", overlays, inventory=lab.inventory)
    running = os.environ.get("FLOTILLA_LAB")
    if running:
        environment = replace(environment, name=running)
    else:
        lab_down(environment)
    try:
        if not running:
            lab_up(environment, lab)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FLOTILLA_HOME", str(environment.home))
            yield environment
    finally:
        if not running and not os.environ.get("FLOTILLA_KEEP"):
            lab_down(environment)


@pytest.fixture(scope="module")
def served(staging: Environment) -> Environment:
    """The droplet after its first deploy: version 1.0.0 serves."""
    staging.deploy("1.0.0").succeeded()
    return staging
