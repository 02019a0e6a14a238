"""The containers' health check: `python3 -IS health.py [worker]`. Exit 0 is healthy.

It imports neither the site packages nor the service, because it runs every few seconds.
"""

import socket
import sys
import time
from pathlib import Path

HEARTBEAT = Path("/tmp/notes-worker")
HEARTBEAT_SECONDS = 30


def service() -> str:
    """The complaint about the service, empty if it is alive."""
    try:
        with socket.create_connection(("127.0.0.1", 3000), timeout=2) as connection:
            connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = connection.recv(64).split(b"\r\n")[0].decode("ascii", "replace")
    except OSError as error:
        return f"port 3000: {error}"
    return "" if " 200 " in f"{status} " else f"/live answered {status}"


def worker() -> str:
    """The complaint about the worker, empty if its heart beats."""
    try:
        age = time.time() - HEARTBEAT.stat().st_mtime
    except OSError as error:
        return f"no heartbeat: {error}"
    return "" if age < HEARTBEAT_SECONDS else f"the last heartbeat is {age:.0f} s old"


if __name__ == "__main__":
    sys.exit((worker() if sys.argv[1:] == ["worker"] else service()) or None)
