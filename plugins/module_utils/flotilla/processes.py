"""Who a run is on its controller, and whether another run's process is still there. For the controller only."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Identity:
    """A run of a playbook.

    token: random.  machine: names this boot and this process namespace.  process: `pid:start time` of
    `ansible-playbook`, which no later process can have.
    """

    token: str
    owner: str
    machine: str
    process: str

    def as_run(self) -> dict[str, Any]:
        return asdict(self)


def identify(pid: int, proc: Path = Path("/proc")) -> Identity:
    """This run, whose main process is `pid`."""
    owner = f"{getpass.getuser()}@{socket.gethostname()}"
    return Identity(secrets.token_hex(16), owner, machine(proc), f"{pid}:{started(pid, proc)}")


def machine(proc: Path = Path("/proc")) -> str:
    """A name for this boot of this machine, as seen from this process namespace; it tells nothing about it."""
    boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    namespace = str((proc / "self/ns/pid").readlink())
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:16]


def started(pid: int, proc: Path = Path("/proc")) -> str:
    """When the process started, in clock ticks since the boot; empty when there is none. Source: proc_pid_stat(5)."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The name in parentheses may hold spaces and parentheses; the start time is the 20th field behind it.
    return stat.rpartition(")")[2].split()[19]


def is_dead(lease_machine: str, lease_process: str, proc: Path = Path("/proc")) -> bool:
    """Whether the holder of a lease ran on this very machine and is gone; False when that cannot be known."""
    pid, _, start = lease_process.partition(":")
    if not lease_machine or not pid.isdigit() or not start or lease_machine != machine(proc):
        return False
    return started(int(pid), proc) != start


def main_process() -> int:
    """The process of `ansible-playbook`, asked from one of its workers."""
    return os.getppid()
