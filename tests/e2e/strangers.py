"""Strangers in a lab: containers on one of its networks that no inventory knows, and what they find open."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from tests.e2e.fleet import Environment

# TCP ports of some addresses: prints which answered a SYN with SYN and ACK, and how many refused with RST. What is
# dropped answers nothing. The RST after each SYN takes it out of the machine's table of connections, which would be
# full otherwise. Source: RFC 9293 (3.1, 3.5).
SCAN = r"""
import json, select, socket, struct, sys, time

SYN, RST, ACK = 2, 4, 16
OWN_PORT, SEQUENCE, AT_ONCE, PATIENCE = 40001, 7, 16_384, 1.0

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def segment(addresses, port, flags, sequence):
    head = struct.pack("!HHIIBBH", OWN_PORT, port, sequence, 0, 5 << 4, flags, 1024)
    pseudo = addresses + struct.pack("!HH", socket.IPPROTO_TCP, 20)
    return head + struct.pack("!HH", checksum(pseudo + head + bytes(4)), 0)

def scan(address, ports):
    wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    wire.connect((address, 0))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    addresses = socket.inet_aton(wire.getsockname()[0]) + socket.inet_aton(address)
    opened, refused = set(), set()

    def listen(seconds):
        end = time.monotonic() + seconds
        while select.select([wire], [], [], max(0, end - time.monotonic()))[0]:
            packet = wire.recv(4096)
            tcp = packet[(packet[0] & 15) * 4:]
            port, own = struct.unpack("!HH", tcp[:4])
            if own == OWN_PORT:
                {SYN | ACK: opened, RST | ACK: refused}.get(tcp[13] & (SYN | RST | ACK), set()).add(port)

    for first in range(0, len(ports), AT_ONCE):
        some = ports[first:first + AT_ONCE]
        for number, port in enumerate(some):
            wire.send(segment(addresses, port, SYN, SEQUENCE))
            if number % 256 == 0:
                listen(0)
        listen(0.3)
        for port in some:
            wire.send(segment(addresses, port, RST, SEQUENCE + 1))
    listen(PATIENCE)
    return {"open": sorted(opened), "refused": len(refused)}

first, last, *targets = sys.argv[1:]
print(json.dumps({address: scan(address, range(int(first), int(last) + 1)) for address in targets}))
"""
# What a UDP port says to a datagram: nothing when it is dropped; where nobody listens, the host's kernel refuses it.
ASK_UDP = """
import json, socket, sys
address, *ports = sys.argv[1:]
said = {}
for port in ports:
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.settimeout(0.5)
    asked.connect((address, int(port)))
    try:
        asked.send(bytes(48))
        asked.recv(100)
    except TimeoutError:
        said[port] = "dropped"
    except ConnectionRefusedError:
        said[port] = "refused"
    else:
        said[port] = "answered"
print(json.dumps(said))
"""
ALL = (1, 65_535)


@dataclass(frozen=True)
class Found:
    """What a scan of one address found. `refused`: ports that nobody has behind, and that the firewall let through."""

    open: tuple[int, ...]
    refused: int


# Runs a Python program with arguments somewhere, and gives what it prints.
Runs = Callable[..., str]


def scan(runs: Runs, *addresses: str, ports: tuple[int, int] = ALL) -> list[Found]:
    """What somebody finds at each of these addresses."""
    said = json.loads(runs(SCAN, *map(str, ports), *addresses))
    return [Found(tuple(said[address]["open"]), said[address]["refused"]) for address in addresses]


@dataclass(frozen=True)
class Stranger:
    """A container on one network of a lab, outside the addresses that the lab's firewalls know."""

    container: Container

    def run(self, *command: str) -> str:
        code, output = self.container.exec_run(list(command))
        assert isinstance(output, bytes)
        assert code == 0, f"{shlex.join(command)[-200:]} ended with {code}: {output.decode(errors='replace')}"
        return output.decode()

    def python(self, code: str, *arguments: str) -> str:
        """What a Python program prints there."""
        return self.run("python3", "-c", code, *arguments)

    def udp(self, address: str, ports: Sequence[int]) -> dict[int, str]:
        """What each port says to a datagram: dropped, refused or answered."""
        said = json.loads(self.python(ASK_UDP, address, *map(str, ports)))
        return {int(port): word for port, word in said.items()}

    @contextmanager
    def with_routes(self, gateway: str, *networks: str) -> Iterator[None]:
        """Send what is for these networks by a neighbour. Whoever asks for 127.0.0.1 gives up his own."""
        for network in networks:
            if network.startswith("127."):
                self.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
            self.run("ip", "route", "add", network, "via", gateway)
        try:
            yield
        finally:
            for network in networks:
                self.run("ip", "route", "del", network, "via", gateway)
                if network.startswith("127."):
                    self.run("ip", "address", "add", "127.0.0.1/8", "dev", "lo")


@contextmanager
def stranger(lab: Environment, network: str) -> Iterator[Stranger]:
    """Somebody on the lab's network `public` or `private`."""
    engine = docker.from_env(timeout=300)
    image = engine.containers.get(f"{lab.name}-{lab.host}").attrs["Image"]
    container = engine.containers.run(
        image,
        entrypoint=["sleep", "infinity"],
        detach=True,
        init=True,
        name=f"{lab.name}-stranger-{network}",
        # The lab's clean-up removes what has its label.
        labels={"flotilla.lab": lab.name},
        network=f"{lab.name}-{network}",
        cap_add=["NET_ADMIN", "NET_RAW"],
        sysctls={"net.ipv4.conf.all.route_localnet": "1"},
    )
    try:
        yield Stranger(container)
    finally:
        if not os.environ.get("FLOTILLA_KEEP"):
            container.remove(force=True, v=True)


def dropped(host: Environment) -> int:
    """How many packets the host's firewall has dropped since its rules were loaded."""
    counters = re.findall(r"counter packets (\d+)", host.ssh("nft list chain inet flotilla dropped"))
    return sum(map(int, counters))
