#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Ansible module: the trail of a host, who did what to it; one entry more, or all of it."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.record import entry, leave
from ansible.module_utils.flotilla.trail import Step, Trail, TrailError

DOCUMENTATION = r"""
module: flotilla_trail
short_description: Read the trail of a host, or leave an entry there
description:
  - The trail is C(/opt/flotilla/trail.jsonl), append-only, each line chained to the one before.
  - See docs/how-to/who-did-what.md.
  - With O(raw=true) the action plugin of the same name says by which key the host was known.
options:
  host:
    description: The inventory's name of the host.
    type: str
    required: true
  state:
    description: V(read) follows the chain and changes nothing; V(recorded) leaves an entry.
    type: str
    choices: [read, recorded]
    default: read
  run:
    description: Who asks, as C(flotilla_validate) and the lookup C(flotilla_who) say it.
    type: dict
  verb:
    description: What is done.
    type: str
  step:
    description: V(begin) before it, where it is refused when it cannot be written down; V(end) and V(done) afterwards.
    type: str
    choices: [begin, end, done]
    default: done
  outcome:
    description: What came of it.
    type: str
    default: ""
  heads:
    description: Host to number and hash of the last entry of its trail.
    type: dict
    default: {}
  entries:
    description: How many of the last entries are returned (V(read)).
    type: int
    default: 20
  raw:
    description: Whether the file is returned as it is, to be judged elsewhere (V(read)).
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Can run in check mode.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Leave an entry
  flotilla_trail:
    host: "{{ inventory_hostname }}"
    state: recorded
    verb: provision
    step: begin
    run: "{{ preflight_inputs.run }}"
"""

RETURN = r"""
trail:
  description: Number and hash of the last entry.
  type: list
  returned: always
entries:
  description: The last entries, oldest first.
  type: list
  elements: dict
  returned: O(state=read)
text:
  description: The file.
  type: str
  returned: O(raw=true)
key:
  description:
    - The fingerprint of the host key that the control node verified in the SSH session which brought the file.
    - Empty where the connection is not C(ssh).
  type: str
  returned: O(raw=true)
problems:
  description: Where the chain is broken, and what is wrong with the file.
  type: list
  elements: str
  returned: O(state=read)
notes:
  description: What is to be known of it, and proves nothing.
  type: list
  elements: str
  returned: O(state=read)
environments:
  description: The environments that the entries name.
  type: list
  elements: str
  returned: O(state=read)
"""


def main() -> None:
    """Arguments in, one look or one entry, the answer out."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["read", "recorded"], "default": "read"},
            "run": {"type": "dict"},
            "verb": {"type": "str"},
            "step": {"type": "str", "choices": ["begin", "end", "done"], "default": "done"},
            "outcome": {"type": "str", "default": ""},
            "heads": {"type": "dict", "default": {}},
            "entries": {"type": "int", "default": 20},
            "raw": {"type": "bool", "default": False},
        },
        required_if=[("state", "recorded", ["verb"])],
        supports_check_mode=True,
    )
    params, trail = module.params, Trail()
    try:
        if params["state"] == "recorded":
            if module.check_mode:
                module.exit_json(changed=False, trail=trail.head())
            step = Step(params["step"])
            run = params["run"] or {}
            told = entry(run, params["verb"], params["host"], step, params["outcome"], heads=params["heads"])
            if step is Step.BEGIN:
                trail.append(told)
            elif unrecorded := leave(trail, told):
                module.warn(unrecorded)
            # An entry says what changed, and is no change of its own.
            module.exit_json(changed=False, trail=trail.head())
        chain = trail.read()
        problems, notes = trail.standing()
    except (TrailError, OSError) as error:
        module.fail_json(msg=f"{params['host']}: {error}")
    module.exit_json(
        changed=False,
        trail=chain.head.told(),
        entries=[dict(one) for one in chain.entries[-params["entries"] :]] if params["entries"] > 0 else [],
        **({"text": trail.text()} if params["raw"] else {}),
        environments=chain.environments(),
        problems=[*chain.problems, *problems],
        notes=[*chain.notes, *notes],
    )


if __name__ == "__main__":
    main()
