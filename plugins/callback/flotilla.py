# MIT License, see LICENSE at the root of the project.
"""The output of Flotilla's playbooks: phases, a line a host, failures in full, and the outcome last."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.utils.color import stringc

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.display.lines import Line, State, Style, line, plain
from flotilla.display.live import StatusLine, Ticker
from flotilla.display.readable import dump, item_label
from flotilla.display.section import Task
from flotilla.display.story import Story
from flotilla.terminal import visible

DOCUMENTATION = r"""
name: flotilla
type: stdout
short_description: Phases, a line a host, failures in full, the outcome last
description:
  - Condenses tasks to a line a role and host; a task that calls a module of Flotilla has a line of its own.
  - Failures, messages, warnings and what would change are shown in full, as lines.
  - At a terminal the task in hand is shown with its hosts and seconds; without one, a long task says every minute that
    it still runs.
  - With C(-v) each task is shown, with all it returned.
extends_documentation_fragment:
  - default_callback
requirements:
  - set as stdout_callback in ansible.cfg
"""

COLOURS: Mapping[Style, str] = {
    Style.HEADING: "cyan",
    Style.OK: constants.COLOR_OK,
    Style.CHANGED: constants.COLOR_CHANGED,
    Style.FAILED: constants.COLOR_ERROR,
    Style.UNREACHABLE: constants.COLOR_UNREACHABLE,
    Style.SKIPPED: constants.COLOR_SKIP,
    Style.WARNING: constants.COLOR_WARN,
    Style.FAINT: constants.COLOR_DEBUG,
    Style.ADDED: constants.COLOR_DIFF_ADD,
    Style.REMOVED: constants.COLOR_DIFF_REMOVE,
    Style.HUNK: constants.COLOR_DIFF_LINES,
}
# What takes long in a phase of `flotilla_release`, in words.
DOING: Mapping[str, str] = {
    "admit": "checking",
    "recover": "ending what was left unfinished",
    "prepare": "pulling, booting, waiting for readiness",
    "commit": "switching, verifying",
    "watch": "watching the traffic",
    "abort": "taking back",
    "finish": "draining the old release",
}
ADHOC = "__adhoc_playbook__"
# The loop variable of an include whose rounds get a heading.
APPS = "app_entry"
# On a bare host, each of Ansible's modules that needs a directory there makes it.
MADE_ITS_DIRECTORY = re.compile(r"Module remote_tmp \S+ did not exist and was created")
# What Ansible colours a diff with.
PAINT = re.compile(r"\x1b\[[0-9;]*m")


class CallbackModule(CallbackBase):
    """Turns Ansible's events into those of a `Story`, and prints what it tells."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "flotilla"

    def __init__(self) -> None:
        super().__init__()
        self._story = Story(verbosity=self._display.verbosity)
        # Events come from two threads of Ansible, and ticks from a third.
        self._turn = threading.RLock()
        self._live = StatusLine(1, _is_terminal(), lambda: shutil.get_terminal_size().columns)
        self._ticker = Ticker(self._tick)
        self._check = False
        _guard(self._display)

    # -- the run --------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._story.adhoc = playbook._file_name == ADHOC
        options = {State.OK: "display_ok_hosts", State.SKIPPED: "display_skipped_hosts"}
        self._story.hidden = frozenset(state for state, name in options.items() if not self.get_option(name))
        self._ticker.start()
        atexit.register(self._live.clear)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._check = bool(play.check_mode)
        with self._turn:
            self._show(self._story.play(play.get_name().strip(), time.monotonic(), check=self._check))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        with self._turn:
            self._show(self._story.task(_task(task), time.monotonic()))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        with self._turn:
            self._show(self._story.task(_task(task), time.monotonic()))

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        with self._turn:
            self._show(self._story.start(task._uuid, host.get_name(), time.monotonic()))

    def v2_playbook_on_include(self, included_file: Any) -> None:
        names = [host.get_name() for host in included_file._hosts]
        with self._turn:
            self._show(self._story.included(_place(included_file._filename), names))

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        with self._turn:
            self._show(self._story.notice("no host is left to go on with"))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._ticker.stop()
        totals = {host: stats.summarize(host) for host in stats.processed}
        with self._turn:
            if stats.custom and self.get_option("show_custom_stats"):
                self._show([line(row) for row in dump({"custom statistics": stats.custom})])
            # The plugin flotilla_outcome, which serves every output, has the last word of a deploy.
            told = bool(stats.custom.get("_run", {}).get("flotilla"))
            self._show(self._story.finish(totals, time.monotonic(), check=self._check, told_elsewhere=told))

    # -- results --------------------------------------------------------------------------------

    def v2_runner_on_ok(self, result: Any) -> None:
        self._ended(result, _changed(result))

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._ended(result, State.SKIPPED)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._ended(result, State.IGNORED if ignore_errors else State.FAILED)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._ended(result, State.IGNORED if result.task.ignore_unreachable else State.UNREACHABLE)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._item(result, _changed(result))

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        self._item(result, State.SKIPPED)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        self._item(result, State.FAILED)

    def v2_runner_retry(self, result: Any) -> None:
        with self._turn:
            self._story.retry(int(result.result["attempts"]), int(result.result["retries"]))

    def v2_on_file_diff(self, result: Any) -> None:
        diffs = [part for part in (result.result, *_items(result)) if part.get("diff") and part.get("changed")]
        text = "".join(self._get_diff(_legible(part["diff"])) for part in diffs)
        with self._turn:
            self._show(
                self._story.diff(result.task._uuid, result.host.get_name(), _changed(result), PAINT.sub("", text))
            )

    def _ended(self, result: Any, state: State) -> None:
        data = dict(result.result)
        failed = state in (State.FAILED, State.UNREACHABLE)
        if helpful := _help(result):
            data["help"] = helpful
        with self._turn:
            self._warn(result)
            if not self._story.knows(result.task._uuid):
                self._show(self._story.task(_task(result.task), time.monotonic()))
            self._show(
                self._story.result(
                    result.task._uuid,
                    result.host.get_name(),
                    state,
                    data,
                    time.monotonic(),
                    label=self.host_label(result),
                ),
                stderr=failed and self.get_option("display_failed_stderr"),
            )

    def _item(self, result: Any, state: State) -> None:
        with self._turn:
            self._warn(result)
            data = result.result
            self._show(
                self._story.item(
                    result.task._uuid, self.host_label(result), state, data, item_label(data), time.monotonic()
                ),
                stderr=state is State.FAILED and self.get_option("display_failed_stderr"),
            )

    @staticmethod
    def host_label(result: Any) -> str:
        """The host, and whom it delegated to; of a loop over delegates, where each item says whom, the host alone."""
        if "{{" in str(result.task.delegate_to):
            return str(result.host.get_name())
        return str(CallbackBase.host_label(result))

    def _warn(self, result: Any) -> None:
        """Warnings and deprecations, as Ansible itself prints them, but for one that nobody can do anything about."""
        warnings = [one for one in result.warnings or () if not MADE_ITS_DIRECTORY.match(str(one.event.msg))]
        if warnings or result.deprecations:
            self._live.clear()
        for warning in warnings:
            self._display._warning(warning)
        result.result.pop("warnings", None)
        self._handle_warnings(result.result)

    # -- the screen -----------------------------------------------------------------------------

    def _show(self, lines: Sequence[Line], stderr: bool = False) -> None:
        if not lines:
            return
        self._live.clear()
        with contextlib.suppress(BrokenPipeError):  # it is read by `head`, say
            for spans in lines:
                self._print(spans, stderr)
            # Ansible leaves this to the buffers; a log that is watched wants to be told now.
            (sys.stderr if stderr else sys.stdout).flush()

    def _print(self, spans: Line, stderr: bool) -> None:
        self._display.display(Painted.of(spans), stderr=stderr, screen_only=True)
        self._display.display(visible(plain(spans)), stderr=stderr, log_only=True)

    def _tick(self) -> None:
        with self._turn:
            now = time.monotonic()
            self._show(self._story.tick(now))
            if not self._live.enabled:
                self._show(self._story.still(now))
            elif running := self._story.running(now):
                self._live.draw(f"  ... {running}")
            else:
                self._live.clear()


def _is_terminal() -> bool:
    """Whether a line can be redrawn in place, and nobody else (a debugger) waits for keys."""
    capable = os.environ.get("TERM", "dumb") not in ("", "dumb")
    return capable and sys.stdout.isatty() and not constants.config.get_config_value("ENABLE_TASK_DEBUGGER")


class Painted(str):
    """A line with colours of ours. What stands between them is `visible`."""

    @classmethod
    def of(cls, spans: Line) -> Painted:
        """A line in the colours of Ansible's configuration, or without where colours are off."""
        return cls("".join(_paint(visible(span.text), span.style) for span in spans))


def _paint(text: str, style: Style) -> str:
    return stringc(text, COLOURS[style]) if style in COLOURS and text else text


def _guard(display: Any) -> None:
    """Have Ansible's own lines (warnings, errors, questions, -vvv) pass `visible` too: one method writes them all."""
    write = display.display

    def display_visible(msg: str, *args: Any, **options: Any) -> None:
        write(msg if isinstance(msg, Painted) else visible(msg, lines=True), *args, **options)

    display.display = display_visible


def _legible(value: Any) -> Any:
    """The texts of a diff as they may be shown, before Ansible colours it."""
    if isinstance(value, str):
        return visible(value, lines=True)
    if isinstance(value, Mapping):
        return {name: _legible(part) for name, part in value.items()}
    return [_legible(part) for part in value] if isinstance(value, (list, tuple)) else value


def _task(task: Any) -> Task:
    """What a story wants to know of a task."""
    action = str(task.action).rpartition(".")[2]
    role = getattr(task, "_role", None)
    phase = task.args.get("phase") if isinstance(task.args, Mapping) else None
    return Task(
        key=task._uuid,
        name=str(task.name or action).strip(),
        action=action,
        role=role.get_name() if role else "",
        path=_place(task.get_path() or ""),
        doing=DOING.get(phase, "") if isinstance(phase, str) and action == "flotilla_release" else "",
        group=_round(task),
        run_once=task.run_once is True,
    )


def _round(task: Any) -> str:
    """The app that this task's file was included for, in a loop over apps: the loop's label."""
    parent = getattr(task, "_parent", None)
    while parent is not None:
        variables = getattr(parent, "vars", None)
        if isinstance(variables, Mapping) and variables.get("ansible_loop_var") == APPS:
            return str(variables.get("_ansible_item_label", ""))
        parent = getattr(parent, "_parent", None)
    return ""


def _changed(result: Any) -> State:
    """What an `ok` of Ansible is: unchanged, changed, or only would be."""
    if not result.is_changed():
        return State.OK
    return State.WOULD_CHANGE if result.task.check_mode else State.CHANGED


def _items(result: Any) -> list[Mapping[str, Any]]:
    found = result.result.get("results")
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _place(path: str) -> str:
    """A path as it is seen from the working directory."""
    return path.removeprefix(f"{Path.cwd()}/")


def _help(result: Any) -> str:
    """What Ansible adds to an error to help with it."""
    event = getattr(result.exception, "event", None)
    texts = []
    while event is not None:
        texts.append(getattr(event, "help_text", None) or "")
        event = getattr(getattr(event, "chain", None), "event", None)
    return "\n".join(dict.fromkeys(text for text in texts if text))
