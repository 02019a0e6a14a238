"""A secret is written where it belongs and nowhere on the way there.

Ansible's own modules put what they write into a file of the control node and into one of the login's home on the host
first, and leave both where a run is killed. A module's arguments go through a pipe (`pipelining`) and no file.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {"assemble", "blockinfile", "copy", "get_url", "lineinfile", "replace", "template", "unarchive"}
# Each of them was looked at: what it writes is no secret.
HARMLESS = {
    "roles/app/tasks/drain.yml: Fail the health check of a balancer outside",
    "roles/base/tasks/configure.yml: Let the host know its own name",
    "roles/docker/tasks/configure.yml: Trust the registries' certificate authorities",
    "roles/docker/tasks/configure.yml: Write the engine's configuration",
    "roles/docker/tasks/repository.yml: Add the repository",
    "roles/docker/tasks/repository.yml: Fetch the key of Docker's repository",
    "roles/patch/tasks/drain.yml: Fail the health check of a balancer outside",
    "roles/patch/tasks/drain.yml: Mark that it has begun",
    "roles/postgres/tasks/renew.yml: Name it in the stack's values",
    "roles/postgres/tasks/pooler_renew.yml: Name it in the pooler's values",
}


def tasks(found: Any) -> Iterator[dict[str, Any]]:
    """Every task of a file, those in blocks too."""
    for one in found if isinstance(found, list) else []:
        yield one
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
            yield from tasks(one.get(part))


def writing() -> Iterator[str]:
    files = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")]
    for file in sorted(files):
        for task in tasks(yaml.safe_load(file.read_text())):
            if WRITERS & {str(key).rpartition(".")[2] for key in task}:
                yield f"{file.relative_to(ROOT)}: {task['name']}"


def test_no_secret_is_written_by_way_of_a_temporary_file() -> None:
    assert set(writing()) == HARMLESS


def test_the_arguments_of_modules_go_through_a_pipe() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "ansible.cfg")
    assert config.getboolean("ssh_connection", "pipelining")
