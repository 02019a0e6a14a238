"""What the droplet lives through: a reboot, and a restart of its engine, in each colour."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.fleet import DOMAIN, Environment, Live
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Stream, Target

SECONDS = 120.0


@pytest.fixture(scope="module", params=["blue", "green"])
def colour(request: pytest.FixtureRequest, served: Environment) -> str:
    """The colour that serves: the first deploy's, and then the second one's."""
    wanted: str = request.param
    if served.live().colour != wanted:
        served.deploy("1.1.0").succeeded()
    assert served.live().colour == wanted
    return wanted


def reboot(environment: Environment) -> None:
    environment.reboot()


def restart_engine(environment: Environment) -> None:
    environment.ssh("systemctl restart docker.service")


def kill_engine(environment: Environment) -> None:
    environment.ssh("systemctl kill --signal=KILL docker.service && sleep 1 && systemctl start docker.service")


def is_whole(environment: Environment, live: Live) -> None:
    """Exactly what served before serves, with all its containers and nothing of the other colour."""
    deadline = time.monotonic() + SECONDS
    while environment.fetch("/api/ready").status != 200:
        assert time.monotonic() < deadline, environment.fetch("/api/ready").body
        time.sleep(0.5)
    assert environment.live() == live
    colours = environment.colours()
    assert list(colours) == [live.colour]
    states = environment.ssh("docker ps --all --format '{{.Names}} {{.State}}'").splitlines()
    assert [state for state in states if not state.endswith(" running")] == []


@pytest.mark.parametrize("event", [reboot, restart_engine, kill_engine])
def test_the_same_release_serves_again_by_itself(
    served: Environment, colour: str, event: Callable[[Environment], None]
) -> None:
    before, containers = served.live(), served.colours()
    event(served)
    assert served.live_within(SECONDS) == before
    is_whole(served, before)
    assert served.colours() == containers


def test_a_restart_of_the_engine_costs_no_request(served: Environment, colour: str) -> None:
    plan = Plan(
        Target(served.url, DOMAIN, str(served.ca)),
        (Stream(Kind.GET, Mode.KEEPALIVE, rate=20), Stream(Kind.GET, Mode.NEW, rate=10)),
        seconds=SECONDS,
    )
    served.ssh("systemctl reset-failed docker.service")
    with BackgroundLoad(plan) as load:
        restart_engine(served)
        time.sleep(2)
        result = load.stop()
    assert result.passed, result.summary()


def test_a_deploy_after_all_that_changes_nothing(served: Environment, colour: str) -> None:
    version = served.live().version
    again = served.deploy(version).succeeded()
    assert [recap.changed for recap in again.recap.values()] == [0]
