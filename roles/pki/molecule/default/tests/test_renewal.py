"""What later runs make of a certificate: it is renewed in time, follows its declaration and survives its authority.

The tests build on each other, in this order.
"""

from __future__ import annotations

import pytest
from testinfra.host import Host

from roles.pki.molecule.default.tests.pki_lab import CLIENT, SCENARIO, SERVER, Handshake, Play

RENAMED = [
    {
        "name": "server",
        "directory": SERVER,
        "dns_names": ["server.internal", "renamed.internal"],
        "owner": "101",
        "mode": "0400",
    },
    {"name": "client", "directory": CLIENT, "usages": ["client"], "group": "adm", "mode": "0640"},
]


def version(host: Host, directory: str) -> str:
    return str(host.check_output(f"readlink {directory}/current"))


def verifies(host: Host, trust: str, certificate: str) -> bool:
    return bool(host.run(f"openssl verify -CAfile {trust} {certificate}").rc == 0)


def test_another_name_makes_another_certificate(host: Host, converge: Play, handshake: Handshake) -> None:
    before, client = version(host, SERVER), version(host, CLIENT)
    assert not handshake(name="renamed.internal")
    # Its last days are near from the beginning, for the next test.
    converge(pki_certificates=RENAMED, pki_valid_days=20, pki_renew_days=10)
    assert handshake(name="renamed.internal")
    assert version(host, CLIENT) == client
    # Who still has the version before in his configuration finds it whole.
    assert handshake(server=f"{SERVER}/{before}")


def test_what_ends_soon_is_renewed_and_the_rest_is_not(host: Host, converge: Play) -> None:
    before, client = version(host, SERVER), version(host, CLIENT)
    key = host.file(f"{SERVER}/current/tls.key").sha256sum
    assert host.run(f"openssl x509 -checkend {30 * 86400} -noout -in {SERVER}/current/tls.crt").rc == 1
    converge(pki_certificates=RENAMED)
    assert host.run(f"openssl x509 -checkend {300 * 86400} -noout -in {SERVER}/current/tls.crt").rc == 0
    assert host.file(f"{SERVER}/current/tls.key").sha256sum != key
    assert version(host, CLIENT) == client
    assert set(host.file(SERVER).listdir()) == {"current", before, version(host, SERVER)}


def test_a_key_that_others_could_read_and_one_that_does_not_fit_are_replaced(host: Host, converge: Play) -> None:
    host.check_output(f"chmod 0644 {CLIENT}/current/tls.key")
    host.check_output(f"cat {CLIENT}/current/tls.key > {SERVER}/current/tls.key")
    keys = [host.file(f"{directory}/current/tls.key").sha256sum for directory in (SERVER, CLIENT)]
    converge(pki_certificates=RENAMED)
    assert not {host.file(f"{directory}/current/tls.key").sha256sum for directory in (SERVER, CLIENT)} & set(keys)
    assert host.file(f"{CLIENT}/current/tls.key").mode == 0o640


def test_the_status_says_how_long_they_last_and_what_is_due(host: Host, converge: Play) -> None:
    before = version(host, SERVER)
    said = converge(playbook=SCENARIO / "status.yml", pki_certificates=RENAMED, pki_valid_days=600)
    assert "<server 396 it ends in 396 days><client 396 it ends in 396 days>" in said
    assert version(host, SERVER) == before


@pytest.fixture
def neighbour(host: Host) -> str:
    """What another host trusts, that has come as far as this one has now; the run of the test passes it by."""
    host.check_output(f"cp {SERVER}/current/ca.crt /tmp/neighbour.crt")
    return "/tmp/neighbour.crt"


def test_rotation_first_both_are_trusted_and_the_old_one_signs(
    host: Host, converge: Play, handshake: Handshake, neighbour: str
) -> None:
    converge("old new", pki_certificates=RENAMED)
    assert host.file(f"{SERVER}/current/ca.crt").content_string.count("BEGIN CERTIFICATE") == 2
    assert handshake()
    # A neighbour that still trusts the old one alone.
    assert handshake(trust=neighbour)


def test_rotation_then_the_new_one_signs(host: Host, converge: Play, handshake: Handshake, neighbour: str) -> None:
    before = f"{SERVER}/{version(host, SERVER)}"
    converge("new old", pki_certificates=RENAMED)
    # This host after its run with a neighbour before it, and the reverse.
    assert handshake(trust=neighbour)
    assert handshake(server=before, trust=f"{SERVER}/current/ca.crt")
    only_old = f"{before}/chain.crt"
    assert not verifies(host, only_old, f"{SERVER}/current/tls.crt")
    assert handshake(asks=f"{SERVER}/current/ca.crt", shows=f"{CLIENT}/current")


def test_rotation_at_last_the_old_one_is_trusted_no_more(
    host: Host, converge: Play, handshake: Handshake, neighbour: str, authorities: dict[str, dict[str, str]]
) -> None:
    converge("new", pki_certificates=RENAMED)
    assert host.file(f"{SERVER}/current/ca.crt").content_string == authorities["new"]["certificate"]
    assert handshake()
    assert handshake(trust=neighbour)
    host.check_output("printf %%s %s > /tmp/old.crt", authorities["old"]["certificate"])
    assert not handshake(trust="/tmp/old.crt")
