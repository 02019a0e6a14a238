"""The callback plugin under real runs of Ansible against this machine, in a pipe and at a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.controller import Done, run

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "callback_data"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SECONDS = re.compile(r" +\d+\.\d(?= s\b)| +\d+\.\d$", re.MULTILINE)


def environment(**changes: str) -> dict[str, str]:
    unset = ("NO_COLOR", "ANSIBLE_NOCOLOR", "ANSIBLE_FORCE_COLOR", "ANSIBLE_STDOUT_CALLBACK")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "TERM": "xterm", "COLUMNS": "100", **changes}


def command(program: str, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name(program)), "-i", str(DATA / "hosts.yml"), *arguments]


def piped(directory: Path, name: str, *arguments: str, **changes: str) -> Done:
    """A playbook whose output goes into a pipe."""
    hosts = ("-i", str(DATA / "hosts.yml"))
    command = ["ansible-playbook", *hosts, str(DATA / name), "-e", f"directory={directory}", *arguments]
    return run(command, environment(**changes), DATA)


def at_a_terminal(directory: Path, name: str, *arguments: str, **changes: str) -> str:
    """What a playbook writes to a terminal."""
    keyboard, screen = pty.openpty()
    with subprocess.Popen(
        command("ansible-playbook", str(DATA / name), "-e", f"directory={directory}", *arguments),
        stdin=screen,
        stdout=screen,
        stderr=screen,
        env=environment(**changes),
        cwd=DATA,
    ) as process:
        os.close(screen)
        parts = []
        while True:
            try:
                part = os.read(keyboard, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            parts.append(part)
        os.close(keyboard)
    assert process.returncode == 0
    return b"".join(parts).decode()


def steady(text: str) -> str:
    """The output without durations."""
    return SECONDS.sub(" N", text)


def test_a_calm_run_in_a_pipe(tmp_path: Path) -> None:
    run = piped(tmp_path, "calm.yml", "-f", "1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert steady(run.stdout) == (
        "\n"
        "Prepare the hosts\n"
        "  web                      app-1     changed N s  2 of 3 tasks\n"
        "  web                      app-2     changed N s  2 of 3 tasks\n"
        "\n"
        "Deploy the apps\n"
        "  notes 1.0.0\n"
        "  tasks                    app-1     changed N s  1 of 2 tasks\n"
        "  tasks                    app-2     ok N s\n"
        "  shop 1.0.0\n"
        "  tasks                    app-1     changed N s  1 of 2 tasks\n"
        "  tasks                    app-2     ok N s\n"
        "\n"
        "host        changed  failed  unreachable   seconds\n"
        "app-1             4       0            0 N\n"
        "app-2             2       0            0 N\n"
        "\n"
        "both apps serve\n"
        "on both hosts\n"
    )


def test_a_check_with_diff_changes_nothing_and_says_what_would(tmp_path: Path) -> None:
    run = piped(tmp_path, "calm.yml", "--check", "--diff", "-f", "1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert not list(tmp_path.iterdir())
    for expected in (
        "Prepare the hosts (check: nothing is changed)",
        "  web: Write the page on app-2: would change\n    --- before\n",
        "\n    +first\n    +second\n",
        "  web                      app-1     would change",
    ):
        assert expected in run.stdout


def test_a_bare_host_is_no_warning_and_others_are_shown(tmp_path: Path) -> None:
    """Ansible makes its directory there, and warns of what Flotilla never does: to become a user who is not root."""
    for callback, warned in (("flotilla", False), ("default", True)):
        (tmp_path / callback).mkdir()
        run = piped(tmp_path / callback, "bare.yml", ANSIBLE_STDOUT_CALLBACK=callback)
        assert run.returncode == 0, run.stdout + run.stderr
        assert (tmp_path / callback / "none").is_dir()
        assert ("remote_tmp" in run.stdout + run.stderr) is warned
        assert "exit 3" in run.stdout + run.stderr


def test_trouble_is_told_in_lines(tmp_path: Path) -> None:
    run = piped(tmp_path, "trouble.yml", "-f", "1")
    assert run.returncode != 0
    for expected in (
        "  unreachable: app-3: Reach the host\n    trouble.yml:6\n",
        "  ignored: app-1: Try and go on\n    trouble.yml:13\n",
        "    exit code: 3\n    command: sh -c echo said; echo cried >&2; exit 3\n    stdout: said\n    stderr: cried\n",
        "  ignored: app-2: the same as app-1\n",
        "  failed: app-2: Try until it is given up\n",
        "  failed: app-1 (bad): Go through a list\n",
    ):
        assert expected in run.stdout
    assert "app-1             0       1            0" in run.stdout
    assert "app-3             0       0            1" in run.stdout
    assert re.match(r"failed after .* s on app-1, app-2, app-3: Reach the host", run.stdout.rstrip().splitlines()[-1])
    assert "never" not in run.stdout
    assert "(good)" not in run.stdout
    assert "[WARNING]" in run.stderr
    assert "\\n" not in run.stdout


@pytest.mark.parametrize(
    ("name", "arguments"), [("calm.yml", ("-vvv",)), ("hidden.yml", ()), ("hidden.yml", ("-vvv",))]
)
def test_what_no_log_hides_stays_hidden(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    run = piped(tmp_path, name, *arguments)
    said = "\n".join(row for row in run.stdout.splitlines() if not row.startswith("<"))
    assert "hunter" not in said
    if name == "hidden.yml":
        assert "failed: app-1: Keep a secret" in said
        assert "no_log" in said


def test_each_task_is_shown_with_v(tmp_path: Path) -> None:
    run = piped(tmp_path, "calm.yml", "-v", "-f", "1")
    assert "  - web: Write the page\n  Write the page           app-1     changed" in run.stdout
    assert "\n      mode: 0600\n" in run.stdout
    assert "      stdout: notes\n" in run.stdout


def test_a_loop_over_delegates_is_told_of_its_host(tmp_path: Path) -> None:
    run = piped(tmp_path, "delegated.yml", "-v")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Ask each of them" in run.stdout
    assert "app-1" in run.stdout
    assert "{{" not in run.stdout


def test_a_terminal_shows_what_runs_and_cleans_up(tmp_path: Path) -> None:
    shown = at_a_terminal(tmp_path, "calm.yml", "-e", "nap=3")
    assert re.search(r"\.\.\. Wait for the server \(web\): app-1, app-2 for [12] s\x1b\[1A", shown)
    assert COLOUR.search(shown)
    # What is left on the screen is what a pipe would have got.
    kept = re.sub(r"\r\x1b\[J\r?\n[^\n]*\x1b\[1A\r", "", shown).replace("\r\x1b[J", "").replace("\r\n", "\n")
    assert "..." not in kept
    assert COLOUR.sub("", kept).endswith("\n\nboth apps serve\non both hosts\n")


@pytest.mark.parametrize("switch", [{"NO_COLOR": "1"}, {"ANSIBLE_NOCOLOR": "1"}])
def test_colours_are_off_where_they_are_not_wanted(tmp_path: Path, switch: dict[str, str]) -> None:
    assert not COLOUR.search(at_a_terminal(tmp_path, "short.yml", **switch))


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    assert "\x1b[1A" not in at_a_terminal(tmp_path, "calm.yml", "-e", "nap=2", TERM="dumb")


def test_colours_can_be_forced_into_a_pipe(tmp_path: Path) -> None:
    run = piped(tmp_path, "short.yml", ANSIBLE_FORCE_COLOR="1")
    assert COLOUR.search(run.stdout)
    assert "\x1b[1A" not in run.stdout


def test_the_default_output_is_one_switch_away(tmp_path: Path) -> None:
    run = piped(tmp_path, "short.yml", ANSIBLE_STDOUT_CALLBACK="default")
    assert "PLAY RECAP" in run.stdout


@pytest.mark.parametrize("settings", [{}, {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"}])
def test_adhoc_commands_go_on_working(settings: dict[str, str]) -> None:
    ping = subprocess.run(
        command("ansible", "app-1", "-m", "ansible.builtin.ping"),
        capture_output=True,
        text=True,
        check=False,
        env=environment(**settings),
    )
    assert ping.returncode == 0, ping.stderr
    assert "pong" in ping.stdout
    assert "app-1" in ping.stdout
