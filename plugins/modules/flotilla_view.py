#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Ansible module: what a host says of its apps; and a command in one of them."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.engine import Engine
from ansible.module_utils.flotilla.record import entry, leave
from ansible.module_utils.flotilla.trail import Step, Trail, TrailError
from ansible.module_utils.flotilla.view import VIEW_ERRORS, View

DOCUMENTATION = r"""
module: flotilla_view
short_description: Look at the apps of a host, or run a command in one
description:
  - Reads what is on the host and nothing else, so that it works from any checkout of the project.
  - Changes nothing; with O(what=command), the command may.
options:
  host:
    description: The inventory's name of the host, for messages.
    type: str
    required: true
  what:
    description: What to look at; V(command) runs O(command).
    type: str
    required: true
    choices: [status, history, logs, command]
  app:
    description: The app. Empty for all (V(status), V(history)) or for the only one (V(logs), V(command)).
    type: str
    default: ""
  service:
    description: The service. Empty for all (V(logs)); V(command) needs one.
    type: str
    default: ""
  lines:
    description: How many log lines of each container, or how many entries of the history.
    type: int
    default: 20
  command:
    description: The command and its arguments, in quotes as a shell wants them. No shell runs it.
    type: str
    default: ""
  timeout_seconds:
    description: How long O(command) may take.
    type: float
    default: 600
  run:
    description: Who asks, as the lookup C(flotilla_who) says it, for the trail; O(command) leaves two entries there.
    type: dict
attributes:
  check_mode:
    support: full
    description: Can run in check mode; then O(command) is not run.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Look at the host
  flotilla_view:
    host: "{{ inventory_hostname }}"
    what: status

- name: Count the users
  flotilla_view:
    host: "{{ inventory_hostname }}"
    what: command
    app: shop
    service: api
    command: python manage.py count_users
"""

RETURN = r"""
status:
  description: C(apps), C(lock), C(disks) and C(problems); see C(plugins/module_utils/flotilla/condition.py).
  returned: O(what=status)
  type: dict
history:
  description: Entries, oldest first, each with its C(app).
  returned: O(what=history)
  type: list
  elements: dict
logs:
  description: Containers, each with its C(container) (name) and C(lines).
  returned: O(what=logs)
  type: list
  elements: dict
rc:
  description: Exit code of the command; 124 where it took too long.
  returned: O(what=command)
  type: int
stdout:
  description: What the command printed; C(stderr) likewise.
  returned: O(what=command)
  type: str
container:
  description: Name of the container that it ran in.
  returned: O(what=command)
  type: str
"""


def main() -> None:
    """Arguments in, one look, the answer out."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "what": {"type": "str", "required": True, "choices": ["status", "history", "logs", "command"]},
            "app": {"type": "str", "default": ""},
            "service": {"type": "str", "default": ""},
            "lines": {"type": "int", "default": 20},
            "command": {"type": "str", "default": ""},
            "timeout_seconds": {"type": "float", "default": 600},
            "run": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    view = View(module.params["host"], Engine())
    try:
        answer = look(view, module.params, run=not module.check_mode)
    except (*VIEW_ERRORS, TrailError) as error:
        module.fail_json(msg=str(error))
    if unrecorded := answer.pop("unrecorded", ""):
        module.warn(unrecorded)
    module.exit_json(**{"changed": False, **answer})


def look(view: View, params: dict[str, Any], *, run: bool) -> dict[str, Any]:
    """One look. `run`: whether a command may be run."""
    app, service, lines = params["app"], params["service"], params["lines"]
    match params["what"]:
        case "status":
            return {"status": view.status(app)}
        case "history":
            return {"history": view.history(app, max(1, lines))}
        case "logs":
            return {"logs": view.logs(view.one(app), service, max(1, lines))}
    words = shlex.split(params["command"])
    if not words:
        raise ValueError(f"{params['host']}: say what to run with -e \"command='<command>'\"")
    name = view.one(app)
    if not run:
        return {"changed": True, "rc": 0, "stdout": "", "stderr": "", "container": "", "note": "not run: check mode"}
    trail, run_by = Trail(), params["run"] or {}
    # What cannot be written down is not done.
    trail.append(entry(run_by, "exec", params["host"], Step.BEGIN, app=name, service=service))
    done = view.execute(name, service, words, params["timeout_seconds"])
    outcome = f"exit code {done['rc']}"
    told = entry(
        run_by, "exec", params["host"], Step.END, outcome, app=name, service=service, container=done["container"]
    )
    return {"changed": True, **done, "unrecorded": leave(trail, told)}


if __name__ == "__main__":
    main()
