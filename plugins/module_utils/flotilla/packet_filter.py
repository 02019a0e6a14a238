"""What a host's firewall is told, checked and shaped before it becomes nftables rules.

Nothing is escaped: each value must match the small alphabet of its kind, and what does not match is refused with the
variable to correct.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .problem import did_you_mean
from .ranges import Addresses, Network, holds_port, merged_ports, network, port_span

ANY = "any"
PUBLIC = "public"
METRICS = "metrics"
# Names whose networks a variable gives: the playbook says for whom an entry is, and the inventory who they are.
NAMED_BY = {PUBLIC: "firewall_public_sources", METRICS: "firewall_metrics_sources"}
# A new connection to a busy host takes some seconds.
LEAST_UNDO_SECONDS = 5
# The kernel's IFNAMSIZ is 16 with the final NUL; a * at the end stands for any rest.
INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,14}|[A-Za-z0-9][A-Za-z0-9_.:@-]{0,13}\*")
# Without what ends or expands a quoted string of nft; 128 bytes with the final NUL. Source: NFTNL_UDATA_COMMENT_MAXLEN.
COMMENT = re.compile(r"[ !#%&()*+,./0-9:;<=>?@A-Z\[\]^_a-z{|}~'-]{0,127}")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


class Protocol(StrEnum):
    """What an entry's ports are ports of."""

    TCP = "tcp"
    UDP = "udp"
    BOTH = "both"

    @property
    def match(self) -> str:
        return "meta l4proto { tcp, udp }" if self is Protocol.BOTH else f"meta l4proto {self}"


@dataclass(frozen=True)
class Rule:
    """One entry of a list of the role, as the template needs it.

    name: prefix of its sets.  ports: merged, as `80` or `8000-8010`; empty is every port of every protocol.
    """

    name: str
    ports: tuple[str, ...]
    protocol: Protocol
    addresses: Addresses
    interface: str
    comment: str

    def describe(self, side: str) -> dict[str, Any]:
        """side: `saddr` when the addresses are who asks, `daddr` when they are who is asked."""
        families = [family for family in ("ip", "ip6") if getattr(self.addresses, family)]
        sets = [] if self.addresses.anywhere else families
        return {
            "ports": list(self.ports),
            "protocol": self.protocol.match if self.ports else "",
            "ports_set": f"{self.name}_ports",
            "sets": [
                {"name": f"{self.name}_{family}", "family": family, "elements": list(getattr(self.addresses, family))}
                for family in sets
            ],
            # One nft rule for each.
            "addresses": [""]
            if self.addresses.anywhere
            else [f"{family} {side} @{self.name}_{family}" for family in sets],
            "interface": f'iifname "{self.interface}"' if self.interface else "",
            "comment": self.comment,
        }


@dataclass(frozen=True)
class Kind:
    """A variable of the role that is a list of entries.

    ports_needed: an entry without ports is refused; else it is about everything.
    """

    variable: str
    name: str
    addresses_key: str
    ports_needed: bool

    @property
    def keys(self) -> tuple[str, ...]:
        interface = ("interface",) if self.addresses_key == "sources" else ()
        return ("ports", "protocol", self.addresses_key, *interface, "comment")


KINDS = (
    Kind("firewall_allow", "allow", "sources", ports_needed=True),
    Kind("firewall_allow_custom", "custom", "sources", ports_needed=True),
    Kind("firewall_containers_allow", "containers", "sources", ports_needed=True),
    Kind("firewall_egress_deny", "egress_deny", "destinations", ports_needed=False),
    Kind("firewall_egress_allow", "egress_allow", "destinations", ports_needed=False),
)


@dataclass(frozen=True)
class Rules:
    """All that the template needs."""

    ssh: Rule
    interfaces: tuple[str, ...]
    by_variable: Mapping[str, tuple[Rule, ...]]

    def describe(self) -> dict[str, Any]:
        sides = {kind.variable: "daddr" if kind.addresses_key == "destinations" else "saddr" for kind in KINDS}
        of = {
            variable: [rule.describe(sides[variable]) for rule in rules] for variable, rules in self.by_variable.items()
        }
        ssh = self.ssh.describe("saddr")
        return {
            "ssh": ssh,
            "allow": of["firewall_allow"] + of["firewall_allow_custom"],
            "containers": of["firewall_containers_allow"],
            "egress_deny": of["firewall_egress_deny"],
            "egress_allow": of["firewall_egress_allow"],
            "interfaces": list(self.interfaces),
            "all": [ssh, *(rule for rules in of.values() for rule in rules)],
        }


def declared_rules(declared: Mapping[str, Any]) -> tuple[Rules, list[str]]:
    """The rules that the role's variables declare, and every problem with them, each with its variable.

    declared: variable → value. With a problem, the rules must not be used.
    """
    problems: list[str] = []
    names = _named_networks(declared, problems)
    by_variable = {
        kind.variable: tuple(
            _rule(kind, number, entry, names, problems)
            for number, entry in enumerate(_list(declared.get(kind.variable), kind.variable, problems))
        )
        for kind in KINDS
    }
    for variable, least in (("firewall_undo_seconds", LEAST_UNDO_SECONDS), ("firewall_log_per_minute", 0)):
        value = declared.get(variable, least)
        if not str(value).isdecimal() or int(value) < least:
            problems.append(f"{variable}: {value!r} is not a number from {least} on")
    rules = Rules(_ssh(declared, names, problems), _interfaces(declared, problems), by_variable)
    return rules, list(dict.fromkeys(problems))


def locked_out(rules: Rules, connection: str) -> str:
    """Why the rules would shut out whoever connected so; empty when they let them in, or when that cannot be known.

    connection: sshd's SSH_CONNECTION, `<client> <its port> <server> <its port>`. Source: ssh(1), ENVIRONMENT.
    """
    words = connection.split()
    if len(words) != 4:
        return ""
    try:
        client = ipaddress.ip_address(words[0].partition("%")[0])
    except ValueError:
        return ""
    if client.is_loopback:
        return ""
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped:
        client = client.ipv4_mapped
    if not rules.ssh.addresses.admit(client):
        return (
            f"firewall_ssh_sources: you are connected from {client}, which is in none of them, and would be locked out."
            " Add it, or the network that it is in"
        )
    if not any(holds_port(ports, int(words[3])) for ports in rules.ssh.ports):
        return (
            f"firewall_ssh_ports: you are connected to port {words[3]}, which is none of them, and would be locked out."
            " Add it"
        )
    return ""


def _list(value: Any, label: str, problems: list[str]) -> list[Any]:
    """A list as it is, one value as a list of it."""
    if value is None:
        return []
    if isinstance(value, str | int):
        return [value]
    if isinstance(value, Sequence):
        return list(value)
    problems.append(f"{label}: {value!r} is not a list")
    return []


def _ports(values: Sequence[Any], label: str, problems: list[str]) -> tuple[str, ...]:
    texts: list[str] = []
    for value in values:
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise ValueError(f"{value!r} is not a port, nor a range such as 8000-8010")
            port_span(str(value))
        except ValueError as error:
            problems.append(f"{label}: {error}")
        else:
            texts.append(str(value))
    return merged_ports(texts)


def _networks(
    values: Sequence[Any], label: str, names: Mapping[str, tuple[Network, ...]], problems: list[str]
) -> tuple[Network, ...]:
    found: list[Network] = []
    for value in values:
        if isinstance(value, str) and value in names:
            found += names[value]
        elif isinstance(value, str) and NAME.fullmatch(value):
            known = ", ".join(names)
            problems.append(f"{label}: there are no networks called {value!r}{did_you_mean(value, names)}; {known}")
        else:
            try:
                found.append(network(value))
            except ValueError as error:
                problems.append(f"{label}: {error}")
    return tuple(found)


def _named_networks(declared: Mapping[str, Any], problems: list[str]) -> dict[str, tuple[Network, ...]]:
    """Name → networks. `any` is every address."""
    found: dict[str, tuple[Network, ...]] = {ANY: (network("0.0.0.0/0"), network("::/0"))}
    for variable in ("firewall_networks_default", "firewall_networks_custom"):
        named = declared.get(variable) or {}
        if not isinstance(named, Mapping):
            problems.append(f"{variable}: {named!r} is not names with their networks")
            continue
        for name, values in named.items():
            label = f"{variable}.{name}"
            if not isinstance(name, str) or not NAME.fullmatch(name) or name in (ANY, *NAMED_BY):
                taken = ", ".join((ANY, *NAMED_BY))
                problems.append(
                    f"{label}: a name is a small letter and then small letters, digits, - and _, and none of {taken}"
                )
                continue
            mine = []
            for value in _list(values, label, problems):
                try:
                    mine.append(network(value))
                except ValueError as error:
                    problems.append(f"{label}: {error}")
            found[name] = tuple(mine)
    for name, variable in NAMED_BY.items():
        values = _list(declared.get(variable), variable, problems)
        found[name] = _networks(values, variable, found, problems)
    return found


def _rule(kind: Kind, number: int, entry: Any, names: Mapping[str, tuple[Network, ...]], problems: list[str]) -> Rule:
    label = f"{kind.variable}[{number}]"
    if not isinstance(entry, Mapping):
        problems.append(f"{label}: {entry!r} is not an entry such as {{ports: [443], comment: the edge}}")
        entry = {"ports": [1]}
    problems += [
        f"{label}.{key}: there is no such key{did_you_mean(str(key), kind.keys)}"
        for key in entry
        if key not in kind.keys
    ]
    values = _list(entry.get("ports"), f"{label}.ports", problems)
    if not values and kind.ports_needed:
        problems.append(f"{label}.ports: an entry needs at least one port")
    protocol = entry.get("protocol", Protocol.TCP)
    if protocol not in list(Protocol):
        problems.append(f"{label}.protocol: {protocol!r} is not {', '.join(Protocol)}")
        protocol = Protocol.TCP
    if not values and "protocol" in entry and not kind.ports_needed:
        problems.append(
            f"{label}.protocol: without ports the entry is about every protocol: name ports, or leave it out"
        )
    interface = str(entry.get("interface", ""))
    if interface and not INTERFACE.fullmatch(interface):
        problems.append(f"{label}.interface: {interface!r} is not an interface such as eth1, or eth*")
    comment = str(entry.get("comment", ""))
    if not COMMENT.fullmatch(comment):
        problems.append(f"{label}.comment: it is for up to 127 plain letters, without quotes, dollars and backslashes")
    wanted = _list(entry.get(kind.addresses_key, ANY), f"{label}.{kind.addresses_key}", problems)
    return Rule(
        name=f"{kind.name}_{number}",
        ports=_ports(values, f"{label}.ports", problems),
        protocol=Protocol(protocol),
        addresses=Addresses.of(_networks(wanted, f"{label}.{kind.addresses_key}", names, problems)),
        interface=interface,
        comment=comment or label,
    )


def _ssh(declared: Mapping[str, Any], names: Mapping[str, tuple[Network, ...]], problems: list[str]) -> Rule:
    sources = _list(declared.get("firewall_ssh_sources"), "firewall_ssh_sources", problems)
    if not sources:
        problems.append(
            "firewall_ssh_sources: it names the networks that may connect by SSH, and is empty: nobody could"
        )
    ports = _list(declared.get("firewall_ssh_ports"), "firewall_ssh_ports", problems)
    if not ports:
        problems.append(
            "firewall_ssh_ports: it names the ports that sshd listens on, and is empty: nobody could connect"
        )
    return Rule(
        name="ssh",
        ports=_ports(ports, "firewall_ssh_ports", problems),
        protocol=Protocol.TCP,
        addresses=Addresses.of(_networks(sources, "firewall_ssh_sources", names, problems)),
        interface="",
        comment="SSH",
    )


def _interfaces(declared: Mapping[str, Any], problems: list[str]) -> tuple[str, ...]:
    found = _list(declared.get("firewall_container_interfaces"), "firewall_container_interfaces", problems)
    for number, one in enumerate(found):
        if not isinstance(one, str) or not INTERFACE.fullmatch(one):
            label = f"firewall_container_interfaces[{number}]"
            problems.append(f"{label}: {one!r} is not an interface such as docker0, or br-*")
    if not found:
        problems.append("firewall_container_interfaces: without one the containers' own way out would be closed")
    return tuple(dict.fromkeys(str(one) for one in found))
