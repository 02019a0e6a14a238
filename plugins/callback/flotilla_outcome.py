# MIT License, see LICENSE at the root of the project.
"""The outcome of a deploy or a rollback as the last line, below Ansible's recap; and that a run was interrupted."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.problem import Problem
from flotilla.terminal import visible

DOCUMENTATION = r"""
name: flotilla_outcome
type: aggregate
short_description: The outcome as the last line
description:
  - Prints, below the recap, one line for each app that a deploy or a rollback was about.
  - A run that ended before any release was prepared is refused, and says so.
  - A run whose C(--limit) leaves no host that the playbook is about is refused.
  - Of any playbook, a run that Ctrl-C or a C(SIGTERM) ended says so, with what serves and what becomes of the lock.
options: {}
author:
  - Flotilla contributors (@flotilla)
"""

PLAYBOOKS = ("deploy.yml", "rollback.yml")
# Whose releases a run of them is about.
SHIPPING = (*PLAYBOOKS, "restart.yml")
# What may take the environment's lock.
LOCKING = ("flotilla_release", "flotilla_lock")
# Runs about a release know that the run before them on the same machine is dead.
TAKEN_OVER = (
    "a lock that it still holds is taken over by the next run from this machine, or removed by playbooks/unlock.yml"
)
ENDS = "a lock that it still holds ends with its time, or is removed by playbooks/unlock.yml"
ADHOC = "__adhoc_playbook__"


class CallbackModule(CallbackBase):
    """Says nothing in runs of other playbooks, unless they are interrupted."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flotilla_outcome"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._playbook = ""
        self._began = False
        self._process = os.getpid()
        self._signal = 0
        # App and host → the release that it said it serves.
        self._serves: dict[tuple[str, str], Mapping[str, Any]] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Which front door it is."""
        self._playbook = Path(playbook._file_name).name
        if self._playbook == ADHOC:
            return
        # Below all that Ansible and the other plugins have to say.
        atexit.register(self._say_that_it_was_interrupted)
        self._on_sigint = signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._terminate)

    def _interrupt(self, number: int, frame: Any) -> None:
        """Ansible's own handler raises KeyboardInterrupt."""
        self._signal = number
        if callable(self._on_sigint):
            self._on_sigint(number, frame)

    def _terminate(self, number: int, frame: Any) -> None:
        """Ansible's own handler would end the process before it has said anything. The exit status is a shell's."""
        if os.getpid() != self._process:
            os._exit(128 + number)
        self._signal = number
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    def v2_runner_on_ok(self, result: Any) -> None:
        """What a phase said of its host."""
        serves = result.result.get("serves")
        if result.task.action == "flotilla_release" and isinstance(serves, Mapping):
            app = f"{result.result.get('purpose', '')} ".split(" ")[1]
            self._serves[app, result.host.get_name()] = serves

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """From the first phase on, only the hosts know what serves."""
        self._began = self._began or task.action in LOCKING

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The lines."""
        atexit.unregister(self._say_that_it_was_interrupted)
        limit = context.CLIARGS.get("subset")
        if limit and not stats.processed and self._playbook != ADHOC:
            what = f"{self._playbook} is about no host in `{limit}`"
            self._display.error(visible(str(Problem("command line", "--limit", what, "correct it"))))
            sys.exit(2)
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

    def _say_that_it_was_interrupted(self) -> None:
        """For people: what is known without asking anybody again."""
        if not self._signal or os.getpid() != self._process:
            return
        verb, again = self._playbook.removesuffix(".yml"), "Next: the same command again"
        if self._began:
            said = [f"by what the hosts said last, {text}" for text in [self._serving()] if text]
            shipping = self._playbook in SHIPPING
            told = "; ".join([f"{verb}: interrupted", *said, TAKEN_OVER if shipping else ENDS])
            line = f"{told}. {again}{', which ends what was begun' if shipping else ''}"
        elif self._playbook in SHIPPING:
            line = f"{verb}: interrupted, no traffic moved and no lock was taken. {again}"
        else:
            line = f"{verb}: interrupted. {again}"
        self._display.display(visible(line), color="red")
        sys.stdout.flush()

    def _serving(self) -> str:
        """Each app and release, and where it serves."""
        found: dict[str, list[str]] = {}
        for (app, host), serves in sorted(self._serves.items()):
            release = str(serves.get("version") or serves.get("release") or "")
            name = f"{app} {release} serves" if release else f"nothing of {app} serves"
            colour = f" ({serves['colour']})" if serves.get("colour") else ""
            found.setdefault(name, []).append(f"{host}{colour}")
        return "; ".join(f"{name} on {', '.join(hosts)}" for name, hosts in found.items())
