"""What an inventory says and where it says it: files and lines of variables, misspelt names, groups, secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .problem import Problem, did_you_mean, nearest
from .roles import OF_GROUP
from .vault import REFERENCE, VAULT, relative, variable_files

# Variables of ours that belong to no role.
OURS = frozenset(
    {
        "apps",
        "app",
        "version",
        "maintenance",
        "private_address",
        "public_address",
        "environment_name",
        "environment_private_network",
        "environment_allow_latest",
        "environment_stamp_key",
        "environment_given_secrets",
        "environment_shared",
        "environment_budget",
        "environment_approval",
        "environment_p95_ms",
        "environment_public_addresses",
        "loadbalancer_mode",
        "loadbalancer_drain_seconds",
        "approve",
        "release",
        "secrets",
        "skip_hosts",
        "across_migration",
        "list",
        "backup",
        "droplet_cpus",
        "droplet_memory_mb",
        "droplet_disk_gb",
        "secrets_directory",
        "secrets_values",
        "droplets",
        "certificate_days",
        "names_file",
        "acknowledged",
    }
)
# A name this close to one of ours is a misspelling of it, whatever it begins with.
CLOSE = 0.88


@dataclass
class Sources:
    """The variable files of the inventory directories, read when a place is first asked for."""

    directories: tuple[Path, ...]
    root: Path
    _texts: dict[Path, str] = field(default_factory=dict)

    def texts(self) -> dict[Path, str]:
        """Every variable file with its text; a later directory wins over an earlier one, so it comes first."""
        if not self._texts:
            for directory in reversed(self.directories):
                self._texts |= {file: file.read_text() for file in variable_files(directory)}
        return self._texts

    def find(self, name: str, within: str = "") -> str:
        """`file:line` where the key `name` stands, in a file that also has the key `within`; else nothing."""
        texts = {file: text for file, text in self.texts().items() if not within or _line_of(within, text, True)}
        # A variable of a group or a host file stands at the margin; one of hosts.yml, and a key of an app, does not.
        for at_margin in (True, False):
            for file, text in texts.items():
                line = _line_of(name, text, at_margin)
                if line:
                    return f"{relative(file, self.root)}:{line}"
        return ""

    def place(self, name: str, within: str = "") -> str:
        """The best that can be said about where `name` is: its line, else that of `within`, else the directory."""
        return self.find(name, within) or (within and self.find(within)) or self.last

    def where(self, name: str, value: str) -> str:
        """`file:line` where `name` gets `value`: on its own line, else on one below it; at least where `name` is."""
        if not value:
            return self.place(name)
        token = rf"(?<![\w.:/-]){re.escape(value)}(?![\w:/-]|\.\w)"
        key = rf"(?<![\w.-])[\"']?{re.escape(name)}[\"']?\s*:(?=\s|$)"
        for pattern in (rf"^[^#\n]*?{key}[^#\n]*?{token}", rf"^[^#\n]*?{key}(?s:.)*?{token}"):
            for file, text in self.texts().items():
                if match := re.search(pattern, text, re.MULTILINE):
                    return f"{relative(file, self.root)}:{text.count(chr(10), 0, match.end()) + 1}"
        return self.place(name)

    @property
    def last(self) -> str:
        """The directory given last."""
        return relative(self.directories[-1], self.root) if self.directories else "inventory"


def _line_of(name: str, text: str, at_margin: bool) -> int:
    """The number of the first line with this key, at the margin or anywhere; 0 when there is none."""
    before = "" if at_margin else r"[^#\n]*?(?<![\w.-])"
    match = re.search(rf"^{before}[\"']?{re.escape(name)}[\"']?\s*:(?=\s|$)", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else 0


def misspelt(names: Iterable[str], roles: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Names that look like ours and are not, each with what to say about it."""
    known = OURS | {name for options in roles.values() for name in options}
    prefixes = {f"{role}_": role for role in roles} | {"environment_": "", "droplet_": ""}
    found: dict[str, str] = {}
    for name in sorted(set(names) - known):
        if name.startswith(("ansible_", "vault_", "_")):
            continue
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix:
            whose = f"the role `{prefixes[prefix]}`" if prefixes[prefix] else "Flotilla"
            found[name] = f"is not a variable of {whose}{did_you_mean(name, known)}"
        else:
            # Two letters that changed places are too far apart for `nearest` in a short name: `verison`.
            near = next((one for one in sorted(known) if sorted(one) == sorted(name)), None) or nearest(
                name, known, CLOSE
            )
            if near:
                found[name] = f"is not known (did you mean `{near}`?)"
    return found


def group_problems(groups: Mapping[str, Iterable[str]], sources: Sources) -> list[Problem]:
    """What is wrong with the groups: topology is membership in ours and nothing else."""
    problems = []
    for name in sorted(groups):
        near = nearest(name, OF_GROUP, 0.8)
        if name not in OF_GROUP and near:
            what = f"is not a group of Flotilla (did you mean `{near}`?)"
            problems.append(
                Problem(sources.place(name), name, what, f"rename it to `{near}`, or to something less alike")
            )
    if not groups.get("app"):
        problems.append(
            Problem(sources.place("app"), "app", "no host is in the group `app`", "add one to hosts.yml below app:")
        )
    for host in sorted(set(groups.get("loadbalancer", [])) & set(groups.get("app", []))):
        what = f"`{host}` is in the group `app` too, and both want the ports 80 and 443"
        problems.append(
            Problem(sources.place("loadbalancer"), "loadbalancer", what, "give the balancer a host of its own")
        )
    return problems


def host_problems(hosts: Mapping[str, Mapping[str, Any]], sources: Sources) -> list[Problem]:
    """Hosts without what the roles and the other hosts need of them. `hosts` has raw variables."""
    problems = []
    for host, variables in hosts.items():
        if len(hosts) > 1 and not variables.get("private_address"):
            what = f"`{host}` has none, and the other hosts reach it there"
            problems.append(Problem(sources.place(host), "private_address", what, f"add private_address below {host}"))
        if not variables.get("environment_name"):
            what = f"`{host}` has none"
            problems.append(Problem(sources.last, "environment_name", what, "set it in group_vars/all/environment.yml"))
    return problems


def referenced_secrets(value: Any) -> set[str]:
    """The `vault_*` names in a raw value, however deep."""
    if isinstance(value, str):
        return set(REFERENCE.findall(value)) if "vault_" in value else set()
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return set()
    return {name for item in value for name in referenced_secrets(item)}


# They name secrets, and use none: those that others hand out, and `-e secrets=` of a rotation.
NAMING = frozenset({"environment_given_secrets", "secrets"})


def secret_problems(
    hosts: Mapping[str, Mapping[str, Any]], given: Iterable[str], sources: Sources, command: str
) -> list[Problem]:
    """Secrets that a host's variables refer to and that have no value, each once. `command` completes them."""
    problems: dict[str, Problem] = {}
    asked = set(given)
    for variables in hosts.values():
        for variable, value in variables.items():
            if variable in NAMING:
                continue
            for name in sorted(referenced_secrets(value) - variables.keys()):
                there = any((directory / VAULT).exists() for directory in sources.directories)
                what = (
                    f"`{name}` has no value" if there else f"`{name}` has no value: there is no {sources.last}/{VAULT}"
                )
                fix = f"{command} -e @FILE, with {name} below secrets_values in FILE" if name in asked else command
                problems.setdefault(name, Problem(sources.place(variable), variable, what, fix))
    return list(problems.values())
