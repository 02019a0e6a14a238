# MIT License, see LICENSE at the root of the project.
"""No variables: it refuses what the command line must not say, before anything could act on it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.inventory.group import Group
from ansible.inventory.manager import InventoryManager
from ansible.parsing.splitter import parse_kv
from ansible.parsing.utils.yaml import from_yaml
from ansible.plugins.vars import BaseVarsPlugin

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.problem import Problem, did_you_mean, nearest
from flotilla.terminal import visible

DOCUMENTATION = r"""
name: flotilla_command_line
short_description: Refuses templates, and inventories that cannot be read or name nothing
description:
  - An inventory that is not there, or that has no host, and a limit that no host is in, are refused by Flotilla's
    playbooks. To Ansible they are a run with nothing to do, which ends well.
  - A file of an inventory that is not YAML is refused with its name and line, which Ansible does not say of variables.
  - Ansible works out C({{ … }}) in what C(-e) gives, on this machine and with the vault at hand. C(-e version=$TAG)
    would run what somebody has called a tag. Such a value is refused; a file (C(-e @file)) may have templates.
options:
  stage:
    description: When it looks; as soon as the inventory is read, and again before tasks.
    type: str
    default: all
author:
  - Flotilla contributors (@flotilla)
"""

# Jinja's own, which Ansible cannot be told to change for the command line.
OPENING = ("{{", "{%", "{#")
ROOT = Path(__file__).resolve().parents[2]
# It takes labs down, also when no environment is named.
WITHOUT_INVENTORY = ROOT / "playbooks/lab.yml"


class RefusedError(AnsibleError):
    """The exit status of a refused deploy."""

    _exit_code = 2


class VarsModule(BaseVarsPlugin):
    """Asked for the group `all` as soon as the inventory is read."""

    REQUIRES_ENABLED = True
    is_stateless = True

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Nothing. Raises AnsibleError."""
        for name in (name for given in context.CLIARGS.get("extra_vars") or () for name in templates(given)):
            raise RefusedError(
                f"command line: {visible(name)}: is a template, and this machine would run it. "
                "Next: see where the value is from; what is meant as one stands in a file: -e @<file>"
            )
        for entity in entities if isinstance(entities, list) else [entities]:
            if isinstance(entity, Group) and entity.name == "all" and (problem := named_nothing(loader, entity)):
                raise RefusedError(visible(str(problem)))
        return {}


_looked: list[None] = []


def named_nothing(loader: Any, everything: Group) -> Problem | None:
    """What is wrong with `-i` or `--limit`, once a process. everything: the group `all`, all inventories being read."""
    playbooks = [Path(path).resolve() for path in context.CLIARGS.get("args") or () if str(path).endswith(".yml")]
    if _looked or not any(path.parent in (ROOT, ROOT / "playbooks") for path in playbooks):
        return None
    _looked.append(None)
    given = [str(source) for source in context.CLIARGS.get("inventory") or ()]
    # ansible-lint, say, has the syntax checked without a host.
    wants_none = playbooks == [WITHOUT_INVENTORY] or context.CLIARGS.get("syntax")
    if given == list(constants.DEFAULT_HOST_LIST) and wants_none:
        return None
    hosts = {host.name: host for host in everything.get_hosts()}
    return (
        of_files(given)
        or of_inventories(given, hosts)
        or of_limit(context.CLIARGS.get("subset"), loader, everything, hosts)
    )


def of_files(given: Iterable[str]) -> Problem | None:
    """The first file of the inventories that is not YAML. Only its form is looked at: that takes milliseconds."""
    for source in map(Path, given):
        within = [source.glob("*"), *(source.glob(f"{name}/**/*") for name in ("group_vars", "host_vars"))]
        for file in sorted(path for paths in within for path in paths if path.suffix in (".yml", ".yaml")):
            try:
                for _ in yaml.parse(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                    pass
            except yaml.MarkedYAMLError as error:
                line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
                what = f"is not YAML: {error.problem or error}"
                return Problem(f"{_place(file)}{line}", "(syntax)", what, "correct the line, or the one before it")
            except (OSError, yaml.YAMLError):
                # Ansible says so, with the file.
                continue
    return None


def of_inventories(given: Iterable[str], hosts: Iterable[str]) -> Problem | None:
    """What is wrong with `-i`, and the inventories that there are."""
    sources = [Path(source) for source in given if "," not in source]
    missing = [source for source in sources if not source.exists()]
    if hosts and not missing:
        return None
    source = (missing or sources or [Path()])[0]
    default = [str(source)] == list(constants.DEFAULT_HOST_LIST)
    beside = source.parent if source.parent.is_dir() and not default else ROOT / "inventories"
    there = sorted(_place(path) for path in beside.iterdir() if path.is_dir() and not path.name.startswith("."))
    there = there or sorted(_place(path) for path in (ROOT / "inventories").iterdir() if path.is_dir())
    what = (
        "is not given" if default else f"there is no {_place(source)}" if missing else f"{_place(source)} has no host"
    )
    known = f"there are {', '.join(there)}" if there else "there are none"
    fix = f"-i {nearest(_place(source), there) or 'one of them'}" if missing else "add a host to its hosts.yml"
    return Problem("command line", "-i", f"{what}; {known}", fix)


def of_limit(limit: str | None, loader: Any, everything: Group, hosts: Mapping[str, Any]) -> Problem | None:
    """What is wrong with `--limit`, and the groups and hosts that there are."""
    if not limit:
        return None
    groups = {group.name: group for group in (everything, *everything.get_descendants())}
    known = InventoryData()
    known.groups, known.hosts = groups, dict(hosts)
    manager = InventoryManager(loader=loader, parse=False)
    manager._inventory = known
    manager.subset(limit)
    if manager.list_hosts():
        return None
    there = [*sorted(name for name, group in groups.items() if group.get_hosts() and name != "all"), *hosts]
    near = did_you_mean(limit, there) if re.fullmatch(r"[\w.-]+", limit) else ""
    return Problem(
        "command line", "--limit", f"no host is in `{limit}`{near}; there are {', '.join(there)}", "correct it"
    )


def _place(path: Path) -> str:
    """A path as it is written where the command was given."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


@cache
def templates(given: str) -> tuple[str, ...]:
    """The variables with a template in an argument of `-e`; none of a file's."""
    if given.startswith("@"):
        return ()
    found = from_yaml(given) if given[:1] in ("{", "[") else parse_kv(given)
    named = found.items() if isinstance(found, Mapping) else [("-e", found)]
    return tuple(
        str(name) for name, value in named if any(opening in text for opening in OPENING for text in _in(value))
    )


def _in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (text for pair in value.items() for item in pair for text in _in(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in _in(item))
    else:
        yield str(value)
