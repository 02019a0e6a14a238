"""Rows of `/proc/<pid>/net/tcp` and `tcp6`: who listens, and how many connections are in flight.

Source: Linux, Documentation/networking/proc_net_tcp.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ESTABLISHED = 0x01
LISTEN = 0x0A


@dataclass(frozen=True)
class Socket:
    """One row. Addresses are left as the kernel writes them; `inode` finds the owning process."""

    local_address: str
    local_port: int
    remote_port: int
    state: int
    inode: int


def parse(text: str) -> Iterator[Socket]:
    """The rows of one file; a malformed line is passed over (the kernel may truncate the last)."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        try:
            address, _, port = fields[1].rpartition(":")
            _, _, remote = fields[2].rpartition(":")
            yield Socket(address, int(port, 16), int(remote, 16), int(fields[3], 16), int(fields[9]))
        except (IndexError, ValueError):
            continue


def of_process(pid: int, proc: Path = Path("/proc")) -> list[Socket]:
    """All TCP sockets of the network namespace of process `pid`; none when it is gone."""
    rows: list[Socket] = []
    for family in ("tcp", "tcp6"):
        try:
            rows += parse((proc / str(pid) / "net" / family).read_text())
        except OSError:
            continue
    return rows


def in_flight(rows: Iterable[Socket], port: int) -> int:
    """Established connections to the local `port`."""
    return sum(1 for row in rows if row.state == ESTABLISHED and row.local_port == port)


def listening(rows: Iterable[Socket]) -> list[int]:
    """The ports listened on, sorted. Docker's resolver on 127.0.0.11 is left out."""
    resolver = "0B00007F"
    return sorted({row.local_port for row in rows if row.state == LISTEN and row.local_address != resolver})
