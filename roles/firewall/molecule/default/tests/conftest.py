"""The droplet, seen from outside and from within."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from roles.firewall.molecule.default.tests.reach import Droplet

LAB = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "lab/molecule"


@pytest.fixture(scope="module")
def lab() -> Path:
    """The lab's inventory."""
    return LAB


@pytest.fixture(scope="module")
def droplet(host: Host) -> Droplet:
    found = yaml.safe_load((LAB / "hosts.yml").read_text())["all"]["hosts"]["droplet"]
    return Droplet(host, found["ansible_host"], found["private_address"])
