"""What a client and an operator see of the edge while nothing has been deployed."""

from __future__ import annotations

import http.client
import json
import re
import ssl

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, TOO_LONG, Edge, assert_secure, reply
from tests.lab.waiting import eventually


def handshake(host: Host, options: str) -> str:
    """What OpenSSL on the droplet says of a handshake with the edge."""
    command = "openssl s_client -connect 127.0.0.1:443 -servername notes.example.com"
    return str(host.run(f"{command} {options} < /dev/null 2>&1 | grep -v '^depth'").stdout)


def test_http_redirects_to_the_same_path_over_https(edge: Edge) -> None:
    connection = http.client.HTTPConnection(edge.address, timeout=60)
    connection.request("GET", "/a/b?c=d", headers={"Host": edge.name})
    answer = reply(connection.getresponse())
    assert (answer.status, answer.header("Location")) == (308, "https://notes.example.com/a/b?c=d")


def test_before_the_first_deploy_a_page_says_so(edge: Edge) -> None:
    answer = edge.ask("/anything", "POST", body=b"x")
    assert answer.status == 503
    assert b"Nothing has been deployed here yet" in answer.body
    assert answer.header("Retry-After") == "5"


def test_answers_carry_the_security_headers(edge: Edge) -> None:
    answer = edge.ask("/")
    assert answer.status == 503
    assert_secure(answer)
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("X-Frame-Options") == "SAMEORIGIN"
    assert answer.header("Referrer-Policy") == "strict-origin-when-cross-origin"
    assert "frame-ancestors 'self'" in (answer.header("Content-Security-Policy") or "")
    assert answer.header("Cache-Control") == "no-store, max-age=0"


def test_what_is_refused_carries_them_too(edge: Edge) -> None:
    for answer in (
        edge.ask("/", "POST", {"Content-Length": "3000000"}),
        edge.ask("/", headers={"X-Long": TOO_LONG}),
    ):
        assert answer.status >= 400
        assert_secure(answer)


@pytest.mark.parametrize(
    ("options", "agreed"),
    [
        ("-tls1_3 -groups X25519", True),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", True),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA", False),
        ("-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256", False),
        ("-tls1_2 -cipher AES128-GCM-SHA256", False),
        ("-tls1_3 -groups X448", False),
    ],
)
def test_tls_is_mozillas_intermediate_profile(host: Host, options: str, agreed: bool) -> None:
    done = handshake(host, options)
    assert ("Cipher is (NONE)" not in done) == agreed, done


def test_key_agreement_withstands_quantum_computers_where_openssl_can(host: Host) -> None:
    used = host.run("docker exec nginx-nginx-1 nginx -V").stderr
    found = re.findall(r"OpenSSL (\d+)\.(\d+)", used)[-1]
    assert ("X25519MLKEM768" in handshake(host, "-tls1_3 -groups X25519MLKEM768")) == (
        (int(found[0]), int(found[1])) >= (3, 5)
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_versions_of_tls_are_spoken(edge: Edge, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cadata=edge.authority)
    context.minimum_version = context.maximum_version = version
    assert edge.ask("/", connection=edge.connect(context=context)).status == 503


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused_by_the_edge(edge: Edge) -> None:
    context = ssl.create_default_context(cadata=edge.authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        edge.connect(context=context)


def test_http2_is_offered(edge: Edge) -> None:
    context = ssl.create_default_context(cadata=edge.authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = edge.connect(context=context)
    assert isinstance(connection.sock, ssl.SSLSocket)
    assert connection.sock.selected_alpn_protocol() == "h2"


def test_an_unknown_name_is_refused(edge: Edge) -> None:
    assert edge.ask("/", headers={"Host": "unknown.example.com"}).status == 421
    connection = http.client.HTTPConnection(edge.address, timeout=60)
    connection.request("GET", "/", headers={"Host": "unknown.example.com"})
    with pytest.raises(ConnectionResetError):
        connection.getresponse()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("asked", "named"),
    [("notes.example.com", "tight.example.com"), ("tight.example.com", "notes.example.com")],
)
def test_a_request_that_names_two_hosts_is_refused(edge: Edge, scheme: str, asked: str, named: str) -> None:
    refused = edge.ask(f"{scheme}://{asked}/api/x", headers={"Host": named})
    assert refused.status == 400
    assert_secure(refused)


def test_the_certificate_holds_for_an_address_without_a_server_name(host: Host) -> None:
    command = f"curl -s -o /dev/null -w '%{{http_code}}' --cacert {DIRECTORY}/ca.crt https://127.0.0.1/"
    assert (
        host.check_output(
            f"docker run --rm --network host -v {DIRECTORY}/ca.crt:{DIRECTORY}/ca.crt:ro nginx:1.30 {command}"
        )
        == "503"
    )


def test_a_client_that_asks_too_often_is_told_to_wait(edge: Edge) -> None:
    answers = edge.ask_quickly("/", 10, name="tight.example.com")
    assert {answer.status for answer in answers[:4]} == {503}
    limited = [answer for answer in answers if answer.status == 429]
    assert len(limited) >= 3
    assert limited[0].header("Retry-After") == "1"
    assert_secure(limited[0])


def test_the_container_is_confined(host: Host) -> None:
    (container,) = json.loads(host.check_output("docker inspect nginx-nginx-1"))
    settings = container["HostConfig"]
    assert container["Config"]["User"] == "101:101"
    assert settings["CapDrop"] == ["ALL"]
    assert settings["ReadonlyRootfs"]
    assert settings["Memory"] == 128 * 1024 * 1024
    assert settings["NanoCpus"] == 500_000_000
    assert settings["PidsLimit"] == 64
    assert container["State"]["Health"]["Status"] == "healthy"


@pytest.mark.parametrize("path", ["ca/ca.key", "certs/selfsigned/tls.key", ".env"])
def test_keys_and_values_are_not_for_everyone(host: Host, path: str) -> None:
    assert host.file(f"{DIRECTORY}/{path}").mode & 0o077 == 0


def test_the_authority_key_is_not_in_the_container(host: Host) -> None:
    assert "ca.key" not in host.check_output("docker exec nginx-nginx-1 find /etc/flotilla -name '*.key'")


def test_the_access_log_is_rotated_and_goes_on(host: Host, edge: Edge) -> None:
    assert host.service("flotilla-nginx-logs.timer").is_running
    edge.ask("/before-the-rotation")
    as_the_timer = "setpriv --reuid 101 --regid 101 --clear-groups logrotate --force --state /tmp/logrotate.try"
    host.run_expect([0], f"{as_the_timer} {DIRECTORY}/logrotate.conf")
    host.run_expect([0], "systemctl start flotilla-nginx-logs.service")

    def goes_on() -> bool:
        edge.ask("/after-the-rotation")
        return "after-the-rotation" in str(host.run(f"cat {DIRECTORY}/logs/access.log").stdout)

    eventually(goes_on, why="the log goes on")
    lines = host.file(f"{DIRECTORY}/logs/access.log").content_string.splitlines()
    assert "/after-the-rotation" in {json.loads(line)["uri"] for line in lines}
    assert "/before-the-rotation" in host.file(f"{DIRECTORY}/logs/access.log.1").content_string
