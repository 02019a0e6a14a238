#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Make Docker networks, and have a running container join them without a new container."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.engine import Engine, EngineError
from ansible.module_utils.flotilla.resolve import Network

DOCUMENTATION = r"""
module: flotilla_networks
short_description: Make Docker networks and join a container to them
description:
  - Creates the networks that are missing, and connects a running container to each it is not on yet.
  - A network of a Compose file belongs to its container's definition, so that one more makes a new container. A
    network that is joined this way does not, and the container keeps it over its own restarts and the engine's.
  - Other networks of the container are left alone.
  - Talks to the engine's socket; C(community.docker.docker_network) needs an SDK on the host.
options:
  networks:
    description: Names of bridge networks.
    type: list
    elements: str
    required: true
  container:
    description: The container that joins them. Without it they are only made.
    type: str
  alias:
    description: The name under which the others on the networks find the container.
    type: str
attributes:
  check_mode: {support: full}
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Let the app's two colours find the database
  flotilla_networks:
    networks: [notes-blue, notes-green]
    container: postgres
    alias: postgres
"""

RETURN = r"""
created:
  description: Networks that were (or in check mode would be) created.
  type: list
  elements: str
  returned: success
joined:
  description: Networks that the container joined or would join.
  type: list
  elements: str
  returned: success
"""


def main() -> None:
    """Arguments in, what was missing made, what it was out."""
    module = AnsibleModule(
        argument_spec={
            "networks": {"type": "list", "elements": "str", "required": True},
            "container": {"type": "str"},
            "alias": {"type": "str"},
        },
        required_together=[("container", "alias")],
        supports_check_mode=True,
    )
    params = module.params
    engine = Engine()
    container = params["container"]
    try:
        created = [name for name in params["networks"] if engine.network(name) is None]
        joined = missing(engine, container, params["networks"]) if container else []
        if not module.check_mode:
            for name in created:
                engine.ensure_network(name, Network(name), {})
            for name in joined:
                engine.join(name, container, params["alias"])
    except EngineError as error:
        module.fail_json(msg=f"the networks could not be made or joined: {error}")
    module.exit_json(changed=bool(created or joined), created=created, joined=joined)


def missing(engine: Engine, container: str, networks: list[str]) -> list[str]:
    """Those of the networks that the container is not on; all of them where there is no container yet."""
    found = engine.container(container)
    theirs = found["NetworkSettings"]["Networks"] if found else {}
    return [name for name in networks if name not in theirs]


if __name__ == "__main__":
    main()
