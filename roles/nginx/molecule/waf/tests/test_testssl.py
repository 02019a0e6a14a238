"""What somebody else's judge says of the edge's TLS."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, Edge


@pytest.mark.timeout(900)
def test_testssl_gives_the_best_grade(host: Host, edge: Edge) -> None:
    """The judge stands on the droplet and trusts the edge's authority, as a browser trusts a public one."""
    host.run_expect([0], "apt-get update -q && apt-get install -qy --no-install-recommends testssl.sh bsdextrautils")
    host.run_expect([0], f"grep -q {edge.name} /etc/hosts || echo {edge.address} {edge.name} >> /etc/hosts")
    command = f"testssl --quiet --color 0 --warnings batch --add-ca {DIRECTORY}/ca.crt https://{edge.name}"
    said = host.run(f"timeout 800 {command}").stdout
    (grade,) = [line.split()[-1] for line in said.splitlines() if line.strip().startswith("Overall Grade")]
    assert grade == "A+", said
    found = [line for line in said.splitlines() if line.startswith(" ") and "VULNERABLE" in line]
    assert [line for line in found if "not vulnerable" not in line.lower()] == []
