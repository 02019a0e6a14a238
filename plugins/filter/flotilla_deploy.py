"""Filters of a deploy and a rollback: what all hosts said, judged together, and shapes that playbooks hand over."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.checked import first_contact, to_provision, unreachable
from flotilla.registered import (
    at_rest,
    drained,
    end,
    go_on,
    heads,
    list_of_targets,
    locked,
    plan,
    prepared,
    recovery_turns,
    returning,
    trouble,
    turns,
)


def without(pattern: str, skipped: str | Iterable[str]) -> str:
    """A host pattern without the hosts that are left out on purpose."""
    return ":!".join([pattern, *names(skipped)])


def names(listed: str | Iterable[str]) -> list[str]:
    """`a,b` or a list, as a list."""
    parts = listed.split(",") if isinstance(listed, str) else listed
    return [str(part).strip() for part in parts if str(part).strip()]


def batches(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The batches of a plan: who commits, who is watched meanwhile, after which delay, and whether without traffic."""
    roll = plan["roll"]
    found: list[dict[str, Any]] = []
    before: list[str] = []
    for number, batch in enumerate(roll["batches"]):
        watched = list(before) if roll["monitor"] else []
        delay = roll["delay"] if number else 0.0
        found.append(
            {
                "commit": list(batch),
                "watch": watched,
                "delay": delay,
                "seconds": roll["monitor"],
                "alone": roll["order"] == "stop-first",
            }
        )
        before += batch
    return found


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
            "flotilla_plan": plan,
            "flotilla_locked": locked,
            "flotilla_go_on": go_on,
            "flotilla_returning": returning,
            "flotilla_prepared": prepared,
            "flotilla_end": end,
            "flotilla_at_rest": at_rest,
            "flotilla_drained": drained,
            "flotilla_turns": turns,
            "flotilla_recovery_turns": recovery_turns,
            "flotilla_trouble": trouble,
            "flotilla_heads": heads,
            "flotilla_targets": list_of_targets,
            "flotilla_batches": batches,
            "flotilla_without": without,
            "flotilla_first_contact": first_contact,
            "flotilla_unreachable": unreachable,
            "flotilla_to_provision": to_provision,
            "flotilla_names": names,
            "flotilla_colour_networks": colour_networks,
            "flotilla_stack_memory": stack_memory,
        }
