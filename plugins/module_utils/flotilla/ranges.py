"""Ports and networks: read from what people write, and joined without overlaps, as an nft set takes them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_PORT = 65_535
PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True)
class Addresses:
    """Networks by family, without overlaps. `anywhere` is every address of both; neither is nobody."""

    anywhere: bool = False
    ip: tuple[str, ...] = ()
    ip6: tuple[str, ...] = ()

    @classmethod
    def of(cls, networks: Iterable[Network]) -> Addresses:
        """The same addresses in as few networks as can be: an nft set takes no overlaps."""
        every = list(networks)
        ip = collapsed(every, 4)
        ip6 = collapsed(every, 6)
        return cls(anywhere="0.0.0.0/0" in ip and "::/0" in ip6, ip=ip, ip6=ip6)

    def admit(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether a packet from this address is from here."""
        networks = self.ip if address.version == 4 else self.ip6
        return any(address in ipaddress.ip_network(network) for network in networks)


def merged_ports(texts: Iterable[str]) -> tuple[str, ...]:
    """Ports and ranges without overlaps, in order. Raises ValueError with the one that is no port."""
    spans = sorted(port_span(text) for text in texts)
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(str(first) if first == last else f"{first}-{last}" for first, last in merged)


def holds_port(ports: str, port: int) -> bool:
    """Whether a port is in such a text."""
    first, last = port_span(ports)
    return first <= port <= last


def port_span(text: str) -> tuple[int, int]:
    """First and last port of `80` or `8000-8010`. Raises ValueError for anything else."""
    found = PORT.fullmatch(text)
    if found:
        first = int(found[1])
        last = int(found[2] or first)
        if 1 <= first <= last <= MAX_PORT:
            return first, last
    raise ValueError(f"{text!r} is not a port from 1 to {MAX_PORT}, nor a range such as 8000-8010")


def network(text: object) -> Network:
    """A network or one address. Raises ValueError, which says what is wrong and what was probably meant."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/16 or 2001:db8::/32")
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is not a network such as 10.0.0.0/16 or 2001:db8::/32") from None
        raise ValueError(f"{text} is an address within a network: did you mean {meant}?") from None
    if isinstance(found, ipaddress.IPv6Network):
        if found.network_address.scope_id:
            raise ValueError(f"{text} has a zone: write it without, and name the interface in `interface`")
        if found.network_address.ipv4_mapped and found.prefixlen >= 96:
            raise ValueError(f"{text} never comes over the wire: did you mean {found.network_address.ipv4_mapped}?")
    return found


def collapsed(networks: Iterable[Network], version: int) -> tuple[str, ...]:
    """The networks of one version without overlaps, in order; single addresses without a length."""
    every = list(networks)
    joined: list[Network] = []
    if version == 4:
        joined += ipaddress.collapse_addresses(one for one in every if isinstance(one, ipaddress.IPv4Network))
    else:
        joined += ipaddress.collapse_addresses(one for one in every if isinstance(one, ipaddress.IPv6Network))
    return tuple(str(one.network_address) if one.prefixlen == one.max_prefixlen else str(one) for one in joined)
