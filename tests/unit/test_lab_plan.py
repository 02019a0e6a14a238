"""What the lab makes of an inventory."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

LAB = Path(__file__).parents[1] / "lab"


def load(path: Path) -> ModuleType:
    """Import a plugin that lies in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lab = load(LAB / "roles/lab/filter_plugins/lab.py")


def host(name: str, address: str, *groups: str, **variables: Any) -> dict[str, Any]:
    """Return a host's variables."""
    return {"inventory_hostname": name, "private_address": address, "group_names": list(groups), **variables}


def test_a_droplet_keeps_the_last_octet_and_gets_its_inventory_size() -> None:
    hosts = [host("db-1", "10.0.0.21", "postgres", droplet_cpus=4, droplet_memory_mb=4096)]
    assert lab.lab_droplets(hosts, "lab", 7) == [
        {
            "host": "db-1",
            "container": "lab-db-1",
            "address": "10.77.7.21",
            "private_address": "10.78.7.21",
            "cpus": 4.0,
            "memory_mb": 4096,
            "suite": "trixie",
            "serves": False,
        }
    ]


@pytest.mark.parametrize(
    ("hosts", "entry"),
    [
        ([host("a-2", "10.0.0.2", "app"), host("a-1", "10.0.0.1", "app")], ["a-1"]),
        ([host("a-1", "10.0.0.1", "app"), host("lb-1", "10.0.0.9", "loadbalancer")], ["lb-1"]),
        ([host("db-1", "10.0.0.1", "postgres")], []),
    ],
)
def test_one_droplet_at_most_takes_the_users_traffic(hosts: list[dict[str, Any]], entry: list[str]) -> None:
    assert [droplet["host"] for droplet in lab.lab_droplets(hosts, "lab", 1) if droplet["serves"]] == entry


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ([host("a-1", "")], "a-1 has no private_address"),
        ([host("a-1", "10.0.0.253")], "belongs to the lab itself"),
        ([host("a-1", "10.0.0.5"), host("a-2", "10.0.1.5")], "5 belongs to a-1"),
    ],
)
def test_addresses_that_the_lab_cannot_play_are_refused(hosts: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        lab.lab_droplets(hosts, "lab", 1)


def network(name: str, subnet: str) -> dict[str, Any]:
    """Return a network as the engine describes it."""
    return {"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}}


def test_a_lab_keeps_its_networks() -> None:
    assert lab.lab_free_index([network("mine-public", "10.77.42.0/24")], "mine") == 42


def test_a_new_lab_takes_networks_that_nobody_has() -> None:
    first = lab.lab_free_index([network("bridge", "172.17.0.0/16"), {"Name": "host", "IPAM": {"Config": None}}], "mine")
    second = lab.lab_free_index([network("other-private", f"10.78.{first}.0/24")], "mine")
    assert first != second
    assert {first, second} <= set(range(100, 255))


def test_no_free_network_is_an_error() -> None:
    taken = [network(f"lab{index}-public", f"10.77.{index}.0/24") for index in range(1, 255)]
    with pytest.raises(AnsibleFilterError, match="take one down"):
        lab.lab_free_index(taken, "mine")


def test_bases_are_removed_after_what_is_built_on_them() -> None:
    base = {"RepoTags": ["flotilla-lab/base-trixie:1", "debian:trixie-slim"]}
    images = [base, {"RepoTags": ["flotilla-lab/nginx-1.26:1"]}, {"RepoTags": ["mine:1"]}, {"RepoTags": None}]
    assert lab.lab_image_names(images) == [
        "flotilla-lab/nginx-1.26:1",
        "flotilla-lab/base-trixie:1",
        "debian:trixie-slim",
    ]
