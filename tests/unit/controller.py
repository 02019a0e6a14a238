"""Ansible's commands as the tests run them, each in a fork of a process that has Ansible in memory.

To start Python and import Ansible takes as long as many a playbook. So each test process keeps one server for each set
of Ansible's settings, which are read when it is imported. The server imports it once, and forks for each command.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
Done = subprocess.CompletedProcess[str]


def ansible(program: str, *arguments: str, cwd: Path = ROOT, **environment: str) -> Done:
    """Run one of Ansible's commands with these changes of the environment, its output in a pipe."""
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **environment}
    return run([program, *arguments], {**os.environ, **settings}, cwd)


def module(name: str, arguments: Mapping[str, Any], *flags: str) -> Done:
    """Run a module on this machine by Ansible's ad-hoc command."""
    here = ("localhost", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}")
    return ansible("ansible", *here, "-m", name, "-a", json.dumps(arguments), *flags)


def run(command: list[str], environment: Mapping[str, str], cwd: Path) -> Done:
    """The same with a whole environment."""
    kept = sorted((name, value) for name, value in environment.items() if name.startswith("ANSIBLE_"))
    server = start(tuple(kept), *(environment.get(name) for name in ("NO_COLOR", "TERM", "COLUMNS")))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, errors)]
        request = {"command": command, "environment": dict(environment), "cwd": str(cwd), "files": files}
        assert server.stdin
        assert server.stdout
        print(json.dumps(request), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        for file in (out, errors):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), errors.read())


@cache
def start(settings: tuple[tuple[str, str], ...], *rest: str | None) -> subprocess.Popen[str]:
    """A server with these settings of Ansible's and of the terminal's."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    names = ("NO_COLOR", "TERM", "COLUMNS")
    terminal = {name: value for name, value in zip(names, rest, strict=True) if value is not None}
    environment = {name: value for name, value in others.items() if name not in names} | terminal | dict(settings)
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    atexit.register(server.communicate)
    return server


# -- the server -------------------------------------------------------------------------------------------------------


class Program(Protocol):
    """A module of `ansible.cli`."""

    def main(self, args: list[str]) -> None:
        """Run the command, and exit with its status."""


def serve() -> None:
    """Run a command for each line of the input, and answer with its exit status."""
    from ansible.cli import adhoc, inventory, playbook

    programs: dict[str, Program] = {"ansible": adhoc, "ansible-inventory": inventory, "ansible-playbook": playbook}
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(obey(programs, request))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def obey(programs: Mapping[str, Program], request: Mapping[str, Any]) -> int:
    """Run one command in this process; its exit status."""
    for number, path in zip((1, 2), request["files"], strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    program, *arguments = request["command"]
    sys.argv = [str(Path(sys.executable).with_name(program)), *arguments]
    try:
        programs[program].main(sys.argv)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve()
