"""What can be seen of a machine by those who should not see secrets: arguments of processes, files, the journal."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.fleet import Environment

# Runs where it is sent, until its standard input ends; then prints every argument list that it saw.
SAMPLER = """
import glob, json, select, sys
seen = set()
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                seen.add(file.read().replace(b"\\0", b" ").decode("utf-8", "replace"))
        except OSError:
            pass
print(json.dumps(sorted(seen)))
"""

# VALUES stands in front of it. Prints the files below its arguments that hold a value, and whether all can read them.
FINDER = """
import json, os, stat, sys
values = [value.encode() for value in VALUES]
found = []
def walk(directory, reachable):
    with os.scandir(directory) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                walk(entry.path, reachable and bool(status.st_mode & 0o001))
            elif stat.S_ISREG(status.st_mode) and status.st_size < 50_000_000:
                try:
                    with open(entry.path, "rb") as file:
                        content = file.read()
                except OSError:  # a namespace, held open by the name of a file
                    continue
                if any(value in content for value in values):
                    found.append([entry.path, reachable and bool(status.st_mode & 0o004)])
for top in sys.argv[1:]:
    if os.path.isdir(top):
        walk(top, bool(os.stat(top).st_mode & 0o001))
print(json.dumps(found))
"""


@dataclass
class Seen:
    """The argument lists that were seen while the block ran; filled in at its end."""

    droplet: list[str] = field(default_factory=list)
    controller: list[str] = field(default_factory=list)


@contextmanager
def arguments_seen(environment: Environment, *options: str) -> Iterator[Seen]:
    """Sample the arguments of all processes on the droplet and on this machine while the block runs.

    options: of ssh, such as another account.
    """
    seen = Seen()
    # The program is an argument: the end of standard input ends the sampling.
    remote = environment.ssh_command(shlex.join(["python3", "-c", SAMPLER]), *options)
    with _sampler(remote, seen.droplet), _sampler([sys.executable, "-c", SAMPLER], seen.controller):
        yield seen


@contextmanager
def _sampler(command: Sequence[str], seen: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
            output, _ = process.communicate(timeout=300)
            seen += json.loads(output)
        finally:
            if process.poll() is None:
                process.kill()


@dataclass(frozen=True)
class SecretFile:
    """A file on the droplet that holds a secret. `public`: any user of the droplet can read it."""

    path: str
    public: bool


def files_with(environment: Environment, directories: Sequence[str], values: Sequence[str]) -> list[SecretFile]:
    """The files below some directories of the droplet that hold one of the values."""
    program = f"VALUES = {list(values)!r}\n{FINDER}"
    found: list[list[Any]] = json.loads(environment.python(program, *directories))
    return [SecretFile(path, public) for path, public in found]


def names_in(text: str, secrets: dict[str, str]) -> list[str]:
    """The names (never the values) of the secrets whose value a text holds."""
    return [name for name, value in secrets.items() if value in text]
