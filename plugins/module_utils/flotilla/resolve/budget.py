"""`deploy`: limits of memory and CPU, and how an update is rolled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .findings import Findings
from .model import MEMORY, Context, Limits, UpdateConfig
from .places import Place
from .values import seconds, size

_SWARM_ONLY = ("placement", "endpoint_mode", "labels")


def deploy_section(
    name: str, service: Mapping[str, Any], place: Place, context: Context, findings: Findings
) -> dict[str, Any]:
    """`deploy` with what Compose obeys: replicas and resources.

    `mem_limit`, `mem_reservation`, `cpus` and `pids_limit` move into it: Compose refuses a file that sets `pids_limit`
    beside `deploy.resources.limits` without `pids`, and likewise for the others.
    `restart_policy` goes, because it silently wins over `restart`.
    """
    deploy = service.get("deploy") or {}
    mode = deploy.get("mode") or "replicated"
    if mode != "replicated":
        findings.refuse(
            f"services.{name}.deploy.mode",
            f"`{mode}` is for Swarm; Flotilla runs the service on every host of the group `app`",
            "remove the line, and state `replicas:` if one container a host is not enough",
        )
    for key in _SWARM_ONLY:
        if deploy.get(key):
            findings.note(f"services.{name}.deploy.{key}", "left out: only Swarm obeys it")
    resources = deploy.get("resources") or {}
    limits = {key: value for key, value in (resources.get("limits") or {}).items() if value is not None}
    reservations = {
        key: value
        for key, value in (resources.get("reservations") or {}).items()
        if value is not None and key != "generic_resources"
    }
    for key, into, old in (
        ("memory", limits, "mem_limit"),
        ("cpus", limits, "cpus"),
        ("pids", limits, "pids_limit"),
        ("memory", reservations, "mem_reservation"),
    ):
        if service.get(old) and not into.get(key):
            into[key] = service[old]
    limits.setdefault("pids", context.pids)
    if not size(limits.get("memory") or 0):
        limits["memory"] = MEMORY
        findings.note(
            f"services.{name}.deploy.resources.limits.memory", "is not stated: what the host has left is the limit"
        )
    for part in (limits, reservations):
        if "cpus" in part:
            part["cpus"] = str(part["cpus"])
        if "memory" in part:
            part["memory"] = str(part["memory"])
    kept: dict[str, Any] = {"resources": {"limits": limits}}
    if reservations:
        kept["resources"]["reservations"] = reservations
    if place is not Place.MIGRATION and replicas(service) != 1:
        kept["replicas"] = replicas(service)
    return kept


def replicas(service: Mapping[str, Any]) -> int:
    """How many containers of a service run on a host."""
    stated = (service.get("deploy") or {}).get("replicas")
    if stated is None:
        stated = service.get("scale")
    return 1 if stated is None else int(stated)


def limits(services: Mapping[str, Mapping[str, Any]], places: Mapping[str, Place]) -> Limits:
    """What one colour, the shared project and the migration may take, by the limits of resolved services."""
    memory = dict.fromkeys(Place, 0)
    cpus = dict.fromkeys(Place, 0.0)
    unlimited = []
    for name, service in services.items():
        stated = service["deploy"]["resources"]["limits"]
        count = int(service["deploy"].get("replicas", 1))
        if stated["memory"] == MEMORY:
            unlimited.append(name)
        bytes_ = 0 if stated["memory"] == MEMORY else size(stated["memory"])
        memory[places[name]] += bytes_ * count
        cpus[places[name]] += float(stated.get("cpus", 0)) * count
    return Limits(
        colour_memory=memory[Place.COLOUR] + memory[Place.WORKER],
        colour_cpus=cpus[Place.COLOUR] + cpus[Place.WORKER],
        shared_memory=memory[Place.SHARED],
        shared_cpus=cpus[Place.SHARED],
        migration_memory=memory[Place.MIGRATION],
        unlimited=tuple(sorted(unlimited)),
    )


def update_config(services: Mapping[str, Mapping[str, Any]], section: str, findings: Findings) -> UpdateConfig:
    """The one `update_config` (or `rollback_config`) of a colour, from those of its services.

    https://github.com/compose-spec/compose-spec/blob/main/deploy.md#update_config
    """
    stated: dict[str, Any] = {}
    by: dict[str, str] = {}
    for name, service in sorted(services.items()):
        for key, value in ((service.get("deploy") or {}).get(section) or {}).items():
            path = f"services.{name}.deploy.{section}.{key}"
            if key not in _READERS:
                continue
            field, read, wanted = _READERS[key]
            try:
                parsed = read(value)
            except (TypeError, ValueError):
                findings.refuse(path, f"`{value}` is not {wanted}", f"write {wanted}")
                continue
            if field in stated and stated[field] != parsed:
                findings.refuse(
                    path,
                    f"differs from services.{by[field]}, and a colour is rolled as a whole",
                    f"write the same `{key}` in both, or state it once",
                )
            stated.setdefault(field, parsed)
            by.setdefault(field, name)
    return UpdateConfig(**stated, stated=frozenset(stated))


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(value)
        return str(value)

    return read


def _count(value: Any) -> int:
    if (number := int(value)) < 0:
        raise ValueError(value)
    return number


def _ratio(value: Any) -> float:
    if not 0 <= (number := float(value)) <= 1:
        raise ValueError(value)
    return number


_READERS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "order": ("order", _one_of("start-first", "stop-first"), "start-first or stop-first"),
    "parallelism": ("parallelism", _count, "a number of hosts, 0 for all"),
    "delay": ("delay_seconds", seconds, "a duration such as 10s"),
    "monitor": ("monitor_seconds", seconds, "a duration such as 10s"),
    "failure_action": ("failure_action", _one_of("rollback", "pause", "continue"), "rollback, pause or continue"),
    "max_failure_ratio": ("max_failure_ratio", _ratio, "a number from 0 to 1"),
}
