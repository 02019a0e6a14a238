"""Which ports of a host are declared, and for whom; and what answers all the same. For the controller only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .packet_filter import Protocol, Rule, declared_rules
from .ranges import holds_port

ANYWHERE = "any"


def declared(variables: Mapping[str, Any], defaults: Mapping[str, Any], allow: Any) -> tuple[Rule, ...]:
    """All that others may ask of a host: by its groups (`allow`), by the inventory on top, and SSH.

    variables: the host's.  defaults: those of the role firewall. Where nothing says who may use SSH, everybody may.
    """
    given = {name: variables.get(name, default) for name, default in defaults.items()}
    given["firewall_allow"] = allow
    if not given.get("firewall_ssh_sources"):
        given["firewall_ssh_sources"] = [ANYWHERE]
    rules = declared_rules(given)[0]
    return (rules.ssh, *rules.by_variable["firewall_allow"], *rules.by_variable["firewall_allow_custom"])


def admitted(rules: Iterable[Rule], source: str, port: int) -> bool:
    """Whether somebody at the address `source` may ask for the TCP port. Any source is, whose address is not known."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return True
    return any(_has(rule, port) and (rule.addresses.anywhere or rule.addresses.admit(address)) for rule in rules)


def ports_of(rules: Iterable[Rule]) -> list[int]:
    """The single TCP ports that are declared for anybody; of a range nobody says that all of it is used."""
    texts = (text for rule in rules if rule.protocol is not Protocol.UDP for text in rule.ports)
    return sorted({int(text) for text in texts if text.isdecimal()})


def differences(rules: Sequence[Rule], source: str, who: str, open_ports: Iterable[int]) -> Iterator[tuple[str, str]]:
    """What answers and is not declared, and what is declared and does not answer; each with what to do.

    source: the address that was asked from.  who: how it is called.
    """
    found = set(open_ports)
    for port in sorted(found):
        if not admitted(rules, source, port):
            yield (
                f"port {port} answers {who}, and nothing declares it",
                "stop what listens there, or close it: docs/how-to/open-a-port.md",
            )
    for port in ports_of(rules):
        if port not in found and source and admitted(rules, source, port):
            yield f"port {port} is declared for {who}, and does not answer", "ansible-playbook playbooks/status.yml"


def _has(rule: Rule, port: int) -> bool:
    if rule.protocol is Protocol.UDP:
        return False
    return not rule.ports or any(holds_port(text, port) for text in rule.ports)
