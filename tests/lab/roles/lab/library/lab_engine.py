#!/usr/bin/python
"""Bring up what a lab is on this machine, or remove it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

DOCUMENTATION = r"""
module: lab_engine
short_description: Bring up what a lab is on this machine, or remove it
description:
  - Makes the lab's networks, its keys and certificates, its registry and its droplets, and waits until the registry
    answers and the droplets have host keys; or removes all of that. It is one call, because a task costs more than most
    of its steps.
  - What is there already and as it is wanted stays.
options:
  state: {description: Up or gone., type: str, choices: [present, absent], default: present}
  name: {description: The lab's name., type: str, required: true}
  directory: {description: What the lab writes., type: path, required: true}
  cache: {description: What labs share., type: path}
  index: {description: The third octet of the lab's networks; V(auto) takes one that is free., type: str, default: auto}
  droplets: {description: As the filter C(lab_droplets) makes them., type: list, elements: dict, default: []}
  images: {description: Reference of an image by its name., type: dict, default: {}}
  ports: {description: 'Port of the droplet that serves → port of this machine, 0 for any.', type: dict, default: {}}
  login: {description: 'C(name:password) of the registry.', type: str}
author:
  - Flotilla
"""

EXAMPLES = r"""
- name: Bring it up
  lab_engine:
    name: flotilla
    directory: .lab/flotilla
    cache: ~/.cache/flotilla
    droplets: "{{ lab_hosts }}"
    images: {registry: flotilla-lab/registry:1, droplet-trixie: flotilla-lab/droplet-trixie:1}
    ports: {443: 8443, 80: 8080}
    login: flotilla:secret
"""

RETURN = r"""
index: {description: The third octet of its networks., type: int, returned: when present}
droplets:
  description: O(droplets) with C(address) and C(private_address).
  type: list
  elements: dict
  returned: when present
containers:
  description: By host, its container's C(id), its own C(host_key), and whether it was made or started now (C(new)).
  type: dict
  returned: when present
serving: {description: 'Port of the droplet that serves → port of this machine.', type: dict, returned: when present}
registries: {description: Where the registries C(hub) and C(team) are reached., type: dict, returned: when present}
public_key: {description: The public line of the lab's SSH key., type: str, returned: when present}
owner: {description: 'User and group, as numbers, that the lab belongs to here.', type: dict, returned: when present}
"""


def up(wanted: dict[str, Any]) -> dict[str, Any]:
    """Bring a lab up."""
    from ansible.module_utils import lab_containers, lab_identity

    name, directory, cache = wanted["name"], Path(wanted["directory"]), Path(wanted["cache"])
    for shared in ("registry", "apt"):
        (cache / shared).mkdir(parents=True, exist_ok=True)
    engine = lab_containers.Engine(name)
    index, changed = engine.make_networks(wanted["index"])
    droplets = lab_containers.placed(wanted["droplets"], index)
    addresses = [one["address"] for one in droplets]
    identity = lab_identity.identity(directory, name, addresses, wanted["login"])
    engine.make_volume()
    registry = lab_containers.registry(
        name, index, wanted["images"]["registry"], directory, cache, engine.labels, identity.certificate
    )
    ports = {int(inside): int(outside) for inside, outside in wanted["ports"].items()}
    labels = {**engine.labels, "flotilla.lab.key": identity.fingerprint}
    containers = [
        lab_containers.droplet(name, one, wanted["images"][one["image"]], directory, labels, ports) for one in droplets
    ]
    made = engine.bring_up([registry, *containers])
    _, reached = engine.describe(registry.name)
    registries = {kind: f"127.0.0.1:{reached[f'{port}/tcp']}" for kind, port in lab_containers.REGISTRY_PORTS.items()}
    lab_containers.wait_for_registry(registries.values())
    serving: dict[str, int] = {}
    told = {}
    for one in droplets:
        container = one["container"]
        identifier, published = engine.describe(container)
        serving.update(published)
        told[one["host"]] = {"id": identifier, "host_key": engine.host_key(container), "new": made[container]}
    return {
        "changed": changed or any(made.values()),
        "index": index,
        "droplets": droplets,
        "containers": told,
        "serving": serving,
        "registries": registries,
        "public_key": identity.public_key,
        "owner": {"user": os.getuid(), "group": os.getgid()},
    }


def down(wanted: dict[str, Any]) -> dict[str, Any]:
    """Remove a lab and what it wrote."""
    from ansible.module_utils import lab_containers

    directory = Path(wanted["directory"])
    written = directory.exists()
    changed = lab_containers.Engine(wanted["name"]).remove_all()
    if written:
        shutil.rmtree(directory)
    return {"changed": changed or written}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "cache": {"type": "path"},
            "index": {"type": "str", "default": "auto"},
            "droplets": {"type": "list", "elements": "dict", "default": []},
            "images": {"type": "dict", "default": {}},
            "ports": {"type": "dict", "default": {}},
            "login": {"type": "str", "no_log": True},
        },
        required_if=[("state", "present", ("cache", "login"))],
    )
    try:
        import docker
        from ansible.module_utils.lab_containers import LabError
    except ImportError as error:
        module.fail_json(msg=f"{missing_required_lib('docker')} Run tests/lab/bootstrap, and use .venv. ({error})")
    try:
        module.exit_json(**(up if module.params["state"] == "present" else down)(module.params))
    except LabError as error:
        module.fail_json(msg=str(error))
    except docker.errors.DockerException as error:
        module.fail_json(msg=f"The engine refuses something that the lab is made of: {error}")


if __name__ == "__main__":
    main()
