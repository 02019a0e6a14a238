# MIT License, see LICENSE at the root of the project.
"""Complete or re-encrypt the vault of an environment, on the controller. See the module of the same name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.vault import (
    AUTHORITIES,
    BACKUP_KEYS,
    KEYS,
    Vault,
    VaultError,
    check_password,
    locate,
    new_value,
    open_vault,
    passwords,
    plain_value,
    references,
    rekey,
    relative,
    secrets_command,
    variable_files,
    write_password,
    write_vault,
)

ROOT = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):
    """Needs no host; the play names localhost."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The names that were set and where, never a value."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "choices": ["complete", "rekeyed", "rotated"], "default": "complete"},
                "directory": {"type": "str", "default": ""},
                "values": {"type": "dict", "default": {}, "no_log": True},
                "names": {"type": "list", "elements": "str", "default": []},
                "logins": {"type": "list", "elements": "dict", "default": [], "no_log": True},
                "apps": {"type": "list", "elements": "dict", "default": [], "no_log": True},
            }
        )
        sources = [Path(source) for source in variables.get("ansible_inventory_sources", [])]
        directories = [source if source.is_dir() else source.parent for source in sources]
        if args["directory"]:
            target = Path(args["directory"])
        elif directories:
            target = directories[-1]
        else:
            raise AnsibleActionFail("no inventory was given. Next: add -i inventories/<environment>")
        vault = locate(target, ROOT, os.environ)
        try:
            if args["state"] == "rekeyed":
                return self._rekey(vault)
            asked = set(variables.get("environment_given_secrets", []))
            if args["state"] == "rotated":
                logins, apps = plain_value(args["logins"]), plain_value(args["apps"])
                return self._rotate(vault, args["names"], logins, apps, asked)
            return self._complete(vault, directories, plain_value(args["values"]), asked)
        except VaultError as problem:
            raise AnsibleActionFail(str(problem)) from None

    def _complete(
        self, vault: Vault, directories: list[Path], given: dict[str, Any], asked: set[str]
    ) -> dict[str, Any]:
        values = _values(vault)
        others = {locate(directory, ROOT, os.environ) for directory in directories} - {vault}
        elsewhere = {name for other in others for name in _values(other)}
        files = [file for place in {vault, *others} for file in variable_files(place.directory)]
        texts = [file.read_text() for file in files]
        plain = {name for text in texts for name in _defined(text)}
        wanted = references(texts) - values.keys() - given.keys() - elsewhere - plain
        missing = wanted - asked - {AUTHORITIES}
        names = sorted(missing | {name for name, value in given.items() if values.get(name) != value})
        fresh = not vault.file.exists() and not vault.password.exists()
        changed = bool(names) or not vault.file.exists()
        if changed and not self._task.check_mode:
            if fresh:
                write_password(vault.password)
            check_password(vault, ROOT)
            password = open_vault(vault, ROOT)[1] if vault.file.exists() else passwords(vault)[0]
            write_vault(vault, values | {name: new_value(name) for name in missing} | given, password)
        return _result(
            vault,
            changed=changed,
            password_created=fresh,
            names=names,
            ungiven=sorted(wanted & asked),
            authority=AUTHORITIES if AUTHORITIES in wanted - asked else "",
        )

    def _rotate(
        self, vault: Vault, names: list[str], logins: list[dict[str, str]], apps: list[dict[str, Any]], asked: set[str]
    ) -> dict[str, Any]:
        """New values for the named secrets, or for all that somebody logs in to the data services with."""
        values, password = open_vault(vault, ROOT)
        used = {text for login in logins for text in (login["login"], login["password"])}
        chosen = names or [name for name, value in values.items() if isinstance(value, str) and value in used]
        problems = [f"{name} {why}" for name in sorted(chosen) if (why := _why_not_rotated(name, values, asked))]
        old = {name: str(values[name]) for name in chosen if name in values}
        if not problems:
            kept = set(map(str, values.values()))
            told = [(login, _why_one_at_a_time(login, set(old.values()), kept)) for login in logins]
            problems = [f"{login['database']}: {why}" for login, why in told if why]
            problems += [what for app in apps for what in _in_environment(app, old)]
        if problems:
            raise VaultError(f"nothing was touched: {relative(vault.file, ROOT)}: {'; '.join(problems)}")
        new = {name: new_value(name) for name in chosen}
        if new and not self._task.check_mode:
            write_vault(vault, values | new, password)
        return {**_result(vault, changed=bool(new), names=sorted(new), current=new), "_ansible_no_log": True}

    def _rekey(self, vault: Vault) -> dict[str, Any]:
        file, password = relative(vault.file, ROOT), relative(vault.password, ROOT)
        if not vault.file.exists():
            raise VaultError(f"{file}: there is no vault to rotate. Next: {secrets_command(vault, ROOT)}")
        values, _ = open_vault(vault, ROOT)
        if vault.password.stat().st_mode & 0o100:
            raise VaultError(
                f"{password}: is a script, so the password is kept elsewhere. Next: rotate it there, then "
                f"ansible-vault rekey --new-vault-id {vault.environment}@{password} {file}"
            )
        if not self._task.check_mode:
            rekey(vault, values)
        return _result(vault, changed=True, password_created=True, names=[])


def _why_not_rotated(name: str, values: Mapping[str, Any], asked: set[str]) -> str:
    if name == AUTHORITIES:
        return "is no password. Next: ansible-playbook playbooks/rotate-authority.yml"
    if name in KEYS:
        return "is a private key, and no password. Next: see docs/how-to/public-certificate.md"
    if name in BACKUP_KEYS:
        return "opens the backups that are there, and no other does. Next: see docs/how-to/back-up.md"
    if name not in values:
        similar = get_close_matches(name, values, n=1)
        return f"is not there{f', but {similar[0]} is' if similar else ''}. Next: correct -e secrets="
    if name in asked:
        return "is handed out by others. Next: playbooks/secrets.yml with their new value, then a deploy"
    return ""


def _why_one_at_a_time(login: Mapping[str, str], chosen: set[str], kept: set[str]) -> str:
    """Why a database cannot have two valid passwords meanwhile: each login has one. The superuser is nobody's login."""
    if login["password"] not in chosen or login["login"] in chosen or login.get("database", "postgres") == "postgres":
        return ""
    if login["login"] in kept:
        return "its password is named and its login is not. Next: name both, or leave out -e secrets="
    return (
        "its owner logs in itself, with one password at a time. Next: give it a `login` in postgres_databases, and its "
        "app the same as a secret: docs/how-to/rotate-secrets.md"
    )


def _in_environment(app: Mapping[str, Any], old: Mapping[str, str]) -> list[str]:
    """Where an app has a secret in its environment, which a release keeps: it would come up with the old one."""
    return [
        f"apps[{app['name']}].environment.{variable}: holds {name}, and a restart would not change it. Next: make it "
        "one of the app's secrets: docs/how-to/rotate-secrets.md"
        for variable, text in (app.get("environment") or {}).items()
        for name, value in old.items()
        if value in str(text)
    ]


def _result(vault: Vault, **more: Any) -> dict[str, Any]:
    return {"file": relative(vault.file, ROOT), "password_file": relative(vault.password, ROOT), **more}


def _values(vault: Vault) -> dict[str, Any]:
    """What the vault holds; nothing when there is no vault yet."""
    return open_vault(vault, ROOT)[0] if vault.file.exists() else {}


def _defined(text: str) -> set[str]:
    """The `vault_*` names that a variable file itself gives a value (a lab's overlay may)."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return set()
    return {name for name in content if str(name).startswith("vault_")} if isinstance(content, dict) else set()
