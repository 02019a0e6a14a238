"""Which project each service of the user's file belongs to, and what may depend on what."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from .findings import Findings
from .images import parse
from .model import ROUTER, Context
from .values import unescape


class Place(StrEnum):
    """Where a service runs. Workers are services of the colour that start at the commit."""

    COLOUR = "colour"
    WORKER = "worker"
    SHARED = "shared"
    MIGRATION = "migration"
    OUT = "left out"

    @property
    def in_colour(self) -> bool:
        """Whether it is part of the colour's project."""
        return self in (Place.COLOUR, Place.WORKER)


def one_shots(services: Mapping[str, Mapping[str, Any]], routed: frozenset[str]) -> frozenset[str]:
    """The services that are expected to exit: others wait for their end, or they must not be restarted.

    A service on a route serves until it is stopped, whatever its restart policy says.
    """
    found = set()
    for name, service in services.items():
        policy = (service.get("deploy") or {}).get("restart_policy") or {}
        if service.get("restart") in ("no", False) or policy.get("condition") == "none":
            found.add(name)
        for target, dependency in (service.get("depends_on") or {}).items():
            if dependency.get("condition") == "service_completed_successfully":
                found.add(target)
    return frozenset(found - routed)


def assign(services: Mapping[str, Mapping[str, Any]], context: Context, findings: Findings) -> dict[str, Place]:
    """Give every service its place; the names that the inventory uses are checked on the way."""
    stated = named(services, context, findings)
    routed = frozenset(route.service for route in context.routes)
    finishing = one_shots(services, routed)
    places: dict[str, Place] = {}
    for name, service in services.items():
        if name == ROUTER:
            findings.refuse(f"services.{name}", "the name is Flotilla's own", "give the service another name")
        if name in stated:
            places[name] = stated[name]
        elif service.get("profiles") and name not in routed:
            profiles = ", ".join(service["profiles"])
            findings.note(f"services.{name}", f"left out: it is in the profile {profiles}")
            places[name] = Place.OUT
        elif _owns_data(service) and name not in finishing and name not in context.per_colour:
            findings.note(
                f"services.{name}",
                f"kept out of both colours, as a database: apps[{context.app}].shared says so in words, "
                f"apps[{context.app}].per_colour gives each colour its own, empty one",
            )
            places[name] = Place.SHARED
        else:
            places[name] = Place.COLOUR
    for index, route in enumerate(context.routes):
        if places.get(route.service) in (Place.WORKER, Place.MIGRATION):
            findings.refuse_inventory(
                f"routes[{index}].service",
                f"`{route.service}` is on a route, and as a {places[route.service]} it does not run before the switch",
                f"take the route away, or take `{route.service}` out of "
                f"{'workers' if places[route.service] is Place.WORKER else 'migration'}",
            )
    return places


def dependencies(
    name: str, service: Mapping[str, Any], places: Mapping[str, Place], findings: Findings
) -> dict[str, Any]:
    """The part of `depends_on` that Compose still has to see.

    Shared services are up and healthy, and the migration is done, before a colour is booted: waiting
    for them is Flotilla's part, and Compose would start a second copy of them.
    """
    kept = {}
    mine = places[name]
    for target, dependency in (service.get("depends_on") or {}).items():
        theirs = places.get(target)
        if _same_project(mine, theirs) and not (mine is Place.COLOUR and theirs is Place.WORKER):
            kept[target] = dependency
        elif not _settled(mine, theirs) and dependency.get("required", True):
            why = _why_not(mine, theirs)
            findings.refuse(
                f"services.{name}.depends_on.{target}",
                f"`{target}` {why}",
                f"remove `{target}` from depends_on, or add `required: false` to it",
            )
    return kept


def check_references(name: str, service: Mapping[str, Any], places: Mapping[str, Place], findings: Findings) -> None:
    """Refuse what joins the namespaces of another service that runs in another project, or of any container."""
    for key in ("network_mode", "pid", "ipc", "uts", "cgroup"):
        kind, _, target = str(service.get(key) or "").partition(":")
        if kind == "container":
            findings.refuse(
                f"services.{name}.{key}",
                "names a container, and containers change with every release",
                f"remove it, or use `{key}: service:<name>`",
            )
        elif kind == "service" and not _same_project(places[name], places.get(target)):
            findings.refuse(
                f"services.{name}.{key}",
                f"`{target}` runs in another project ({places.get(target, Place.OUT)})",
                f"remove `{key}`, or keep both services in one place",
            )
    for index, entry in enumerate(service.get("volumes_from") or ()):
        target, colon, _ = str(entry).partition(":")
        # `container:<name>` is any container of the host, though a service may be called `container`.
        if (colon and target == "container") or not _same_project(places[name], places.get(target)):
            findings.refuse(
                f"services.{name}.volumes_from[{index}]",
                f"`{target}` is not a service of the same project",
                "mount a named volume in both services instead",
            )


def named(services: Mapping[str, Any], context: Context, findings: Findings) -> dict[str, Place]:
    """The places that the inventory states in words."""
    stated: dict[str, Place] = {}
    lists = (
        ("migration.service", (context.migration,) if context.migration else (), Place.MIGRATION),
        ("workers", context.workers, Place.WORKER),
        ("shared", context.shared, Place.SHARED),
    )
    for key, names, place in lists:
        for index, name in enumerate(names):
            where = key if place is Place.MIGRATION else f"{key}[{index}]"
            if name not in services:
                findings.unknown_service(where, name, services)
            elif name in stated and stated[name] is not place:
                findings.refuse_inventory(
                    where,
                    f"`{name}` is a {stated[name]} service already",
                    "name it in one of migration, workers, shared",
                )
            else:
                stated[name] = place
    for key, names in (("per_colour", context.per_colour), ("routes_without_health_check", context.unchecked)):
        for index, name in enumerate(names):
            if name not in services:
                findings.unknown_service(f"{key}[{index}]", name, services)
    for index, route in enumerate(context.routes):
        if route.service not in services:
            findings.unknown_service(f"routes[{index}].service", route.service, services)
    return stated


def _owns_data(service: Mapping[str, Any]) -> bool:
    reference = parse(unescape(str(service.get("image") or "")))
    return reference is not None and reference.owns_data


def _same_project(mine: Place, theirs: Place | None) -> bool:
    if theirs is None or theirs is Place.OUT:
        return False
    return mine is theirs or (mine.in_colour and theirs.in_colour)


def _settled(mine: Place, theirs: Place | None) -> bool:
    """Whether what a service waits for is there before its project is started."""
    if theirs is Place.MIGRATION:
        return mine.in_colour
    return theirs is Place.SHARED and mine is not Place.SHARED


def _why_not(mine: Place, theirs: Place | None) -> str:
    match theirs:
        case None:
            return "is not a service of this file"
        case Place.OUT:
            return "is in a profile and is left out"
        case Place.WORKER if mine is Place.COLOUR:
            return "is a worker and starts only at the commit"
    when = {
        Place.SHARED: "kept out of the colours and starts before them",
        Place.MIGRATION: "the migration and runs before them",
    }
    return f"starts later: this service is {when[mine]}" if mine in when else "runs in another project"
