#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Ansible module: whether a host is still what provisioning made of it; which ports of others answer from it."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.inspection import Inspection, served
from ansible.module_utils.flotilla.reach import COMMON, reached
from ansible.module_utils.flotilla.visitor import visitor

DOCUMENTATION = r"""
module: flotilla_inspection
short_description: Look whether a host is still what provisioning made of it
description:
  - Compares sshd, kernel settings, file modes, the firewall's table and the stamp with what provisioning left.
  - With O(state=reached) it tries to connect to ports of other hosts.
  - Changes nothing.
options:
  state:
    description: What to do.
    type: str
    choices: [inspected, reached]
    default: inspected
  stamp:
    description: The stamp to expect; the lookup C(flotilla_stamp) gives it.
    type: str
    default: ""
  command:
    description: What follows the playbook in the commands that are named, such as C( -i inventories/staging).
    type: str
    default: ""
  names:
    description: For which names to ask this host for its certificate.
    type: list
    elements: str
    default: []
  addresses:
    description: Where to ask for it, one after the other.
    type: list
    elements: str
    default: [127.0.0.1]
  https_port:
    description: At which port.
    type: int
    default: 443
  targets:
    description: Address to ports to ask for (V(reached)), besides those that are often left open.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Can run in check mode.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Look at the host
  flotilla_inspection:
    stamp: "{{ lookup('flotilla_stamp') }}"
    names: [www.example.com]
"""

RETURN = r"""
findings:
  description: What is not as it should be, each with C(about), C(what) and C(next).
  type: list
  elements: dict
  returned: O(state=inspected)
notes:
  description: What could not be looked at.
  type: list
  elements: str
  returned: O(state=inspected)
ports:
  description: TCP ports that others could reach, were there no firewall.
  type: list
  elements: int
  returned: O(state=inspected)
builds:
  description: Stack to C(image) and C(digest) of what it runs.
  type: dict
  returned: O(state=inspected)
session:
  description: C(login) and C(from), the address, of whoever asks; see C(plugins/module_utils/flotilla/visitor.py).
  type: dict
  returned: O(state=inspected)
served:
  description: Name to PEM of the certificate, or C(error) and why.
  type: dict
  returned: O(state=inspected)
reached:
  description: Address to ports that answered.
  type: dict
  returned: O(state=reached)
"""


def main() -> None:
    """Arguments in, one look, the answer out."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["inspected", "reached"], "default": "inspected"},
            "stamp": {"type": "str", "default": ""},
            "command": {"type": "str", "default": ""},
            "names": {"type": "list", "elements": "str", "default": []},
            "addresses": {"type": "list", "elements": "str", "default": ["127.0.0.1"]},
            "https_port": {"type": "int", "default": 443},
            "targets": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["state"] == "reached":
        targets = {address: [*COMMON, *ports] for address, ports in params["targets"].items() if address}
        module.exit_json(changed=False, reached=reached(targets))
    inspection = Inspection()
    findings, notes = inspection.findings(params["stamp"], params["command"])
    module.exit_json(
        changed=False,
        findings=[one.as_data() for one in findings],
        notes=notes,
        ports=inspection.ports(),
        builds=inspection.builds(),
        session=visitor(os.getpid()),
        served=served([one for one in params["addresses"] if one], params["https_port"], params["names"]),
    )


if __name__ == "__main__":
    main()
