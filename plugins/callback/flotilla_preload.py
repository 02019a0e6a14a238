# MIT License, see LICENSE at the root of the project.
"""What every run wants beside its output: its filters read once, and no text of a stranger sent to the terminal.

Ansible reads all filters in each task's process, which costs more than most tasks. Its own outputs show texts as hosts
have sent them; the output `flotilla` sees to that itself.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader
from ansible.utils.color import stringc

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.terminal import visible

DOCUMENTATION = r"""
name: flotilla_preload
type: aggregate
short_description: Read the filters once a run, and let no output of Ansible's own command the terminal
description:
  - Writes out control characters in what another output than C(flotilla) shows. Colours of Ansible's own stay.
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

    def __init__(self, display: Any = None, options: Any = None) -> None:
        super().__init__(display, options)
        if constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK") != "flotilla":
            guard(self._display)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Not once a run: a role that brings filters has Ansible forget them all."""
        filter_loader.get("bool")
        test_loader.get("defined")

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a task too."""
        self.v2_playbook_on_task_start(task, False)


def guard(display: Any) -> None:
    """Have every line pass `visible` but for the colours of Ansible's configuration: one method writes them all."""
    write = display.display
    names = [getattr(constants, name) for name in dir(constants) if name.startswith("COLOR_")]
    marks = {mark for name in names if isinstance(name, str) for mark in stringc("|", name).split("|") if mark}
    ours = re.compile(f"({'|'.join(map(re.escape, sorted(marks)))})" if marks else r"(?!)()")

    def display_visible(msg: str, *args: Any, **options: Any) -> None:
        # A line's end of a Windows host is one, as Ansible has it.
        parts = ours.split(msg.replace("\r\n", "\n"))
        write("".join(part if part in marks else visible(part, lines=True) for part in parts), *args, **options)

    display.display = display_visible
