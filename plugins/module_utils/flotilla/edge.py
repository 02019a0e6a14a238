"""The edge's view of an app: the flag of the live colour, and requests through it.

The edge looks at the flag with one `stat` a request, so a switch is one `rename`-like system call
and never a reload.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .journal import Colour, sync_directory


@dataclass(frozen=True)
class Edge:
    """The flags of one app, in the directory that the edge mounts.

    directory: `/opt/flotilla/nginx/live/<app>`. In it, the file `deployed` means that a release
    serves at all (the edge answers 503 without it), and the file `green` that it is the green one.
    """

    directory: Path

    def live(self) -> Colour | None:
        """The colour that takes the traffic, or None before the first commit."""
        if not (self.directory / "deployed").exists():
            return None
        return Colour.GREEN if (self.directory / "green").exists() else Colour.BLUE

    def switched_seconds(self) -> float:
        """How long ago the flags were changed last, or less (another file of the directory may have been)."""
        return time.time() - self.directory.stat().st_mtime

    def switch(self, colour: Colour | None) -> None:
        """Send all new requests to `colour`, or to the 503 page. Safe to repeat."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if colour is None:
            (self.directory / "deployed").unlink(missing_ok=True)
        if colour is Colour.GREEN:
            _touch(self.directory / "green")
        else:
            (self.directory / "green").unlink(missing_ok=True)
        if colour is not None:
            _touch(self.directory / "deployed")
        sync_directory(self.directory)


@dataclass(frozen=True)
class Answer:
    """What a probe got: the status (0 when there was no answer), the release that answered, the reason."""

    status: int
    release: str
    reason: str


def probe(
    address: str, port: int, host: str, path: str, *, tls: bool, timeout: float, user_agent: str = "flotilla"
) -> Answer:
    """GET `path` with the Host header and server name `host` at an address; never raises.

    The certificate is not verified: the probe goes to this host's own edge by address, and asks
    which release answers, not who it is.
    """
    try:
        with _connection(address, port, host, tls, timeout) as connection:
            connection.request("GET", path, headers={"Host": host, "User-Agent": user_agent, "X-Flotilla-Probe": "1"})
            response = connection.getresponse()
            body = response.read(400)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, "", f"{type(error).__name__}: {error}")
    release = response.getheader("X-Flotilla-Release", "")
    reason = "" if response.status < 400 else " ".join(body.decode(errors="replace").split())[:300]
    return Answer(response.status, release, reason)


@contextmanager
def _connection(address: str, port: int, host: str, tls: bool, timeout: float) -> Iterator[http.client.HTTPConnection]:
    raw = socket.create_connection((address, port), timeout)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        raw = context.wrap_socket(raw, server_hostname=host)
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    connection.sock = raw
    try:
        yield connection
    finally:
        connection.close()


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
