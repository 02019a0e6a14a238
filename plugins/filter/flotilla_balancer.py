"""Filters that check and shape what the load balancer is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla.balancer import balancer_trouble, judge
from flotilla.frontage import balanced_apps, balanced_servers, balancers, checked_servers, frontages


def flotilla_balancer_frontages(
    apps: Sequence[Mapping[str, Any]], extra_names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """`haproxy_apps` as the template needs them, with all their `names`. Raises AnsibleFilterError."""
    try:
        return [{**asdict(one), "names": list(one.names)} for one in frontages(apps, extra_names)]
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def flotilla_balancer_checked(servers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`haproxy_servers` as the template needs them. Raises AnsibleFilterError."""
    try:
        return checked_servers(servers)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def flotilla_balancer_judged(
    now: Mapping[str, Any], before: Mapping[str, Any], app: str, host: str, ratio: float
) -> str:
    """Why the balancers find a host bad; empty when they do not, or cannot be asked.

    now, before: what two loops over the balancers registered, with the module's `counters`.
    """
    earlier = {one.get("app_balancer"): one.get("counters") or {} for one in before.get("results") or []}
    found = []
    for one in now.get("results") or []:
        name = one.get("app_balancer")
        if name in earlier and (why := judge(earlier[name], one.get("counters") or {}, app, host, float(ratio))):
            found.append(f"{name}: {why}")
    return "\n".join(found)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "flotilla_balancer_apps": balanced_apps,
            "flotilla_balancer_checked": flotilla_balancer_checked,
            "flotilla_balancer_frontages": flotilla_balancer_frontages,
            "flotilla_balancer_judged": flotilla_balancer_judged,
            "flotilla_balancer_trouble": balancer_trouble,
            "flotilla_balancers": balancers,
            "flotilla_balancer_servers": balanced_servers,
        }
