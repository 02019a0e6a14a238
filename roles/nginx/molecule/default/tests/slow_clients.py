"""Clients that are slow on purpose."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

from roles.nginx.molecule.default.tests.edge_client import Edge


@contextlib.contextmanager
def opened(edge: Edge, number: int, text: bytes, *, receive_buffer: int = 0) -> Iterator[list[ssl.SSLSocket]]:
    """Connections that have sent `text`, and then nothing."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(number):
            raw = socket.socket()
            if receive_buffer:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.settimeout(20)
            raw.connect((edge.address, 443))
            connection = stack.enter_context(edge.context.wrap_socket(raw, server_hostname=edge.name))
            connection.sendall(text)
            connections.append(connection)
        yield connections


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
