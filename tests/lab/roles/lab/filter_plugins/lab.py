"""Filters of the lab: what its droplets are, read from the inventory that it stands in for."""

from __future__ import annotations

import ipaddress
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

# The lab's own addresses: its registry, and the engine's gateway.
RESERVED_OCTETS = (253, 254)
# Users enter by the first host of the first of these groups that has one.
ENTRY_GROUPS = ("loadbalancer", "app")
# Labs with lab_index: auto take their networks' third octet from here up.
FIRST_AUTOMATIC_INDEX = 100
LAST_INDEX = 254


def lab_droplets(
    hosts: Iterable[Mapping[str, Any]], name: str, index: int | str, suite: str = "trixie"
) -> list[dict[str, Any]]:
    """Return one droplet for each host of an inventory.

    Args:
        hosts: the hosts' variables: ``private_address``, and optionally ``droplet_cpus``, ``droplet_memory_mb`` (MiB)
            and ``lab_suite``.
        name: the lab's name, the prefix of the containers' names.
        index: the third octet of the lab's networks.
        suite: the Debian release of a host that does not say.

    Returns:
        Mappings with ``host``, ``container``, ``address``, ``private_address``, ``cpus``, ``memory_mb``, ``suite``,
        and ``serves``: true of the one droplet that the users' traffic enters by.

    Raises:
        AnsibleFilterError: a host has no private address, or two have the same last octet.
    """
    if not 0 < int(index) <= LAST_INDEX:
        raise AnsibleFilterError(f"lab_index is {index}: it has to be between 1 and 254, or auto.")
    known = sorted(hosts, key=lambda host: str(host["inventory_hostname"]))
    entries = [
        str(host["inventory_hostname"]) for group in ENTRY_GROUPS for host in known if group in host["group_names"]
    ]
    taken: dict[int, str] = {}
    droplets = []
    for host in known:
        host_name = str(host["inventory_hostname"])
        if not host.get("private_address"):
            raise AnsibleFilterError(f"{host_name} has no private_address: set it in the inventory's hosts.yml.")
        octet = int(ipaddress.IPv4Address(host["private_address"])) & 0xFF
        if octet in RESERVED_OCTETS or octet in taken:
            other = taken.get(octet, "the lab itself")
            raise AnsibleFilterError(
                f"{host_name}: the lab keeps the last octet of private_address, and {octet} belongs to {other}."
            )
        taken[octet] = host_name
        droplets.append(
            {
                "host": host_name,
                "container": f"{name}-{host_name}",
                "address": f"10.77.{index}.{octet}",
                "private_address": f"10.78.{index}.{octet}",
                "cpus": float(host.get("droplet_cpus") or 2),
                "memory_mb": int(host.get("droplet_memory_mb") or 2048),
                "suite": host.get("lab_suite") or suite,
                "serves": host_name in entries[:1],
            }
        )
    return droplets


def lab_free_index(networks: Iterable[Mapping[str, Any]], name: str) -> int:
    """Return the third octet for a lab's networks: the one it has, or one that no network of the engine has.

    The search begins at a number made from the name, so that labs that start at the same time rarely meet.

    Raises:
        AnsibleFilterError: all of 100-254 are taken.
    """
    taken = {}
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or []:
            match = re.match(r"10\.7[78]\.(\d+)\.", config.get("Subnet") or "")
            if match:
                taken[int(match[1])] = network["Name"]
    for index, network_name in taken.items():
        if network_name in (f"{name}-public", f"{name}-private"):
            return index
    size = LAST_INDEX - FIRST_AUTOMATIC_INDEX + 1
    start = zlib.crc32(name.encode()) % size
    for step in range(size):
        index = FIRST_AUTOMATIC_INDEX + (start + step) % size
        if index not in taken:
            return index
    raise AnsibleFilterError("No network is left for another lab: take one down with lab_state=absent.")


def lab_app_build(version: str, repository: str, context: str) -> dict[str, Any]:
    """Return what builds one version of the sample app, in the form of ``lab_builds``."""
    return {"name": repository, "context": context, "tags": [str(version)], "args": {"VERSION": str(version)}}


def lab_image_names(images: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names that labs gave to images of the engine: children first, then the bases with all their names."""
    named = [[str(name) for name in image.get("RepoTags") or []] for image in images]
    own = [names for names in named if any(name.startswith("flotilla-lab/") for name in names)]
    bases = [names for names in own if any(name.startswith("flotilla-lab/base-") for name in names)]
    return [name for names in [*(names for names in own if names not in bases), *bases] for name in names]


class FilterModule:
    """Filters of the lab."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "lab_app_build": lab_app_build,
            "lab_droplets": lab_droplets,
            "lab_free_index": lab_free_index,
            "lab_image_names": lab_image_names,
        }
