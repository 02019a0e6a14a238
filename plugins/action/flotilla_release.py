# MIT License, see LICENSE at the root of the project.
"""Runs the module of the same name, or, on a host that a batch leaves alone, keeps what was said there before.

A loop of batches registers its results under one name; a plain `when` would overwrite what an earlier batch said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """`involved` (true), `before` (nothing) and `refused` (empty) are this plugin's; all else is the module's."""

    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result, or the kept one, which Ansible shows as skipped."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        involved, before = arguments.pop("involved", True), arguments.pop("before", None) or {}
        refused = str(arguments.pop("refused", None) or "")
        if not involved:
            return {**result, **kept(before), "skipped": True, "changed": False}
        if refused:
            earlier = kept(before)
            about = {"phase": arguments.get("phase"), "purpose": arguments.get("purpose", "")}
            # One that has committed stays one that was told to commit.
            about["refused"] = "ok" not in earlier
            return {**result, **earlier, **about, "ok": False, "changed": False, "explanation": refused}
        done: dict[str, Any] = self._execute_module(
            module_name=self._task.resolved_action, module_args=arguments, task_vars=task_vars
        )
        return {**result, **done}


def kept(before: Mapping[str, Any]) -> dict[str, Any]:
    """An earlier result, without what would make Ansible count it again."""
    names = ("ok", "phase", "purpose", "explanation", "serves", "seconds", "traffic", "release", "refused")
    found = {name: before[name] for name in names if name in before}
    if before.get("unreachable") or before.get("failed"):
        found |= {"lost": True, "explanation": str(before.get("msg", ""))}
    elif before.get("lost"):
        found |= {"lost": True}
    return found
