"""Filters of the role docker: what the engine's service must do, and what the client's file must hold."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

RELOADABLE = frozenset(
    {
        "debug",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "shutdown-timeout",
    }
)
"""Keys of daemon.json that a running engine takes over on SIGHUP (dockerd(8), "Configuration reload behavior")."""

HUB = "https://index.docker.io/v1/"
"""The name under which the client looks up a login to Docker Hub."""


def docker_service_state(before: str | None, after: Mapping[str, Any]) -> str:
    """The state that docker.service must be brought to for `after` to be in effect.

    `before` is the base64 text of the daemon.json that the engine was last (re)started with, as the module slurp
    returns it; None or empty if there was none. Returns a state of ansible.builtin.systemd_service:

    - `started`: nothing changed;
    - `reloaded`: only keys changed that a running engine takes over. A key that vanished is none of them: the engine
      keeps its last value until it is restarted;
    - `restarted`: anything else, a file that is not a JSON object included. It starts an engine that is not running.
    """
    try:
        old = json.loads(base64.b64decode(before)) if before else None
    except ValueError:
        old = None
    if not isinstance(old, dict):
        return "restarted"
    changed = {key for key in old.keys() | after.keys() if old.get(key) != after.get(key)}
    if not changed:
        return "started"
    return "reloaded" if changed <= RELOADABLE & after.keys() else "restarted"


def docker_client_config(logins: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The client's config.json for logins of `{registry, username, password}`; of two for a registry the last wins."""
    return {
        "auths": {
            _address(login["registry"]): {
                "auth": base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
            }
            for login in logins
        }
    }


def _address(registry: str) -> str:
    return HUB if registry in {"docker.io", "index.docker.io", "registry-1.docker.io"} else registry


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "docker_service_state": docker_service_state,
            "docker_client_config": docker_client_config,
        }
