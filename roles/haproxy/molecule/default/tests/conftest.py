"""A client of the droplet's balancer, and its operator."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testinfra.host import Host

from roles.haproxy.molecule.default.tests.balancer_client import DIRECTORY, Operator
from roles.nginx.molecule.default.tests.edge_client import Edge


@pytest.fixture(scope="module")
def edge(host: Host) -> Edge:
    """Asks the droplet's public address, and verifies against the balancer's own authority."""
    address = host.check_output("echo $SSH_CONNECTION").split()[2]
    return Edge(address, host.file(f"{DIRECTORY}/ca.crt").content_string)


@pytest.fixture(scope="module")
def operator() -> Operator:
    return Operator(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "lab/molecule")
