# MIT License, see LICENSE at the root of the project.
"""Who runs this playbook, for the trails of the hosts."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.processes import identify, main_process
from flotilla.who import by, secrets_of

DOCUMENTATION = r"""
name: flotilla_who
short_description: Who runs this playbook, from which commit, with which arguments
description:
  - For the verbs that check no inputs; those that do have it from C(flotilla_validate).
  - Values of extra variables that may be secret are left out, and secrets of the vault are struck out of the others.
options: {}
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Remove the lock
  flotilla_lock:
    state: removed
    host: "{{ inventory_hostname }}"
    run: "{{ lookup('flotilla_who') }}"
"""

RETURN = r"""
_raw:
  description: C(token), the same for all tasks of one run, and C(by), see C(plugins/module_utils/flotilla/who.py).
  type: list
  elements: dict
"""

ROOT = Path(__file__).resolve().parents[2]


class LookupModule(LookupBase):
    """Asks git and the inventory; changes nothing."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """One dictionary, whatever the host."""
        given = variables or {}
        identity = identify(main_process())
        environment = str(self._templar.template(given.get("environment_name", "")))
        extra = load_extra_vars(self._loader)
        sources = given.get("ansible_inventory_sources") or []
        who = by(identity, ROOT, environment, extra, given.get("ansible_limit") or "", secrets_of(given))
        # The same for all tasks of a run: each asks in a process of its own.
        token = hashlib.sha256(f"{identity.machine} {identity.process}".encode()).hexdigest()[:32]
        return [{"token": token, "arguments": " ".join(f"-i {source}" for source in sources), "by": who}]
