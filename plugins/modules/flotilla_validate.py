#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flotilla_validate
short_description: Check an environment's inputs before anything is touched
description:
  - Runs on the controller, without a connection, once for all hosts of the inventory.
  - Checks groups, names of variables, types by the roles' argument specs, the list C(apps), versions, secrets and,
    statically, the apps' Compose files.
  - Reports every problem at once, each with file, variable and what to do next.
  - Reads the extra variables C(app), C(version), C(release), C(approve) and C(skip_hosts).
  - Secrets are never part of the result.
options:
  playbook:
    description: The playbook to name in messages. For C(rollback.yml) only hosts and the app's name are checked.
    type: str
    default: deploy.yml
  apps:
    description: Whether to check the apps and their Compose files too; provisioning alone needs no version.
    type: bool
    default: true
  part:
    description: Whether a part of the hosts will do, as C(--limit) says.
    type: bool
    default: false
  approval:
    description: Whether the run must be approved where the environment demands it, by C(approve) or at a prompt.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Can run in check mode.
  diff_mode:
    support: none
    description: Will return details on what has changed.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Validate the inputs
  flotilla_validate:
  register: deploy_inputs
  run_once: true
"""

RETURN = r"""
apps:
  description:
    - The apps to deploy, with the command line's version and with every default filled in.
    - Without C(environment) and C(secrets), which may hold secrets and may differ from host to host.
  returned: success
  type: list
  elements: dict
run:
  description:
    - C(token), C(owner), C(machine) and C(process) for the lock, C(actor) and C(approved_by) for the history, C(by)
      for the trail, C(started) (seconds since 1970; a release's id is made of it), and C(arguments), the inventories as
      a command takes them.
  returned: success
  type: dict
"""
