# MIT License, see LICENSE at the root of the project.
"""Run one command of a hook, on the controller or on the task's host. See the module of the same name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.hooks import environment, explain, failed_before
from flotilla.terminal import visible

ROOT = Path(__file__).resolve().parents[2]
KILL_AFTER_SECONDS = 5
# The hook whose failure refuses the release.
REFUSES = "before_deploy"
# The command, with an environment that comes on standard input. As Ansible's `environment` it would stand in command
# lines of ssh, sudo and two shells: log lines that every account of the host can read, and with a limit of their own.
TELL = (
    "/usr/bin/python3",
    "-Ic",
    "import json, os, sys; os.environ.update(json.load(sys.stdin)); os.dup2(os.open(os.devnull, os.O_RDONLY), 0); "
    "os.execv('/bin/sh', ['/bin/sh', '-c', sys.argv[1]])",
)


class ActionModule(ActionBase):
    """A command that fails is a value (`ok` is false): what it means for the run is decided elsewhere."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """`ok`, `explanation`, `exit_code`, `stdout`, `stderr`."""
        super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(
            argument_spec={
                "hook": {"type": "str", "required": True},
                "entry": {"type": "dict", "required": True},
                "facts": {"type": "dict", "required": True},
                "purpose": {"type": "str", "required": True},
                "earlier": {"type": "dict", "default": {}},
            }
        )
        about = {"hook": args["hook"], "purpose": args["purpose"]}
        if failed_before(args["earlier"], args["purpose"], args["hook"]):
            kept = {name: args["earlier"].get(name) for name in ("ok", "explanation")}
            return {"changed": False, "skipped": True, **about, **kept}
        if self._task.check_mode:
            return {"changed": False, "skipped": True, **about, "ok": True, "msg": "hooks are not run in check mode"}
        told = environment({**args["facts"], "hook": args["hook"]})
        entry = args["entry"]
        if entry.get("where", "controller") == "controller":
            done = on_the_controller(entry, told)
        else:
            done = self._on_the_host(entry, told, task_vars or {})
        # Not `rc`: Ansible would take the task for a failed one.
        said = {"exit_code": done.get("rc"), "stdout": done.get("stdout"), "stderr": done.get("stderr")}
        if done.get("unreachable"):
            return {**done, **about}
        if done.get("rc") == 0:
            return {"changed": False, **about, "ok": True, **said}
        why = explain(args["hook"], entry, done)
        if args["hook"] != REFUSES:
            # Nothing is decided by it any more, so nobody else says it.
            self._display.warning(visible(why, lines=True))
        return {"changed": False, **about, "ok": False, "explanation": why, **said}

    def _on_the_host(self, entry: Mapping[str, Any], told: dict[str, str], task_vars: dict[str, Any]) -> dict[str, Any]:
        seconds = entry.get("timeout_seconds", 60)
        limited = ["timeout", f"--kill-after={KILL_AFTER_SECONDS}", str(seconds)]
        told_on_stdin = {"argv": [*limited, *TELL, entry["command"]], "stdin": json.dumps(told)}
        done: dict[str, Any] = self._execute_module(
            module_name="ansible.legacy.command", module_args=told_on_stdin, task_vars=task_vars
        )
        return done


def on_the_controller(entry: Mapping[str, Any], told: Mapping[str, str]) -> dict[str, Any]:
    """Run a command on the controller, at the root of the project, as whoever runs Ansible."""
    seconds = entry.get("timeout_seconds", 60)
    with subprocess.Popen(
        ["/bin/sh", "-c", entry["command"]],
        cwd=ROOT,
        env={**os.environ, **told},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
            return {"rc": process.returncode, "stdout": stdout, "stderr": stderr}
        except subprocess.TimeoutExpired:
            # What it has started goes with it.
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            return {"rc": 124, "stdout": stdout, "stderr": stderr}
