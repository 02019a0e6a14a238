"""Hooks: what is wrong with them, what they are told, and what becomes of the commands that they run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from flotilla import hooks
from flotilla.apps import check_apps, with_defaults

from tests.unit.controller import ansible

ROOT = Path(__file__).resolve().parents[2]
NOTES: dict[str, Any] = {
    "name": "notes",
    "source": "compose/app",
    "routes": [{"path": "/", "service": "ui", "port": 8080}],
}
CONTEXT = {"app": {"name": "notes", "version": "1.1.0"}, "action": "deploy", "hosts": ["app-1", "app-2"]}
PLAN = {"release": "20250101T120000Z-1.1.0", "version": "1.1.0"}
RUN = {"actor": "mia@laptop", "approved_by": ""}


def problems(*entries: Any, point: str = "before_deploy") -> list[str]:
    app = {**NOTES, "hooks": {point: list(entries)}}
    wrong = check_apps([app], lambda name: "apps.yml")
    return [
        str(problem)
        for problem in wrong
        or hooks.hook_problems(app, lambda name: "apps.yml", lambda file: file == "hooks/there.yml")
    ]


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "echo"},
        {"command": "echo", "where": "host", "timeout_seconds": 5},
        {"tasks": "hooks/there.yml"},
    ],
)
def test_good_hooks_have_no_problem(entry: dict[str, Any]) -> None:
    assert problems(entry) == []


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("echo", "apps[notes].hooks.before_deploy[0]: is not a mapping"),
        (
            {"comand": "echo"},
            "hooks.before_deploy[0].comand: is not a key that is known here (did you mean `command`?)",
        ),
        ({"command": "echo", "where": "moon"}, "hooks.before_deploy[0].where: `moon` is not allowed here"),
        ({"command": "echo", "timeout_seconds": 0}, "timeout_seconds: is 0, less than 1"),
        ({}, "hooks.before_deploy[0]: has neither a command nor tasks"),
        ({"command": "echo", "tasks": "hooks/there.yml"}, "has both a command and tasks"),
        ({"command": "  "}, "hooks.before_deploy[0].command: is empty"),
        ({"tasks": "hooks/away.yml"}, "hooks.before_deploy[0].tasks: there is no file hooks/away.yml"),
        ({"tasks": "../secret.yml"}, "`../secret.yml` is not a .yml file of the project"),
        ({"tasks": "/etc/x.yml"}, "`/etc/x.yml` is not a .yml file of the project"),
        ({"tasks": "hooks/there.yml", "where": "host"}, "hooks.before_deploy[0].where: is for a command"),
    ],
)
def test_each_wrong_hook_is_told_with_its_place(entry: Any, expected: str) -> None:
    (problem,) = problems(entry)
    assert problem.startswith("apps.yml: ")
    assert expected in problem


def test_a_point_that_does_not_exist_is_refused() -> None:
    (problem,) = problems({"command": "echo"}, point="before_deplyo")
    assert "(did you mean `before_deploy`?)" in problem


def test_every_point_has_a_list_after_defaults() -> None:
    filled = with_defaults({**NOTES, "hooks": {"on_failure": [{"command": "echo"}]}})
    assert filled["hooks"] == {
        "before_deploy": [],
        "after_deploy": [],
        "on_failure": [{"command": "echo", "where": "controller", "timeout_seconds": 60}],
        "on_rollback": [],
    }


def test_what_a_hook_is_told() -> None:
    outcome = {"outcome": "reverted", "migration": "applied", "line": "notes 1.1.0: reverted", "explanation": "a\nb"}
    told = hooks.environment(hooks.facts(CONTEXT, PLAN, RUN, "staging", outcome))
    assert told == {
        "FLOTILLA_HOOK": "",
        "FLOTILLA_APP": "notes",
        "FLOTILLA_VERSION": "1.1.0",
        "FLOTILLA_RELEASE": "20250101T120000Z-1.1.0",
        "FLOTILLA_ENVIRONMENT": "staging",
        "FLOTILLA_ACTION": "deploy",
        "FLOTILLA_ACTOR": "mia@laptop",
        "FLOTILLA_APPROVED_BY": "",
        "FLOTILLA_HOSTS": "app-1,app-2",
        "FLOTILLA_OUTCOME": "reverted",
        "FLOTILLA_MIGRATION": "applied",
        "FLOTILLA_LINE": "notes 1.1.0: reverted",
        "FLOTILLA_EXPLANATION": "a\nb",
    }


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        ({"ok": False, "purpose": "deploy notes", "hook": "after_deploy"}, True),
        ({"ok": True, "purpose": "deploy notes", "hook": "after_deploy"}, False),
        ({"ok": False, "purpose": "deploy shop", "hook": "after_deploy"}, False),
        ({"ok": False, "purpose": "deploy notes", "hook": "before_deploy"}, False),
        ({}, False),
    ],
)
def test_a_failed_hook_stops_those_after_it_at_the_same_point(earlier: dict[str, Any], expected: bool) -> None:
    assert hooks.failed_before(earlier, "deploy notes", "after_deploy") is expected


# Log lines that a release leaves so that nobody hears of its failure.
@pytest.mark.parametrize("where", ["controller", "host"])
@pytest.mark.parametrize(
    "logged",
    ["a\0b", "x" * 200_000, "\ud800", "'" * 20_000, "\x1b[2J"],
    ids=["nul", "long", "half a pair", "quotes", "escape"],
)
def test_no_text_of_a_release_keeps_its_hook_from_running(tmp_path: Path, where: str, logged: str) -> None:
    log, outcome = tmp_path / "log", {"explanation": f"app-1: {logged}", "line": f"refused {logged}"}
    command = f'echo "$FLOTILLA_EXPLANATION" > {log}'
    results, _ = play(tmp_path, "on_failure", {"command": command, "where": where}, outcome=outcome)
    assert [one["ok"] for one in results] == [True]
    assert log.read_text().startswith("app-1: ") and log.read_text() != "app-1: \n"
    assert not {"\0", "\x1b"} & set(log.read_text())


def test_no_command_line_of_a_host_has_what_a_hook_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = f'cat /proc/[0-9]*/cmdline > {log}; echo "$FLOTILLA_EXPLANATION" >> {log}'
    play(tmp_path, "on_failure", {"command": command, "where": "host"}, outcome={"explanation": "a line of its log"})
    assert log.read_bytes().count(b"a line of its log") == 1


def play(directory: Path, hook: str, *entries: dict[str, Any], outcome: Any = None) -> tuple[list[dict[str, Any]], str]:
    """Run the hooks of a point one after the other as the role does; their results, and what Ansible printed."""
    role = ROOT / "roles/app/tasks"
    tasks = [
        {
            "name": "Run the hooks",
            "ansible.builtin.include_tasks": str(role / "hook.yml"),
            "vars": {"app_hook": hook, "app_hook_facts": hooks.facts(CONTEXT, PLAN, RUN, "staging", outcome)},
        },
        {
            "name": "Write down what came of them",
            "ansible.builtin.copy": {
                "content": "{{ app_hooked | to_json }}",
                "dest": f"{directory}/{{{{ inventory_hostname }}}}",
                "mode": "0600",
            },
            "when": "app_hooked is defined",
        },
    ]
    variables = {
        "app_entry": {
            "name": "notes",
            "hooks": {hook: [{"where": "controller", "timeout_seconds": 60} | e for e in entries]},
        },
        "__app_hosts": ["app-1", "app-2"],
        "__app_purpose": "deploy notes 1.1.0",
    }
    book = [{"name": "Hooks", "hosts": "app-1,app-2", "gather_facts": False, "vars": variables, "tasks": tasks}]
    (directory / "playbooks").mkdir()
    (directory / "playbooks/play.yml").write_text(yaml.safe_dump(book))
    hosts = Path(__file__).parent / "callback_data/hosts.yml"
    done = ansible("ansible-playbook", str(directory / "playbooks/play.yml"), "-i", str(hosts), INHERITED="yes")
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(directory.glob("app-*"))
    return [yaml.safe_load(file.read_text()) for file in files], done.stdout + done.stderr


def test_commands_run_once_and_in_order_with_the_facts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    results, said = play(
        tmp_path,
        "after_deploy",
        {"command": f'echo "controller $FLOTILLA_HOOK $FLOTILLA_VERSION $INHERITED $PWD" >> {log}'},
        {"command": f'echo "host $FLOTILLA_RELEASE $FLOTILLA_HOSTS" >> {log}', "where": "host"},
    )
    assert log.read_text().splitlines() == [
        f"controller after_deploy 1.1.0 yes {ROOT}",
        "host 20250101T120000Z-1.1.0 app-1,app-2",
    ]
    assert results[0]["ok"] is True
    assert "Run hook after_deploy    app-1     ok" in said


def test_a_command_that_fails_is_a_value_and_the_last(tmp_path: Path) -> None:
    results, said = play(
        tmp_path,
        "before_deploy",
        {"command": "echo because >&2; exit 3"},
        {"command": f"touch {tmp_path}/never"},
        {"tasks": "tests/unit/callback_data/each.yml"},
    )
    assert results[0]["ok"] is False
    assert results[0]["explanation"] == (
        "the hook before_deploy ended with 3 on the controller: echo because >&2; exit 3\n  because"
    )
    assert not (tmp_path / "never").exists()
    assert "[WARNING]" not in said
    assert "ignored:" not in said
    assert "Call a module" not in said


@pytest.mark.parametrize("where", ["controller", "host"])
def test_a_command_that_hangs_is_killed_and_warned_of(tmp_path: Path, where: str) -> None:
    began = time.monotonic()
    results, said = play(
        tmp_path, "after_deploy", {"command": "sleep 300 & sleep 300", "where": where, "timeout_seconds": 1}
    )
    assert time.monotonic() - began < 60
    assert results[0]["ok"] is False
    assert "its time limit is 1 s" in results[0]["explanation"]
    assert "[WARNING]" in said


def test_a_task_file_runs_with_the_facts_and_its_failure_is_a_value(tmp_path: Path) -> None:
    (tmp_path / "good.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "name": "Write what is told",
                    "ansible.builtin.copy": {
                        "content": "{{ hook.hook }} {{ hook.version }}",
                        "dest": str(tmp_path / "told"),
                        "mode": "0600",
                    },
                }
            ]
        )
    )
    (tmp_path / "bad.yml").write_text(
        yaml.safe_dump([{"name": "Break", "ansible.builtin.fail": {"msg": "no money left"}}])
    )
    results, _ = play(tmp_path, "on_failure", {"tasks": "good.yml"}, {"tasks": "bad.yml"}, {"command": "touch never"})
    assert (tmp_path / "told").read_text() == "on_failure 1.1.0"
    assert results[0]["ok"] is False
    assert results[0]["explanation"] == "the hook on_failure failed in bad.yml: no money left"
