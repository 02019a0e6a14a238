"""Networks: every one that the file declares exists once per colour, so that the colours never meet.

Flotilla makes them before anything starts and the files call them external: shared data services and
the migration are on them too, at times when a colour's project is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..problem import did_you_mean
from .findings import Findings
from .model import COLOUR, EDGE_NETWORK, ROUTER, ROUTER_ADDRESS, SERVICE_ADDRESS, Context, Network
from .places import Place
from .privileges import harmless_network_options, refuse_unless

COLOURS = ("blue", "green")


def colour_networks(config: Mapping[str, Any], context: Context, findings: Findings) -> dict[str, Network]:
    """The networks of one colour, by their key in the file. `default` is always there, for the router."""
    found = {"default": Network(f"{context.app}-{COLOUR}")}
    for key, declared in (config.get("networks") or {}).items():
        definition = declared or {}
        path = f"networks.{key}"
        if key == EDGE_NETWORK or definition.get("name") == EDGE_NETWORK:
            findings.refuse(
                path, "is the network between the edge and the routers", "remove it; routes reach a service"
            )
        elif definition.get("external"):
            check_external(key, definition, _users(config, "networks", key), context, findings)
        else:
            check_own(key, definition, _users(config, "networks", key), context, findings)
            suffix = "" if key == "default" else f"-{key}"
            found[key] = Network(
                name=f"{context.app}-{COLOUR}{suffix}",
                driver=definition.get("driver") or "bridge",
                internal=bool(definition.get("internal")),
                ipv6=bool(definition.get("enable_ipv6")),
                options={name: str(value) for name, value in (definition.get("driver_opts") or {}).items()},
            )
    return found


def off_bridge(name: str, service: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """The service without `network_mode: bridge`: there it would meet other apps. It is on `default` then."""
    if service.get("network_mode") != "bridge":
        return dict(service)
    findings.note(f"services.{name}.network_mode", "left out: on `bridge` it would meet other apps; it is on `default`")
    return {key: value for key, value in service.items() if key != "network_mode"}


def service_networks(
    name: str,
    service: Mapping[str, Any],
    place: Place,
    networks: Mapping[str, Network],
    config: Mapping[str, Any],
    findings: Findings,
) -> dict[str, Any] | None:
    """`networks` of one service, or None when it has a network mode instead.

    A shared service joins each network in both colours, under its name and its aliases.
    """
    if mode := service.get("network_mode"):
        _check_mode(name, str(mode), findings)
        return None
    joined: dict[str, Any] = {}
    for key, options in (service.get("networks") or {"default": None}).items():
        attachment = {option: value for option, value in (options or {}).items() if value is not None}
        if key not in networks:
            joined[key] = attachment
            if not _external(config, key):
                known = config.get("networks") or {}
                findings.refuse(
                    f"services.{name}.networks.{key}",
                    f"the file declares no network `{key}`{did_you_mean(key, known)}",
                    f"add `{key}:` to the top-level networks",
                )
            elif place.in_colour:
                findings.note(
                    f"services.{name}.networks.{key}", f"on it both colours answer to `{name}` while a deploy runs"
                )
            continue
        for fixed in ("ipv4_address", "ipv6_address", "mac_address", "link_local_ips"):
            if attachment.pop(fixed, None):
                findings.refuse(
                    f"services.{name}.networks.{key}.{fixed}",
                    "a fixed address cannot be held by both colours",
                    f"remove it and reach the service by its name, `{name}`",
                )
        if place is Place.SHARED:
            attachment["aliases"] = sorted({name, *attachment.get("aliases", ())})
            for colour in COLOURS:
                joined[f"{key}-{colour}"] = dict(attachment)
        else:
            joined[key] = attachment
    return joined


def router_networks(
    services: Mapping[str, Any], routed: Iterable[str], networks: Mapping[str, Network]
) -> dict[str, Any]:
    """The router's networks: the edge, the colour's default, and as few more as reach every routed service."""
    joined: dict[str, Any] = {"default": {}, EDGE_NETWORK: {"ipv4_address": ROUTER_ADDRESS}}
    on_route = {name: services[name].get("networks") or {} for name in set(routed) if name in services}
    for _, theirs in sorted(on_route.items(), key=lambda item: (len(item[1]), item[0])):
        if theirs and not set(theirs) & set(joined):
            joined[min(theirs, key=lambda key: (key not in networks, key))] = {}
    return joined


def fix_addresses(colour: Mapping[str, Mapping[str, Any]], routed: Iterable[str], one: Iterable[str]) -> dict[str, int]:
    """Give routed services a fixed address on the colour's default network, where they have one container.

    one: services of one container; several cannot have one address, and are found by their name.
    Returns service → number of its address.
    """
    single = set(one)
    found: dict[str, int] = {}
    for number, name in enumerate(sorted(set(routed))):
        attachment = colour.get(name, {}).get("networks", {}).get("default")
        if attachment is not None and name in single:
            attachment["ipv4_address"] = SERVICE_ADDRESS.format(number)
            found[name] = number
    return found


def note_off_default(colour: Mapping[str, Mapping[str, Any]], findings: Findings) -> None:
    """Say which services do not share a network with the host's own stacks."""
    apart = sorted(name for name, service in colour.items() if "default" not in service.get("networks", {"default"}))
    if apart:
        text = f"{', '.join(apart)}: without the network `default` they do not reach the host's own Postgres and Redis"
        findings.note("networks", text)


def network_section(
    services: Mapping[str, Mapping[str, Any]], place: Place, networks: Mapping[str, Network], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The top-level `networks` for exactly the keys that `services` join."""
    declared = config.get("networks") or {}
    names = {key: (declared.get(key) or {}).get("name") or key for key in declared}
    names[EDGE_NETWORK] = EDGE_NETWORK
    if place is Place.SHARED:
        names |= {f"{key}-{colour}": networks[key].for_colour(colour) for key in networks for colour in COLOURS}
    else:
        names |= {key: network.name for key, network in networks.items()}
    joined = {key for service in services.values() for key in service.get("networks", {})}
    return {key: {"name": names.get(key, key), "external": True} for key in sorted(joined)}


def check_routed(name: str, service: Mapping[str, Any], findings: Findings) -> None:
    """A service on a route must be reachable by its name on a network."""
    if service.get("network_mode") and name != ROUTER:
        findings.refuse(
            f"services.{name}.network_mode",
            "a service on a route must be on a network, where the router finds it by its name",
            "remove network_mode",
        )


def _external(config: Mapping[str, Any], key: str) -> bool:
    return bool(((config.get("networks") or {}).get(key) or {}).get("external"))


def _check_mode(name: str, mode: str, findings: Findings) -> None:
    if mode not in ("none", "host") and not mode.startswith(("service:", "container:")):
        findings.refuse(
            f"services.{name}.network_mode", f"`{mode}` names a network of the host", "use `networks:` instead"
        )


def _users(config: Mapping[str, Any], section: str, key: str) -> list[str]:
    """The services that are on a network; `default` where a service names none."""
    services = config.get("services") or {}
    return [name for name, service in services.items() if key in (service.get(section) or {"default": None})]


def check_external(
    key: str, definition: Mapping[str, Any], users: Sequence[str], context: Context, findings: Findings
) -> None:
    """A network that is there already belongs to somebody else. users: the services that are on it."""
    external = definition["external"]
    stated = external.get("name") if isinstance(external, Mapping) else None
    name = str(definition.get("name") or stated or key)
    if name == EDGE_NETWORK:
        findings.refuse(
            f"networks.{key}",
            "is the network between the edge and the routers",
            "remove it; routes reach a service",
        )
    elif key == "default":
        findings.refuse(
            "networks.default",
            "each colour has its own default network",
            f"give the external network another key, such as `{name}`, and name it in the services that need it",
        )
    elif any(name == f"{context.app}-{colour}" or name.startswith(f"{context.app}-{colour}-") for colour in COLOURS):
        findings.refuse(
            f"networks.{key}", f"`{name}` is a colour's own network", "remove it: services are on it already"
        )
    elif users:
        what = f"`{name}` is not the app's own network: whoever is on it can be reached, and reaches the app"
        refuse_unless(users, f"networks.{key}", f"network:{name}", what, context, findings)


def check_own(
    key: str, definition: Mapping[str, Any], users: Sequence[str], context: Context, findings: Findings
) -> None:
    """What a network of the app cannot be, and what its services may not have it do."""
    path = f"networks.{key}"
    if (definition.get("ipam") or {}).get("config"):
        findings.refuse(
            f"{path}.ipam",
            "a fixed subnet cannot exist twice, once for each colour",
            "remove ipam, or make the network yourself and declare it `external: true`",
        )
    driver = definition.get("driver") or "bridge"
    if driver != "bridge":
        findings.refuse(
            f"{path}.driver",
            f"a `{driver}` network cannot be made for each colour",
            "remove driver, or make the network yourself and declare it `external: true`",
        )
    options = definition.get("driver_opts") or {}
    if users and not harmless_network_options(options):
        what = f"{', '.join(sorted(options))}: may name interfaces and addresses of the host"
        refuse_unless(users, f"{path}.driver_opts", "driver_opts", what, context, findings)
