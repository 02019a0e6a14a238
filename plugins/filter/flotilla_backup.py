# MIT License, see LICENSE at the root of the project.
"""Filters of backups: where they go, what pgBackRest is told, and what status says of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla import backups

Hostvars = Mapping[str, Mapping[str, Any]]
Groups = Mapping[str, Sequence[str]]


def flotilla_backup_wanted(hostvars: Hostvars, host: str, groups: Groups) -> bool:
    """Whether the database of a host is backed up: there is a host of the group `backup`, or a bucket."""
    return backups.wanted(list(groups.get("backup", [])), hostvars[host].get("backup_s3") or {})


def flotilla_backup_hosts(hostvars: Hostvars, groups: Groups) -> list[dict[str, Any]]:
    """The repositories on other hosts, by what the role's `repository` found out about each (`backup_host_key`)."""
    return [
        {
            "name": host,
            "address": str(hostvars[host].get("private_address", "")),
            "port": int(hostvars[host].get("backup_port", 2222)),
            "host_key": str(hostvars[host].get("backup_host_key", "")),
        }
        for host in sorted(groups.get("backup", []))
    ]


def flotilla_backup_keys_of(hostvars: Hostvars, hosts: Sequence[str]) -> list[str]:
    """The public keys that the databases' hosts send with; none when one is not known: it would be shut out."""
    keys = [str(hostvars[host].get("backup_public_key", "")) for host in hosts]
    return keys if all(keys) else []


def flotilla_backup_stale(groups: Groups, side: str) -> bool:
    """Whether a host of either side is provisioned now, so that those of `side` have to be introduced to the others."""
    ours = {*groups.get("postgres", []), *groups.get("backup", [])}
    return bool(groups.get(side) and ours & set(groups.get("unprovisioned", [])))


def flotilla_backup_configuration(settings: Mapping[str, Any], disk_mb: int) -> str:
    """pgbackrest.conf, of the role's variables."""
    try:
        return backups.configuration(settings, int(disk_mb))
    except ValueError as error:
        raise AnsibleFilterError(f"{error}. Next: see {backups.HOW_TO}") from None


def flotilla_backup_secrets(settings: Mapping[str, Any]) -> str:
    """The part of it that is secret."""
    try:
        return backups.keys(settings)
    except ValueError as error:
        raise AnsibleFilterError(f"{error}. Next: see {backups.HOW_TO}") from None


def flotilla_backup_script_settings(settings: Mapping[str, Any], disk_mb: int) -> dict[str, Any]:
    """What `flotilla-backup` on the host has to know."""
    return {
        "repositories": backups.repositories(settings["backup_hosts"], settings["backup_s3"]),
        "queue_max_mb": backups.queue_max_mb(settings, int(disk_mb)),
    }


def flotilla_backup_databases(hostvars: Hostvars, groups: Groups) -> list[str]:
    """The databases' hosts that are backed up."""
    return [host for host in groups.get("postgres", []) if flotilla_backup_wanted(hostvars, host, groups)]


def flotilla_backup_report(
    hostvars: Hostvars, asked: Sequence[Mapping[str, Any]], sources: Sequence[str]
) -> dict[str, list[str]]:
    """`lines` and `problems` of what a loop (`status_database`) registered of `flotilla-backup status`."""
    seen = {}
    for one in asked:
        if "status_database" in one:
            said = answered(one)
            seen[str(one["status_database"])] = {"said": said, "msg": one.get("stderr") or one.get("msg")}
    limits = {host: backups.limits(hostvars[host]) for host in seen}
    inventory = "".join(f" -i {source}" for source in sources)
    return backups.report(seen, limits, inventory, time.time())


def answered(result: Mapping[str, Any]) -> Any:
    """The JSON object that a command's last line is; None where it is none."""
    lines = str(result.get("stdout") or "").splitlines()
    try:
        return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
    except ValueError:
        return None


def flotilla_backup_made(result: Mapping[str, Any], host: str) -> dict[str, list[str]]:
    """`lines` and `problems` of one `flotilla-backup run`."""
    said = answered(result)
    if not said:
        why = " ".join(str(result.get("stderr") or result.get("msg") or "it said nothing").split())[-600:]
        return {"lines": [], "problems": [f"{host}: no backup was made: {why}. Next: see {backups.HOW_TO}"]}
    return backups.made(said, host)


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filter names, all prefixed with the project's."""
        return {
            "flotilla_backup_configuration": flotilla_backup_configuration,
            "flotilla_backup_databases": flotilla_backup_databases,
            "flotilla_backup_hosts": flotilla_backup_hosts,
            "flotilla_backup_keys_of": flotilla_backup_keys_of,
            "flotilla_backup_made": flotilla_backup_made,
            "flotilla_backup_report": flotilla_backup_report,
            "flotilla_backup_script_settings": flotilla_backup_script_settings,
            "flotilla_backup_secrets": flotilla_backup_secrets,
            "flotilla_backup_stale": flotilla_backup_stale,
            "flotilla_backup_wanted": flotilla_backup_wanted,
        }
