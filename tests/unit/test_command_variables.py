"""No argument of a command has a `$name`: `ansible.builtin.command` puts the environment's variables in their places.

A template of Docker's, `{{ range $name, $_ := … }}`, failed where root's shell had left `_` in the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# What os.path.expandvars would read as a variable that may be there; `$1` is none.
VARIABLE = re.compile(r"\$(\{|[A-Za-z_])")


def commands(found: Any) -> Iterator[Any]:
    """The arguments of each command in tasks or plays, but for standard input, and where variables are left alone."""
    if isinstance(found, list):
        for one in found:
            yield from commands(one)
    elif isinstance(found, dict):
        for key, value in found.items():
            if key == "ansible.builtin.command" and isinstance(value, dict):
                if value.get("expand_argument_vars") is not False:
                    yield {name: one for name, one in value.items() if name != "stdin"}
            elif key == "ansible.builtin.command":
                yield value
            else:
                yield from commands(value)


def test_no_command_has_variables_that_the_environment_may_change() -> None:
    files = [
        path for top in ("roles", "playbooks") for path in (ROOT / top).rglob("*.yml") if "molecule" not in path.parts
    ]
    found = [(path.relative_to(ROOT), one) for path in files for one in commands(yaml.safe_load(path.read_text()))]
    assert len(found) > 50
    assert [(str(path), one) for path, one in found if VARIABLE.search(str(one))] == []


@pytest.mark.parametrize("text", ["{argv: [docker, '{{ range $name, $_ := . }}']}", "echo ${HOME}"])
def test_a_new_place_is_found(text: str) -> None:
    task = yaml.safe_load(f"- block:\n    - ansible.builtin.command: {text!s}")
    assert [VARIABLE.search(str(one)) is not None for one in commands(task)] == [True]
