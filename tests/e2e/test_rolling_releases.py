"""Release after release under constant load: no request fails, and none is carried out twice.

FLOTILLA_DEPLOYS says how many releases; `make soak` ships 20.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import pytest

from tests.e2e.fleet import APP, DOMAIN, HOST, STAGING_LAB, Environment, Run, app_entry
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Result, Stream, Target

DEPLOYS = int(os.environ.get("FLOTILLA_DEPLOYS", "4"))
VERSIONS = ("1.1.0", "1.0.0")
REQUESTS_PER_DEPLOY = 1000

# A deploy holds the old colour for the requests in flight: the slow ones end in time, and websockets get their goodbye.
SLOW_SECONDS = 3
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=40),
    Stream(Kind.GET, Mode.KEEPALIVE, rate=10, path="/"),
    Stream(Kind.GET, Mode.NEW, rate=15),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=10),
    Stream(Kind.POST, Mode.NEW, rate=5),
    Stream(Kind.SLOW, Mode.KEEPALIVE, concurrency=2, path=f"/api/slow?seconds={SLOW_SECONDS}", connections=2),
    Stream(Kind.SLOW, Mode.NEW, concurrency=2, path=f"/api/slow?seconds={SLOW_SECONDS}"),
    Stream(Kind.WEBSOCKET, concurrency=3),
)

LAB = STAGING_LAB


@dataclass(frozen=True)
class Rolled:
    """What a series of deploys did, and what the load saw meanwhile."""

    deploys: list[Run]
    colours: list[str]
    load: Result


@pytest.fixture(scope="module")
def rolled(served: Environment) -> Rolled:
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), STREAMS, seconds=3600)
    deploys, colours = [], []
    with BackgroundLoad(plan) as load:
        for version in itertools.islice(itertools.cycle(VERSIONS), DEPLOYS):
            deploys.append(served.deploy(version))
            colours.append(served.live().colour)
        result = load.stop()
    seconds = ", ".join(f"{deploy.seconds:.1f}" for deploy in deploys)
    print(f"\n{len(deploys)} deploys in {seconds} s\n{result.summary()}")
    return Rolled(deploys, colours, result)


def test_every_deploy_succeeds(rolled: Rolled) -> None:
    for deploy in rolled.deploys:
        assert deploy.succeeded().recap[HOST].changed > 0


def test_colours_take_turns(rolled: Rolled) -> None:
    expected = itertools.islice(itertools.cycle(("green", "blue")), DEPLOYS)
    assert rolled.colours == list(expected)


def test_no_request_fails(rolled: Rolled) -> None:
    assert rolled.load.requests >= REQUESTS_PER_DEPLOY * DEPLOYS
    assert not rolled.load.failures, rolled.load.summary(shown=30)


def test_every_release_is_seen_by_the_load(rolled: Rolled) -> None:
    assert len(rolled.load.releases) == DEPLOYS + 1


def test_requests_in_flight_outlast_the_switch(rolled: Rolled) -> None:
    slow = [latency for name, latency in rolled.load.latency.items() if name.startswith("slow")]
    assert len(slow) == 2
    assert all(latency.count >= DEPLOYS for latency in slow)


def test_websockets_are_told_goodbye(rolled: Rolled) -> None:
    assert rolled.load.goodbyes >= DEPLOYS


def test_every_note_is_stored_exactly_once(rolled: Rolled, served: Environment) -> None:
    acknowledged = rolled.load.acknowledged
    assert len(acknowledged) == len(set(acknowledged)) > 0
    stored = served.sql("SELECT id FROM notes")
    assert len(stored) == len(set(stored))
    assert set(acknowledged) == set(stored)


def test_the_old_colour_is_gone(rolled: Rolled, served: Environment) -> None:
    assert list(served.colours()) == [rolled.colours[-1]]


def test_only_the_releases_to_be_kept_are_kept(rolled: Rolled, served: Environment) -> None:
    kept = served.ssh(f"ls /opt/{APP}/releases").split()
    assert len(kept) == min(DEPLOYS + 1, app_entry()["keep_releases"])
