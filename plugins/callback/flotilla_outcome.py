# MIT License, see LICENSE at the root of the project.
"""The outcome of a deploy or a rollback as the last line, below Ansible's recap."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.terminal import visible

DOCUMENTATION = r"""
name: flotilla_outcome
type: aggregate
short_description: The outcome as the last line
description:
  - Prints, below the recap, one line for each app that a deploy or a rollback was about.
  - A run that ended before any release was prepared is refused, and says so.
options: {}
author:
  - Flotilla contributors (@flotilla)
"""

PLAYBOOKS = ("deploy.yml", "rollback.yml")


class CallbackModule(CallbackBase):
    """Says nothing in runs of other playbooks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flotilla_outcome"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._playbook = ""
        self._began = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Which front door it is."""
        self._playbook = Path(playbook._file_name).name

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """From the first phase on, only the hosts know what serves."""
        self._began = self._began or task.action == "flotilla_release"

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The lines."""
        found = stats.custom.get("_run", {}).get("flotilla", [])
        for entry in found:
            colour = "green" if entry["outcome"] == "deployed" else "red"
            if entry.get("warning"):
                self._display.display(visible(entry["warning"]), color="yellow")
            self._display.display(visible(entry["line"]), color=colour)
        if not found and self._playbook in PLAYBOOKS and (stats.failures or stats.dark):
            verb = self._playbook.removesuffix(".yml")
            refused = f"{verb}: refused, no traffic moved; migration: none"
            broken = f"{verb}: it broke off, and what serves is not known. Next: the same command again"
            self._display.display(visible(broken if self._began else refused), color="red")
