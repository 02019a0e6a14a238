"""What a host has to upgrade, restart and reboot, read from what apt, needrestart and the engine say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from .stack_images import STACKS, tagged

# `Inst <name> [<old>] (<new> <archive>, <archive> [<architecture>])`, source: apt-get(8), --simulate. Without [<old>]
# it is new, and comes along with what needs it.
_INST = re.compile(r"^Inst (?P<name>\S+)(?P<old> \[[^\]]*\])? \((?P<new>\S+) (?P<archives>[^)]*)\)", re.MULTILINE)
# needrestart's README.batch.md: 2 and 3 are a kernel that waits for the reboot.
_KERNEL = re.compile(r"^NEEDRESTART-KSTA: *[23]$", re.MULTILINE)
_SERVICE = re.compile(r"^NEEDRESTART-SVC: *(\S+)$", re.MULTILINE)
_FLAG = re.compile(r"^REBOOT$", re.MULTILINE)


class Upgrade(StrEnum):
    """What is upgraded."""

    SECURITY = "security"
    FULL = "full"


class Reboot(StrEnum):
    """When a host reboots."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class Found:
    """What is due on a host: packages that are newer, whether it waits for a reboot, services that run old code.

    images: why images of stacks are to be renewed.  notes: what could not be found out.
    """

    packages: tuple[str, ...]
    reboot: bool
    services: tuple[str, ...]
    images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def reboots(self, policy: Reboot) -> bool:
        return policy is Reboot.ALWAYS or (policy is Reboot.AUTO and self.reboot)


def newer(simulated: str, upgrade: Upgrade) -> list[str]:
    """Installed packages that `apt-get --simulate upgrade` would replace, sorted; of the security archive, or all."""
    names = set()
    for match in _INST.finditer(simulated):
        # Debian-Security:13/stable-security, Ubuntu:24.04/noble-security
        secure = any(one.split()[0].endswith("-security") for one in match["archives"].split(",") if one.split())
        if match["old"] and (upgrade is Upgrade.FULL or secure):
            names.add(match["name"])
    return sorted(names)


def found(simulated: str, upgrade: Upgrade, old: str) -> Found:
    """old: `REBOOT` on a line of its own where /run/reboot-required is there, and what `needrestart -b` said."""
    reboot = bool(_FLAG.search(old) or _KERNEL.search(old))
    return Found(tuple(newer(simulated, upgrade)), reboot, tuple(sorted(set(_SERVICE.findall(old)))))


def due(what: Found, policy: Reboot) -> bool:
    """Whether there is anything to do."""
    return bool(what.packages or what.services or what.images or what.reboots(policy))


def summary(what: Found, policy: Reboot) -> str:
    """What is to be done, for people."""
    parts = []
    if what.packages:
        parts.append(f"upgrade {', '.join(what.packages)}")
    if what.reboots(policy):
        parts.append("reboot")
    elif what.services:
        parts.append(f"restart {', '.join(what.services)}")
    if what.reboot and policy is Reboot.NEVER:
        parts.append("it waits for a reboot, and patch_reboot is never")
    if what.images:
        parts.append(f"renew {', '.join(what.images)}")
    return "; ".join([*(parts or ["nothing to do"]), *what.notes])


def with_images(what: Found, images: Iterable[Mapping[str, Any]]) -> Found:
    """The same, with what the module `flotilla_images` said of the host's images."""
    said = [one for one in images if one["what"] in STACKS]
    return replace(
        what,
        images=tuple(str(one["due"]) for one in said if one["due"]),
        notes=tuple(f"{one['what']}: {one['note']}" for one in said if one["note"]),
    )


def stacks_due(images: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The stacks to renew, each as the `role` that has it and which of its `tasks` renew it."""
    return [
        {"role": "postgres", "tasks": "pooler_renew"}
        if one["what"] == "pgbouncer"
        else {"role": str(one["what"]), "tasks": "renew"}
        for one in images
        if one["due"]
    ]


def digests(hosts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What registries have said in this run, reference → digest: the first host's word is all hosts'.

    hosts: their variables; those that were looked at have `patch_images`.
    """
    said: dict[str, str] = {}
    for variables in hosts:
        for one in variables.get("patch_images") or ():
            if one["newest"]:
                said.setdefault(tagged(str(one["base"] or one["image"])), str(one["newest"]))
    return said


def unwell(listed: Iterable[str], before: Iterable[str]) -> list[str]:
    """The containers that ran before and do not run now, or are not healthy now.

    listed: lines of `docker ps`, name and status.  before: names.
    """
    status = {name: text for name, _, text in (line.partition(" ") for line in listed) if name}
    words = {name: _health(text) for name, text in status.items()}
    return sorted(
        f"{name} ({words.get(name, 'does not run')})" for name in {*before} if name and words.get(name, "gone")
    )


def _health(status: str) -> str:
    """Why a container that runs is not well; empty when it is. Of `docker ps`: `Up 3 seconds (health: starting)`."""
    if not status.startswith("Up"):
        return status
    return next((word for word in ("unhealthy", "starting", "Paused") if word in status), "")


def drained(balanced: Mapping[str, Any], host: str) -> bool:
    """Whether a balancer sends nothing to a host on somebody's word.

    balanced: what a loop over balancers registered.
    """
    servers = [server for one in balanced.get("results", []) for server in one.get("servers", [])]
    return any(server["host"] == host and server["condition"] == "drained" for server in servers)


def order(groups: Mapping[str, Iterable[str]]) -> list[str]:
    """All hosts: app hosts first, then the balancers, and last those with data, for which nobody stands in."""
    data = [host for group in ("redis", "postgres") for host in groups.get(group, ())]
    others = [host for group in ("app", "loadbalancer", "all") for host in groups.get(group, ()) if host not in data]
    return list(dict.fromkeys([*others, *data]))


def trouble(result: Mapping[str, Any]) -> str:
    """Why a task failed, in one line; of a loop, why its items did."""
    wrong = [one for one in result.get("results", []) if one.get("failed") or one.get("unreachable")] or [result]
    return "; ".join(" ".join(str(one.get("msg", "it failed")).split()) for one in wrong)
