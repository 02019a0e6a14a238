"""Who is on this host right now, as the host itself knows it: by the session that the running module belongs to.

sudo takes what sshd says of a connection out of the environment; the processes above it still have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .ssh_keys import fingerprint as of_key

# A module's process is six or seven below its session's.
GENERATIONS = 24


def visitor(pid: int, proc: Path = Path("/proc")) -> dict[str, str]:
    """`login`, `from` and `key` (the fingerprint) of the session that the process `pid` belongs to, as far as known.

    key: only where sshd has `ExposeAuthInfo yes`, which the hardening sets.
    """
    for environment in _environments(pid, proc):
        if connection := environment.get("SSH_CONNECTION", "").split():
            found = {"login": environment.get("USER") or environment.get("LOGNAME", ""), "from": connection[0]}
            key = fingerprint(_read(Path(environment["SSH_USER_AUTH"]))) if "SSH_USER_AUTH" in environment else ""
            return {**found, **({"key": key} if key else {})}
    return {}


def fingerprint(said: str) -> str:
    """The fingerprint, as ssh-keygen has it, of the key in sshd's SSH_USER_AUTH (`publickey <type> <base64>`)."""
    for line in said.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "publickey":
            return of_key(words[2])
    return ""


def environment_of(raw: str) -> dict[str, str]:
    """The variables in the text of /proc/<pid>/environ."""
    pairs = (item.partition("=") for item in raw.split("\0"))
    return {name: value for name, separator, value in pairs if separator}


def parent(pid: int, proc: Path = Path("/proc")) -> int:
    """The process that started `pid`; 0 when there is none. Source: proc_pid_stat(5)."""
    # The name in parentheses may hold spaces and parentheses.
    fields = _read(proc / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0


def _environments(pid: int, proc: Path) -> Iterator[dict[str, str]]:
    for _ in range(GENERATIONS):
        if pid <= 1:
            return
        yield environment_of(_read(proc / str(pid) / "environ"))
        pid = parent(pid, proc)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
