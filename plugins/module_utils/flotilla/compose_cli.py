"""`docker compose`, called so that nothing of the caller's environment leaks into a release.

The process environment wins over `.env` in Compose, so it is cleared; project name, files and
env file are always explicit.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}


class ComposeError(Exception):
    """`docker compose` failed or took too long. `output` is what it said."""

    def __init__(self, command: Sequence[str], output: str, *, timed_out: bool = False) -> None:
        super().__init__(f"{' '.join(command[:2])} {command[-1] if command else ''}: {output}")
        self.output = output
        self.timed_out = timed_out


@dataclass(frozen=True)
class Project:
    """One Compose project: its name, its one file, and the variables that file may use."""

    name: str
    file: Path
    variables: Mapping[str, str]
    directory: Path | None = None
    env_file: Path | None = None

    def command(self, *words: str) -> list[str]:
        """The whole command line. No secret can be in it: values travel in files and the environment."""
        line = ["docker", "compose", "--ansi", "never", "-p", self.name, "-f", str(self.file)]
        line += ["--project-directory", str(self.directory or self.file.parent)]
        line += ["--env-file", str(self.env_file or "/dev/null")]
        return [*line, *words]

    def run(self, *words: str, timeout: float) -> str:
        """Run a Compose command to its end; returns stdout. Raises `ComposeError`, also past `timeout` seconds."""
        command = self.command(*words)
        try:
            done = subprocess.run(
                command,
                env={**CLEAN_ENVIRONMENT, **self.variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else (error.stderr or "")
            raise ComposeError(words, f"still ran after {timeout:g} s; {said.strip()}", timed_out=True) from error
        if done.returncode != 0:
            raise ComposeError(words, (done.stderr or done.stdout).strip())
        return done.stdout

    def config(self, timeout: float = 60) -> dict[str, Any]:
        """The project as Compose understands it (every profile; consistency is the resolver's to check)."""
        loaded: dict[str, Any] = json.loads(
            self.run("--profile", "*", "config", "--no-consistency", "--format", "json", timeout=timeout)
        )
        return loaded
