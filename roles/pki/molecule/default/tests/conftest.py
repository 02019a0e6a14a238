"""Runs of the role with other inputs, and handshakes on the droplet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from roles.pki.molecule.default.tests.pki_lab import EPHEMERAL, ROOT, SCENARIO, SERVER, Handshake, Play


@pytest.fixture(scope="session")
def authorities() -> dict[str, dict[str, str]]:
    """The scenario's throw-away authorities: `old`, `new`, `foreign`."""
    read: dict[str, dict[str, str]] = json.loads((EPHEMERAL / "authorities.json").read_text())
    return read


@pytest.fixture(scope="session")
def converge(authorities: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Run the role with other variables than the scenario's; return what Ansible said.

    trusted: names of the authorities in the order of `pki_authorities`.
    """

    def run(trusted: str = "old", playbook: Path = ROOT / "tests/lab/molecule/converge.yml", **variables: Any) -> str:
        values = {"pki_authorities": [authorities[name] for name in trusted.split()], **variables}
        file = tmp_path_factory.mktemp("run") / "variables.json"
        file.write_text(json.dumps(values))
        finished = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", os.environ["MOLECULE_INVENTORY_FILE"], "-i", str(EPHEMERAL / "lab/molecule")),
                *(str(playbook), "-e", f"@{SCENARIO / 'vars.yml'}", "-e", f"@{file}"),
            ],
            env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "default"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    return run


HANDSHAKE = """
cd /
openssl s_server -accept 127.0.0.1:18443 -cert {server}/chain.crt -key {server}/tls.key -quiet -naccept 1 {asks} \
    > /tmp/server.log 2>&1 &
for attempt in $(seq 50); do ss -Hltn 'sport = :18443' | grep -q . && break; sleep 0.1; done
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
