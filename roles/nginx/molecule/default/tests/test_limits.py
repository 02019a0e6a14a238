"""What the edge and a router do with clients that ask too much, or are slow on purpose."""

from __future__ import annotations

import contextlib
import ssl
import time

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, App, Edge, Reply, assert_secure
from roles.nginx.molecule.default.tests.slow_clients import drop, ended, opened
from tests.lab.waiting import eventually

# nginx_client_header_seconds and its like, in vars.yml; and what a busy machine may take to get round to it.
LIMIT_SECONDS = 4
LATE_SECONDS = 30
# Beside them others wait no longer than without them, but for so much.
SLOWER = 5.0
CONNECTIONS = 50
POST = b"POST /api/x HTTP/1.1\r\nHost: notes.example.com\r\nContent-Length: 1000\r\n\r\nabc"


@pytest.fixture(autouse=True)
def blue(app: App) -> None:
    app.switch("blue")


def from_the_droplet(host: Host, edge: Edge, path: str) -> str:
    """The status that a client with another address gets: the droplet itself."""
    status = host.check_output(
        "docker run --rm --network host --entrypoint curl nginx:1.30 -sk -o /dev/null -w %s --resolve %s %s",
        "%{http_code}",
        f"{edge.name}:443:{edge.address}",
        f"https://{edge.name}{path}",
    )
    return str(status)


def test_clients_are_served_while_300_others_never_finish_their_request(edge: Edge) -> None:
    begun = time.monotonic()
    assert [edge.ask("/api/x").status for _ in range(20)] == [200] * 20
    alone = time.monotonic() - begun
    with opened(edge, 300, b"GET / HTTP/1.1\r\nHost: notes.example.com\r\nX-Slow: ") as slow:
        begun = time.monotonic()
        answers = [edge.ask("/api/x") for _ in range(20)]
        assert [answer.status for answer in answers] == [200] * 20
        assert time.monotonic() - begun < max(LIMIT_SECONDS, SLOWER * alone)
        # A header now and then buys no time.
        drop(slow)
        assert ended(slow, begun + LIMIT_SECONDS + LATE_SECONDS) == 300


def test_a_body_that_does_not_come_is_not_waited_for(edge: Edge) -> None:
    with opened(edge, 20, POST) as slow:
        begun = time.monotonic()
        assert edge.ask("/api/x", "POST", body=b"x").status == 200
        assert ended(slow, begun + LIMIT_SECONDS + LATE_SECONDS) == 20


def given_up(host: Host) -> int:
    """How many answers of the large file have ended, for the edge."""
    return str(host.run(f"cat {DIRECTORY}/logs/access.log").stdout).count('"/api/large-file"')


def test_an_answer_that_is_not_taken_is_given_up(host: Host, edge: Edge) -> None:
    host.run_expect([0], "docker exec notes-service-blue truncate -s 32M /tmp/large-file")
    before = given_up(host)
    assert len(edge.ask("/api/large-file").body) == 32 << 20
    eventually(lambda: given_up(host) == before + 1, why="the whole answer is written down")
    request = b"GET /api/large-file HTTP/1.1\r\nHost: notes.example.com\r\n\r\n"
    before = given_up(host)
    with opened(edge, 10, request, receive_buffer=4096) as slow:
        eventually(lambda: given_up(host) == before + 10, why="the edge writes down that it has given up")
        assert edge.ask("/api/x").status == 200
        for connection in slow:
            connection.settimeout(60)
            with contextlib.suppress(OSError, ssl.SSLError):
                taken = 0
                while chunk := connection.recv(1 << 20):
                    taken += len(chunk)
                assert taken < 32 << 20


def test_one_client_gets_so_many_answers_at_a_time_and_another_is_served(host: Host, edge: Edge) -> None:
    with opened(edge, CONNECTIONS, POST, drops=True) as slow:

        def one_more() -> Reply | None:
            drop(slow)
            answer = edge.ask("/api/x")
            return answer if answer.status != 200 else None

        refused = eventually(one_more, why="one more is too many")
        assert (refused.status, refused.header("Retry-After")) == (429, "1")
        assert_secure(refused)
        assert from_the_droplet(host, edge, "/api/x") == "200"
    eventually(lambda: edge.ask("/api/x").status == 200, why="the client is served again")


def test_a_route_has_a_rate_of_its_own(host: Host, edge: Edge) -> None:
    # Six a minute and a burst of two. The address that a client gives itself is not believed.
    answers = edge.ask_quickly("/login/x", 6, X_Real_IP="192.0.2.{number}")
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 3
    assert answers[-1].header("Retry-After") == "10"
    assert_secure(answers[-1])
    assert edge.ask("/api/x").status == 200
    assert from_the_droplet(host, edge, "/login/x") == "200"
    # A balancer that asks for the app's readiness is not told to wait.
    assert {edge.ask("/login/ready?deep=1").status for _ in range(6)} == {200}


def test_a_route_has_a_size_of_its_own(edge: Edge) -> None:
    body = b"x" * 1_500_000
    assert edge.ask("/api/x", "POST", body=body).status == 200
    assert edge.ask("/small/x", "POST", {"Content-Length": "1500000"}).status == 413
    assert edge.ask("/small/x", "POST", body=body[:500_000]).status == 200


def test_a_logout_clears_what_the_browser_keeps(edge: Edge) -> None:
    assert edge.ask("/logout/x").header("Clear-Site-Data") == '"cache", "cookies", "storage"'
    assert edge.ask("/api/x").header("Clear-Site-Data") is None


def test_no_answer_tells_the_software_behind(edge: Edge) -> None:
    for path in ("/api/bare", "/api/x", "/api/missing", "/missing.png"):
        answer: Reply = edge.ask(path)
        assert_secure(answer)
