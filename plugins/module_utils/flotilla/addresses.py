"""Fixed addresses of containers, so that no request needs the engine's DNS.

The engine chooses the subnet of each network. Flotilla leaves the lower half of it to the engine, which gives
addresses to containers that ask for none, and hands out the upper half itself.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .journal import Colour, write_atomic

BOOK = Path("/opt/flotilla/nginx/routers.json")


class AddressError(Exception):
    """A network cannot give fixed addresses. The message says what to do."""


def pinned_config(inspected: Mapping[str, Any]) -> dict[str, str] | None:
    """What the engine must be told to make a network of the same subnet with fixed addresses in its upper half.

    inspected: the network as the engine made it. None when it has not exactly one IPv4 subnet.
    """
    configs = [config for config in _configs(inspected) if ":" not in config.get("Subnet", ":")]
    if len(configs) != 1 or len(_configs(inspected)) != 1:
        return None
    lower, _ = _halves(configs[0]["Subnet"])
    return {"Subnet": configs[0]["Subnet"], "IPRange": str(lower)}


def fixed_address(inspected: Mapping[str, Any], number: int) -> str:
    """The fixed address with this number, from 0, of a network as the engine describes it.

    Raises `AddressError` for a network that Flotilla did not make, or one that is full.
    """
    name = inspected.get("Name", "")
    config = next((config for config in _configs(inspected) if config.get("IPRange")), None)
    if config is None:
        what = f"the Docker network {name} was not made by Flotilla: it has no range for fixed addresses"
        raise AddressError(f"{what}. Next: stop what is on it, docker network rm {name}, then run this again")
    _, upper = _halves(config["Subnet"])
    # The last one is the subnet's broadcast address.
    if number >= upper.num_addresses - 1:
        raise AddressError(f"the Docker network {name} ({config['Subnet']}) has no fixed address number {number}")
    return str(upper[number])


def router_addresses(inspected: Mapping[str, Any], slot: int) -> dict[str, str]:
    """Colour → address of an app's routers on the edge's network; each app has a slot of two."""
    return {str(colour): fixed_address(inspected, 2 * slot + index) for index, colour in enumerate(Colour)}


def read_slots(book: Path = BOOK) -> dict[str, int]:
    """App → slot, as this host has given them out; empty before the first."""
    try:
        slots: dict[str, int] = json.loads(book.read_text())
    except FileNotFoundError:
        return {}
    return slots


def with_slots(slots: Mapping[str, int], apps: Iterable[str]) -> dict[str, int]:
    """The slots with one for each of the apps. Nobody's ever changes, and none is given twice."""
    result = dict(slots)
    for app in apps:
        if app not in result:
            taken = set(result.values())
            result[app] = next(number for number in range(len(taken) + 1) if number not in taken)
    return result


def write_slots(slots: Mapping[str, int], book: Path = BOOK) -> None:
    """Keep the slots for the releases to come."""
    write_atomic(book, json.dumps(dict(slots), indent=1, sort_keys=True) + "\n", mode=0o644)


def upstream_variables(services: Iterable[str]) -> dict[str, str]:
    """Service on a route → the router's variable that holds its address or name."""
    return {service: f"FLOTILLA_UPSTREAM_{number}" for number, service in enumerate(sorted(set(services)))}


def _configs(inspected: Mapping[str, Any]) -> list[dict[str, str]]:
    return list((inspected.get("IPAM") or {}).get("Config") or [])


def _halves(subnet: str) -> tuple[ipaddress.IPv4Network, ipaddress.IPv4Network]:
    lower, upper = ipaddress.IPv4Network(subnet).subnets(prefixlen_diff=1)
    return lower, upper
