"""Ansible reads the filters of a run once, whatever the number of its tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILTER = """
from pathlib import Path

with Path({log!r}).open("a") as log:
    log.write("read\\n")


class FilterModule:
    def filters(self):
        return {{"same": lambda value: value}}
"""
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - {ansible.builtin.assert: {that: "1 | same == 1", quiet: true}}
    - {ansible.builtin.assert: {that: "2 | same == 2", quiet: true}}
    - {ansible.builtin.assert: {that: "3 | same == 3", quiet: true}}
"""


def test_filters_are_read_once_a_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "counted.py").write_text(FILTER.format(log=str(log)))
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(tmp_path / "playbook.yml")],
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FILTER_PLUGINS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert log.read_text() == "read\n"
