"""What the first run leaves on the droplet, and who gets a connection with it."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from roles.pki.molecule.default.tests.pki_lab import CLIENT, SERVER, Handshake


def certificate(host: Host, path: str, *what: str) -> str:
    return str(host.check_output(f"openssl x509 -noout -in {path}/current/tls.crt " + " ".join(what)))


@pytest.mark.parametrize("directory", [SERVER, CLIENT])
def test_the_chain_is_whole(host: Host, directory: str) -> None:
    at = f"{directory}/current"
    assert host.run(f"openssl verify -x509_strict -CAfile {at}/ca.crt {at}/tls.crt").rc == 0
    assert host.file(f"{at}/chain.crt").content_string == (
        host.file(f"{at}/tls.crt").content_string + host.file(f"{at}/ca.crt").content_string
    )


def test_the_names_are_those_declared(host: Host) -> None:
    shown = certificate(host, SERVER, "-ext subjectAltName")
    names = {name.strip() for name in shown.splitlines()[-1].split(",")}
    address = host.check_output("hostname -I").split()
    assert {"DNS:server.internal", "DNS:*.apps.internal", "IP Address:FD00:0:0:0:0:0:0:1"} < names
    assert len(names) == 4
    assert [name for name in names if name.removeprefix("IP Address:") in address]


@pytest.mark.parametrize(
    ("directory", "usage"),
    [(SERVER, "TLS Web Server Authentication"), (CLIENT, "TLS Web Client Authentication")],
)
def test_each_is_for_its_usage_and_signs_nothing(host: Host, directory: str, usage: str) -> None:
    lines = [
        line.strip()
        for line in certificate(host, directory, "-ext keyUsage,extendedKeyUsage,basicConstraints").splitlines()
    ]
    assert lines[lines.index("X509v3 Extended Key Usage:") + 1] == usage
    assert lines[lines.index("X509v3 Key Usage: critical") + 1] == "Digital Signature"
    assert lines[lines.index("X509v3 Basic Constraints: critical") + 1] == "CA:FALSE"


def test_it_is_valid_from_a_little_earlier_for_as_long_as_said(host: Host) -> None:
    made = host.file(f"{SERVER}/current/tls.crt").mtime.timestamp()
    begins, ends = (
        int(host.check_output(f'date -d "{certificate(host, SERVER, option).split("=")[1]}" +%s'))
        for option in ("-startdate", "-enddate")
    )
    assert 3000 < made - begins < 4200
    assert abs(ends - made - 397 * 86400) < 600


@pytest.mark.parametrize(
    ("directory", "expected"), [(SERVER, ("101", "0", 0o400)), (CLIENT, ("0", "4", 0o640))], ids=["server", "client"]
)
def test_a_key_is_for_those_who_were_declared(host: Host, directory: str, expected: tuple[str, str, int]) -> None:
    key = host.file(f"{directory}/current/tls.key")
    assert (str(key.uid), str(key.gid), key.mode) == expected
    assert host.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups cat {directory}/current/tls.key").rc != 0
    assert host.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups cat {directory}/current/chain.crt").rc == 0


def test_the_key_of_an_authority_is_nowhere_on_the_droplet(host: Host, authorities: dict[str, dict[str, str]]) -> None:
    lines = "\n".join(authority["key"].splitlines()[1] for authority in authorities.values())
    places = "/etc /home /opt /root /run /srv /tmp /var/log /var/tmp"
    # The patterns come over standard input: a file of them would be found.
    found = host.run(f"grep -rlIF -f - {places} 2> /dev/null <<'END'\n{lines}\nEND")
    assert (found.rc, found.stdout) == (1, "")
    assert host.run(f"journalctl --no-pager | grep -F '{lines}'").rc == 1


def test_who_trusts_the_authority_gets_a_connection(handshake: Handshake) -> None:
    assert handshake()


@pytest.mark.parametrize("name", ["web.apps.internal", "other.internal"])
def test_the_name_decides(handshake: Handshake, name: str) -> None:
    assert handshake(name=name) == name.endswith(".apps.internal")


def test_who_trusts_another_authority_gets_none(
    host: Host, handshake: Handshake, authorities: dict[str, dict[str, str]]
) -> None:
    host.check_output("printf %%s %s > /tmp/foreign.crt", authorities["foreign"]["certificate"])
    assert not handshake(trust="/tmp/foreign.crt")


@pytest.mark.parametrize(
    ("shows", "accepted"), [(f"{CLIENT}/current", True), (f"{SERVER}/current", False), ("", False)]
)
def test_a_server_that_asks_who_is_there_lets_in_the_client_alone(
    handshake: Handshake, shows: str, accepted: bool
) -> None:
    assert handshake(asks=f"{SERVER}/current/ca.crt", shows=shows) is accepted
