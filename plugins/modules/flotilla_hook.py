#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Documentation of the action plugin of the same name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flotilla_hook
short_description: Run one command of an app's hooks
description:
  - Gives the command to C(/bin/sh), on the controller or on the task's host, with the release's facts in its
    environment.
  - A command that fails or takes too long is a value (RV(ok) is false), not a failed task.
options:
  hook:
    description: The point, such as C(before_deploy).
    type: str
    required: true
  entry:
    description: The hook, with C(command), C(where) (C(controller) or C(host)) and C(timeout_seconds).
    type: dict
    required: true
  facts:
    description: What the command is told, as C(FLOTILLA_<NAME>).
    type: dict
    required: true
  purpose:
    description: What the run does, so that results are told from those of another app.
    type: str
    required: true
  earlier:
    description: The result of the hook before; when it has failed at the same point, this one is not run.
    type: dict
    default: {}
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Tell the team
  flotilla_hook:
    hook: after_deploy
    entry: {command: 'echo "$FLOTILLA_APP $FLOTILLA_VERSION" >> deploys.log', where: controller, timeout_seconds: 10}
    facts: {app: notes, version: 1.1.0}
    purpose: deploy notes 1.1.0
"""

RETURN = r"""
ok:
  description: Whether the command ended with 0 in time.
  type: bool
  returned: always
explanation:
  description: For a person, why it did not; several lines.
  type: str
  returned: when not ok
"""
