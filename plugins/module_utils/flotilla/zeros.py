"""What a file says by a zero, which `docker compose config` leaves out of what it prints.

`monitor: 0s`, `read_only: false` and `cap_drop: []` say something; without them Flotilla's own values would stand in
their place.
The controller finds which keys a file states, the host sets those that Compose has left out to zero.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# In the bundle, beside the app's files.
STATED = ".flotilla/stated.json"
SECTIONS = ("update_config", "rollback_config")
ZEROS: dict[str, str | int] = {"delay": "0s", "monitor": "0s", "max_failure_ratio": 0}
# Of the service itself; in `Stated` they are below the section `SERVICE`.
SERVICE = "service"
SERVICE_ZEROS: dict[str, Any] = {"read_only": False, "cap_drop": []}

# Service → section → keys that some file states for it.
Stated = dict[str, dict[str, list[str]]]


def find(files: Iterable[Any]) -> Stated:
    """Which of the keys that may be lost the parsed Compose files state, also by way of `extends`."""
    own: dict[str, dict[str, set[str]]] = {}
    extended: dict[str, set[str]] = {}
    for compose in files:
        for name, service in _mapping(_mapping(compose).get("services")).items():
            stated = {key for key, value in _mapping(service).items() if key in SERVICE_ZEROS and value is not None}
            own.setdefault(name, {}).setdefault(SERVICE, set()).update(stated)
            deploy = _mapping(_mapping(service).get("deploy"))
            for section in SECTIONS:
                keys = {key for key in _mapping(deploy.get(section)) if key in ZEROS}
                own.setdefault(name, {}).setdefault(section, set()).update(keys)
            base = _mapping(service).get("extends")
            extended.setdefault(name, set()).add(base if isinstance(base, str) else _mapping(base).get("service", name))
    found: Stated = {}
    for name in sorted(own):
        bases, waiting = {name}, [name]
        while waiting:
            more = extended.get(waiting.pop(), set()) - bases
            bases |= more
            waiting += more
        sections = {
            part: sorted(set().union(*(own.get(base, {}).get(part, ()) for base in bases)))
            for part in (SERVICE, *SECTIONS)
        }
        if lost := {part: keys for part, keys in sections.items() if keys}:
            found[name] = lost
    return found


def restore(config: Mapping[str, Any], stated: Stated) -> dict[str, Any]:
    """A resolved configuration with the zeros that its files state."""
    restored = copy.deepcopy(dict(config))
    for name, service in (restored.get("services") or {}).items():
        for section, keys in stated.get(name, {}).items():
            if section == SERVICE:
                service.update({key: copy.copy(SERVICE_ZEROS[key]) for key in keys if not service.get(key)})
                continue
            deploy = service["deploy"] = dict(_mapping(service.get("deploy")))
            deploy[section] = {**{key: ZEROS[key] for key in keys}, **_mapping(deploy.get(section))}
    return restored


def read(source: Path) -> Stated:
    """What the controller found in the files that are unpacked in `source`."""
    file = source / STATED
    stated: Stated = json.loads(file.read_text()) if file.is_file() else {}
    return stated


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
