"""The current Ansible on Debian 13's Python does what this machine's does: units, role tests, releases of a fleet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.control_node import PYTHON, ControlNode, control_node, lab_maker
from tests.e2e.fleet import ROOT, Environment, Lab, app_entry, lab_down
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Stream, Target

PRODUCTION = Path("inventories/production")
HOSTS = ("production-app-1", "production-app-2")
BALANCER = "production-lb-1"
ENTRY = app_entry(PRODUCTION, environment={"UPDATE_MONITOR": "2s"})
LAB = Lab(("1.0.0", "1.1.0"), {"apps": [ENTRY]}, PRODUCTION)
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=10),
    Stream(Kind.GET, Mode.NEW, rate=5),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=3),
    Stream(Kind.WEBSOCKET, concurrency=10),
)
ANSIBLE_CORE = "2.21"
# The role whose tests are the cheapest, as a scenario of another name: this machine may be running the original.
ROLE, SCENARIO = "redis", "second"
pytestmark = pytest.mark.thorough
# Two minutes on an idle machine, and the test itself has half an hour.
MOLECULE_SECONDS = 1500


# Of all unit tests; the time of a playbook is too short for them where other labs are at work.
UNITS_SECONDS = 1500


@pytest.fixture(scope="module")
def node(production: Environment) -> Iterator[ControlNode]:
    """The second control node, on both networks of the lab."""
    with control_node(production, [f"{production.name}-public", f"{production.name}-private"]) as node:
        yield node


def test_it_has_the_current_ansible(node: ControlNode) -> None:
    version = node.run("ansible", "--version").succeeded().output
    assert version.startswith(f"ansible [core {ANSIBLE_CORE}.")
    assert f"python version = {PYTHON}." in version


def test_the_unit_tests_pass(node: ControlNode) -> None:
    run = node.run("pytest", "tests/unit", "-n", "auto", "-m", "not compose", seconds=UNITS_SECONDS).succeeded()
    summary = run.output.splitlines()[-1]
    print(summary)
    assert " passed" in summary
    assert " skipped" not in summary


def test_bare_droplets_become_a_served_fleet(node: ControlNode, production: Environment) -> None:
    assert production.ssh("command -v docker || true; ls /opt") == ""
    run = node.run("ansible-playbook", *production.deploy_arguments("1.0.0")).succeeded()
    print(f"first deploy: {run.seconds:.1f} s")
    assert [production.on(host).live().version for host in HOSTS] == ["1.0.0", "1.0.0"]
    front = production.on(BALANCER)
    assert (front.fetch("/").status, front.fetch("/api/ready").json()["failing"]) == (200, [])
    assert "[DEPRECATION WARNING]" not in run.output


def test_a_second_deploy_changes_nothing(node: ControlNode, production: Environment) -> None:
    before = production.live()
    again = node.run("ansible-playbook", *production.deploy_arguments("1.0.0")).succeeded()
    print(f"second deploy: {again.seconds:.1f} s")
    assert {host: recap.changed for host, recap in again.recap.items() if recap.changed} == {}
    assert production.live() == before


def test_both_control_nodes_see_the_same_environment(node: ControlNode, production: Environment) -> None:
    here = production.deploy("1.0.0").succeeded()
    assert {host: recap.changed for host, recap in here.recap.items() if recap.changed} == {}


def test_a_release_and_a_rollback_cost_nothing(node: ControlNode, production: Environment) -> None:
    front, first = production.on(BALANCER), production.live().release
    plan = Plan(Target(front.url, front.domain, str(front.ca)), STREAMS, seconds=1800)
    with BackgroundLoad(plan) as load:
        release = node.run("ansible-playbook", *production.deploy_arguments("1.1.0")).succeeded()
        assert [production.on(host).live().version for host in HOSTS] == ["1.1.0", "1.1.0"]
        named = ("-e", f"release={first}", "-e", f"approve={first}")
        back = node.run("ansible-playbook", "rollback.yml", *production.inventories, *named).succeeded()
        assert [production.on(host).live().version for host in HOSTS] == ["1.0.0", "1.0.0"]
        result = load.stop()
    print(f"release {release.seconds:.1f} s, rollback {back.seconds:.1f} s\n{result.summary()}")
    assert result.requests > 100
    assert not result.failures, result.summary(shown=20)
    assert "[DEPRECATION WARNING]" not in release.output + back.output


@pytest.fixture(scope="module")
def maker(production: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlNode, Path]]:
    """A control node that runs Molecule, and the directory for the labs that it makes."""
    scratch = tmp_path_factory.mktemp("molecule")
    try:
        with lab_maker(production, scratch) as node:
            yield node, scratch
    finally:
        lab_down(Environment(f"molecule-{ROLE}-{SCENARIO}"))
        shutil.rmtree(scratch, ignore_errors=True)


def test_the_role_tests_of_one_role_pass(maker: tuple[ControlNode, Path]) -> None:
    node, scratch = maker
    role = ROOT / "roles" / ROLE
    node.run("cp", "--recursive", "molecule/default", f"molecule/{SCENARIO}", directory=role).succeeded()
    settings = {"MOLECULE_EPHEMERAL_DIRECTORY": str(scratch), "MOLECULE_COMMAND_BORDERS": "false"}
    command = ["molecule", "test", "--scenario-name", SCENARIO]
    run = node.run(*command, directory=role, environment=settings, seconds=MOLECULE_SECONDS).succeeded()
    print(f"molecule test: {run.seconds:.1f} s")
    assert " passed" in run.output, run.output
