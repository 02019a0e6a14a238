# MIT License, see LICENSE at the root of the project.
"""Filters of the role patch: what is due on a host, and whether it is well afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla.patching import Found, Reboot, Upgrade, drained, due, found, order, summary, trouble, unwell


def flotilla_patch_found(simulated: str, upgrade: str, old: str) -> dict[str, Any]:
    """`packages`, `reboot` and `services` of a host, from what apt and needrestart said."""
    what = found(simulated, Upgrade(upgrade), old)
    return {"packages": list(what.packages), "reboot": what.reboot, "services": list(what.services)}


def _of(what: Mapping[str, Any]) -> Found:
    return Found(tuple(what["packages"]), bool(what["reboot"]), tuple(what["services"]))


def flotilla_patch_wants(what: Mapping[str, Any], policy: str) -> dict[str, Any]:
    """The same, with `reboot` as the policy has it."""
    return {**what, "reboot": _of(what).reboots(Reboot(policy))}


def flotilla_patch_due(what: Mapping[str, Any], policy: str) -> bool:
    """Whether there is anything to do."""
    return due(_of(what), Reboot(policy))


def flotilla_patch_summary(what: Mapping[str, Any], policy: str) -> str:
    """What is to be done, for people."""
    return summary(_of(what), Reboot(policy))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "flotilla_patch_drained": drained,
            "flotilla_patch_due": flotilla_patch_due,
            "flotilla_patch_found": flotilla_patch_found,
            "flotilla_patch_order": order,
            "flotilla_patch_summary": flotilla_patch_summary,
            "flotilla_patch_trouble": trouble,
            "flotilla_patch_unwell": unwell,
            "flotilla_patch_wants": flotilla_patch_wants,
        }
