"""Which certificates a host of an environment gets, by what it does. For the controller only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .names import address

STACKS = "/opt/flotilla"
# The user of the official image of Nginx, and of those of Postgres and Redis unless the inventory names another.
EDGE_USER, DATA_USER = "101", 999
# The name of Postgres' pooler on the engine's networks.
POOLER = "pgbouncer"


def certificates_of(variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The host's `pki_certificates`.

    variables: the host's, with `group_names`, `groups` and `inventory_hostname`.
    """
    groups = set(variables["group_names"])
    found = []
    for stack in ("postgres", "redis"):
        if stack in groups:
            # On the engine's networks it has the name of its stack; elsewhere it is reached by address.
            names = [stack, str(variables["inventory_hostname"])]
            if stack == "postgres" and variables.get("postgres_pooler"):
                # It stands before the database, and shows the same certificate.
                names.append(POOLER)
            user = str(variables.get(f"{stack}_uid", DATA_USER))
            found.append(_certificate(stack, f"{STACKS}/{stack}/certs", names, variables, user))
    if serves_balancers(variables):
        domains = [domain for app in variables.get("apps") or [] for domain in app.get("domains") or []]
        names = [*domains, *(variables.get("nginx_extra_names") or []), str(variables["inventory_hostname"])]
        found.append(_certificate("edge", f"{STACKS}/nginx/certs/issued", names, variables, EDGE_USER))
    return found


def serves_balancers(variables: Mapping[str, Any]) -> bool:
    """Whether this is an app host whose clients are the environment's balancers, and that was given no certificate."""
    behind = "app" in variables["group_names"] and bool(variables["groups"].get("loadbalancer"))
    return behind and not variables.get("nginx_certificate")


def trusted_about_edges(authorities: Iterable[Mapping[str, Any]], app_hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The certificates of the authorities, if one of the app hosts has an edge that they sign for.

    app_hosts: the variables of each.
    """
    return [str(one["certificate"]) for one in authorities] if any(map(serves_balancers, app_hosts)) else []


def needs_authority(groups: Mapping[str, Iterable[str]]) -> bool:
    """Whether an environment with these groups has connections that its authority is for."""
    return any(groups.get(name) for name in ("postgres", "redis", "loadbalancer"))


def _certificate(
    name: str, directory: str, names: Iterable[str], variables: Mapping[str, Any], user: str
) -> dict[str, Any]:
    """Names that are addresses go where addresses belong; the host's private one is always among them."""
    told = [str(one).lower() for one in (*names, variables.get("private_address") or "") if one]
    return {
        "name": name,
        "directory": directory,
        "dns_names": list(dict.fromkeys(one for one in told if not address(one))),
        "ip_addresses": list(dict.fromkeys(one for one in told if address(one))),
        "owner": user,
        "group": user,
        "mode": "0600",
    }
