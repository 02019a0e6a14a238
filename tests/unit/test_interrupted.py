"""A run that Ctrl-C or a CI job's SIGTERM ends says so last, with what serves and what becomes of the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOSTS = Path(__file__).parent / "callback_data/hosts.yml"
# What the module says of a host, without a host.
PHASE = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"phase": {"type": "str"}})
module.exit_json(ok=True, purpose="deploy notes 1.1.0", serves={"version": "1.0.0", "colour": "blue"})
"""
WAIT: dict[str, Any] = {
    "name": "Wait",
    "ansible.builtin.command": "sh -c 'touch {{ directory }}/waits && exec sleep 100'",
}
ADMIT: dict[str, Any] = {"name": "Admit", "flotilla_release": {"phase": "admit"}}
LOCK = "a lock that it still holds is taken over by the next run from this machine, or removed by playbooks/unlock.yml"


def interrupted(directory: Path, name: str, tasks: list[dict[str, Any]], number: signal.Signals) -> tuple[int, str]:
    """The exit status and the last line of a playbook that gets a signal in its last task."""
    (directory / "library").mkdir()
    (directory / "library/flotilla_release.py").write_text(PHASE)
    play = {"name": "Deploy", "hosts": "app-1,app-2", "gather_facts": False, "tasks": tasks}
    (directory / name).write_text(yaml.safe_dump([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(HOSTS), str(directory / name)]
    with subprocess.Popen(
        [*command, "-e", f"directory={directory}"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        until = time.monotonic() + 100
        while not (directory / "waits").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    return process.returncode, said.rstrip().splitlines()[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 99), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("verb", ["deploy", "rollback", "restart"])
def test_what_serves_and_the_lock_are_told(tmp_path: Path, verb: str, number: signal.Signals, code: int) -> None:
    last = (
        f"{verb}: interrupted; by what the hosts said last, notes 1.0.0 serves on app-1 (blue), app-2 (blue); {LOCK}. "
        "Next: the same command again, which ends what was begun"
    )
    assert interrupted(tmp_path, f"{verb}.yml", [ADMIT, WAIT], number) == (code, last)


def test_only_a_run_about_a_release_takes_a_dead_ones_lock(tmp_path: Path) -> None:
    code, last = interrupted(tmp_path, "rotate.yml", [ADMIT, WAIT], signal.SIGTERM)
    lock = "a lock that it still holds ends with its time, or is removed by playbooks/unlock.yml"
    assert (code, last.endswith(f"; {lock}. Next: the same command again")) == (143, True)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("deploy.yml", "deploy: interrupted, no traffic moved and no lock was taken. Next: the same command again"),
        ("status.yml", "status: interrupted. Next: the same command again"),
    ],
)
def test_before_anything_was_begun(tmp_path: Path, name: str, last: str) -> None:
    assert interrupted(tmp_path, name, [WAIT], signal.SIGTERM) == (143, last)
