"""A file of tests has a lab, made before its first test and removed after its last.

`staging` and `production` are bare hosts. `served` and `fleet` are provisioned ones on which version 1.0.0 serves: they
come from a snapshot, which is taken when there is none of this very checkout. Files whose `LAB` has the same name share
that snapshot, and take turns.

FLOTILLA_KEEP=1 leaves the labs up, to be looked at: `ssh -F .lab/e2e-<lab>/ssh_config staging-1`.
FLOTILLA_LAB=<name> uses a lab that is up, with its secrets made, and leaves it up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.fleet import INVENTORY, Environment, Lab, lab_down, lab_up, write_lab_overlay
from tests.e2e.serving import VERSION, lab_that_serves, snapshot_key
from tests.lab import snapshots

HERE = Path(__file__).parent
# Of one test with its fixtures: the first one of a file makes the lab, maybe with all its images.
SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.lab)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SECONDS))


def lab_name(module: object, path: Path) -> str:
    """The name of a file's lab without its prefix: what it shares with other files, or its own."""
    lab: Lab = getattr(module, "LAB", Lab())
    return lab.name or path.stem.removeprefix("test_").replace("_", "-")


@pytest.fixture(scope="module")
def staging(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A bare host for inventories/staging. The file's `LAB` says what else it wants."""
    with laboratory(request, tmp_path_factory) as (environment, lab):
        if not os.environ.get("FLOTILLA_LAB"):
            lab_up(environment, lab)
        yield environment


@pytest.fixture(scope="module")
def production(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Bare hosts for inventories/production, seen from the first app host."""
    with laboratory(request, tmp_path_factory) as (environment, lab):
        if not os.environ.get("FLOTILLA_LAB"):
            lab_up(environment, lab)
        yield environment


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The hosts of the file's `LAB` after their first deploy: version 1.0.0 serves."""
    with laboratory(request, tmp_path_factory) as (environment, lab):
        if os.environ.get("FLOTILLA_LAB"):
            environment.deploy(VERSION).succeeded()
        else:
            lab_that_serves(environment, lab)
        yield environment


@contextmanager
def laboratory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Environment, Lab]]:
    """The lab of a file of tests: nothing is there of it yet, and nothing afterwards."""
    lab: Lab = getattr(request.module, "LAB", Lab())
    overlays = write_lab_overlay(tmp_path_factory.mktemp("overlay"), lab)
    running = os.environ.get("FLOTILLA_LAB")
    name = running or f"e2e-{lab_name(request.module, request.path)}"
    environment = Environment(name, overlays, inventory=lab.inventory)
    if lab.inventory != INVENTORY:
        environment = replace(environment.on("production-app-1"), domain="www.example.com")
    if not running:
        lab_down(environment)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FLOTILLA_HOME", str(environment.home))
            yield environment, lab
    finally:
        if not running and not os.environ.get("FLOTILLA_KEEP"):
            lab_down(environment)


@pytest.fixture(scope="module")
def provisioned_facts(request: pytest.FixtureRequest, served: Environment) -> dict[str, list[str]]:
    """What `served` was like when it had been provisioned and deployed to, before its snapshot was taken."""
    snapshot = snapshots.find(snapshot_key(served, request.module.LAB))
    assert snapshot is not None
    found: dict[str, list[str]] = snapshot.facts
    return found
