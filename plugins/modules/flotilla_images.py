#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Ansible module: the images that a host runs, their age, and whether a registry has newer ones; fetch those."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.engine import Engine, EngineError
from ansible.module_utils.flotilla.stack_images import Images, RenewalError

DOCUMENTATION = r"""
module: flotilla_images
short_description: Look at the images that a host runs, and fetch newer ones
description:
  - Asks the engine what the stacks and the apps run and how old that is, and, through the engine, the registries what
    they have now. A registry that does not answer is a C(note) and no failure.
  - With O(state=fetched) what is newer is pulled by its digest and gets the tag. No container is another one for that.
options:
  state:
    description: What to do.
    type: str
    choices: [seen, fetched]
    default: seen
  digests:
    description: Reference to the digest that a registry said already in this run, so that all hosts get one build.
    type: dict
    default: {}
  packages:
    description: Whether the packages of images that were built on the host are compared with what apt has.
    type: bool
    default: false
  timeout_seconds:
    description: How long each pull may take.
    type: float
    default: 600
attributes:
  check_mode:
    support: full
    description: Can run in check mode; then nothing is pulled.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Look at the images
  flotilla_images:

- name: Fetch what is newer
  flotilla_images:
    state: fetched
"""

RETURN = r"""
images:
  description: What runs; see C(plugins/module_utils/flotilla/stack_images.py). C(due) says why one is to be renewed.
  type: list
  elements: dict
  returned: success
fetched:
  description: References that mean another image now.
  type: list
  elements: str
  returned: O(state=fetched)
"""


def main() -> None:
    """Arguments in, one look, the answer out."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["seen", "fetched"], "default": "seen"},
            "digests": {"type": "dict", "default": {}},
            "packages": {"type": "bool", "default": False},
            "timeout_seconds": {"type": "float", "default": 600},
        },
        supports_check_mode=True,
    )
    images, params = Images(Engine()), module.params
    fetched: list[str] = []
    try:
        found = images.look(params["digests"], packages=params["packages"])
        if params["state"] == "fetched":
            wanted = [one for one in found if one.due]
            fetched = [one.image for one in wanted if one.newer and not one.pinned]
            if not module.check_mode:
                fetched = images.fetch(wanted, timeout=params["timeout_seconds"])
    except (EngineError, RenewalError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(fetched), images=[one.as_data() for one in found], fetched=fetched)


if __name__ == "__main__":
    main()
