#!/usr/bin/python
"""Ansible module: the lock of an environment on one host, for playbooks other than deploy and rollback."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.host import write_for_others
from ansible.module_utils.flotilla.lease import Lease, LeaseError, LeaseFile, wanted
from ansible.module_utils.flotilla.record import entry, leave
from ansible.module_utils.flotilla.trail import Step, Trail

DOCUMENTATION = r"""
module: flotilla_lock
short_description: Take, give back, show or remove the lock of an environment on a host
description:
  - The lock is a lease, the file C(/opt/flotilla/lock.json) on each app host. See docs/explanation/two-phase-deploy.md.
  - Take it on the first app host by name before the others, so that of many runs one wins.
options:
  state:
    description:
      - C(taken) takes or renews it for O(run), C(released) gives it back, C(shown) changes nothing.
      - C(removed) takes it away from whoever holds it.
    type: str
    choices: [taken, released, shown, removed]
    default: shown
  host:
    description: The inventory's name of the host, for messages.
    type: str
    required: true
  run:
    description: This run, as C(flotilla_validate) says it.
    type: dict
  purpose:
    description: What it is taken for.
    type: str
    default: ''
  seconds:
    description: How long it lasts from now on.
    type: float
    default: 600
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Take the lock
  flotilla_lock:
    state: taken
    host: "{{ inventory_hostname }}"
    run: "{{ inputs.run }}"
    purpose: restart notes
    seconds: 900
"""

RETURN = r"""
lease:
  description: The lease that is there afterwards; C(owner), C(purpose), C(token), C(since), C(expires), or nothing.
  type: dict
  returned: always
msg:
  description: Whose the lock is, or was.
  type: str
  returned: always
"""

LOCK = Path("/opt/flotilla/lock.json")
GUARD = Path("/run/flotilla/lease.lock")


def main() -> None:
    """Arguments in, one change of the lease, the answer out."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["taken", "released", "shown", "removed"], "default": "shown"},
            "host": {"type": "str", "required": True},
            "run": {"type": "dict"},
            "purpose": {"type": "str", "default": ""},
            "seconds": {"type": "float", "default": 600},
        },
        required_if=[("state", "taken", ["run"]), ("state", "released", ["run"])],
        supports_check_mode=True,
    )
    write_for_others()
    params = module.params
    arguments = (params["run"] or {}).get("arguments", "")
    file = LeaseFile(LOCK, GUARD, params["host"], f"ansible-playbook playbooks/unlock.yml {arguments}".strip())
    state = "shown" if module.check_mode else params["state"]
    changed, former = False, None
    try:
        match state:
            case "taken":
                file.take(wanted(params["run"], params["purpose"]), params["seconds"])
                changed = True
            case "released":
                changed = file.release(str(params["run"]["token"]))
            case "removed":
                former = file.remove()
                changed = former is not None
        lease = file.read()
    except LeaseError as error:
        module.fail_json(msg=str(error), lease=None)
    if params["state"] == "removed" and changed:
        whose = f"the lock of {former.owner} ({former.purpose})" if former else ""
        told = entry(params["run"] or {}, "unlock", params["host"], Step.DONE, "done", reason=whose)
        if trouble := leave(Trail(), told):
            module.warn(trouble)
    module.exit_json(changed=changed, msg=said(former, lease), lease=asdict(lease) if lease else None)


def said(former: Lease | None, lease: Lease | None) -> str:
    """Whose the lock was, or is."""
    if former:
        return f"the lock of {former.describe(time.time())} was removed; that run is refused from now on"
    return f"locked by {lease.describe(time.time())}" if lease else "not locked"


if __name__ == "__main__":
    main()
