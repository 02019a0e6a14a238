"""Filters of the lab: what its droplets are, read from the inventory that it stands in for."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

# The lab's own addresses: its registry, and the engine's gateway.
RESERVED_OCTETS = (253, 254)
# Users enter by the first host of the first of these groups that has one.
ENTRY_GROUPS = ("loadbalancer", "app")
# The roles whose packages a droplet may start with, in the order that they are applied in.
PACKAGED_ROLES = ("base", "docker")
MAJOR_VERSIONS = {"bookworm": "12", "trixie": "13"}


def lab_droplets(hosts: Iterable[Mapping[str, Any]], name: str, suite: str = "trixie") -> list[dict[str, Any]]:
    """Return one droplet for each host of an inventory.

    Args:
        hosts: the hosts' variables: ``private_address``, and optionally ``droplet_cpus``, ``droplet_memory_mb`` (MiB),
            ``lab_suite`` and ``lab_packages``.
        name: the lab's name, the prefix of the containers' names.
        suite: the Debian release of a host that does not say.

    Returns:
        Mappings with ``host``, ``container``, ``octet`` (the last one of its addresses), ``cpus``, ``memory_mb``,
        ``suite``, ``image`` (its name), and ``serves``: true of the one droplet that the users' traffic enters by.

    Raises:
        AnsibleFilterError: a host has no private address, or two have the same last octet.
    """
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
        own_suite = host.get("lab_suite") or suite
        droplets.append(
            {
                "host": host_name,
                "container": f"{name}-{host_name}",
                "octet": octet,
                "cpus": float(host.get("droplet_cpus") or 2),
                "memory_mb": int(host.get("droplet_memory_mb") or 2048),
                "suite": own_suite,
                "image": f"packages-{own_suite}" if host.get("lab_packages") else f"droplet-{own_suite}",
                "serves": host_name in entries[:1],
            }
        )
    return droplets


def lab_packages(suite: str, root: str) -> list[str]:
    """Return the packages that the roles ``base`` and ``docker`` install on a droplet.

    They are what the roles' own tasks say, with the roles' defaults: nothing here can differ from them.

    Args:
        suite: the Debian release of the droplet.
        root: of the checkout.

    Raises:
        AnsibleFilterError: the roles have no packages for that release.
    """
    loader = DataLoader()
    variables: dict[str, Any] = {
        "ansible_facts": {
            "distribution": "Debian",
            "distribution_major_version": MAJOR_VERSIONS[suite],
            "virtualization_tech_guest": ["container"],
        }
    }

    def read(role: str, path: str) -> Any:
        return loader.load_from_file(f"{root}/roles/{role}/{path}", trusted_as_template=True)

    for role in PACKAGED_ROLES:
        variables |= read(role, "defaults/main.yml") | read(role, "vars/main.yml")
    templar = Templar(loader, variables)
    installed = [
        task["ansible.builtin.apt"]["name"]
        for role in PACKAGED_ROLES
        for task in read(role, "tasks/install.yml")
        if "ansible.builtin.apt" in task
    ]
    try:
        return [str(package) for names in installed for package in templar.template(names)]
    except AnsibleError as error:
        raise AnsibleFilterError(f"A droplet with {suite} cannot start with packages: {error}") from error


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
            "lab_image_names": lab_image_names,
            "lab_packages": lab_packages,
        }
