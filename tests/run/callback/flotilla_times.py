# MIT License, see LICENSE at the root of the project.
"""When each task of a run began and ended, for the table of `make test`. The tests alone switch it on."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: flotilla_times
type: aggregate
short_description: Where the seconds of a run go
description:
  - At the end of a run, writes its tasks with their times into the directory that E(FLOTILLA_TIMES) names.
  - Says nothing, and does nothing without the variable.
options: {}
author:
  - Flotilla contributors (@flotilla)
"""


class CallbackModule(CallbackBase):
    """Keeps the tasks in memory until the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flotilla_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._play = ""
        self._tasks: list[dict[str, Any]] = []

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Which play the next tasks are of."""
        self._end()
        self._play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task ends when the next one begins."""
        self._end()
        role = task._role.get_name() if task._role else ""
        begun = {"play": self._play, "role": role, "task": task.get_name(), "start": time.time(), "cpu": _cpu()}
        self._tasks.append(begun)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a task."""
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the run down."""
        self._end()
        directory = Path(os.environ.get("FLOTILLA_TIMES") or os.devnull)
        if not directory.is_dir():
            return
        run = {
            "kind": "ansible",
            "job": os.environ.get("FLOTILLA_JOB", ""),
            "test": os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0],
            "argv": sys.argv,
            "start": _born(),
            "end": time.time(),
            "cpu": _cpu(),
            "tasks": self._tasks,
        }
        with (directory / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(run) + "\n")

    def _end(self) -> None:
        if self._tasks and "end" not in self._tasks[-1]:
            last = self._tasks[-1]
            last.update(end=time.time(), cpu=_cpu() - last["cpu"])


def _cpu() -> float:
    """Seconds of processor that this process and its ended children have had."""
    return sum(os.times()[:4])


def _born() -> float:
    """When this process was started, in seconds since the epoch."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
