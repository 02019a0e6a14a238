"""Hooks: what an app wants run beside a deploy or a rollback, and the facts that it is told.

For the controller. Ansible runs them: see roles/app/tasks/hook.yml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from .problem import Problem
from .terminal import visible

# What a hook's command finds in its environment as FLOTILLA_<NAME>; a task file has `hook.<name>`.
FACTS = (
    *("hook", "app", "version", "release", "environment", "action", "actor", "approved_by", "hosts"),
    *("outcome", "migration", "line", "explanation"),
)
# Characters of a fact in the environment: in UTF-8 less than the 128 KiB that the kernel takes for one (execve(2)).
MOST = 30_000


def hook_problems(
    app: Mapping[str, Any], where: Callable[[str], str], exists: Callable[[str], bool]
) -> Iterator[Problem]:
    """What is wrong with an app's hooks, beyond their shape. exists: whether the project has a file of this path."""
    for point, entries in (app.get("hooks") or {}).items():
        for index, entry in enumerate(entries):
            name = f"apps[{app['name']}].hooks.{point}[{index}]"
            yield from _entry_problems(name, entry, where, exists)


def _entry_problems(
    name: str, entry: Mapping[str, Any], where: Callable[[str], str], exists: Callable[[str], bool]
) -> Iterator[Problem]:
    place = where("hooks")
    if ("command" in entry) == ("tasks" in entry):
        what = "has both a command and tasks" if "command" in entry else "has neither a command nor tasks"
        yield Problem(place, name, what, "write `command: <a shell command>` or `tasks: <a task file>`")
        return
    if "command" in entry:
        if not entry["command"].strip():
            yield Problem(place, f"{name}.command", "is empty", "write a command, or remove the hook")
        return
    for key in sorted({"where", "timeout_seconds"} & entry.keys()):
        what = "is for a command; a task file says so itself"
        yield Problem(place, f"{name}.{key}", what, "remove it; its tasks may have `delegate_to` and `timeout`")
    file = str(entry["tasks"])
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or path.suffix not in (".yml", ".yaml"):
        what = f"`{file}` is not a .yml file of the project"
        yield Problem(place, f"{name}.tasks", what, "write its path from the root of the project: hooks/notify.yml")
    elif not exists(file):
        yield Problem(place, f"{name}.tasks", f"there is no file {file}", f"create {file}, or correct the path")


def facts(
    context: Mapping[str, Any],
    plan: Mapping[str, Any],
    run: Mapping[str, Any],
    environment_name: str,
    outcome: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a hook is told. context, plan: see roles/app/vars/main.yml.  outcome: what came of it, when it is known."""
    came = outcome or {}
    return {
        "app": context["app"]["name"],
        "version": plan.get("version") or context["app"].get("version", ""),
        "release": plan.get("release", ""),
        "environment": environment_name,
        "action": context["action"],
        "actor": run.get("actor", ""),
        "approved_by": run.get("approved_by", ""),
        "hosts": list(context["hosts"]),
        # Log lines of a release are in it: no environment takes every character of theirs.
        **{
            name: visible(str(came.get(name, "")), lines=True)
            for name in ("outcome", "migration", "line", "explanation")
        },
    }


def environment(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts as environment variables, the first `MOST` characters of each."""
    told = {f"FLOTILLA_{name.upper()}": _text(facts.get(name, "")) for name in FACTS}
    return {name: text if len(text) <= MOST else f"{text[: MOST - 1]}…" for name, text in told.items()}


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def failed_before(earlier: Mapping[str, Any], purpose: str, point: str) -> bool:
    """Whether an earlier hook of the same run at the same point has failed, so that this one is not run."""
    same = earlier.get("purpose") == purpose and earlier.get("hook") == point
    return same and earlier.get("ok") is False


def explain(point: str, entry: Mapping[str, Any], done: Mapping[str, Any]) -> str:
    """For a person, why a hook's command failed: several lines."""
    place = "the controller" if entry.get("where", "controller") == "controller" else "the host"
    how = f"ended with {done['rc']}" if done.get("rc") is not None else str(done.get("msg", "did not run"))
    if done.get("rc") in (124, 137):
        how += f" (its time limit is {entry.get('timeout_seconds', 60)} s)"
    said = [row for name in ("stdout", "stderr") for row in str(done.get(name) or "").rstrip().splitlines()]
    return "\n".join([f"the hook {point} {how} on {place}: {entry['command']}", *(f"  {row}" for row in said[-20:])])
