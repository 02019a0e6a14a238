"""The filter `flotilla_networks`: a Compose file that joins one service to networks made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

DOCUMENTATION = r"""
name: flotilla_networks
short_description: A second Compose file that joins a service to external networks
positional: _input
options:
  _input:
    description: Names of Docker networks that exist.
    type: list
    elements: str
    required: true
  service:
    description: The Compose service; also its alias on each network.
    type: str
    required: true
"""

EXAMPLES = r"""
content: "{{ ['notes-blue', 'notes-green'] | flotilla_networks('postgres') | to_nice_json }}"
"""

RETURN = r"""
_value:
  description: A Compose file's data.
  type: dict
"""


def flotilla_networks(networks: Sequence[str], service: str) -> dict[str, Any]:
    """Return the Compose data that keeps service on its own network and joins it to networks, as alias service."""
    for name in networks:
        if not isinstance(name, str) or NAME.fullmatch(name) is None or name == "default":
            raise AnsibleFilterError(f"{service}_networks: {name!r} is not a Docker network's name")
    joined = sorted(set(networks))
    return {
        "services": {service: {"networks": {"default": {}} | {name: {"aliases": [service]} for name in joined}}},
        "networks": {name: {"name": name, "external": True} for name in joined},
    }


class FilterModule:
    """Registers the filter."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {"flotilla_networks": flotilla_networks}
