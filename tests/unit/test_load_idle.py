"""The load generator on a busy machine: what a server has said on an idle connection counts, read or not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.e2e.load.client import Pool
from tests.e2e.load.plan import Target
from tests.unit.test_load import NAME, certificate

__all__ = ["certificate"]
ANSWER = b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"


def serve(listener: socket.socket, context: ssl.SSLContext | None, hang_up: threading.Event) -> None:
    """Answer one request on each of two connections; end the first one, properly, when it is said."""
    for _ in range(2):
        raw, _ = listener.accept()
        connection = context.wrap_socket(raw, server_side=True) if context else raw
        connection.recv(65536)
        connection.sendall(ANSWER)
        hang_up.wait(10)
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(0.2)
            with contextlib.suppress(OSError):
                connection.unwrap()
        connection.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_connection_that_ended_while_nobody_looked_gets_no_request(certificate: Path, tls: bool) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    client = ssl.create_default_context(cafile=certificate) if tls else None
    if server:
        server.load_cert_chain(certificate)
    hang_up = threading.Event()

    async def scene(listener: socket.socket) -> tuple[int, int]:
        target = Target(f"http://127.0.0.1:{listener.getsockname()[1]}", NAME)
        pool = Pool(target, "127.0.0.1", client, size=1)
        first = await pool.acquire()
        await first.request("GET", "/", [("Host", NAME)], b"")
        pool.release(first)
        # This process does not get round to its sockets while it waits for the other one here.
        hang_up.set()
        assert first.has_word(10_000)
        second = await pool.acquire()
        seen = pool.opened, pool.idle_closed
        await second.request("GET", "/", [("Host", NAME)], b"")
        pool.discard(second)
        return seen

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, server, hang_up), daemon=True)
        thread.start()
        assert asyncio.run(scene(listener)) == (2, 1)
        thread.join()
