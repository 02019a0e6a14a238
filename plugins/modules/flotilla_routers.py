#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Make the network between the edge and the routers, and give each app's two routers their addresses on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.addresses import (
    AddressError,
    read_slots,
    router_addresses,
    with_slots,
    write_slots,
)
from ansible.module_utils.flotilla.engine import Engine, EngineError
from ansible.module_utils.flotilla.resolve import Network

DOCUMENTATION = r"""
module: flotilla_routers
short_description: Give each app's routers fixed addresses
description:
  - Creates the network that the edge shares with the routers, when it is missing.
  - Gives each app two fixed addresses on it, one for a colour, and keeps them in a file; a given address never changes.
  - The edge therefore needs no DNS, which is the engine's and away when the engine is.
options:
  network:
    description: Name of the network.
    type: str
    required: true
  apps:
    description: Names of the apps.
    type: list
    elements: str
    required: true
  book:
    description: The file that the addresses' numbers are kept in; its directory must exist.
    type: path
    required: true
attributes:
  check_mode: {support: full}
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Give the routers their addresses
  flotilla_routers:
    network: flotilla-edge
    apps: [notes]
    book: /opt/flotilla/nginx/routers.json
"""

RETURN = r"""
addresses:
  description: Address by colour, by app. In check mode those of a network that is not there yet are examples.
  type: dict
  returned: success
"""

# In check mode, before there is a network: addresses for documentation (RFC 5737).
EXAMPLE = {"Name": "example", "IPAM": {"Config": [{"Subnet": "192.0.2.0/24", "IPRange": "192.0.2.0/25"}]}}


def main() -> None:
    """Arguments in, the network and the file made, addresses out."""
    module = AnsibleModule(
        argument_spec={
            "network": {"type": "str", "required": True},
            "apps": {"type": "list", "elements": "str", "required": True},
            "book": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    name, book = module.params["network"], Path(module.params["book"])
    engine = Engine()
    try:
        found = _look(engine, name, missing_engine_is_fine=module.check_mode)
        created = found is None
        if created and not module.check_mode:
            engine.ensure_network(name, Network(name), {})
            found = engine.network(name)
        before = read_slots(book)
        after = with_slots(before, module.params["apps"])
        addresses = {app: router_addresses(found or EXAMPLE, after[app]) for app in module.params["apps"]}
        if after != before and not module.check_mode:
            write_slots(after, book)
    except (EngineError, AddressError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=created or after != before, addresses=addresses)


def _look(engine: Engine, name: str, *, missing_engine_is_fine: bool) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] | None = engine.network(name)
    except EngineError as error:
        if missing_engine_is_fine and error.status == 0:
            return None
        raise
    return found


if __name__ == "__main__":
    main()
