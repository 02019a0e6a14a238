"""Copies of backups that no host which sends them can reach: what status says of them. For the controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .backups import ACCOUNT, PROVISION, size, span
from .told import told

HOW_TO = "docs/how-to/survive-a-break-in.md"
WATCH = f"on the host, flotilla-kept run, and journalctl -u flotilla-kept; see {HOW_TO}"
DATABASES = "databases"


def accounts(volumes: Mapping[str, str]) -> dict[str, str]:
    """What people call what is sent (`databases`, or a host that sends volumes) → its account.

    volumes: host → account.
    """
    return {DATABASES: ACCOUNT, **volumes}


def judge(
    said: Mapping[str, Any], names: Mapping[str, str], most_hours: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Lines about the copies on one host, and what is wrong with them, with what to do next. names: of accounts."""
    lines: list[str] = []
    wrong = [(str(error), WATCH) for error in said["errors"]]
    now = float(said["now"])
    for one in said["accounts"]:
        name = names.get(one["account"], one["account"])
        newest = one["newest"]
        if newest:
            age = now - newest["at"]
            what = f"{one['copies']} copies, the newest {span(age)} old, the oldest {span(now - one['oldest_at'])}"
            lines.append(f"{name}: {what}; {size(one['bytes'])} now")
            if age > most_hours * 3600:
                what = f"the newest copy of {name} that who sends it cannot delete is {span(age)} old"
                wrong.append((f"{what}, more than {most_hours} h", WATCH))
        elif said["running"]:
            lines.append(f"{name}: no copy yet, one is being made")
        else:
            lines.append(f"{name}: no copy")
            wrong.append((f"there is no whole copy of {name} that who sends it cannot delete", WATCH))
        if one["error"]:
            wrong.append((f"the last copy of {name} failed: {one['error']}", WATCH))
        for finding in one["findings"]:
            # A whole backup that vanishes before its time is a break-in until a person knows better.
            do = (
                f"if nobody of yours did that, {HOW_TO} says how to have it back; else, on the host: "
                f"flotilla-kept accept {one['account']}"
            )
            wrong.append((f"{name}: {finding}", do))
    return lines, wrong


def report(
    seen: Mapping[str, Mapping[str, Any]], names: Mapping[str, str], limits: Mapping[str, int], inventory: str
) -> dict[str, list[str]]:
    """`lines` and `problems`, from what `flotilla-kept status` told on each host (`said`), or Ansible (`msg`).

    names: account → what people call it.  limits: host → hours.  inventory: as a command takes it.
    """

    def judged(host: str, said: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        lines, wrong = judge(said, names, limits[host])
        return lines, [f"{what}. Next: {do}" for what, do in wrong]

    what = "the copies that who sends backups cannot delete"
    return told("kept copies", what, seen, judged, PROVISION.format(inventory=inventory))
