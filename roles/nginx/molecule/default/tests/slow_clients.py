"""Clients that are slow on purpose."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

from roles.nginx.molecule.default.tests.edge_client import Edge

DROP_SECONDS = 1.0


@contextlib.contextmanager
def opened(
    edge: Edge, number: int, text: bytes, *, receive_buffer: int = 0, drops: bool = False
) -> Iterator[list[ssl.SSLSocket]]:
    """Connections that have sent `text`, and then nothing.

    drops: those that are open send a byte now and then until the last one is, so that all are open together.
    """
    with contextlib.ExitStack() as stack:
        connections: list[ssl.SSLSocket] = []
        dropped = time.monotonic()
        for _ in range(number):
            if drops and time.monotonic() > dropped + DROP_SECONDS:
                drop(connections)
                dropped = time.monotonic()
            raw = socket.socket()
            if receive_buffer:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.settimeout(60)
            raw.connect((edge.address, 443))
            connection = stack.enter_context(edge.context.wrap_socket(raw, server_hostname=edge.name))
            connection.sendall(text)
            connections.append(connection)
        yield connections


def drop(connections: list[ssl.SSLSocket]) -> None:
    """A byte more on each connection that is open."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(b"x")


def ended(connections: list[ssl.SSLSocket], deadline: float) -> int:
    """How many of them the other side has ended before the deadline. What they are sent meanwhile is read."""
    count = 0
    for connection in connections:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            while connection.recv(65536):
                pass
            count += 1
        except TimeoutError:
            continue
        except (OSError, ssl.SSLError):
            count += 1
    return count
