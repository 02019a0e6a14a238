# MIT License, see LICENSE at the root of the project.
"""Filters of the role patch: what is due on a host, and whether it is well afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla import patching
from flotilla.patching import Found, Reboot, Upgrade, drained, due, found, order, summary, trouble, unwell


def flotilla_patch_found(
    simulated: str, upgrade: str, old: str, images: Iterable[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """`packages`, `reboot`, `services`, `images`, `notes` of a host: what apt, needrestart and the engine said."""
    what = patching.with_images(found(simulated, Upgrade(upgrade), old), images)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(what).items()}


def _of(what: Mapping[str, Any]) -> Found:
    texts = {name: tuple(what.get(name) or ()) for name in ("packages", "services", "images", "notes")}
    return Found(reboot=bool(what["reboot"]), **texts)


def flotilla_patch_wants(what: Mapping[str, Any], policy: str) -> dict[str, Any]:
    """The same, with `reboot` as the policy has it."""
    return {**what, "reboot": _of(what).reboots(Reboot(policy))}


def flotilla_patch_digests(hostvars: Mapping[str, Any]) -> dict[str, str]:
    """What registries have said of images in this run, by the hosts that were looked at."""
    return patching.digests(hostvars[host] for host in hostvars)


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
            "flotilla_patch_digests": flotilla_patch_digests,
            "flotilla_patch_drained": drained,
            "flotilla_patch_due": flotilla_patch_due,
            "flotilla_patch_found": flotilla_patch_found,
            "flotilla_patch_order": order,
            "flotilla_patch_stacks": patching.stacks_due,
            "flotilla_patch_summary": flotilla_patch_summary,
            "flotilla_patch_trouble": trouble,
            "flotilla_patch_unwell": unwell,
            "flotilla_patch_wants": flotilla_patch_wants,
        }
