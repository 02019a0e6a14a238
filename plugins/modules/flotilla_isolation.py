#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flotilla_isolation
short_description: Check environments, and that they share nothing that they must not
description:
  - Runs on the controller, without a connection, and touches no host.
  - Reads each inventory directory given with C(-i) by itself, with its own vault and its own password. Ansible's own
    merging of several inventories plays no part. A lab's without C(environment_name) lies over the one before it.
  - Checks the inputs of each environment as a deploy does.
  - Compares every two environments, with respect to addresses, private networks, names, domains, SSH keys, vaults and
    the values of secrets. What both name in C(environment_shared) may be the same.
  - Secrets are compared by digests under a random key that is forgotten afterwards. Neither they nor their digests are
    part of the result.
options: {}
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
- name: Check and compare
  flotilla_isolation:
  register: validate_result
"""

RETURN = r"""
lines:
  description: What is right, a line for each environment and for each comparison.
  returned: always
  type: list
  elements: str
number:
  description: How many environments there are.
  returned: always
  type: int
problems:
  description: What is wrong or shared, each with file, variable and what to do next. Empty when nothing is.
  returned: always
  type: list
  elements: str
"""
