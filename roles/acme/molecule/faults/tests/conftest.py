"""Two balancers, and the ACME server that they have their certificate from."""

from __future__ import annotations

import pytest

from roles.acme.molecule.server.acme_lab import Edge, Server, address_of, droplet


@pytest.fixture(scope="module")
def server() -> Server:
    host = droplet("authority")
    return Server(host, address_of(host))


@pytest.fixture(scope="module")
def first() -> Edge:
    return Edge(droplet("droplet"), "haproxy", 99, "notes.example.com")


@pytest.fixture(scope="module")
def second() -> Edge:
    return Edge(droplet("second"), "haproxy", 99, "notes.example.com")
