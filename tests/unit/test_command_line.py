"""A value of the command line may be a stranger's, such as the name of a tag: it is text, and never run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.controller import ansible

HOSTS = str(Path(__file__).parent / "callback_data/hosts.yml")


@pytest.fixture
def play(tmp_path: Path) -> Path:
    path = tmp_path / "play.yml"
    task = {"name": "Say it", "ansible.builtin.debug": {"msg": "{{ version }} {{ more | default('') }}"}}
    path.write_text(yaml.safe_dump([{"name": "Say", "hosts": "app-1", "gather_facts": False, "tasks": [task]}]))
    return path


@pytest.mark.parametrize(
    "given",
    [
        # What git takes for a tag's name.
        'version={{lookup("pipe","touch>DIRECTORY/run")}}1.0',
        'version={%set-x=lookup("pipe","touch>DIRECTORY/run")%}1.0',
        "version=\\x7b\\x7b1}}",
        '{"version": "{{ 1 }}"}',
        '{"version": "\\u007b\\u007b 1 }}"}',
        '{"version": "1", "more": {"a": ["{{ 1 }}"]}}',
        '{"version": "1", "more": {"{{ 1 }}": 1}}',
        "version=1 more='{{ 1 }}'",
        "version={#1#}",
    ],
)
def test_a_template_in_a_value_is_refused_and_not_run(play: Path, tmp_path: Path, given: str) -> None:
    done = ansible("ansible-playbook", str(play), "-i", HOSTS, "-e", given.replace("DIRECTORY", str(tmp_path)))
    assert done.returncode != 0
    assert "is a template, and this machine would run it. Next: " in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["version=1.0", '{"version": "1.0"}', "version='1.0' more='a { b } c'", "@FILE"])
def test_anything_else_and_a_file_are_taken(play: Path, tmp_path: Path, given: str) -> None:
    file = tmp_path / "values.yml"
    file.write_text('version: "{{ 0.5 * 2 }}"')
    done = ansible("ansible-playbook", str(play), "-i", HOSTS, "-e", given.replace("FILE", str(file)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1.0" in done.stdout
