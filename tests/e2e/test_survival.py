"""What a droplet lives through: a reboot, a restart of its engine, and a controller that dies in a deploy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.fleet import APP, DOMAIN, HOST, STAGING_LAB, Environment, Live, Run, ansible_process, app_entry
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Reason, Stream, Target
from tests.e2e.waiting import GENEROUS_SECONDS, eventually, in_phase

LAB = STAGING_LAB
# How long the load goes on before and after what it is to notice nothing of.
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 8.0
# New connections are refused for so long at most, or, where that took longer, until the engine is back.
REFUSED_SECONDS = 5.0
BUSY = "another run works on"


@pytest.fixture(scope="module", params=["blue", pytest.param("green", marks=pytest.mark.thorough)])
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
    environment.ssh("systemctl reset-failed docker && systemctl restart docker")


def kill_engine(environment: Environment) -> None:
    """Kill the engine; that it comes back is systemd's doing."""
    process = "systemctl show --property=MainPID --value docker"
    before = environment.ssh(process)
    environment.ssh("systemctl reset-failed docker && systemctl kill --kill-whom=main --signal=KILL docker")
    eventually(
        lambda: environment.ssh(f"systemctl is-active --quiet docker && {process}", check=False) not in ("", before),
        why="another engine runs",
    )


def starts(environment: Environment) -> list[str]:
    """When each container was started."""
    return sorted(
        environment.ssh("docker ps -q | xargs docker inspect -f '{{.Name}} {{.State.StartedAt}}'").splitlines()
    )


def is_whole(environment: Environment, live: Live) -> None:
    """Exactly what served before serves, with all its containers and nothing of the other colour."""
    eventually(lambda: environment.fetch("/api/ready").status == 200, why="the app is ready")
    assert environment.live_within(GENEROUS_SECONDS) == live
    assert list(environment.colours()) == [live.colour]
    listed = "docker ps --all --format '{{.Names}} {{.State}}'"
    eventually(
        lambda: all(line.endswith(" running") for line in environment.ssh(listed).splitlines()),
        why=f"all containers run: {listed}",
    )


@pytest.mark.parametrize("event", [reboot, restart_engine, kill_engine])
def test_the_same_release_serves_again_by_itself(
    served: Environment, colour: str, event: Callable[[Environment], None]
) -> None:
    before, containers = served.live(), served.colours()
    event(served)
    began = time.monotonic()
    assert served.live_within(GENEROUS_SECONDS) == before
    print(f"{event.__name__} on {colour}: serves after {time.monotonic() - began:.1f} s")
    is_whole(served, before)
    assert served.colours() == containers


@pytest.mark.parametrize("event", [restart_engine, kill_engine])
def test_an_engine_s_restart_costs_no_connection_and_no_answer(
    served: Environment, colour: str, event: Callable[[Environment], None]
) -> None:
    before = starts(served)
    streams = (
        Stream(Kind.GET, Mode.KEEPALIVE, rate=15),
        Stream(Kind.GET, Mode.NEW, rate=15),
        Stream(Kind.POST, Mode.NEW, rate=5),
    )
    with BackgroundLoad(Plan(Target(served.url, DOMAIN, str(served.ca)), streams, seconds=900)) as load:
        time.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        event(served)
        took = time.monotonic() - began
        time.sleep(AFTER_SECONDS)
        result = load.stop()
    assert starts(served) == before
    # The engine takes its published ports away and brings them back; until then a new connection is refused.
    assert {failure.reason for failure in result.failures} <= {Reason.CONNECT}, result.summary()
    moments = [failure.at for failure in result.failures] or [0.0]
    refused = max(moments) - min(moments)
    print(f"{event.__name__} on {colour}: new connections refused for {refused:.2f} s of {took:.2f} s")
    assert refused < max(REFUSED_SECONDS, took), result.summary()


def test_a_deploy_after_all_that_changes_nothing(served: Environment, colour: str) -> None:
    version = served.live().version
    again = served.deploy(version).succeeded()
    assert [recap.changed for recap in again.recap.values()] == [0]


def cut_short(environment: Environment, version: str, phase: str, victim: str) -> None:
    """Begin a deploy, and kill it (with its work on the host, or without) as soon as the journal is in a phase."""
    with ansible_process("ansible-playbook", *environment.deploy_arguments(version)) as controller:
        in_phase(environment, phase, kill=victim == "host")
        os.killpg(controller.pid, signal.SIGKILL)


def deploy_when_free(environment: Environment, version: str) -> Run:
    """Deploy; while what was begun still works on the host, the refusal must say so."""

    def free() -> Run | None:
        run = environment.deploy(version)
        return run if run.rc == 0 or BUSY not in run.text else None

    return eventually(free, why="what was begun has ended on the host")


@pytest.mark.parametrize(
    ("phase", "victim", "serves"),
    [
        ("preparing", "controller", "old"),
        ("preparing", "host", "old"),
        ("committing", "host", "old or new"),
        ("committed", "controller", "new"),
        ("finishing", "host", "new"),
    ],
)
def test_the_next_run_ends_what_was_cut_short(
    served: Environment, tmp_path: Path, phase: str, victim: str, serves: str
) -> None:
    before = served.live()
    version = {"1.0.0": "1.1.0", "1.1.0": "1.0.0"}[before.version]
    slow = served.over(tmp_path / "slow", {"apps": [app_entry(environment={"REHEARSE": "slow_start:2"})]})
    cut_short(slow, version, phase, victim)

    meanwhile = served.live()
    assert {before: "old"}.get(meanwhile, "new") in serves
    assert meanwhile.version == (before.version if meanwhile == before else version)

    run = deploy_when_free(served, version).succeeded()
    after = served.live()
    assert (after.version, after.host) == (version, HOST)
    assert list(served.colours()) == [after.colour]
    journal = served.journal()
    assert (journal["phase"], journal["candidate"]) == ("idle", None)
    assert journal["live"] == {"release": after.release, "colour": after.colour}
    assert f"{APP} {version}: " in run.text


@pytest.mark.thorough
def test_another_minor_version_without_a_pooler_is_waited_for(served: Environment, tmp_path: Path) -> None:
    """The app tries again what its database did not answer, and so nobody sees the stop."""
    before = served.ssh("docker inspect --format '{{.Id}}' postgres")
    served.ssh("docker build --quiet --tag postgres:17-next -", given="FROM postgres:17\nLABEL another=minor\n")
    newer = served.over(tmp_path / "minor", {"postgres_image": "postgres:17-next"})
    streams = (
        Stream(Kind.GET, Mode.KEEPALIVE, rate=10, path="/api/notes/count"),
        Stream(Kind.POST, Mode.KEEPALIVE, rate=5),
        Stream(Kind.POST, Mode.NEW, rate=5),
    )
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), streams, seconds=1800)
    try:
        with BackgroundLoad(plan) as load:
            newer.playbook("playbooks/provision.yml").succeeded()
            result = load.stop()
        print(f"\n{result.summary()}")
        assert served.ssh("docker inspect --format '{{.Id}}' postgres") != before
        assert result.requests > 300
        assert not result.failures, result.summary(shown=30)
        assert set(result.acknowledged) <= set(served.sql("SELECT id FROM notes"))
    finally:
        served.playbook("playbooks/provision.yml").succeeded()
