"""`docker compose config` → the one file of a release. Every rule and its reason: docs/how-to/compose-file.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from . import keys, privileges, secret_variables
from .budget import limits, replicas, update_config
from .findings import Findings
from .hardening import listed, scratch, shown
from .model import COLOUR, RELEASE, ROUTER, ComposeFileError, Context, Network, Resolved
from .mounts import Mounts
from .networks import (
    check_routed,
    colour_networks,
    fix_addresses,
    network_section,
    note_off_default,
    off_bridge,
    router_networks,
    service_networks,
)
from .places import Place, assign, check_references, dependencies, one_shots
from .router import router_service
from .services import check_health, grace, translate
from .values import escape, unescape


def resolve(config: Mapping[str, Any], context: Context) -> Resolved:
    """Resolve an app's file.

    config: the parsed output of `docker compose --profile '*' config --no-consistency --format json`, in which
    Compose has merged, interpolated and normalised everything and doubled every literal dollar.
    Raises `ComposeFileError` with everything that is wrong. The same input gives the same output.
    """
    config = {key: escape(value) for key, value in config.items() if not key.startswith("x-")}
    findings = Findings(context.file, context.inventory, context.app)
    keys.check({key: value for key, value in config.items() if key != "services"}, "", "", findings)
    declared = {
        name: off_bridge(name, _as_specified(service), findings)
        for name, service in sorted((config.get("services") or {}).items())
    }
    places = assign(declared, context, findings)
    secret_variables.check(declared, context, findings)
    privileges.check(declared, context, findings)
    if config.get("models"):
        findings.refuse("models", "Flotilla runs services only", "remove `models`")

    networks = colour_networks(config, context, findings)
    mounts = Mounts(config, context, findings)
    finishing = one_shots(declared, frozenset(route.service for route in context.routes))
    services = {
        name: _service(name, service, places, name in finishing, networks, mounts, config, context, findings)
        for name, service in declared.items()
        if places[name] is not Place.OUT
    }
    _check_routes(declared, places, context, findings)
    mounts.check_secrets()

    colour = {name: service for name, service in services.items() if places[name].in_colour}
    note_off_default(colour, findings)
    routed = [route.service for route in context.routes]
    single = [name for name in colour if replicas(declared[name]) == 1]
    addresses = fix_addresses(colour, routed, single)
    colour[ROUTER] = _router(colour, routed, networks, addresses, context)
    places[ROUTER] = Place.COLOUR
    written = {name: unescape(str(declared[name].get("image", ""))) for name in services}

    projects = {
        place: _project(f"{context.app}{suffix}", members, place, networks, config, mounts)
        for place, suffix, members in (
            (Place.COLOUR, f"-{COLOUR}", colour),
            (Place.SHARED, "-data", {name: item for name, item in services.items() if places[name] is Place.SHARED}),
            (
                Place.MIGRATION,
                "-migration",
                {name: item for name, item in services.items() if places[name] is Place.MIGRATION},
            ),
        )
        if members
    }
    mounts.check_nested()
    colour_declared = {name: declared[name] for name in colour if name in declared}
    update = update_config(colour_declared, "update_config", findings)
    rollback = update_config(colour_declared, "rollback_config", findings)
    if findings.problems:
        raise ComposeFileError(findings.problems)
    everything = {**services, ROUTER: colour[ROUTER]}
    return Resolved(
        compose=projects[Place.COLOUR],
        shared=projects.get(Place.SHARED),
        migration=projects.get(Place.MIGRATION),
        images={**written, ROUTER: context.router_image},
        networks=tuple(sorted(networks.values(), key=lambda network: network.name)),
        volumes=tuple(sorted(mounts.volumes.values(), key=lambda volume: volume.name)),
        copies=tuple(sorted(mounts.copies, key=lambda copy: copy.target)),
        shared_directories=tuple(sorted(mounts.directories)),
        start_with_colour=tuple(sorted(name for name in colour if places[name] is Place.COLOUR)),
        start_at_commit=tuple(sorted(name for name in colour if places[name] is Place.WORKER)),
        one_shots=tuple(sorted(name for name in colour if name in finishing)),
        addresses=addresses,
        limits=limits(everything, places),
        grace_seconds={name: grace(service) for name, service in everything.items()},
        update=update,
        rollback=rollback,
        shared_fingerprint=_shared_fingerprint(declared, places, config, context),
        secrets={name: tuple(sorted(users)) for name, users in sorted(mounts.secrets.items())},
        users={name: str(service.get("user", "")) for name, service in everything.items()},
        secret_variables={
            name: found
            for name, service in services.items()
            if (found := secret_variables.paths(name, service, context))
        },
        hardened={name: added for name in services if (added := shown(declared[name]))},
        notes=tuple(findings.notes),
    )


def fingerprint(resolved: Resolved, router_config: str, secrets_version: str, files_digest: str) -> str:
    """A sha256 that is equal for two deploys that would run the same thing. Release, colour and host are not in it."""
    content = {**asdict(resolved), "notes": [], "update": None, "rollback": None}
    return _digest([content, router_config, secrets_version, files_digest])


def _as_specified(service: Mapping[str, Any]) -> dict[str, Any]:
    """The service with the keys of `blkio_config` as the specification has them: Compose prints `Path` and `Rate`."""
    if not isinstance(stated := service.get("blkio_config"), Mapping):
        return dict(service)
    devices = {
        key: [{name.lower(): value for name, value in entry.items()} for entry in item]
        if isinstance(item, list)
        else item
        for key, item in stated.items()
    }
    return {**service, "blkio_config": devices}


def _service(
    name: str,
    service: Mapping[str, Any],
    places: Mapping[str, Place],
    one_shot: bool,
    networks: Mapping[str, Network],
    mounts: Mounts,
    config: Mapping[str, Any],
    context: Context,
    findings: Findings,
) -> dict[str, Any]:
    """One service of the release, whole."""
    place = places[name]
    service = secret_variables.as_files(name, service, context)
    resolved = translate(name, service, place, one_shot, context, findings)
    check_references(name, service, places, findings)
    parts = {
        "depends_on": dependencies(name, service, places, findings),
        "networks": service_networks(name, service, place, networks, config, findings),
        "volumes": mounts.service_volumes(name, service, place),
        "tmpfs": [
            *listed(service.get("tmpfs")),
            *scratch(service, resolved["deploy"]["resources"]["limits"]["memory"]),
        ],
        "secrets": mounts.service_secrets(name, service),
        "configs": mounts.service_configs(name, service),
    }
    return {**resolved, **{key: value for key, value in parts.items() if value}}


def _router(
    colour: Mapping[str, Any],
    routed: list[str],
    networks: Mapping[str, Network],
    addresses: Mapping[str, int],
    context: Context,
) -> dict[str, Any]:
    router = router_service(context, addresses)
    router["image"] = context.digests.get(context.router_image, context.router_image)
    router["networks"] = router_networks(colour, routed, networks)
    router["labels"] = {
        "flotilla.app": context.app,
        "flotilla.release": RELEASE,
        "flotilla.colour": COLOUR,
    }
    return router


def _project(
    name: str,
    services: dict[str, Any],
    place: Place,
    networks: Mapping[str, Network],
    config: Mapping[str, Any],
    mounts: Mounts,
) -> dict[str, Any]:
    """A whole Compose file for some of the services; sections that nothing uses are not in it."""
    sections = {
        "networks": network_section(services, place, networks, config),
        "volumes": mounts.volume_section(services),
        "secrets": mounts.secret_section(services),
        "configs": mounts.config_section(services, place),
    }
    return {"name": name, "services": services, **{key: value for key, value in sections.items() if value}}


def _check_routes(
    declared: Mapping[str, Mapping[str, Any]], places: Mapping[str, Place], context: Context, findings: Findings
) -> None:
    """What only services on a route must have; each service is looked at once."""
    ports = {route.service: route.port for route in reversed(context.routes)}
    for name, port in sorted(ports.items()):
        if name not in declared or places[name] in (Place.MIGRATION, Place.WORKER):
            continue
        check_health(name, declared[name], port, context, findings)
        check_routed(name, declared[name], findings)
        if replicas(declared[name]) == 0:
            findings.refuse(
                f"services.{name}.deploy.replicas",
                "a service on a route needs a container",
                "write 1 or more, or remove the route",
            )


def _shared_fingerprint(
    declared: Mapping[str, Any], places: Mapping[str, Place], config: Mapping[str, Any], context: Context
) -> str:
    """Of the shared services as the user wrote them: no digest, secrets version or file content is in it."""
    shared = {name: declared[name] for name in declared if places[name] is Place.SHARED}
    if not shared:
        return ""
    text = json.dumps(
        {"services": shared, "networks": config.get("networks"), "volumes": config.get("volumes")}, sort_keys=True
    )
    return _digest(text.replace(context.source, "."))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=sorted)
    return hashlib.sha256(text.encode()).hexdigest()
