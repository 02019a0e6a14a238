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

LAB = STAGING_LAB
SECONDS = 60.0
# How long the load goes on before and after what it is to notice nothing of.
AROUND_SECONDS = 8.0
REFUSED_SECONDS = 5.0
# Waits for the journal to be in a phase; then, when asked to, kills what works on the app on this host.
WATCHER = """
import glob, json, os, signal, sys, time
phase, victim, app = sys.argv[1:]
deadline = time.monotonic() + 90
while time.monotonic() < deadline:
    try:
        with open(f"/opt/{app}/state.json") as file:
            if json.load(file)["phase"] == phase:
                break
    except (OSError, ValueError):
        pass
    time.sleep(0.005)
else:
    sys.exit(f"the journal was never {phase}")
if victim == "host":
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(path) == f"/run/flotilla/{app}.lock":
                os.kill(int(path.split("/")[2]), signal.SIGKILL)
        except OSError:
            pass
"""
BUSY = "another run works on"
BUSY_SECONDS = 90.0


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
    environment.ssh("systemctl reset-failed docker && systemctl kill --kill-whom=main --signal=KILL docker")
    environment.ssh("sleep 1; timeout 30 sh -c 'until systemctl is-active docker; do sleep 0.5; done'")


def starts(environment: Environment) -> list[str]:
    """When each container was started."""
    return sorted(
        environment.ssh("docker ps -q | xargs docker inspect -f '{{.Name}} {{.State.StartedAt}}'").splitlines()
    )


def is_whole(environment: Environment, live: Live) -> None:
    """Exactly what served before serves, with all its containers and nothing of the other colour."""
    deadline = time.monotonic() + SECONDS
    while (ready := environment.fetch("/api/ready")).status != 200:
        assert time.monotonic() < deadline, ready.body
        time.sleep(0.5)
    assert environment.live_within(SECONDS) == live
    assert list(environment.colours()) == [live.colour]
    states = environment.ssh("docker ps --all --format '{{.Names}} {{.State}}'").splitlines()
    assert [state for state in states if not state.endswith(" running")] == []


@pytest.mark.parametrize("event", [reboot, restart_engine, kill_engine])
def test_the_same_release_serves_again_by_itself(
    served: Environment, colour: str, event: Callable[[Environment], None]
) -> None:
    before, containers = served.live(), served.colours()
    event(served)
    began = time.monotonic()
    assert served.live_within(SECONDS) == before
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
    with BackgroundLoad(Plan(Target(served.url, DOMAIN, str(served.ca)), streams, seconds=120)) as load:
        time.sleep(AROUND_SECONDS)
        event(served)
        time.sleep(AROUND_SECONDS)
        result = load.stop()
    assert starts(served) == before
    # The engine takes its published ports away and brings them back; until then a new connection is refused.
    assert {failure.reason for failure in result.failures} <= {Reason.CONNECT}, result.summary()
    moments = [failure.at for failure in result.failures] or [0.0]
    print(f"{event.__name__} on {colour}: new connections refused for {max(moments) - min(moments):.2f} s")
    assert max(moments) - min(moments) < REFUSED_SECONDS, result.summary()


def test_a_deploy_after_all_that_changes_nothing(served: Environment, colour: str) -> None:
    version = served.live().version
    again = served.deploy(version).succeeded()
    assert [recap.changed for recap in again.recap.values()] == [0]


def cut_short(environment: Environment, version: str, phase: str, victim: str) -> None:
    """Begin a deploy, and kill it (with its work on the host, or without) as soon as the journal is in a phase."""
    with ansible_process("ansible-playbook", *environment.deploy_arguments(version)) as controller:
        environment.python(WATCHER, phase, victim, APP)
        os.killpg(controller.pid, signal.SIGKILL)


def deploy_when_free(environment: Environment, version: str) -> Run:
    """Deploy; while what was begun still works on the host, the refusal must say so."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        run = environment.deploy(version)
        if run.rc == 0 or BUSY not in run.text or time.monotonic() > deadline:
            return run
        time.sleep(1)


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
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), streams, seconds=900, timeout=30)
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
