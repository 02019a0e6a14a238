"""What a client and an operator see of the balancer while nothing changes."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from typing import Any

import pytest
from testinfra.host import Host

from roles.haproxy.molecule.default.tests.balancer_client import CONTAINER, DIRECTORY, FETCH, all_answer
from roles.nginx.molecule.default.tests.edge_client import Edge, assert_secure, reply
from tests.lab.waiting import eventually


def handshake(host: Host, edge: Edge, options: str) -> str:
    """What OpenSSL on the droplet says of a handshake with the balancer."""
    command = f"openssl s_client -connect {edge.address}:443 -servername {edge.name}"
    return str(host.run(f"{command} {options} < /dev/null 2>&1 | grep -v '^depth'").stdout)


def test_http_redirects_to_the_same_path_over_https(edge: Edge) -> None:
    connection = http.client.HTTPConnection(edge.address, timeout=60)
    connection.request("GET", "/a/b?c=d", headers={"Host": edge.name})
    answer = reply(connection.getresponse())
    assert (answer.status, answer.header("Location")) == (308, "https://notes.example.com/a/b?c=d")


def test_requests_are_spread_over_the_hosts(edge: Edge) -> None:
    all_answer(edge)


def test_a_host_learns_who_asks_and_how(edge: Edge) -> None:
    chosen = {"X-Forwarded-For": "192.0.2.66", "X-Request-ID": "chosen", "X-Forwarded-Proto": "http", "Proxy": "x"}
    answer = edge.ask("/x?y=%2Fz", "POST", headers=chosen, body=b"text")
    told = answer.json
    assert (told["method"], told["uri"], told["body"]) == ("POST", "/x?y=%2Fz", "text")
    headers = told["headers"]
    assert headers["host"] == "notes.example.com"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-for"] != "192.0.2.66" and "," not in headers["x-forwarded-for"]
    assert headers["x-request-id"] == answer.header("X-Request-ID") != "chosen"
    assert "proxy" not in headers
    assert answer.header("Strict-Transport-Security") == "max-age=63072000"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_versions_of_tls_are_spoken(edge: Edge, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cadata=edge.authority)
    context.minimum_version = context.maximum_version = version
    assert edge.ask("/", connection=edge.connect(context=context)).status == 200


def test_a_hosts_headers_are_its_own(edge: Edge) -> None:
    """What an app leaves out on purpose is not added here. What the host's server calls itself is left out."""
    answer = edge.ask("/")
    assert answer.header("X-Frame-Options") is None
    assert answer.header("Server") is None


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
def test_tls_is_mozillas_intermediate_profile(host: Host, edge: Edge, options: str, agreed: bool) -> None:
    done = handshake(host, edge, options)
    assert ("Cipher is (NONE)" not in done) == agreed, done


def test_key_agreement_withstands_quantum_computers_where_openssl_can(host: Host, edge: Edge) -> None:
    used = host.check_output(f"docker exec {CONTAINER} haproxy -vv")
    found = re.findall(r"OpenSSL (\d+)\.(\d+)\.", used)[-1]
    assert ("X25519MLKEM768" in handshake(host, edge, "-tls1_3 -groups X25519MLKEM768")) == (
        (int(found[0]), int(found[1])) >= (3, 5)
    )


def test_http2_is_offered(edge: Edge) -> None:
    context = ssl.create_default_context(cadata=edge.authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = edge.connect(context=context)
    assert isinstance(connection.sock, ssl.SSLSocket)
    assert connection.sock.selected_alpn_protocol() == "h2"


def test_a_wildcard_covers_one_label(edge: Edge) -> None:
    assert edge.ask("/", name="any.wild.example.com").status == 200
    assert edge.ask("/", headers={"Host": "two.any.wild.example.com"}).status == 421


def test_a_request_that_names_two_hosts_is_refused_and_a_host_is_told_one(edge: Edge) -> None:
    wild = "any.wild.example.com"
    for scheme in ("http", "https"):
        assert edge.ask(f"{scheme}://{edge.name}/", headers={"Host": wild}).status == 400
    answer = edge.ask(f"https://user@{edge.name}/who?x=1", headers={"Host": edge.name})
    assert (answer.json["uri"], answer.json["headers"]["host"]) == ("/who?x=1", edge.name)


def test_an_unknown_name_is_refused(edge: Edge) -> None:
    nobody = edge.ask("/", headers={"Host": "unknown.example.com"})
    assert nobody.status == 421
    assert_secure(nobody)
    connection = http.client.HTTPConnection(edge.address, timeout=60)
    connection.request("GET", "/", headers={"Host": "unknown.example.com"})
    assert connection.getresponse().status == 421
    with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
        edge.connect(name="unknown.example.com")
    # Refused by the balancer, not by this client because a certificate has another name.
    assert not isinstance(refused.value, ssl.SSLCertVerificationError)


def test_a_client_that_asks_too_often_is_told_to_wait(edge: Edge) -> None:
    answers = edge.ask_quickly("/", 20, name="tight.example.com")
    # One a second over ten seconds, and a burst of two.
    assert {answer.status for answer in answers[:12]} == {200}
    limited = [answer for answer in answers if answer.status == 429]
    assert limited and limited[0].header("Retry-After") == "1"
    assert_secure(limited[0])
    assert edge.ask("/").status == 200


def test_metrics_answer_on_their_address_only(host: Host, edge: Edge) -> None:
    (published,) = host.check_output(f"docker port {CONTAINER} 8405/tcp").splitlines()
    metrics = host.check_output("python3 -c %s %s", FETCH, f"http://{published}/metrics")
    assert 'haproxy_server_status{proxy="notes",server="app-1",state="UP"} 1' in metrics
    for address in ("127.0.0.1", edge.address):
        assert not published.startswith(address)
        refused = host.run("python3 -c %s %s", FETCH, f"http://{address}:8405/metrics")
        assert refused.rc != 0 and "Connection refused" in refused.stderr


def test_the_access_log_has_the_request_and_not_its_query(host: Host, edge: Edge) -> None:
    answer = edge.ask("/path?token=secret")
    wanted = answer.header("X-Request-ID")

    def found() -> list[dict[str, Any]]:
        logged = host.run(f"docker logs --tail 200 {CONTAINER}").stdout.splitlines()
        lines = [json.loads(line) for line in logged if line.startswith("{")]
        return [line for line in lines if line["request_id"] == wanted]

    (entry,) = eventually(found, why="the request is logged")
    assert (entry["app"], entry["server"], entry["status"]) == ("notes", answer.json["host"], 200)
    assert entry["uri"] == "/path"
    assert "secret" not in json.dumps(entry)


def test_the_container_is_confined(host: Host) -> None:
    (container,) = json.loads(host.check_output(f"docker inspect {CONTAINER}"))
    settings = container["HostConfig"]
    assert container["Config"]["User"] == "99:99"
    assert settings["CapDrop"] == ["ALL"]
    assert settings["SecurityOpt"] == ["no-new-privileges:true"]
    assert settings["ReadonlyRootfs"]
    assert settings["Memory"] == 256 * 1024 * 1024
    assert settings["NanoCpus"] == 500_000_000
    assert settings["PidsLimit"] == 64
    assert container["State"]["Health"]["Status"] == "healthy"


@pytest.mark.parametrize("path", ["ca/ca.key", "certs/selfsigned/tls.key", ".env", "run"])
def test_keys_values_and_sockets_are_not_for_everyone(host: Host, path: str) -> None:
    assert host.file(f"{DIRECTORY}/{path}").mode & 0o077 == 0


def test_the_authority_key_is_not_in_the_container(host: Host) -> None:
    keys = host.check_output(f"docker exec {CONTAINER} find /etc/flotilla -name '*.key'").splitlines()
    assert keys == ["/etc/flotilla/certs/selfsigned/tls.key"]
