"""What somebody else's judge says of the edge's TLS."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, Edge
from tests.lab.audits import judge_tls


@pytest.mark.timeout(1800)
def test_testssl_gives_the_best_grade(host: Host, edge: Edge) -> None:
    judge_tls(host, edge.name, edge.address, f"{DIRECTORY}/ca.crt")
