"""Runs of the role with other inputs, and handshakes on the droplet."""

from __future__ import annotations

from functools import partial

import pytest
from testinfra.host import Host

from roles.pki.molecule.default.tests.pki_lab import SCENARIO, SERVER, Handshake, Play
from tests.lab import scenario


@pytest.fixture(scope="session")
def authorities() -> dict[str, dict[str, str]]:
    """The scenario's throw-away authorities: `old`, `new`, `foreign`."""
    return scenario.authorities()


@pytest.fixture(scope="session")
def converge() -> Play:
    """Run the role with other variables than the scenario's; return what Ansible said."""
    return partial(scenario.converge, SCENARIO)


HANDSHAKE = """
cd /
openssl s_server -accept 127.0.0.1:18443 -cert {server}/chain.crt -key {server}/tls.key -quiet -naccept 1 {asks} \
    > /tmp/server.log 2>&1 &
timeout 60 sh -c 'until ss -Hltn "sport = :18443" | grep -q .; do sleep 0.1; done'
openssl s_client -connect 127.0.0.1:18443 -tls1_2 -CAfile {trust} -verify_hostname {name} -verify_return_error {shows} \
    < /dev/null > /tmp/client.log 2>&1
result=$?
kill $! 2> /dev/null
wait
exit $result
"""


@pytest.fixture
def handshake(host: Host) -> Handshake:
    """Whether a client gets a connection: who trusts `trust`, asks for `name` and shows the certificate in `shows`."""

    def connect(
        server: str = f"{SERVER}/current",
        trust: str = f"{SERVER}/current/ca.crt",
        name: str = "server.internal",
        asks: str = "",
        shows: str = "",
    ) -> bool:
        script = HANDSHAKE.format(
            server=server,
            trust=trust,
            name=name,
            asks=f"-Verify 1 -verify_return_error -CAfile {asks}" if asks else "",
            shows=f"-cert {shows}/chain.crt -key {shows}/tls.key" if shows else "",
        )
        result = host.run(script)
        assert result.rc in (0, 1), result.stdout + result.stderr
        return bool(result.rc == 0)

    return connect
