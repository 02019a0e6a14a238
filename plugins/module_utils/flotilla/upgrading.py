"""What is asked of playbooks/upgrade-postgres.yml, checked beforehand, and what it says. For the controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .problem import Problem, did_you_mean

WHERE = "command line"
STATES = ("present", "confirmed", "undone")
NO = ("false", "no", "off", "0")


def asked(given: Mapping[str, Any], environment: str, inventory: str, backed_up: bool) -> dict[str, Any]:
    """`problems`, as text, and what is to be done: `state`, `backup` (whether to make one first), and `backed_up`.

    given: `state`, `confirm`, `backup` as on the command line, `rehearsal`.  inventory: as a command takes it, with a
    space before.
    backed_up: whether the database has a place for backups.
    """
    state = str(given.get("state") or "present")
    without = str(given.get("backup") or "").lower() in NO
    command = f"ansible-playbook playbooks/upgrade-postgres.yml{inventory}"
    found = []
    if given.get("rehearsal"):
        found.append(Problem(WHERE, "--check", "an upgrade cannot be rehearsed", f"{command} -e confirm={environment}"))
    if state not in STATES:
        what = f"is `{state}`, and must be one of {', '.join(STATES)}{did_you_mean(state, STATES)}"
        found.append(Problem(WHERE, "state", what, f"{command} -e state=confirmed"))
    typed = str(given.get("confirm") or "")
    if typed != environment:
        what = f"is `{typed}`" if typed else "is not given"
        why = {"confirmed": "the old data of its database is let go of"}.get(state, "its database is replaced")
        told = f"{what}; this is {environment}, and {why}"
        found.append(Problem(WHERE, "confirm", told, f"type the environment's name: -e confirm={environment}"))
    if state == "present" and not backed_up and not without:
        what = "no host is in that group, and there is no backup_s3: there would be no backup to go back to"
        fix = f"docs/how-to/back-up.md, or, without one, {command} -e confirm={environment} -e backup=false"
        found.append(Problem("hosts.yml", "backup", what, fix))
    return {
        "problems": [str(problem) for problem in found],
        "state": state,
        "backup": backed_up and not without,
        "backed_up": backed_up,
    }


def lines(result: Mapping[str, Any], state: str, host: str, inventory: str, environment: str) -> list[str]:
    """What a person is told of an upgrade, and how to go back or to end it. result: the tool's answer on the host."""
    command = f"ansible-playbook playbooks/upgrade-postgres.yml{inventory}"
    volume = result["volume"]
    if state == "undone":
        return [
            f"{host}: PostgreSQL {result['from']} serves again, with the data from before the upgrade {result['id']}"
        ]
    if state == "confirmed":
        kept = f"{host}: the volume {volume} has it. Next, when nobody needs it any more: docker volume rm {volume}"
        gone = f"{host}: the volume {volume} is removed"
        return [f"The upgrade {result['id']} stays, and cannot be undone any more", gone if result["dropped"] else kept]
    size = f"{result['bytes'] / 1e9:.2f} GB"
    told = (
        f"{host}: PostgreSQL {result['from']} is {result['to']}: {result['rows']} rows in {result['tables']} tables, "
        f"counted in both; {size} copied in {result['copied_seconds']} s, stopped for {result['stopped_seconds']} s "
        "and the start"
    )
    return [
        told,
        f"What was there before is in the volume {volume}, until you say what becomes of it",
        f'Back to it, without what was written since: postgres_version: "{result["from"]}", then {command} '
        f"-e state=undone -e confirm={environment}",
        f"Let it go: {command} -e state=confirmed -e confirm={environment}",
    ]
