#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Judge what the droplets of an environment said. The work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flotilla_findings
short_description: Judge what the droplets of an environment said, as one table of findings
description:
  - Runs on the controller, over what C(playbooks/validate.yml) registered on the hosts.
  - Remembers the heads of the hosts' trails in C(.flotilla/<environment>/trail.json), when nothing is wrong with them.
  - C(FLOTILLA_HOME) names another directory than C(.flotilla).
options:
  names_file:
    description: A file of names and addresses, as C(/etc/hosts), that is asked in place of the DNS.
    type: str
    default: ""
  certificate_days:
    description: How many days a served certificate must be good for at least.
    type: int
    default: 14
  acknowledged:
    description: Hosts, with commas between them, whose log is believed as it is now; a person knows why it is another.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Can run in check mode.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Judge them
  flotilla_findings:
  run_once: true
  register: judged
"""

RETURN = r"""
lines:
  description: The table of findings, and what was looked at.
  type: list
  elements: str
  returned: always
number:
  description: How many findings there are.
  type: int
  returned: always
"""
