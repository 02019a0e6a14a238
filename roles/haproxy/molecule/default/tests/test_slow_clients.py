"""What the balancer does with clients that are slow on purpose, or too many."""

from __future__ import annotations

import contextlib
import re
import socket
import time

from testinfra.host import Host

from roles.haproxy.molecule.default.tests.balancer_client import CONTAINER, FETCH
from roles.nginx.molecule.default.tests.edge_client import Edge
from roles.nginx.molecule.default.tests.slow_clients import drop, ended, opened
from tests.lab.waiting import eventually

# haproxy_client_header_seconds and haproxy_client_body_seconds, in vars.yml; and what a busy machine may need.
LIMIT_SECONDS = 4
LATE_SECONDS = 30
CONNECTIONS = 400
# Another client: the droplet itself.
ASK = """
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with context.wrap_socket(socket.create_connection((sys.argv[1], 443), 60), server_hostname=sys.argv[2]) as connection:
    connection.sendall(f"GET /x HTTP/1.0\\r\\nHost: {sys.argv[2]}\\r\\n\\r\\n".encode())
    print(connection.recv(100).split()[1].decode())
"""


def test_clients_are_served_while_300_others_never_finish_their_request(edge: Edge) -> None:
    with opened(edge, 300, b"GET / HTTP/1.1\r\nHost: notes.example.com\r\nX-Slow: ") as slow:
        begun = time.monotonic()
        assert [edge.ask("/x").status for _ in range(20)] == [200] * 20
        # A header now and then buys no time.
        drop(slow)
        assert ended(slow, begun + LIMIT_SECONDS + LATE_SECONDS) == 300


def test_a_body_that_comes_drop_by_drop_never_gets_to_a_host(edge: Edge) -> None:
    request = b"POST /drops HTTP/1.1\r\nHost: notes.example.com\r\nContent-Length: 1000\r\n\r\n"
    with opened(edge, 20, request) as slow:
        begun = time.monotonic()
        while time.monotonic() < begun + LIMIT_SECONDS + 1:
            drop(slow)
            time.sleep(0.5)
        for connection in slow:
            connection.settimeout(LATE_SECONDS)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert edge.ask("/x", "POST", body=b"x" * 100_000).status == 200


def refused(host: Host) -> int:
    """How many connections the balancer has refused so far, as it counts them itself."""
    (published,) = host.check_output(f"docker port {CONTAINER} 8405/tcp").splitlines()
    metrics = host.check_output("python3 -c %s %s", FETCH, f"http://{published}/metrics")
    return sum(
        int(number) for number in re.findall(r"^haproxy_frontend_denied_connections_total.* (\d+)$", metrics, re.M)
    )


def test_one_client_has_so_many_connections_and_another_is_served(host: Host, edge: Edge) -> None:
    before = refused(host)
    with contextlib.ExitStack() as stack:
        # A busy balancer sees some of them late, and ends silent ones by then: its own count tells which were refused.
        for _ in range(CONNECTIONS + 50):
            with contextlib.suppress(ConnectionError):
                stack.enter_context(socket.create_connection((edge.address, 443), timeout=60))
        assert host.check_output("python3 -c %s %s %s", ASK, edge.address, edge.name) == "200"
        assert 50 <= refused(host) - before <= 100

    def served() -> bool:
        with contextlib.suppress(OSError):
            assert edge.ask("/x").status == 200
            return True
        return False

    eventually(served, why="the client is served again")
