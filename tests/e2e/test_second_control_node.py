"""The current Ansible on Debian 13's Python does what the one of this machine does: units, role tests, a deploy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.control_node import PYTHON, ControlNode, control_node, lab_maker
from tests.e2e.fleet import HOST, ROOT, Environment, Lab, lab_down

LAB = Lab(versions=("1.0.0",))
ANSIBLE_CORE = "2.21"
# The role whose tests are the cheapest, as a scenario of another name: this machine may be running the original.
ROLE, SCENARIO = "redis", "second"
# Two minutes on an idle machine; a busy one may take three times as long.
MOLECULE_SECONDS = 840


@pytest.fixture(scope="module")
def node(staging: Environment) -> Iterator[ControlNode]:
    """The second control node, on both networks of the lab."""
    with control_node(staging, [f"{staging.name}-public", f"{staging.name}-private"]) as node:
        yield node


def test_it_has_the_current_ansible(node: ControlNode) -> None:
    version = node.run("ansible", "--version").succeeded().output
    assert version.startswith(f"ansible [core {ANSIBLE_CORE}.")
    assert f"python version = {PYTHON}." in version


def test_the_unit_tests_pass(node: ControlNode) -> None:
    run = node.run("pytest", "tests/unit", "-n", "auto", "-m", "not compose").succeeded()
    summary = run.output.splitlines()[-1]
    print(summary)
    assert " passed" in summary
    assert " skipped" not in summary


def test_a_bare_droplet_becomes_a_served_stack(node: ControlNode, staging: Environment) -> None:
    assert staging.ssh("command -v docker || true; ls /opt") == ""
    run = node.run("ansible-playbook", *staging.deploy_arguments()).succeeded()
    print(f"first deploy: {run.seconds:.1f} s")
    live = staging.live()
    assert (live.version, live.colour, live.host) == ("1.0.0", "blue", HOST)
    assert (staging.fetch("/").status, staging.fetch("/api/ready").json()["failing"]) == (200, [])
    assert "[DEPRECATION WARNING]" not in run.output


def test_a_second_deploy_changes_nothing(node: ControlNode, staging: Environment) -> None:
    before = staging.live()
    again = node.run("ansible-playbook", *staging.deploy_arguments()).succeeded()
    print(f"second deploy: {again.seconds:.1f} s")
    assert {host: recap.changed for host, recap in again.recap.items()} == {HOST: 0}
    assert staging.live() == before


def test_both_control_nodes_see_the_same_environment(node: ControlNode, staging: Environment) -> None:
    here = staging.deploy().succeeded()
    assert {host: recap.changed for host, recap in here.recap.items()} == {HOST: 0}


@pytest.fixture(scope="module")
def maker(staging: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlNode, Path]]:
    """A control node that runs Molecule, and the directory for the labs that it makes."""
    scratch = tmp_path_factory.mktemp("molecule")
    try:
        with lab_maker(staging, scratch) as node:
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
