"""The edge, and the ACME server that it has its certificate from."""

from __future__ import annotations

import pytest

from roles.acme.molecule.server.acme_lab import Edge, Server, address_of, droplet


@pytest.fixture(scope="module")
def server() -> Server:
    host = droplet("authority")
    return Server(host, address_of(host))


@pytest.fixture(scope="module")
def edge() -> Edge:
    return Edge(droplet("droplet"), "nginx", 101, "notes.example.com")
