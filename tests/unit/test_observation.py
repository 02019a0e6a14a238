"""Where in the edge's log a release's watch begins and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flotilla import observation
from flotilla.journal import Colour, Slot
from flotilla.observation import Observation
from flotilla.site import PhaseError


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Observation:
    monkeypatch.setattr(observation, "RUNTIME", tmp_path)
    (tmp_path / "logs").mkdir()
    site: Any = SimpleNamespace(settings=SimpleNamespace(edge=tmp_path, name="notes"))
    return Observation(site, Slot("r2", Colour.GREEN), cast(Any, None))


def answer(seen: Observation, status: int) -> None:
    with seen.log.open("a") as log:
        log.write(json.dumps({"app": "notes", "status": status, "target": "notes-router-green"}) + "\n")


def statuses(lines: list[str]) -> list[int]:
    return [json.loads(line)["status"] for line in lines]


def test_a_watch_begins_where_it_was_told_to(seen: Observation) -> None:
    answer(seen, 502)
    log = seen.from_here()
    answer(seen, 200)
    assert statuses(log.lines()) == [200]


def test_what_came_before_the_switch_is_not_in_a_watch_that_begins_later(seen: Observation) -> None:
    """A `stop-first` commit watches nothing: the watch after it goes on from its switch, not from an older deploy's."""
    seen.from_here()
    answer(seen, 503)
    seen.from_here()
    answer(seen, 200)
    assert statuses(seen.last_place().lines()) == [200]


def test_a_place_that_is_lost_is_the_end(seen: Observation) -> None:
    answer(seen, 502)
    assert seen.last_place().lines() == []


# -- a release that died between its prepare and its commit ------------------------------------------------

WELL = {"State": {"Status": "running", "Health": {"Status": "healthy"}}, "RestartCount": 0}
CRASHED = {"State": {"Status": "running", "ExitCode": 3, "Health": {"Status": "starting"}}, "RestartCount": 1}


def candidate(**containers: dict[str, Any]) -> Observation:
    """A release with a service `api` and a worker, whose containers are as inspected."""
    labelled = [{**one, "Config": {"Labels": {"com.docker.compose.service": name}}} for name, one in containers.items()]
    colour = SimpleNamespace(containers=lambda: labelled, explain=lambda _, reasons: str(reasons))
    services = {"start_with_colour": ["api"], "start_at_commit": ["worker"], "one_shots": []}
    site: Any = SimpleNamespace(colour=lambda _: colour)
    return Observation(site, Slot("r2", Colour.GREEN), cast(Any, SimpleNamespace(services=services)))


def test_a_release_that_is_well_may_have_traffic_before_its_workers_run() -> None:
    candidate(api=WELL).check()


@pytest.mark.parametrize(
    ("containers", "says"), [({"api": CRASHED}, "restarted 1 time"), ({}, "its container is gone")]
)
def test_a_release_that_died_since_it_was_ready_gets_none(containers: dict[str, dict[str, Any]], says: str) -> None:
    with pytest.raises(PhaseError, match=says):
        candidate(**containers).check()
