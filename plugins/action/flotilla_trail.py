# MIT License, see LICENSE at the root of the project.
"""The module of the same name; the raw file of a host comes with the key by which the control node knew the host."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.verified import key_of


class ActionModule(ActionBase):
    """Runs the module, for `raw` in an SSH session of its own, of whose beginning ssh itself writes a log here."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the module returns, and `key`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not boolean(self._task.args.get("raw", False)) or self._connection.transport != "ssh":
            result |= self._execute_module(task_vars=task_vars)
            return {**result, "key": ""} if "text" in result else result
        given = str(self._connection.get_option("ssh_extra_args") or "")
        with tempfile.TemporaryDirectory(prefix="flotilla-") as directory:
            log = Path(directory, "ssh.log")
            # Not over a connection that is open already: ssh says which key it verified when it makes one. Not by its
            # standard error, where the host can write.
            own = ["-S", "none", "-v", "-E", os.fspath(log)]
            self._connection.set_option("ssh_extra_args", f"{given} {shlex.join(own)}".strip())
            try:
                result |= self._execute_module(task_vars=task_vars)
            except AnsibleConnectionFailure as error:
                # What ssh says for people is in its log, too.
                raise AnsibleConnectionFailure(f"{error} {told_by(log)}") from error
            finally:
                self._connection.set_option("ssh_extra_args", given)
            key = key_of(text_of(log))
        if "text" in result and not key:
            return {"failed": True, "msg": "ssh -v does not say which host key it verified, or names two"}
        return {**result, "key": key}


def text_of(log: Path) -> str:
    """What ssh wrote; nothing where it did not begin."""
    return log.read_text(errors="replace") if log.exists() else ""


def told_by(log: Path) -> str:
    """What ssh says without being asked for more."""
    lines = (line.strip() for line in text_of(log).splitlines())
    return " ".join(line for line in lines if not line.startswith(("debug", "OpenSSH_")))
