# MIT License, see LICENSE at the root of the project.
"""Read environments one by one, check and compare them. See the module of the same name."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.utils.vars import load_extra_vars
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla import agreed, budget, isolation
from flotilla.inputs import Check
from flotilla.inventory import Sources
from flotilla.problem import Problem, report
from flotilla.resolve.privileges import loud
from flotilla.sharing import Environment, OpenedVault, Thing
from flotilla.vault import (
    Vault,
    locate,
    open_vault,
    opens_with,
    passwords,
    relative,
    vault_id,
)

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = "playbooks/validate.yml"
COMMAND = f"ansible-playbook {PLAYBOOK}"
# A secret this short would be struck out of words that have nothing to do with it.
SHORT = 4


class ActionModule(ActionBase):
    """Needs no host; the play names localhost."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """`lines` that say what is right, and `problems`."""
        super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        sources = [str(source) for source in (task_vars or {}).get("ansible_inventory_sources") or []]
        wrong = list(source_problems(sources))
        if wrong:
            return _result([], wrong)
        key = secrets.token_bytes(32)
        read = [Reading(group, key, self._loader.get_basedir()) for group in environments_of(sources)]
        alike = list(same_name_problems(read))
        problems = [*alike, *(problem for one in read for problem in one.problems)]
        lines = [one.line for one in read if not one.problems]
        if not alike:
            told, shared = isolation.compare(tried(read))
            lines += told
            problems += shared
        if len(read) == 1:
            lines.append(
                f"one environment; to compare it with another: {COMMAND}{read[0].check.inventory} -i <another>"
            )
        result = _result(lines, problems, [value for one in read for value in one.values])
        said = [line for one in read for app in one.environment.apps for line in loud(app["name"], app["privileges"])]
        today = datetime.now(UTC).date()
        said += [_without(str(old), one.values) for one in read for old in one.check.unsupported_images(today)]
        return {**result, "number": len(read), **({"warnings": list(dict.fromkeys(said))} if said else {})}


def _result(lines: Sequence[str], problems: Sequence[Problem], values: Sequence[str] = ()) -> dict[str, Any]:
    """What the playbook shows. A message may quote what an inventory says: a secret in it is struck out."""
    return {
        "changed": False,
        "lines": [_without(line, values) for line in lines],
        "problems": [_without(line, values) for line in report(problems).splitlines()],
    }


def _without(text: str, values: Sequence[str]) -> str:
    for value in sorted(set(values), key=len, reverse=True):
        if len(value) >= SHORT:
            text = text.replace(value, "********")
    return text


def _number(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def directory_of(source: str) -> Path:
    """The inventory directory of what was given with -i, which may be a file in it."""
    path = Path(source).absolute()
    return path if path.is_dir() else path.parent


def source_problems(sources: Sequence[str]) -> Iterator[Problem]:
    """Inventories that are there twice. The plugin `flotilla_command_line` refuses those that are not there."""
    command = f"{COMMAND} -i inventories/<environment> -i inventories/<another>"
    seen: set[Path] = set()
    for source in sources:
        shown = relative(Path(source), ROOT)
        if directory_of(source).resolve() in seen:
            what = f"{shown} is given twice, and would be compared with itself"
            yield Problem("command line", "-i", what, command)
        seen.add(directory_of(source).resolve())


def environments_of(sources: Sequence[str]) -> list[list[Path]]:
    """The directories of each environment. One outside of inventories/ that names none lies over the one before it."""
    groups: list[list[Path]] = []
    for source in sources:
        directory = directory_of(source)
        named = directory.parent == ROOT / "inventories" or Sources((directory,), ROOT).find("environment_name")
        if groups and not named:
            groups[-1].append(directory)
        else:
            groups.append([directory])
    return groups


class Reading:
    """One environment, read by Ansible as if no other had been given; what is wrong with its own inputs."""

    def __init__(self, directories: Sequence[Path], key: bytes, basedir: str) -> None:
        self.key = key
        self.loader = DataLoader()
        self.loader.set_basedir(basedir)
        inventory = InventoryManager(self.loader, sources=[str(directory) for directory in directories])
        manager = VariableManager(self.loader, inventory)
        self.hostvars = HostVars(inventory, manager, self.loader)
        first = next(iter(inventory.hosts.values()), None)
        variables = {
            **manager.get_vars(host=first),
            "hostvars": self.hostvars,
            "ansible_inventory_sources": [str(directory) for directory in directories],
        }
        templar = Templar(loader=self.loader, variables=variables)
        self.check = Check(variables, load_extra_vars(self.loader), templar, PLAYBOOK, ROOT)
        self.problems = list(self.check.environment())
        apps, wrong = self.check.apps(needs_version=False)
        self.problems += wrong
        vaults = [locate(path, ROOT, os.environ) for path in directories]
        # A password may come from a script that asks somebody.
        self.vaults = {vault: passwords(vault) for vault in vaults if vault.file.exists()}
        self.values: list[str] = []
        self.environment = self._environment(str(first), directories, apps)
        self.line = (
            f"{self.environment.name}: {_number(self.check.hosts, 'host')}, {_number(apps, 'app')}, "
            f"{_number(self.environment.secrets, 'secret')}; its inputs are right{self._budget(str(first))}"
        )

    def _environment(self, first: str, directories: Sequence[Path], apps: Sequence[Mapping[str, Any]]) -> Environment:
        place = self.check.sources.where
        hosts = {host: dict(self._worked_out(host)) for host in self.check.hosts}
        name = str(hosts.get(first, {}).get("environment_name") or directories[0].name)
        shared, wrong = agreed.read(hosts.get(first, {}).get(agreed.SHARED), name, place)
        environment = Environment(
            name=name,
            hosts=hosts,
            groups=self.check.groups,
            apps=apps,
            key_files=dict(self._key_files(hosts)),
            vaults=[self._opened(vault) for vault in self.vaults],
            secrets=list(self._secrets()),
            agreed=shared,
            place=place,
            command=f"ansible-playbook playbooks/secrets.yml{self.check.inventory}",
        )
        self.problems += [*wrong, *isolation.network_problems(environment)]
        return environment

    def _budget(self, first: str) -> str:
        """The environment's budget, to be shown; what is wrong with it is a problem."""
        declared = self.environment.hosts.get(first, {}).get(budget.BUDGET)
        found, wrong = budget.read(declared, self.check.sources.where)
        self.problems += wrong
        return f"; budget `{found.name}`: {found}" if found else ""

    def _worked_out(self, host: str) -> Iterator[tuple[str, Any]]:
        """The variables of a host that are compared. What a role's variable lacks, the check has said."""
        raw = self.hostvars.raw_get(host)
        for name in (*isolation.VARIABLES, "environment_name", agreed.SHARED):
            if name not in raw:
                continue
            try:
                yield name, self.hostvars[host][name]
            except AnsibleError as error:
                if not any(name in role for role in self.check.roles.values()):
                    what = f"cannot be worked out: {str(error).splitlines()[0].rstrip('.')}"
                    place = self.check.sources.place(name)
                    self.problems.append(Problem(place, name, what, "correct the template"))

    def _key_files(self, hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
        """Of each private key file, as the inventory has it: its real path and, where it can be read, its digest."""
        named = (variables.get(name) for variables in hosts.values() for name in isolation.PRIVATE_KEY_FILES)
        for file in sorted({str(name) for name in named if name}):
            try:
                path = Path(file).expanduser().resolve()
            except RuntimeError:  # the home of somebody who is not there
                continue
            try:
                content = path.read_bytes().strip()
            except OSError:
                content = b""
            yield file, [str(path), *([isolation.keyed(self.key, content)] if content else [])]

    def _opened(self, vault: Vault) -> OpenedVault:
        inventory = f" -i {relative(vault.directory, ROOT)}"
        return OpenedVault(
            id=vault_id(vault),
            file=relative(vault.file, ROOT),
            password_file=relative(vault.password, ROOT),
            digests=frozenset(isolation.keyed(self.key, password.bytes) for password in self.vaults[vault]),
            rekey=f"ansible-playbook playbooks/rekey.yml{inventory}",
        )

    def _secrets(self) -> Iterator[Thing]:
        """Everything in the vaults, and what else is called `vault_…` and has a value: an overlay may give one."""
        for vault in self.vaults:
            for name, value in open_vault(vault, ROOT)[0].items():
                yield from self._things(str(name), value, relative(vault.file, ROOT))
        for host in self.check.hosts:
            for name in self.hostvars.raw_get(host):
                if name.startswith("vault_") and (place := self.check.sources.find(name)):
                    yield from self._things(name, self._given(host, name, place), place)

    def _given(self, host: str, name: str, place: str) -> Any:
        """A secret that a variable file gives, which may be a template."""
        try:
            return self.hostvars[host][name]
        except AnsibleError:
            self.problems.append(Problem(place, name, "cannot be worked out", "correct the template"))
            return None

    def _things(self, name: str, value: Any, place: str) -> Iterator[Thing]:
        for label, text in isolation.leaves(name, value):
            self.values.append(text)
            yield Thing(isolation.keyed(self.key, text), label, place, name)


def same_name_problems(read: Sequence[Reading]) -> Iterator[Problem]:
    """Environments with one name: locks, histories and outcomes of the one would be taken for the other's."""
    first: dict[str, Reading] = {}
    for one in read:
        name = one.environment.name
        before = first.setdefault(name, one)
        if before is not one:
            places = [reading.environment.place("environment_name", name) for reading in (one, before)]
            what = f"`{name}` is the name of the environment in {places[1]} too"
            yield Problem(places[0], "environment_name", what, "give one of the two another name")


def tried(read: Sequence[Reading]) -> list[Environment]:
    """The environments, with what came of opening each one's vaults with every other one's passwords."""
    found = []
    for one in read:
        others = [other for other in read if other is not one]
        vaults = [
            replace(
                opened,
                opened_by=frozenset(
                    other.environment.name
                    for other in others
                    if any(opens_with(vault, password) for theirs in other.vaults.values() for password in theirs)
                ),
            )
            for vault, opened in zip(one.vaults, one.environment.vaults, strict=True)
        ]
        found.append(replace(one.environment, vaults=vaults))
    return found
