"""Backups of volumes with restic: what is declared, what a host is told, and what status says. For the controller."""

from __future__ import annotations

import hashlib
import hmac
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .backups import HOW_TO, LOOK, MAKE, PROVISION, judge_drill, seconds, size, span
from .inventory import Sources
from .problem import Problem
from .told import told
from .yaml_lines import YamlError, read_documents

HOME = "/opt/flotilla/volumes"
# Below the directory that accounts see as their root.
HOST_PATH = "/volumes"
REDIS = "redis-data"
WATCH = LOOK.replace("'flotilla-backup@*' and docker logs postgres", "flotilla-volumes")


def engine_names(text: str, app: str) -> dict[str, str]:
    """The volumes that a Compose file declares: key → the engine's name, as the resolver gives it."""
    try:
        documents = read_documents(text)
    except YamlError:
        return {}
    data = documents[0].data if len(documents) == 1 else None
    section = data.get("volumes") if isinstance(data, dict) else None
    if not isinstance(section, dict):
        return {}
    return {
        str(key): str(definition["name"])
        if isinstance(definition, Mapping) and definition.get("name")
        else f"{app}_{key}"
        for key, definition in section.items()
    }


def of_host(
    groups: Iterable[str], apps: Iterable[Mapping[str, Any]], durable: bool, read: Callable[[Mapping[str, Any]], str]
) -> list[dict[str, str]]:
    """What is backed up on a host: `name` (the engine's), `app` and `kind` (files, redis) of each volume.

    groups: the host's.  durable: its `redis_durable`.  read: the text of an app's Compose file.
    """
    member = set(groups)
    found = []
    for app in apps if "app" in member else ():
        wanted = app.get("backup_volumes") or []
        names = engine_names(read(app), str(app["name"])) if wanted else {}
        found += [
            {"name": names.get(key, f"{app['name']}_{key}"), "app": str(app["name"]), "kind": "files"} for key in wanted
        ]
    if "redis" in member and durable:
        found.append({"name": REDIS, "app": "", "kind": "redis"})
    return found


def senders(groups: Mapping[str, Sequence[str]], apps: Any, durable: Callable[[str], bool]) -> list[str]:
    """The hosts that send volumes to a repository. durable: whether Redis of a host is to keep its data."""
    declared = isinstance(apps, list) and any(isinstance(app, Mapping) and app.get("backup_volumes") for app in apps)
    found = list(groups.get("app", [])) if declared else []
    return sorted({*found, *(host for host in groups.get("redis", []) if durable(host))})


def problems(
    hosts: Mapping[str, Mapping[str, Any]],
    variables: Mapping[str, Any],
    places: Sequence[str],
    sources: Sources,
    command: str,
    *,
    declared: bool,
) -> Iterator[Problem]:
    """What keeps declared volumes from being backed up. hosts: those that send, with their raw variables.

    variables: of any of them.  places: the hosts of the group `backup`.  command: completes the secrets.
    declared: whether an app wants a volume backed up. A Redis that is a store alone may do without, as a database may.
    """
    s3 = variables.get("backup_s3") or {}
    if not places and not s3:
        if not declared:
            return
        what = f"no host is in that group, and there is no backup_s3: the volumes of `{sorted(hosts)[0]}` have no place"
        fix = f"add a host or backup_s3, or take backup_volumes away; see {HOW_TO}"
        yield Problem(sources.place("backup"), "backup", what, fix)
    elif len(places) == 1 and places[0] in hosts and not s3:
        what = f"`{places[0]}` is the only host in it, and has volumes of its own: one lost disk would take both"
        yield Problem(sources.place("backup"), "backup", what, f"put another host into the group; see {HOW_TO}")
    if (places or s3) and not variables.get("backup_volumes_key"):
        what = f"is missing, and `{sorted(hosts)[0]}` encrypts the backups of its volumes with a key made of it"
        fix = (
            'add backup_volumes_key: "{{ vault_backup_volumes_key }}" to group_vars/all/backup.yml, then '
            f"{command}; backup_key stays: docs/how-to/back-up.md#keys"
        )
        yield Problem(sources.last, "backup_volumes_key", what, fix)
    named: dict[str, str] = {}
    for host, mine in hosts.items():
        name = str(mine.get("backup_volumes_name") or host)
        if "{{" not in name and name in named:
            what = f"is {name} for `{named[name]}` and `{host}`, which would share a repository"
            fix = "give each host a name of its own"
            yield Problem(sources.place("backup_volumes_name"), "backup_volumes_name", what, fix)
        named[name] = host


def key(backup_volumes_key: str, name: str) -> str:
    """What a host's repository is encrypted with: from it, neither `backup_volumes_key` nor another's key can be had.

    name: the host's in the repositories. HMAC-SHA256, as RFC 5869 (2.3) expands a key.
    """
    return hmac.new(backup_volumes_key.encode(), b"flotilla volumes\0" + name.encode(), hashlib.sha256).hexdigest()


def account(name: str) -> str:
    """The account on a host of the group `backup` that the repository of `name` belongs to; 25 letters (32 may be)."""
    return f"flotilla-vol-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `flotilla-volumes` is told. given: the role's variables, without `backup_` and `volumes_`."""
    name = str(given["name"])
    repositories: list[dict[str, Any]] = [
        {
            "name": host["name"],
            "url": f"sftp:{host['name']}:{HOST_PATH}/{account(name)}",
            "options": [f"sftp.command=ssh -F {HOME}/ssh_config {shlex.quote(host['name'])} -s sftp"],
            "environment": {},
        }
        for host in given["hosts"]
    ]
    s3 = given["s3"]
    if s3:
        style = "path" if s3.get("uri_style") == "path" else "dns"
        repositories.append(
            {
                "name": f"bucket {s3['bucket']}",
                "url": f"s3:https://{s3['endpoint']}/{s3['bucket']}{HOST_PATH}/{name}",
                "options": [f"s3.bucket-lookup={style}", f"s3.region={s3['region']}"],
                "environment": {
                    "AWS_ACCESS_KEY_ID": s3["key"],
                    "AWS_SECRET_ACCESS_KEY": s3["secret"],
                },
                "authority": f"{HOME}/authority.crt" if s3.get("authority") else "",
            }
        )
    return {
        "name": name,
        "retention_days": int(given["retention_days"]),
        "volumes": list(given["volumes"]),
        "repositories": repositories,
    }


def ssh_config(hosts: Sequence[Mapping[str, Any]], name: str) -> str:
    """How each repository on another host is reached, for `ssh -F`. hosts: `name`, `address`, `port` of each."""
    lines = ["# Written by Flotilla's role backup; changes made here are lost."]
    for host in hosts:
        lines += [
            f"Host {host['name']}",
            f"  HostName {host['address']}",
            f"  Port {host['port']}",
            f"  User {account(name)}",
            f"  HostKeyAlias {host['name']}",
        ]
    lines += [
        "Host *",
        f"  IdentityFile {HOME}/ssh/id_ed25519",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {HOME}/known_hosts",
        "  StrictHostKeyChecking yes",
        "  BatchMode yes",
        "  ForwardAgent no",
        "  ConnectTimeout 15",
        "  ServerAliveInterval 15",
        "  ServerAliveCountMax 4",
        # The first holds against a quantum computer.
        "  KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256",
    ]
    return "\n".join(lines) + "\n"


def known_hosts(hosts: Sequence[Mapping[str, Any]]) -> str:
    """The host keys of the repositories, by the names that ssh_config gives them."""
    return "".join(f"{host['name']} {' '.join(host['host_key'].split()[:2])}\n" for host in hosts)


def made(said: Mapping[str, Any], host: str) -> dict[str, list[str]]:
    """`lines` and `problems` of what one `flotilla-volumes run` answered."""
    lines, found = [], []
    for one in said["volumes"]:
        if one["outcome"] == "done":
            what = f"{one['snapshot']}, {one['files']} files, {size(one['bytes'])}, {size(one['added_bytes'])} new"
            lines.append(f"{one['repository']}: {one['volume']}: {what}, {one['seconds']:.0f} s")
        else:
            found.append(f"{host}: {one['volume']}: {one.get('error', '')}{_next(str(one.get('error', '')))}")
    return {"lines": lines, "problems": found}


def judge(said: Mapping[str, Any], limit: Mapping[str, int]) -> tuple[list[str], list[tuple[str, str]]]:
    """Lines about the volumes of one host, and what is wrong, with what to do next (`{inventory}` is filled in)."""
    lines: list[str] = []
    wrong: list[tuple[str, str]] = [(str(error), WATCH) for error in said["errors"]]
    now = float(said["now"])
    for one in said["volumes"]:
        newest, where = one["newest"], f"{one['volume']} in {one['repository']}"
        if not newest:
            lines.append(f"{where}: no snapshot yet")
            # Before the app's first release there is no volume.
            since = said["since"]
            if said["last"] or (since and now - seconds(str(since)) > limit["max_age_hours"] * 3600):
                wrong.append((f"there is no snapshot of {where}", MAKE))
            continue
        age = now - newest["at"]
        oldest = span(now - one["oldest_at"])
        lines.append(f"{where}: {newest['id']}, {span(age)} ago; {one['number']} kept, the oldest {oldest} old")
        if age > limit["max_age_hours"] * 3600:
            what = f"the newest snapshot of {where} is {span(age)} old, more than {limit['max_age_hours']} h"
            wrong.append((what, MAKE))
    last = said["last"]
    wrong += [
        (f"the last backup of {one['volume']} ({last['at']}) failed: {one.get('error', '')}", WATCH)
        for one in (last["volumes"] if last else ())
        if one["outcome"] == "failed"
    ]
    for one in said["restored"]:
        lines.append(f"{one['volume']}: restored {one['at']}; {one['before']} has what was there before")
    line, more = judge_drill(said["drill"], said["since"], now, limit["drill_max_age_days"])
    return [*lines, f"volumes' {line}"], wrong + more


def report(
    seen: Mapping[str, Mapping[str, Any]], limits_of: Mapping[str, Mapping[str, int]], inventory: str
) -> dict[str, list[str]]:
    """`lines` and `problems`, from what `flotilla-volumes status` told on each host (`said`), or Ansible (`msg`)."""

    def judged(host: str, said: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        lines, wrong = judge(said, limits_of[host])
        return lines, [f"{what}{_next(what, do.format(inventory=inventory))}" for what, do in wrong]

    return told("volumes", "the backups of its volumes", seen, judged, PROVISION.format(inventory=inventory))


def _next(what: str, do: str = WATCH) -> str:
    """What to do next, where the words do not say so themselves."""
    return "" if "Next: " in what else f". Next: {do}"
