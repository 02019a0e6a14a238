# MIT License, see LICENSE at the root of the project.
"""Filters of playbooks/rotate.yml: which apps and which of their secrets are given the new values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: flotilla_rotation
short_description: Whom a rotation of secrets is about
description:
  - C(flotilla_reissued) are the secrets of an app that are or hold one of the new values.
  - C(flotilla_using) are the apps, as C(flotilla_validate) returns them, that have such secrets.
positional: _input
options:
  _input:
    description: The inventory's C(apps) and the name of one; or the apps that C(flotilla_validate) returned.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
loop: "{{ inputs.apps | flotilla_using(apps, new_values) }}"
"""

RETURN = r"""
_value:
  description: Name to value; or a list of apps.
  type: raw
"""


def reissued(apps: Iterable[Mapping[str, Any]], app: str, current: Mapping[str, str]) -> dict[str, str]:
    """The secrets of the named app that are or hold one of the new values, such as a URL with a password in it."""
    secrets = next((one.get("secrets") or {} for one in apps if one["name"] == app), {})
    new = list(current.values())
    return {name: str(text) for name, text in secrets.items() if any(value in str(text) for value in new)}


def using(
    chosen: Iterable[Mapping[str, Any]], apps: Iterable[Mapping[str, Any]], current: Mapping[str, str]
) -> list[Any]:
    """Those of the chosen apps that have a secret with one of the new values."""
    declared = list(apps)
    return [app for app in chosen if reissued(declared, app["name"], current)]


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Any]:
        """Filter names, all prefixed with the project's."""
        return {"flotilla_reissued": reissued, "flotilla_using": using}
