"""tests/run: what is recorded of a run, and which row of the table its seconds are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.run.jobs import CALLBACKS, ROOT
from tests.run.table import (
    BOOT,
    BUILDING,
    BUILDS,
    CHECK,
    CONVERGE,
    DEPLOYS,
    LAB_PLAYS,
    MOVING,
    OWN,
    PREPARE,
    PROVISIONING,
    PULLS,
    START,
    TEARDOWN,
    VERIFY,
    render,
    rows,
)
from tests.run.times import Record, processors, read, span

TEST = "tests/e2e/test_x.py::test_one"
PLAYBOOK = """
- name: One play
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Wait a little
      ansible.builtin.pause: {seconds: 1}
    - name: Say something
      ansible.builtin.debug: {msg: hello}
"""


def job(name: str, *, timed: bool = True, start: float = 0, end: float = 100, cpu: float | None = 50) -> Record:
    stage = "check" if not timed else name.split()[0]
    return {"kind": "job", "job": name, "stage": stage, "timed": timed, "start": start, "end": end, "cpu": cpu}


def run(job: str, *tasks: tuple[str, str, str, float], start: float = 0, test: str = "", argv: Any = ()) -> Record:
    """An Ansible process that takes a second to start and one to end. tasks: play, role, name, seconds."""
    told: list[Record] = []
    now = start + 1
    for play, role, name, seconds in tasks:
        told.append({"play": play, "role": role, "task": name, "start": now, "end": now + seconds, "cpu": seconds / 2})
        now += seconds
    known = {"kind": "ansible", "job": job, "test": test, "argv": list(argv), "start": start, "end": now + 1}
    return {**known, "cpu": 1 + sum(task["cpu"] for task in told), "tasks": told}


def seconds(*records: Record) -> dict[str, float]:
    return {name: seconds for name, _, seconds, _ in rows(records)}


def test_a_command_that_nothing_is_known_of_is_a_row() -> None:
    assert rows([job("lint", timed=False, end=60)]) == [("lint", 1, 60, 50)]


@pytest.mark.parametrize(
    ("play", "role", "task", "argv", "row"),
    [
        ("The lab", "lab", "lab : Build flotilla-lab/nginx", ["playbooks/lab.yml"], BUILDS),
        ("The lab", "lab", "lab : Fill the registries with what they lack", ["playbooks/lab.yml"], PULLS),
        ("The lab", "lab", "lab : Start the droplets", ["playbooks/lab.yml"], BOOT),
        ("The lab's droplets", "", "Wait until the droplet answers over SSH", ["playbooks/lab.yml"], BOOT),
        ("The lab", "lab", "lab : Remove the containers", ["lab.yml", "-e", "lab_state=absent"], TEARDOWN),
        ("Prepare the hosts", "base", "base : Install", ["deploy.yml"], PROVISIONING),
        ("Check the inputs and the hosts", "preflight", "preflight : Look", ["deploy.yml"], DEPLOYS),
        ("Deploy the apps", "app", "app : Prepare", ["deploy.yml"], DEPLOYS),
        ("Show what serves", "", "Ask", ["playbooks/status.yml"], DEPLOYS),
    ],
)
def test_a_task_of_a_test_has_its_row(play: str, role: str, task: str, argv: list[str], row: str) -> None:
    found = seconds(job("e2e", end=30), run("e2e", (play, role, task, 8), test=TEST, argv=argv))
    assert found == {row: 8, START: 2, OWN: 20}


@pytest.mark.parametrize(
    ("argv", "row"),
    [
        (["/p/tests/lab/molecule/prepare_with_authorities.yml"], PREPARE),
        (["/p/tests/lab/molecule/authorities.yml"], PREPARE),
        (["--check", "/p/tests/lab/molecule/converge.yml"], CHECK),
        (["/p/tests/lab/molecule/converge.yml"], CONVERGE),
    ],
)
def test_a_step_of_a_scenario_has_its_row(argv: list[str], row: str) -> None:
    name = "molecule redis default"
    verified = run(name, ("Converge", "redis", "redis : Again", 5), start=50, test="test_it")
    found = seconds(job(name), run(name, ("Converge", "redis", "redis : Configure", 28), argv=argv), verified)
    assert found == {row: 28, START: 2, VERIFY: 70}


def test_making_the_images_is_building_whatever_does_it() -> None:
    images = run("images", ("The lab", "lab", "lab : Build flotilla-lab/nginx", 8))
    assert seconds(job("images", end=15), images) == {BUILDS: 13, START: 2}


def test_what_the_unit_tests_do_is_theirs() -> None:
    assert seconds(job("units", timed=False), run("units", ("A play", "", "A task", 5))) == {"units": 100}


def test_what_a_test_makes_another_pytest_do_is_not_its_own_time() -> None:
    nested = run("e2e", ("Deploy the apps", "app", "app : Prepare", 8), test="tests/faults/test_faults.py::test_x")
    assert seconds(job("e2e", end=20), nested) == {DEPLOYS: 8, START: 2, OWN: 10}


def test_what_runs_at_once_in_a_test_is_not_its_own_time_twice() -> None:
    task = ("Deploy the apps", "app", "app : Prepare", 8)
    both = [run("e2e", task, start=start, test=TEST) for start in (0, 5)]
    assert seconds(job("e2e", end=20), *both) == {DEPLOYS: 16, START: 4, OWN: 5}


def test_a_span_is_a_row_and_has_what_ansible_did_in_it() -> None:
    restored = {"kind": "span", "job": "e2e", "test": TEST, "name": "snapshot restored", "start": 5, "end": 15}
    inside = run("e2e", ("The lab", "lab", "lab : Start the droplets", 8), start=6, test=TEST)
    assert seconds(job("e2e", end=20), restored, inside) == {"snapshot restored": 10, OWN: 10}


def test_the_processor_is_counted_where_it_is_known() -> None:
    found = rows([job("e2e"), run("e2e", ("Deploy the apps", "app", "x", 8), test=TEST)])
    assert {name: cpu for name, _, _, cpu in found} == {DEPLOYS: 4, START: 1, OWN: 45}
    assert rows([job("lint", timed=False, cpu=None)])[0][3] is None


def test_the_table_has_shares_and_the_clock() -> None:
    table = render([job("lint", timed=False, end=30), job("types", timed=False, start=10, end=20, cpu=None)])
    assert table.splitlines() == [
        "stage  count  seconds   share   CPU s",
        "lint       1     30.0   75.0%    50.0",
        "types      1     10.0   25.0%       -",
        "busy             40.0  100.0%",
        "on the clock: check 0:30.0; together 0:30.0",
    ]


def test_the_table_says_how_busy_the_machine_was() -> None:
    table = render([job("lint", timed=False, end=30), {"kind": "processors", "worked": 45.0, "passed": 60.0}])
    assert table.splitlines()[-1] == "on the clock: check 0:30.0; together 0:30.0, processors 75% busy"


def test_the_processors_work_and_time_passes_for_all_of_them() -> None:
    worked, passed = processors()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    more, later = processors()
    # They are whole hundredths, of which a float's difference may be a little less or more.
    assert 0.2 < round(more - worked, 2) <= round(later - passed, 2)


def test_the_tasks_and_plays_of_the_lab_are_called_what_they_are_here() -> None:
    files = [*ROOT.glob("tests/lab/roles/lab/tasks/*.yml"), ROOT / "tests/lab/lab.yml"]
    text = "\n".join(path.read_text() for path in files)
    assert [name for name in (*BUILDING, *MOVING, *LAB_PLAYS) if f"- name: {name}" not in text] == []


def test_ansible_writes_down_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    ansible(
        "play.yml", tmp_path, FLOTILLA_TIMES=str(tmp_path), FLOTILLA_JOB="e2e", PYTEST_CURRENT_TEST=f"{TEST} (call)"
    )
    (told,) = read(tmp_path)
    assert (told["kind"], told["job"], told["test"], told["argv"][-1]) == ("ansible", "e2e", TEST, "play.yml")
    assert [(task["play"], task["task"]) for task in told["tasks"]] == [
        ("One play", "Wait a little"),
        ("One play", "Say something"),
    ]
    waited, said = told["tasks"]
    assert waited["end"] - waited["start"] > 1 > waited["cpu"]
    assert told["start"] < waited["start"] and waited["end"] <= said["start"] and said["end"] <= told["end"]
    assert said["cpu"] >= 0 and told["cpu"] > 0.1


@pytest.mark.parametrize("settings", [{}, {"FLOTILLA_TIMES": "/nowhere"}])
def test_ansible_writes_nothing_down_unasked(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK.replace("seconds: 1", "seconds: 0"))
    said = ansible("play.yml", tmp_path, **settings)
    assert "hello" in said and "WARNING" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["play.yml"]


def ansible(playbook: str, directory: Path, **settings: str) -> str:
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOTILLA_")}
    environment |= CALLBACKS | {"ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0"} | settings
    done = subprocess.run(
        [program, playbook], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_span_is_recorded_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOTILLA_TIMES", raising=False)
    with span("unseen"):
        pass
    monkeypatch.setenv("FLOTILLA_TIMES", str(tmp_path))
    monkeypatch.setenv("FLOTILLA_JOB", "e2e")
    with pytest.raises(KeyError), span("snapshot taken"):
        raise KeyError
    (told,) = read(tmp_path)
    assert (told["kind"], told["job"], told["name"]) == ("span", "e2e", "snapshot taken")
    assert told["test"].endswith("test_a_span_is_recorded_where_it_is_asked_for")


def test_a_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text(json.dumps(job("lint", end=1)) + "\n" + json.dumps(job("types"))[:20])
    assert [line["job"] for line in read(tmp_path)] == ["lint"]
