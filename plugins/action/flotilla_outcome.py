# MIT License, see LICENSE at the root of the project.
"""Say what a run came to: the outcome, the account on the controller, the last line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla import account
from flotilla.outcome import HostEnd, Outcome, last_line
from flotilla.registered import came_to, heads, plan, recovered, trouble, unheeded, withheld
from flotilla.witnesses import Kept

ROOT = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):
    """Needs no host: it reads what the play registered. `happy` is false unless the new release serves everywhere."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """`outcome`, `line`, `explanation` and `happy`, and the same in the account and in Ansible's statistics."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(
            argument_spec={
                "context": {"type": "dict", "required": True},
                "run": {"type": "dict", "required": True},
                "environment": {"type": "str", "required": True},
            }
        )
        context, run = args["context"], args["run"]
        entry = account_of(variables["hostvars"], context, run)
        if not variables.get("ansible_check_mode"):
            place = account.directory(ROOT, args["environment"], os.environ)
            account.write(account.path(place), run, context["app"]["name"], entry)
            told = ("app_asked", "app_prepared", "app_ended")
            Kept.of(place).add(heads(variables["hostvars"], context["hosts"], told))
        statistics = {"data": {"flotilla": [entry]}, "per_host": False, "aggregate": True}
        return {
            "changed": False,
            "msg": entry["line"],
            "happy": entry["outcome"] == Outcome.DEPLOYED,
            # Whether there is anything that hooks should be told: not of a run that found nothing to do.
            "moved": bool(entry["changed"]) or entry["outcome"] != Outcome.DEPLOYED,
            "migration": entry["migration"],
            **{name: entry[name] for name in ("outcome", "line", "explanation")},
            "ansible_stats": statistics,
        }


def account_of(hostvars: Mapping[str, Any], context: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is told of one app's run."""
    done = plan(hostvars, context)
    seconds = round(time.time() - float(run["started"]), 1)
    subject = f"{context['app']['name']} {done['version']}".strip()
    base = {
        "app": context["app"]["name"],
        "action": context["action"],
        "release": done["release"],
        "version": done["version"],
        "seconds": seconds,
        "skipped": list(context["skipped"]),
        "next": context["command"],
    }
    kept_out = {} if context["check"] else withheld(hostvars, done)
    if not done["refusal"] and (context["check"] or not (done["go"] or kept_out)):
        line = said_without_work(subject, done, context, recovered(hostvars, done))
        return {
            **base,
            "outcome": "deployed",
            "changed": bool(recovered(hostvars, done)),
            "migration": "none",
            "line": line,
            "explanation": "",
        }
    outcome, hosts, migrated = came_to(hostvars, done)
    why = done["refusal"] or trouble(hostvars, done) or troubles_of(hosts)
    explanation = "\n".join(filter(None, [why, *map(kept_from, hosts), unheeded(hostvars, done)]))
    details = {"migration": migrated, "seconds": seconds, "skipped": context["skipped"], "next": context["command"]}
    details["restarted"] = context["action"] == "restart"
    notes: list[str] = []
    if context["action"] == "rollback":
        notes = list(done["notes"])
        details["back_from"] = ", ".join(dict.fromkeys(host.before.get("version") or "nothing" for host in hosts))
    return {
        **base,
        "outcome": str(outcome),
        "changed": done["go"],
        "migration": migrated,
        "hosts": {host.host: {name: value for name, value in asdict(host).items() if name != "host"} for host in hosts},
        "line": last_line(subject, outcome, hosts, details),
        "explanation": "" if outcome is Outcome.DEPLOYED else explanation,
        "warning": "\n".join(filter(None, [explanation, *notes])) if outcome is Outcome.DEPLOYED else "",
    }


def said_without_work(subject: str, done: Mapping[str, Any], context: Mapping[str, Any], ended: Sequence[str]) -> str:
    """The last line of a run that had nothing to prepare. ended: hosts that brought an earlier run to its end."""
    hosts = ", ".join(context["hosts"])
    if context["check"] and done["work"]:
        return f"{subject}: would be {context['action']}ed on {hosts} (check mode)".replace(
            "rollbacked", "rolled back to"
        )
    if ended:
        return f"{subject}: deployed, an earlier run was brought to its end on {', '.join(ended)}; it serves on {hosts}"
    return f"{subject}: nothing to do, it serves on {hosts}"


def kept_from(host: HostEnd) -> str:
    """Why a host stays without its traffic; empty when it does not."""
    return f"{host.host} gets no traffic: {host.withheld}" if host.withheld else ""


def troubles_of(hosts: Sequence[HostEnd]) -> str:
    """What went wrong at the end on each host."""
    return "\n".join(f"{host.host}: {host.trouble}" for host in hosts if host.trouble)
