"""Filters of the deploy: what all hosts said, judged together, and the small shapes that playbooks hand over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def explain(hostvars: Mapping[str, Any], hosts: Iterable[str], registered: str | Sequence[str], app: str) -> str:
    """What the hosts that failed a phase said, host by host; empty when none did."""
    names = [registered] if isinstance(registered, str) else registered
    parts = []
    for host in hosts:
        for name in names:
            result = hostvars[host].get(name)
            if result and result.get("ok") is False:
                parts.append(f"{app} on {host}:\n{result.get('explanation', '')}")
    return "\n".join(parts)


def changes(hostvars: Mapping[str, Any], hosts: Sequence[str]) -> bool:
    """Whether a deploy has anything to do: some host serves something else, or its images differ.

    The hosts' `app_admitted` are compared with the digests that the first one (with any) found.
    """
    results = [hostvars[host]["app_admitted"] for host in hosts]
    digests = next((dict(result["digests"]) for result in results if result["digests"]), {})
    for result in results:
        wanted = {service: digests.get(image, image) for service, image in result["images"].items()}
        if result["unfinished"] or not result["matches"] or dict(result["live_images"]) != wanted:
            return True
    return False


def outcome(hostvars: Mapping[str, Any], hosts: Sequence[str], app: Mapping[str, Any], changed: bool) -> str:
    """The last line of a deploy: what serves on which host, and since when it is so."""
    if not changed:
        return f"{app['name']} {app['version']}: nothing to do, it serves on {', '.join(hosts)}"
    live = {host: hostvars[host]["app_finished"].get("live") or {} for host in hosts}
    parts = [f"{host} ({slot.get('colour', 'check mode')})" for host, slot in live.items()]
    return f"{app['name']} {app['version']}: deployed, serves on {', '.join(parts)}"


def batches(hosts: Sequence[str]) -> list[list[str]]:
    """One host first (the canary), then the rest together."""
    return [list(part) for part in (hosts[:1], hosts[1:]) if part]


def colour_networks(apps: Iterable[Mapping[str, Any]]) -> list[str]:
    """The networks of both colours of all apps, which data services on the same host join."""
    return [f"{app['name']}-{colour}" for app in apps for colour in ("blue", "green")]


def stack_memory(groups: Iterable[str], postgres: int, redis: int, nginx: int) -> dict[str, int]:
    """MiB that the stacks of a host in these groups may use, by name."""
    limits = {"postgres": int(postgres), "redis": int(redis), "app": int(nginx)}
    names = {"app": "nginx"}
    return {names.get(group, group): limits[group] for group in groups if group in limits}


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Any]:
        """Filter names, all prefixed with the project's."""
        return {
            "flotilla_explain": explain,
            "flotilla_changes": changes,
            "flotilla_outcome": outcome,
            "flotilla_batches": batches,
            "flotilla_colour_networks": colour_networks,
            "flotilla_stack_memory": stack_memory,
        }
