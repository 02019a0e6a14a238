#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Load packet rules on trial, and keep those that a new connection has come through."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.rules_on_trial import Done, Trial, TrialError

DOCUMENTATION = r"""
module: flotilla_firewall
short_description: Load packet rules that undo themselves unless they are confirmed
description:
  - Replaces the nftables table C(inet flotilla) in one transaction. A systemd timer restores the table as it was,
    unless a later call keeps the new rules. Between the two calls the caller proves that the host can still be reached.
  - Only rules that were kept are loaded by C(flotilla-firewall.service), at boot and when it is reloaded.
options:
  state:
    description:
      - V(status) tells about Debian's own C(nftables.service), which flushes the rules of everybody.
      - V(tried) loads O(rules), unless they are loaded and kept already, for O(undo_seconds).
      - V(kept) keeps what is on trial; it fails when the trial is over.
    type: str
    choices: [status, tried, kept]
    default: status
  rules:
    description: A script for nft that declares, deletes and defines the table. Needed with O(state=tried).
    type: str
  undo_seconds:
    description: Seconds after which rules that were not kept are undone.
    type: int
    default: 60
  trial:
    description: The name of the trial that ends well. Needed with O(state=kept).
    type: str
  directory:
    description: Where the rules are kept. It has to exist, but in check mode.
    type: path
    default: /opt/flotilla/firewall
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Load the rules on trial
  flotilla_firewall:
    state: tried
    rules: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
  register: trial

# Makes a new connection, whatever is open.
- name: Connect anew
  ansible.builtin.wait_for_connection:
    timeout: 120
  when: trial is changed

- name: Keep the rules
  flotilla_firewall:
    state: kept
    trial: "{{ trial.trial }}"
  when: trial is changed
"""

RETURN = r"""
trial:
  description: Name of the trial, empty in check mode.
  returned: O(state=tried), when something changed
  type: str
stock_service:
  description:
    - C(loads), whether C(nftables.service) is enabled or active; C(edited), whether C(/etc/nftables.conf) is not as it
      was shipped; C(masked).
  returned: O(state=status)
  type: dict
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["status", "tried", "kept"], "default": "status"},
            "rules": {"type": "str"},
            "undo_seconds": {"type": "int", "default": 60},
            "trial": {"type": "str"},
            "directory": {"type": "path", "default": "/opt/flotilla/firewall"},
        },
        required_if=[("state", "tried", ["rules"]), ("state", "kept", ["trial"])],
        supports_check_mode=True,
    )
    params = module.params

    def run(*argv: str) -> Done:
        return Done(*module.run_command(list(argv), environ_update={"LC_ALL": "C.UTF-8"}, handle_exceptions=False))

    trial = Trial(run, Path(params["directory"]))
    try:
        result = act(trial, params, check_mode=module.check_mode)
    except TrialError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error}. Next: run the role firewall, which installs what is missing")
    module.exit_json(**result)


def act(trial: Trial, params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring about the state; what the module returns."""
    if params["state"] == "status":
        return {"changed": False, "stock_service": asdict(trial.stock_service())}
    if params["state"] == "kept":
        if not check_mode:
            trial.keep(params["trial"])
        return {"changed": True}
    if trial.is_current(params["rules"]):
        return {"changed": False}
    before = trial.proven.read_text() if trial.proven.exists() else ""
    name = "" if check_mode else trial.attempt(params["rules"], params["undo_seconds"])
    headers = dict.fromkeys(("before_header", "after_header"), str(trial.proven))
    return {"changed": True, "trial": name, "diff": {"before": before, "after": params["rules"], **headers}}


if __name__ == "__main__":
    main()
