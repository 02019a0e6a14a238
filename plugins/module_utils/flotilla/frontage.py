"""What the load balancer is told of the apps and their hosts, checked before it becomes HAProxy configuration.

Nothing is escaped: each value must match the small alphabet of its kind, and what does not match is refused with the
variable to correct.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .apps import DOMAIN, NAME

# Printable ASCII that neither ends a word of HAProxy's configuration nor is expanded in it.
PATH = re.compile(r"/[A-Za-z0-9._~!&()*+,;=:@/?-]*")
SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# A client may use its rate, and the burst above it, over this many seconds.
RATE_SECONDS = 10
KEYS = ("name", "domains", "readiness_path", "rate_limit_rps", "rate_limit_burst")


@dataclass(frozen=True)
class Frontage:
    """One app as the balancer serves it.

    exact, wildcard: the names it answers to; a wildcard stands for one label. by_address: some are addresses.
    asked: the name that health checks and the edges' certificates are asked for.
    rate_limit: requests that one client may send in RATE_SECONDS; 0 is no limit.
    """

    name: str
    exact: tuple[str, ...]
    wildcard: tuple[str, ...]
    by_address: bool
    asked: str
    readiness_path: str
    rate_limit: int

    @property
    def names(self) -> tuple[str, ...]:
        """All names, as a certificate has to have them."""
        return self.exact + self.wildcard


def is_address(name: str) -> bool:
    """Whether `name` is an IPv4 or IPv6 address, without a zone (`%eth0`), which may be any text."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def balanced_apps(apps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the role `haproxy` has to know of the inventory's `apps`: its variable `haproxy_apps`."""
    shaped = []
    for app in apps:
        limit = app.get("rate_limit") or {}
        entry = {
            "name": app.get("name"),
            "domains": app.get("domains"),
            "readiness_path": (app.get("readiness") or {}).get("path"),
            "rate_limit_rps": limit.get("requests_per_second"),
            "rate_limit_burst": limit.get("burst"),
        }
        shaped.append({key: value for key, value in entry.items() if value is not None})
    return shaped


def balanced_servers(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The app hosts as the role's `haproxy_servers`, each with its private address and its edge's port."""
    return [
        {
            "name": host,
            "address": str(variables[host].get("private_address", "")),
            "port": int(variables[host].get("nginx_https_port", 443)),
        }
        for host in sorted(hosts)
    ]


def balancers(unprovisioned: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The balancers to provision: all of them when one of them, or an app host, has something new."""
    hosts = list(groups.get("loadbalancer", []))
    return hosts if {*hosts, *groups.get("app", [])} & set(unprovisioned) else []


def frontages(apps: Sequence[Mapping[str, Any]], extra_names: Sequence[str] = ()) -> list[Frontage]:
    """`haproxy_apps`, checked. `extra_names` go to the first app. Raises ValueError with every problem, one a line."""
    problems: list[str] = []
    owners: dict[str, str] = {}
    found: list[Frontage] = []
    for index, app in enumerate(apps):
        label = f"haproxy_apps[{app.get('name', index)}]"
        problems += [f"{label}.{key}: there is no such key" for key in app if key not in KEYS]
        name = str(app.get("name", ""))
        if not NAME.fullmatch(name):
            problems.append(f"{label}.name: {name!r} is not a small letter and then small letters, digits and -")
        domains = [str(domain) for domain in app.get("domains") or []]
        for domain in domains:
            if not DOMAIN.fullmatch(domain) and not is_address(domain):
                problems.append(f"{label}.domains: {domain!r} is not a domain in small letters, nor an address")
            if owners.setdefault(domain, name) != name:
                problems.append(f"{label}.domains: {domain} is a domain of {owners[domain]} already")
        names = domains + [extra for extra in extra_names if extra not in domains] if index == 0 else domains
        path = str(app.get("readiness_path", "/"))
        if not PATH.fullmatch(path):
            problems.append(f"{label}.readiness_path: {path!r} is not a path without spaces, quotes, %, $, # and \\")
        for key in ("rate_limit_rps", "rate_limit_burst"):
            if key in app and not _is_count(app[key]):
                problems.append(f"{label}.{key}: {app[key]!r} is not a number from 0 on")
        asked = _asked(domains)
        if not asked:
            problems.append(f"{label}.domains: behind a balancer an app needs a domain (an address is none)")
        found.append(
            Frontage(
                name=name,
                exact=tuple(one for one in names if not one.startswith("*.")),
                wildcard=tuple(one for one in names if one.startswith("*.")),
                by_address=any(map(is_address, names)),
                asked=asked,
                readiness_path=path,
                rate_limit=0 if problems else _rate_limit(app),
            )
        )
    for extra in extra_names:
        if not DOMAIN.fullmatch(extra) and not is_address(extra):
            problems.append(f"haproxy_extra_names: {extra!r} is not a domain in small letters, nor an address")
    if len({one.name for one in found}) < len(found):
        problems.append("haproxy_apps: two apps have the same name")
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    return found


def checked_servers(servers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`haproxy_servers`, checked. Raises ValueError with every problem, one a line."""
    problems: list[str] = []
    found: list[dict[str, Any]] = []
    for index, server in enumerate(servers):
        label = f"haproxy_servers[{server.get('name', index)}]"
        name, address, port = str(server.get("name", "")), str(server.get("address", "")), server.get("port", 443)
        if not SERVER.fullmatch(name):
            problems.append(f"{label}.name: {name!r} is not a host's name")
        if not is_address(address):
            problems.append(f"{label}.address: {address!r} is not an address: set the host's private_address")
        if not _is_count(port) or not 0 < int(port) < 65536:
            problems.append(f"{label}.port: {port!r} is not a port")
        found.append({"name": name, "address": f"[{address}]" if ":" in address else address, "port": str(port)})
    if len({server["name"] for server in found}) < len(found):
        problems.append("haproxy_servers: two servers have the same name")
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    return found


def _is_count(value: Any) -> bool:
    """Whether it is written in ASCII digits; the digits of other scripts are numbers for Python, not for HAProxy."""
    return str(value).isascii() and str(value).isdecimal()


def _asked(domains: Iterable[str]) -> str:
    """The first domain; of a wildcard a name that it covers, since nobody can ask for the wildcard itself."""
    named = [domain for domain in domains if not is_address(domain)]
    plain = [domain for domain in named if not domain.startswith("*.")]
    return plain[0] if plain else (f"www.{named[0][2:]}" if named else "")


def _rate_limit(app: Mapping[str, Any]) -> int:
    rate = int(app.get("rate_limit_rps", 50))
    return rate * RATE_SECONDS + int(app.get("rate_limit_burst", 2 * rate)) if rate else 0
