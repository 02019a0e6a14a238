"""What the hosts told about one thing, as a part of what playbooks/status.yml shows. For the controller only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# What one host told → lines about it, and what is wrong there, each with what to do next.
Judge = Callable[[str, Mapping[str, Any]], tuple[list[str], list[str]]]


def told(
    title: str, what: str, seen: Mapping[str, Mapping[str, Any]], judge: Judge, command: str
) -> dict[str, list[str]]:
    """`lines`, below the title where there are any, and `problems`, all with their hosts.

    what: cannot be looked at where a host is silent.  seen: host → `said`, or Ansible's `msg`.
    command: makes a silent one speak.
    """
    lines: list[str] = []
    problems: list[str] = []
    for host, result in seen.items():
        said = result.get("said")
        if not said:
            why = " ".join(str(result.get("msg") or "it said nothing").split())
            problems.append(f"{host}: {what} cannot be looked at: {why}. Next: {command}")
            continue
        about, wrong = judge(host, said)
        lines += [f"  {host}  {line}" for line in about]
        problems += [f"{host}: {one}" for one in wrong]
    return {"lines": [title, *lines] if lines else [], "problems": problems}
