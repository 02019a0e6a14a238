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
from flotilla import backups, bucket, kept, volumes

ROOT = Path(__file__).resolve().parents[2]

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


def flotilla_backup_stale(groups: Groups, side: str) -> list[str]:
    """The hosts of `side`, `senders` or `backup`, when one of either side is provisioned now: they are introduced.

    Senders are all that may have something to send: those of `postgres`, `app` and `redis`.
    """
    if not groups.get("backup"):
        # Somebody has to say that the database is not backed up.
        news = set(groups.get("unprovisioned", [])) & set(groups.get("postgres", []))
        return list(groups.get("postgres", [])) if news and side == "senders" else []
    senders = list(dict.fromkeys(host for group in ("postgres", "app", "redis") for host in groups.get(group, [])))
    if not {*senders, *groups["backup"]} & set(groups.get("unprovisioned", [])):
        return []
    return senders if side == "senders" else list(groups["backup"])


def flotilla_backup_senders(hostvars: Hostvars, groups: Groups) -> list[str]:
    """The hosts whose volumes are backed up."""
    apps: Any = next((hostvars[host].get("apps") for host in groups.get("app", [])), [])
    found = volumes.senders(groups, apps, lambda host: bool(hostvars[host].get("redis_durable")))
    return [host for host in found if flotilla_backup_wanted(hostvars, host, groups)]


def flotilla_backup_volumes(hostvars: Hostvars, host: str, groups: Groups) -> list[dict[str, str]]:
    """The volumes of a host that are backed up, each with `name`, `app` and `kind`; none where there is no place."""
    if not flotilla_backup_wanted(hostvars, host, groups):
        return []
    mine = hostvars[host]
    member = [name for name in ("app", "redis") if host in groups.get(name, [])]
    return volumes.of_host(member, mine.get("apps") or [], bool(mine.get("redis_durable")), _compose_file)


def flotilla_backup_holders(hosts: Sequence[str], hostvars: Hostvars, groups: Groups, volume: str) -> list[str]:
    """Those of the hosts that back up the volume of that name."""
    return [
        host for host in hosts if volume in [one["name"] for one in flotilla_backup_volumes(hostvars, host, groups)]
    ]


def _compose_file(app: Mapping[str, Any]) -> str:
    try:
        return (ROOT / str(app["source"]) / "compose.yaml").read_text()
    except OSError:
        return ""


def flotilla_volumes_senders(hostvars: Hostvars, groups: Groups) -> list[dict[str, str]]:
    """`account` and `public_key` of each host that sends volumes, as far as its key is known."""
    return [
        {"account": volumes.account(_name(hostvars, host)), "host": host, "public_key": str(key)}
        for host in flotilla_backup_senders(hostvars, groups)
        if (key := hostvars[host].get("backup_volumes_public_key"))
    ]


def flotilla_volumes_accounts(hostvars: Hostvars, groups: Groups) -> list[str]:
    """The accounts of all hosts that send volumes, whether their keys are known in this run or not."""
    return [volumes.account(_name(hostvars, host)) for host in flotilla_backup_senders(hostvars, groups)]


def _name(hostvars: Hostvars, host: str) -> str:
    return str(hostvars[host].get("backup_volumes_name") or host)


def flotilla_volumes_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `flotilla-volumes` on the host has to know, of the role's variables."""
    return volumes.settings(given)


def flotilla_volumes_report(
    hostvars: Hostvars, asked: Sequence[Mapping[str, Any]], sources: Sequence[str]
) -> dict[str, list[str]]:
    """`lines` and `problems` of what a loop (`status_sender`) registered of `flotilla-volumes status`."""
    seen = {
        str(one["status_sender"]): {"said": answered(one), "msg": one.get("stderr") or one.get("msg")}
        for one in asked
        if "status_sender" in one
    }
    limits = {host: backups.limits(hostvars[host]) for host in seen}
    return volumes.report(seen, limits, "".join(f" -i {source}" for source in sources))


def flotilla_volumes_made(result: Mapping[str, Any], host: str) -> dict[str, list[str]]:
    """`lines` and `problems` of one `flotilla-volumes run`."""
    said = answered(result)
    if not said:
        why = " ".join(str(result.get("stderr") or result.get("msg") or "it said nothing").split())[-600:]
        return {"lines": [], "problems": [f"{host}: no volume was backed up: {why}. Next: see {backups.HOW_TO}"]}
    return volumes.made(said, host)


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


def flotilla_kept_account(hostvars: Hostvars, groups: Groups, what: str) -> str:
    """The account that is meant: by `databases`, or by a host that sends volumes."""
    known = _kept_accounts(hostvars, groups)
    if what not in known:
        raise AnsibleFilterError(f"command line: of: there is no `{what}`. Next: -e of={' or -e of='.join(known)}")
    return known[what]


def flotilla_kept_report(
    hostvars: Hostvars, groups: Groups, asked: Sequence[Mapping[str, Any]], sources: Sequence[str]
) -> dict[str, list[str]]:
    """`lines` and `problems` of what a loop (`status_keeper`) registered of `flotilla-kept status`."""
    seen = {
        str(one["status_keeper"]): {"said": answered(one), "msg": one.get("stderr") or one.get("msg")}
        for one in asked
        if "status_keeper" in one
    }
    names = {account: name for name, account in _kept_accounts(hostvars, groups).items()}
    limits = {host: backups.limits(hostvars[host])["kept_max_age_hours"] for host in seen}
    return kept.report(seen, names, limits, "".join(f" -i {source}" for source in sources))


def flotilla_bucket_report(hostvars: Hostvars, groups: Groups) -> dict[str, list[str]]:
    """`lines` and `problems` of the buckets that hosts send to. It asks them."""
    databases = {host: str(hostvars[host].get("backup_name") or host) for host in groups.get("postgres", [])}
    prefixes = list(databases.items())
    prefixes += [(host, f"volumes/{_name(hostvars, host)}") for host in flotilla_backup_senders(hostvars, groups)]
    asked = {
        host: (hostvars[host]["backup_s3"], prefix, int(hostvars[host].get("backup_retention_days", 7)))
        for host, prefix in prefixes
        if hostvars[host].get("backup_s3")
    }
    return bucket.report(asked, bool(groups.get("backup")))


def _kept_accounts(hostvars: Hostvars, groups: Groups) -> dict[str, str]:
    sending = flotilla_backup_senders(hostvars, groups)
    return kept.accounts({host: volumes.account(_name(hostvars, host)) for host in sending})


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
            "flotilla_backup_holders": flotilla_backup_holders,
            "flotilla_backup_hosts": flotilla_backup_hosts,
            "flotilla_backup_keys_of": flotilla_backup_keys_of,
            "flotilla_backup_made": flotilla_backup_made,
            "flotilla_backup_report": flotilla_backup_report,
            "flotilla_backup_script_settings": flotilla_backup_script_settings,
            "flotilla_backup_secrets": flotilla_backup_secrets,
            "flotilla_backup_senders": flotilla_backup_senders,
            "flotilla_backup_stale": flotilla_backup_stale,
            "flotilla_backup_volumes": flotilla_backup_volumes,
            "flotilla_backup_wanted": flotilla_backup_wanted,
            "flotilla_bucket_report": flotilla_bucket_report,
            "flotilla_kept_account": flotilla_kept_account,
            "flotilla_kept_report": flotilla_kept_report,
            "flotilla_volumes_key": volumes.key,
            "flotilla_volumes_known_hosts": volumes.known_hosts,
            "flotilla_volumes_made": flotilla_volumes_made,
            "flotilla_volumes_report": flotilla_volumes_report,
            "flotilla_volumes_accounts": flotilla_volumes_accounts,
            "flotilla_volumes_senders": flotilla_volumes_senders,
            "flotilla_volumes_settings": flotilla_volumes_settings,
            "flotilla_volumes_ssh_config": volumes.ssh_config,
        }
