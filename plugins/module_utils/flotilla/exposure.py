"""Who may reach what of a host, by its groups: the role firewall's `firewall_allow`. For the controller only."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .inventory import Sources
from .packet_filter import METRICS, PUBLIC, declared_rules, locked_out
from .problem import Problem

# The variables of a host that decide it, with what the roles and playbooks take where the inventory is silent.
SETTINGS: Mapping[str, Any] = {
    "firewall_allow": None,
    "loadbalancer_mode": "haproxy",
    "haproxy_bind_address": "",
    "haproxy_http_port": 80,
    "haproxy_https_port": 443,
    "haproxy_metrics_address": "",
    "haproxy_metrics_port": 8405,
    "nginx_bind_address": "",
    "nginx_http_port": 80,
    "nginx_https_port": 443,
    "nginx_trusted_proxies": (),
    "postgres_port": 5432,
    "postgres_pooler": False,
    "postgres_pooler_port": 6432,
    "redis_port": 6379,
    "backup_port": 2222,
}
HOW_TO = "docs/how-to/open-a-port.md"


def allow_list(
    member: Collection[str],
    variables: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    addresses: Mapping[str, str],
    senders: Sequence[str] = (),
) -> Any:
    """What the groups of a host need; the inventory's own `firewall_allow` where it has one.

    member: the host's groups.  variables: the host's, resolved, those of SETTINGS at least.
    addresses: host → private address, of the hosts of `app`, `loadbalancer`, `postgres` and the senders at least.
    senders: the hosts that send volumes to those of `backup`.
    """
    mine = {name: variables.get(name, default) for name, default in SETTINGS.items()}
    if mine["firewall_allow"] is not None:
        return mine["firewall_allow"]
    found: list[dict[str, Any]] = []
    if "loadbalancer" in member:
        if not _is_loopback(mine["haproxy_bind_address"]):
            ports = [mine["haproxy_http_port"], mine["haproxy_https_port"]]
            found.append({"ports": ports, "sources": [PUBLIC], "comment": "the balancer"})
        if not _is_loopback(mine["haproxy_metrics_address"]):
            metrics = [mine["haproxy_metrics_port"]]
            found.append({"ports": metrics, "sources": [METRICS], "comment": "metrics of the balancer"})
    if "app" in member and not _is_loopback(mine["nginx_bind_address"]):
        found.append(_edge(mine, _addresses(groups.get("loadbalancer", []), addresses)))
    # With an app beside them they are published for the host alone.
    if "app" not in member:
        apps = _addresses(groups.get("app", []), addresses)
        for group, comment in (("postgres", "Postgres for the app hosts"), ("redis", "Redis for the app hosts")):
            if group in member:
                ports = [mine[f"{group}_port"]]
                ports += [mine["postgres_pooler_port"]] if group == "postgres" and mine["postgres_pooler"] else []
                found.append({"ports": ports, "sources": apps, "comment": comment})
    if "backup" in member:
        databases = groups.get("postgres", [])
        sources = _addresses({*databases, *senders}, addresses)
        comment = "backups of the database" if set(senders) <= set(databases) else "backups of the database and volumes"
        found.append({"ports": [mine["backup_port"]], "sources": sources, "comment": comment})
    return found


def _edge(mine: Mapping[str, Any], balancers: list[str]) -> dict[str, Any]:
    """The entry of the edge. Our own balancers ask for its HTTPS port alone."""
    both = [mine["nginx_http_port"], mine["nginx_https_port"]]
    if mine["loadbalancer_mode"] == "external":
        outside = list(mine["nginx_trusted_proxies"] or [PUBLIC])
        return {"ports": both, "sources": outside, "comment": "the edge for the balancer outside"}
    if balancers:
        return {"ports": both[1:], "sources": balancers, "comment": "the edge for the balancers"}
    return {"ports": both, "sources": [PUBLIC], "comment": "the edge"}


def declared(variables: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The role firewall's variables, each as the host has it or else as the role has it.

    options: the role's, by name, as its argument specs have them.
    """
    return {name: variables[name] if name in variables else spec.get("default") for name, spec in options.items()}


def problems(variables: Mapping[str, Any], sources: Sources) -> list[Problem]:
    """What is wrong with the role firewall's variables, each where it stands. variables: those of `declared`."""
    found = []
    for text in declared_rules(variables)[1]:
        label, _, what = text.partition(": ")
        place = sources.place(label.partition("[")[0].partition(".")[0])
        found.append(Problem(place, label, what, f"correct it; see {HOW_TO}"))
    return found


def lockouts(hosts: Iterable[tuple[str, Mapping[str, Any], str]], sources: Sources, command: str) -> list[Problem]:
    """Whom the rules would shut out who is connected now, one problem for each place in the inventory.

    hosts: name, variables as of `declared`, and sshd's SSH_CONNECTION.  command: what to run again.
    """
    named: dict[tuple[str, str], list[str]] = {}
    for host, variables, connection in hosts:
        why = locked_out(declared_rules(variables)[0], connection)
        variable, _, what = why.partition(": ")
        if why:
            named.setdefault((variable, what), []).append(host)
    return [
        Problem(sources.place(variable), variable, f"{', '.join(of)}: {what}", f"correct it, then {command}")
        for (variable, what), of in named.items()
    ]


def _addresses(hosts: Iterable[str], addresses: Mapping[str, str]) -> list[str]:
    return [address for host in sorted(hosts) if (address := addresses.get(host))]


def _is_loopback(address: object) -> bool:
    try:
        return ipaddress.ip_address(str(address)).is_loopback
    except ValueError:
        return False
