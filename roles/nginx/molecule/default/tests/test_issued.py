"""A certificate that somebody else keeps up to date on the host, here the role pki, is read at each handshake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, Edge
from tests.lab.scenario import RENEWING, authorities, converge

SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", Path(__file__).parents[1]))
ISSUED = f"{DIRECTORY}/certs/issued"
PROCESSES = "docker exec nginx-nginx-1 sh -c 'cat /tmp/nginx.pid; pgrep -f worker.process | sort || true'"


@pytest.fixture(scope="module")
def issued(host: Host, edge: Edge) -> Iterator[Edge]:
    """The edge with it; afterwards it has its own one again, as the other tests want it."""
    converge(SCENARIO, nginx_issued_certificate=ISSUED)
    yield Edge(edge.address, authorities()["old"]["certificate"])
    converge(SCENARIO)


def serves(host: Host, version: str) -> bool:
    """Whether new connections get the certificate of this version."""
    shown = host.check_output(
        "openssl s_client -connect 127.0.0.1:443 -servername notes.example.com < /dev/null 2> /dev/null"
        " | openssl x509 -noout -fingerprint"
    )
    return bool(shown == host.check_output(f"openssl x509 -noout -fingerprint -in {ISSUED}/{version}/tls.crt"))


def test_who_trusts_its_authority_is_answered(issued: Edge) -> None:
    assert issued.ask("/").status == 503


def test_who_trusts_the_hosts_own_authority_is_not(issued: Edge, edge: Edge) -> None:
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        edge.connect()


def test_the_key_belongs_to_the_edges_user_alone(host: Host, issued: Edge) -> None:
    key = host.file(f"{ISSUED}/current/tls.key")
    assert (key.uid, key.mode) == (101, 0o600)


def test_a_renewed_one_is_served_without_a_reload(host: Host, issued: Edge) -> None:
    before, processes = host.check_output(f"readlink {ISSUED}/current"), host.check_output(PROCESSES)
    assert serves(host, before)
    converge(SCENARIO, nginx_issued_certificate=ISSUED, **RENEWING)
    after = host.check_output(f"readlink {ISSUED}/current")
    assert after != before
    assert serves(host, after)
    assert host.check_output(PROCESSES) == processes
