"""The ACME server as the tests command it, and a host whose certificate comes from there."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import testinfra
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from testinfra.host import Host

from tests.lab.waiting import eventually

EPHEMERAL = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "."))
DIRECTORY = "/opt/flotilla/acme"
# Of one answer.
SECONDS = 60.0
SOON = "/run/systemd/system/flotilla-acme.timer.d"


def droplet(name: str) -> Host:
    """A host of the scenario."""
    return testinfra.get_host(f"paramiko://{name}", ssh_config=str(EPHEMERAL / "lab/ssh_config"))


def address_of(host: Host) -> str:
    return str(host.check_output("echo $SSH_CONNECTION").split()[2])


def private_address_of(host: Host) -> str:
    """Its address in the lab's private network, which is 10.78.N.0/24; the engine's bridges have others."""
    (found,) = (address for address in host.check_output("hostname -I").split() if address.startswith("10.78."))
    return str(found)


@dataclass(frozen=True)
class Server:
    """pebble. A start makes it a new one: it forgets accounts, and signs with another authority."""

    host: Host
    address: str

    def root(self) -> str:
        """Who signs, in PEM."""
        context = ssl._create_unverified_context()
        url = f"https://{self.address}:15000/roots/0"
        with urllib.request.urlopen(url, context=context, timeout=SECONDS) as answer:
            return str(answer.read().decode())

    def start(self, **faults: int) -> None:
        """Begin anew, with these of its environment variables."""
        lines = "".join(
            f"{name}={value}\\n" for name, value in {"PEBBLE_VA_NOSLEEP": 1, "PEBBLE_AUTHZREUSE": 0, **faults}.items()
        )
        self.host.run_expect([0], f"printf '{lines}' > /opt/pebble/faults && systemctl restart pebble.service")
        eventually(self._answers, why="the ACME server answers")

    def leads(self, name: str, *addresses: str) -> None:
        """Where a name leads, for whoever validates. Of several addresses pebble asks one by chance, and no second."""
        for verb, more in (("clear-a", {}), ("add-a", {"addresses": addresses})):
            body = json.dumps({"host": f"{name}.", **more}).encode()
            urllib.request.urlopen(f"http://{self.address}:8055/{verb}", body, timeout=SECONDS).close()

    def _answers(self) -> bool:
        try:
            return bool(self.root())
        except OSError:
            return False

    def stop(self) -> None:
        self.host.run_expect([0], "systemctl stop pebble.service")

    def issued(self) -> int:
        """How many certificates it has signed since its start."""
        since = self.host.check_output("systemctl show -P ActiveEnterTimestamp pebble.service")
        read = f"journalctl --unit pebble.service --since '{since}' --output cat"
        log = self.host.check_output(f"journalctl --sync; {read}")
        return str(log).count("Issued certificate serial")


@dataclass
class Edge:
    """A host whose edge is `stack`, nginx or haproxy."""

    host: Host
    stack: str
    owner: int
    name: str
    address: str = field(init=False)

    def __post_init__(self) -> None:
        self.address = address_of(self.host)

    def connect(self, root: str = "", name: str = "", seconds: float = SECONDS) -> ssl.SSLSocket:
        """A connection for a name. With `root`, what is served must be signed by it and for the name."""
        context = ssl.create_default_context(cadata=root) if root else ssl._create_unverified_context()
        raw = socket.create_connection((self.address, 443), timeout=seconds)
        return context.wrap_socket(raw, server_hostname=name or self.name)

    def serves(self, root: str = "", name: str = "") -> str:
        """SHA-256 of the certificate that is served."""
        with self.connect(root, name) as connection:
            return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()

    def asks(self, path: str, name: str = "") -> tuple[int, str]:
        """The answer on port 80."""
        connection = http.client.HTTPConnection(self.address, 80, timeout=SECONDS)
        connection.request("GET", path, headers={"Host": name or self.name})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def private_address(self) -> str:
        return private_address_of(self.host)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.host.check_output("flotilla-acme status"))
        return found

    def renew(self) -> Any:
        return self.host.run("timeout 2400 flotilla-acme renew")

    def age(self, days_left: float) -> str:
        """Have it serve a certificate of 90 days with so many left. Its SHA-256."""
        key = serialization.load_pem_private_key(self.host.file(f"{DIRECTORY}/certificate.key").content, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        end = datetime.now(UTC) + timedelta(days=days_left)
        names = [x509.DNSName(name) for name in self.status()["names"]]
        found = (
            x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), x509.random_serial_number())
            .not_valid_before(end - timedelta(days=90))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        text = found.public_bytes(serialization.Encoding.PEM).decode()
        certs = f"/opt/flotilla/{self.stack}/certs/acme"
        self.host.run_expect(
            [0],
            f"mkdir -p {certs}/aged && printf '%s' '{text}' > {certs}/aged/tls.crt && "
            f"cp {DIRECTORY}/certificate.key {certs}/aged/tls.key && chown {self.owner}:0 {certs}/aged/tls.* && "
            f"chmod 400 {certs}/aged/tls.* && ln -sfn aged {certs}/current",
        )
        if self.stack == "haproxy":
            self.host.run_expect([0], "docker kill --signal USR2 haproxy-haproxy-1")
        wanted = found.fingerprint(hashes.SHA256()).hex()
        eventually(lambda: self.serves() == wanted, why="the aged certificate serves")
        return wanted

    @contextmanager
    def timer_soon(self) -> Iterator[None]:
        """The timer as it is installed, but for its moment: now."""
        drop = "[Timer]\\nOnCalendar=\\nOnActiveSec=1\\nRandomizedDelaySec=0\\nAccuracySec=100ms\\n"
        restart = "systemctl daemon-reload && systemctl restart flotilla-acme.timer"
        self.host.run_expect([0], f"mkdir -p {SOON} && printf '{drop}' > {SOON}/test.conf && {restart}")
        try:
            yield
        finally:
            self.host.run_expect([0], f"rm -r {SOON} && {restart}")


class Visitors:
    """One with a connection for each request, and one with a connection for all. `failures` says what went wrong."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.failures: list[str] = []
        self.requests = 0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(kept,)) for kept in (False, True)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, kept: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._end.wait(0.05):
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.edge.name, timeout=SECONDS)
                    connection.sock = self.edge.connect()
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                # Behind the edge there is no app: its own page is the answer.
                if answer.status != 503:
                    self.failures.append(f"status {answer.status}")
                self.requests += 1
                if answer.will_close:
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection = None
            if not kept and connection is not None:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()
