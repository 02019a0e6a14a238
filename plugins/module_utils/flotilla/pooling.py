"""How many connections a database has, who may have how many of them, and what does not fit. For the controller only.

Sources of the numbers:

- RESERVED: PostgreSQL's superuser_reserved_connections, 3 unless it is set.
- COLOURS: while a release comes, an app host has the old one and the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .problem import Problem, did_you_mean

HOW_TO = "docs/how-to/pool-connections.md"
RESERVED = 3
COLOURS = 2


def pool_size(max_connections: int, databases: int, declared: int, direct: int) -> int:
    """Connections that the pooler makes to each database: as declared, or all that are left, shared out evenly.

    direct: connections that are left for others.  Raises ValueError, which names the variables.
    """
    left = max_connections - RESERVED - direct
    number = max(databases, 1)
    if declared and declared * number > left:
        raise ValueError(
            f"postgres_pooler_connections is {declared}, for {number} databases {declared * number}, and of "
            f"max_connections ({max_connections}) {left} are left beside {RESERVED} for the superuser and "
            f"postgres_direct_connections ({direct})"
        )
    if left < number:
        raise ValueError(
            f"max_connections is {max_connections}: beside {RESERVED} for the superuser and "
            f"postgres_direct_connections ({direct}) none are left for {number} databases"
        )
    return declared or left // number


@dataclass(frozen=True)
class Room:
    """What a database takes. max_connections: the server's.  direct: `postgres_direct_connections`.

    clients: how many the pooler takes; 0 where there is none.
    """

    max_connections: int
    direct: int
    clients: int


def demand(apps: Iterable[Mapping[str, Any]], hosts: int) -> tuple[int, str]:
    """The connections that the apps hold at most while a release comes, and in words where they come from.

    apps: with `name` and `database_connections` (service to connections of one colour on one host).
    """
    told, total = [], 0
    for app in apps:
        declared: Mapping[str, int] = app.get("database_connections") or {}
        if declared:
            total += COLOURS * hosts * sum(declared.values())
            each = ", ".join(f"{service} {number}" for service, number in declared.items())
            told.append(f"{app['name']}: {COLOURS} colours x {hosts} hosts x {sum(declared.values())} ({each})")
    return total, "; ".join(told)


def problems(
    apps: Sequence[Mapping[str, Any]], hosts: int, room: Room, where: Callable[[str], str], command: str
) -> list[Problem]:
    """Why the connections that the apps declare do not fit into the database; nothing where none are declared.

    where: the place of a variable.  command: what to run again.
    """
    total, told = demand(apps, hosts)
    if room.clients:
        if total <= room.clients:
            return []
        what = (
            f"while a release comes the apps hold {total} ({told}), and postgres_pooler_max_clients is {room.clients}"
        )
        fix = f"raise that, or have the apps make fewer; then {command}. See {HOW_TO}"
        return [Problem(where("database_connections"), "database_connections", what, fix)]
    left = room.max_connections - RESERVED - room.direct
    if total <= left:
        return []
    what = (
        f"while a release comes the apps hold {total} ({told}), and of the server's {room.max_connections} "
        f"(max_connections) {max(left, 0)} are left beside {RESERVED} for the superuser and "
        f"{room.direct} (postgres_direct_connections)"
    )
    fix = f"postgres_pooler: true, or a higher postgres_max_connections (it costs memory); then {command}. See {HOW_TO}"
    return [Problem(where("database_connections"), "database_connections", what, fix)]


def unknown_services(app: Mapping[str, Any], services: Sequence[str], where: str) -> list[Problem]:
    """Services with declared connections that the app's Compose file does not have. services: those it has."""
    return [
        Problem(
            where,
            f"apps[{app['name']}].database_connections.{service}",
            f"the Compose file has no service `{service}`{did_you_mean(service, services)}",
            f"use one of: {', '.join(services)}",
        )
        for service in app.get("database_connections") or {}
        if services and service not in services
    ]
