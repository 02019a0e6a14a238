"""Who reaches what: connections from this machine, from a neighbour, from the host itself and from a container."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[5]
# What is dropped is never answered, and what is open is answered by a kernel at once.
SECONDS = 1.0
# Where a program has to begin first; containers are told what is closed to them.
PATIENCE_SECONDS = 5.0
# Where a program has to answer.
ANSWER_SECONDS = 60.0
NEIGHBOUR = "198.51.100.2"
OTHER_NEIGHBOUR = "198.51.100.3"
ASK = f"""
import socket, sys
kind, source, address, port = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
if kind == "ping":
    # An echo request with the checksum that it has then. Source: RFC 792.
    asked = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    asked.settimeout({SECONDS})
    asked.sendto(bytes([8, 0, 0xF7, 0xFF, 0, 0, 0, 0]), (address, 0))
    sys.exit(asked.recv(100)[20] != 0)
asked = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
asked.settimeout({ANSWER_SECONDS} if kind == "udp" else {SECONDS})
asked.bind((source, 0))
asked.connect((address, int(port)))
if kind == "udp":
    asked.send(b"question")
    asked.recv(10)
"""


@dataclass(frozen=True)
class Droplet:
    """The droplet as the others see it. public, private: its addresses."""

    host: Host
    public: str
    private: str

    def from_here(self, address: str, port: int) -> bool:
        """Whether this machine, which is a neighbour on both of the lab's networks, reaches it."""
        try:
            socket.create_connection((address, port), SECONDS).close()
        except OSError:
            return False
        return True

    def from_neighbour(self, address: str, port: int, source: str = "", kind: str = "tcp") -> bool:
        """source: the one of the neighbour's addresses that it asks from."""
        return self._asked("ip netns exec neighbour python3", kind, source, address, port)

    def from_host(self, address: str, port: int) -> bool:
        return self._asked("python3", "tcp", "", address, port)

    def from_container(self, address: str, port: int) -> bool:
        """From the container `web`, whose image has bash and need not have more."""
        script = f"exec 3<>/dev/tcp/{address}/{port}"
        return bool(self.host.run(f"docker exec web timeout {PATIENCE_SECONDS} bash -c %s", script).rc == 0)

    def _asked(self, python: str, kind: str, source: str, address: str, port: int) -> bool:
        return bool(self.host.run(f"{python} -c %s {kind} '{source}' {address} {port}", ASK).rc == 0)
