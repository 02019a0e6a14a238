# MIT License, see LICENSE at the root of the project.
"""Reads the filters once a run: Ansible reads all of them in each task's process, which costs more than most tasks."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = r"""
name: flotilla_preload
type: aggregate
short_description: Read the filters once a run
description:
  - Has Ansible load its filters and tests before a task's process is forked off, which then has them.
  - It prints nothing and changes no result. Without it, a run takes two to four times the controller's processor time.
options: {}
author:
  - Flotilla contributors (@flotilla)
"""


class CallbackModule(CallbackBase):
    """Loads what is not loaded, at the only moment before a fork that a plugin is told of."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flotilla_preload"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Not once a run: a role that brings filters has Ansible forget them all."""
        filter_loader.get("bool")
        test_loader.get("defined")

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a task too."""
        self.v2_playbook_on_task_start(task, False)
