# MIT License, see LICENSE at the root of the project.
"""Check an environment's inputs on the controller. See the module of the same name."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla import account
from flotilla.approval import Approval
from flotilla.inputs import Check
from flotilla.problem import report
from flotilla.processes import Identity, identify, main_process
from flotilla.resolve.privileges import loud
from flotilla.terminal import visible
from flotilla.who import by, secrets_of

ROOT = Path(__file__).resolve().parents[2]
display = Display()
# Their app is on the hosts: its source and its secrets are not looked at.
ABOUT_ONE_APP = ("rollback.yml", "playbooks/restart.yml")
ABOUT_WHAT_IS_THERE = (*ABOUT_ONE_APP, "playbooks/rotate.yml")


class ActionModule(ActionBase):
    """Needs no host: it reads the inventory, the roles' argument specs and the Compose files."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """`apps` to deploy (or to roll back) and who runs this, or every problem at once."""
        started = time.time()
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(
            argument_spec={
                "playbook": {"type": "str", "default": "deploy.yml"},
                "apps": {"type": "bool", "default": True},
                "part": {"type": "bool", "default": False},
                "approval": {"type": "bool", "default": False},
            }
        )
        check = Check(variables, load_extra_vars(self._loader), self._templar, args["playbook"], ROOT)
        rollback = args["playbook"] in ABOUT_WHAT_IS_THERE
        problems = list(check.hosts_of_this_run()) if rollback else list(check.environment(part=args["part"]))
        # What came of the run is written there when it is over.
        problems += account.trouble(os.environ)
        apps: list[dict[str, Any]] = []
        asked = Approval()
        if args["apps"]:
            apps, wrong = check.apps_that_serve(one=args["playbook"] in ABOUT_ONE_APP) if rollback else check.apps()
            problems += wrong
        if args["approval"] and not problems:
            asked = check.approval(apps, rollback=rollback)
            problems += asked.problems
        if problems:
            return {"failed": True, "changed": False, "msg": f"nothing was touched:\n{report(problems)}"}
        if asked.question and (refusal := self._ask(asked)):
            return {"failed": True, "changed": False, "msg": f"nothing was touched:\n{refusal}"}
        identity = identify(main_process())
        run = {
            **identity.as_run(),
            "actor": identity.owner,
            "approved_by": identity.owner if asked.needed else "",
            "started": started,
            "arguments": check.inventory.strip(),
            "by": self._by(check, identity),
        }
        said = [] if rollback else [line for app in apps for line in loud(app["name"], app["privileges"])]
        return {"changed": False, "apps": apps, "run": run, **({"warnings": said} if said else {})}

    def _by(self, check: Check, identity: Identity) -> dict[str, Any]:
        """For the trails of the hosts."""
        secrets = [text for variables in check.hosts.values() for text in secrets_of(variables)]
        environment = str(self._templar.template(check.variables.get("environment_name", "")))
        return by(identity, ROOT, environment, check.extra, check.variables.get("ansible_limit") or "", secrets)

    def _ask(self, asked: Approval) -> str:
        """Ask at the terminal; why it is not approved, or nothing."""
        try:
            typed = display.prompt_until(visible(asked.question, lines=True))
        except AnsiblePromptNoninteractive:
            return str(asked.refusal)
        except AnsiblePromptInterrupt:
            return "not approved"
        return "" if typed.decode(errors="replace").strip() == asked.answer else "not approved"
