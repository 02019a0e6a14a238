#!/usr/bin/python3 -I
# MIT License, see LICENSE at the root of the project.
"""What the read-only account of a host may do, and nothing else: it looks at the apps, as root, and changes nothing.

sshd runs this for every login of that account, whatever was asked for (a forced command); the request is in
SSH_ORIGINAL_COMMAND. No shell sees it, no part of it becomes a path or an option that is not in the form below.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The role installs it there, beside this.
sys.path.append("/usr/local/lib/flotilla")

from flotilla.terminal import visible

USAGE = """\
status                           what serves here, and whether its containers run
history [<app>] [<number>]       the last deploys, rollbacks and restarts
logs <app> [<service>] [<lines>] the last log lines of what serves
who [<number>]                   who did what to this host"""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
NUMBER = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
MOST_LINES = 1000
DOCKER = "/usr/bin/docker"
SECONDS = 30
HISTORY = ("when", "outcome", "action", "version", "who", "from", "to", "reason")
WHO = ("time", "verb", "step", "outcome", "app", "version")


class RefusedError(Exception):
    """The request is none that this account may make."""


@dataclass(frozen=True)
class Request:
    """What is asked for. app, service: empty for all."""

    verb: str
    app: str = ""
    service: str = ""
    lines: int = 20


def parse(text: str) -> Request:
    """The request in a command line. Raises `RefusedError` for everything that is not in the form of `USAGE`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    if not words:
        return Request("help")
    verb, rest = words[0], words[1:]
    most = {"help": 0, "status": 0, "history": 1, "logs": 2, "who": 0}
    if verb not in most:
        raise RefusedError(f"{verb!r} is not among them")
    lines = 20
    if rest and NUMBER.fullmatch(rest[-1]) and verb not in ("help", "status"):
        lines = min(int(rest.pop()), MOST_LINES)
    if len(rest) > most[verb] or not all(NAME.fullmatch(word) for word in rest):
        raise RefusedError(f"{verb} does not take {' '.join(map(repr, rest))}")
    if verb == "logs" and not rest:
        raise RefusedError("logs wants an app")
    app, service = [*rest, "", ""][:2]
    return Request(verb, app, service, lines)


@dataclass(frozen=True)
class Host:
    """The host's files, and its engine."""

    root: Path = Path("/opt")

    def answer(self, request: Request) -> list[str]:
        """Lines to show. Raises `RefusedError`."""
        match request.verb:
            case "status":
                return [line for app in self._apps("") for line in self._status(app)] or [
                    "no app was ever deployed here"
                ]
            case "history":
                return [
                    f"{app}  {line}"
                    for app in self._apps(request.app)
                    for line in _rows(self.root / app / "history.jsonl", HISTORY, request.lines)
                ]
            case "logs":
                return self._logs(request)
            case "who":
                return _rows(self.root / "flotilla" / "trail.jsonl", WHO, request.lines)
        return USAGE.splitlines()

    def _apps(self, wanted: str) -> list[str]:
        known = sorted(path.parent.name for path in self.root.glob("*/state.json"))
        if wanted and wanted not in known:
            raise RefusedError(f"there is no app {wanted!r} (apps: {', '.join(known) or 'none'})")
        return [wanted] if wanted else known

    def _live(self, app: str) -> dict[str, str]:
        live = _json(self.root / app / "state.json").get("live")
        return {"release": str(live["release"]), "colour": str(live["colour"])} if isinstance(live, dict) else {}

    def _status(self, app: str) -> list[str]:
        live = self._live(app)
        if not live:
            return [f"{app}: nothing serves"]
        columns = "{{.Names}}  {{.Status}}"
        project = f"label=com.docker.compose.project={app}-{live['colour']}"
        found = _docker("ps", "--all", "--filter", project, "--format", columns).splitlines()
        return [f"{app}: {live['release']} serves as {live['colour']}", *(f"  {line}" for line in sorted(found))]

    def _logs(self, request: Request) -> list[str]:
        live = self._live(self._apps(request.app)[0])
        if not live:
            raise RefusedError(f"nothing of {request.app} serves")
        asked = ["--filter", f"label=com.docker.compose.project={request.app}-{live['colour']}"]
        if request.service:
            asked += ["--filter", f"label=com.docker.compose.service={request.service}"]
        found = []
        for line in sorted(_docker("ps", "--format", "{{.Names}} {{.ID}}", *asked).splitlines()):
            name, _, identity = line.partition(" ")
            said = _docker("logs", "--tail", str(request.lines), identity)
            found += [f"{name} | {line}" for line in said.removesuffix("\n").split("\n")]
        return found


def _rows(path: Path, names: Sequence[str], number: int) -> list[str]:
    """The last entries of a file of JSON objects, these names of each alone. A broken line is passed over."""
    try:
        texts = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    entries = [entry for text in texts[-number:] if (entry := _entry(text))]
    return ["  ".join(str(entry[name]) for name in names if entry.get(name)) + _by(entry) for entry in entries]


def _by(entry: dict[str, Any]) -> str:
    by = entry.get("by")
    return f"  by {by.get('operator', '')} ({str(by.get('commit', ''))[:12]})" if isinstance(by, dict) else ""


def _entry(text: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        return _entry(path.read_text(errors="replace")) or {}
    except OSError:
        return {}


def _docker(*words: str) -> str:
    """What docker says, errors of containers among it. The environment is empty: nothing of the caller's is in it."""
    try:
        done = subprocess.run(
            [DOCKER, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedError(f"the engine does not answer: {error}") from error
    return done.stdout if done.returncode == 0 else ""


def main() -> int:
    """One request, its answer on standard output; 1 where it is refused."""
    try:
        for line in Host().answer(parse(os.environ.get("SSH_ORIGINAL_COMMAND", ""))):
            print(visible(line))
    except RefusedError as error:
        print(f"{visible(f'refused: {error}. This account may look, with:')}\n{USAGE}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
