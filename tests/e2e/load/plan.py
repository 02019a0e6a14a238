"""What to send, where and for how long; checked before a socket is opened."""

from __future__ import annotations

import enum
import ipaddress
import json
import socket
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Load goes to this machine and to the lab's droplets, never further.
ALLOWED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "::1/128", "10.77.0.0/16", "10.78.0.0/16", "10.79.0.0/16")
)
MAX_SECONDS = 3600.0
MAX_REQUESTS = 1_000_000
MAX_RATE = 5_000.0
MAX_CONCURRENCY = 1000


class PlanError(Exception):
    """The plan cannot be run; the message names the field."""


class Kind(enum.StrEnum):
    """What one request is."""

    GET = "get"
    POST = "post"
    SLOW = "slow"
    WEBSOCKET = "websocket"


class Mode(enum.StrEnum):
    """Which connection a request uses."""

    KEEPALIVE = "keepalive"
    NEW = "new"


DEFAULT_PATHS = {
    Kind.GET: "/api/version",
    Kind.POST: "/api/notes",
    Kind.SLOW: "/api/slow?seconds=5",
    Kind.WEBSOCKET: "/api/ws",
}
# A new note is answered with 201; 200 would mean that its id was there before.
DEFAULT_STATUS = {Kind.POST: 201}


@dataclass(frozen=True)
class Target:
    """Where requests go: an address of ours, and the name that TLS and the Host header use.

    `server_name` defaults to the host of `url`. With https, `ca_file` is the only trust anchor.
    """

    url: str
    server_name: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise PlanError(f"url: {self.url!r} is not http://host:port or https://host:port")
        if parts.path not in {"", "/"} or parts.query:
            raise PlanError(f"url: {self.url!r} has a path; give it with the stream")
        if self.tls and not Path(self.ca_file).is_file():
            raise PlanError(f"ca_file: {self.ca_file!r} is not a file; https needs the CA's certificate")

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def name(self) -> str:
        """The name for SNI, certificate check and Host."""
        return self.server_name or str(urlsplit(self.url).hostname)

    @property
    def host_header(self) -> str:
        return self.server_name or urlsplit(self.url).netloc

    def address(self) -> str:
        """The one address that is connected to. Raises PlanError unless it is loopback or the lab's."""
        host = str(urlsplit(self.url).hostname)
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise PlanError(f"url: {host} has no address: {error}") from error
        addresses = [ipaddress.ip_address(str(entry[4][0])) for entry in found]
        for address in addresses:
            if not any(address in network for network in ALLOWED_NETWORKS):
                allowed = ", ".join(map(str, ALLOWED_NETWORKS))
                raise PlanError(f"url: {host} is {address}; load is sent to {allowed} only")
        return str(addresses[0])

    def ssl_context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        return context


@dataclass(frozen=True)
class Stream:
    """One kind of request at one pace.

    Exactly one of these is set: `rate` (open loop: requests a second, sent whether or not earlier ones were
    answered) or `concurrency` (closed loop: as many at a time, each sent after the answer to the one before).
    A websocket stream has `concurrency` websockets, each with two messages a second.
    """

    kind: Kind = Kind.GET
    mode: Mode = Mode.KEEPALIVE
    rate: float | None = None
    concurrency: int | None = None
    path: str = ""
    expect: int = 0
    # With keepalive: connections kept and used in turn, so that each is idle between two requests.
    connections: int = 10

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.concurrency is None):
            raise PlanError("stream: give either a rate or a concurrency")
        if self.rate is not None and not 0 < self.rate <= MAX_RATE:
            raise PlanError(f"rate: {self.rate} is not within 0 to {MAX_RATE:g} requests a second")
        if self.concurrency is not None and not 0 < self.concurrency <= MAX_CONCURRENCY:
            raise PlanError(f"concurrency: {self.concurrency} is not within 1 to {MAX_CONCURRENCY}")
        if self.kind is Kind.WEBSOCKET and self.concurrency is None:
            raise PlanError("stream: websockets need a concurrency")
        object.__setattr__(self, "path", self.path or DEFAULT_PATHS[self.kind])
        object.__setattr__(self, "expect", self.expect or DEFAULT_STATUS.get(self.kind, 200))
        if not self.path.startswith("/"):
            raise PlanError(f"path: {self.path!r} does not start with /")

    @property
    def name(self) -> str:
        return str(self.kind) if self.kind is Kind.WEBSOCKET else f"{self.kind}-{self.mode}"

    @classmethod
    def parse(cls, text: str) -> Stream:
        """`kind:mode:pace[:path]`; a pace of 50 is a rate, x8 a concurrency. Raises PlanError."""
        kind, _, rest = text.partition(":")
        mode, _, rest = rest.partition(":")
        pace, _, path = rest.partition(":")
        try:
            if pace.startswith("x"):
                return cls(Kind(kind), Mode(mode), concurrency=int(pace[1:]), path=path)
            return cls(Kind(kind), Mode(mode), rate=float(pace), path=path)
        except ValueError as error:
            raise PlanError(f"stream: {text!r} is not kind:mode:pace[:path]: {error}") from error


@dataclass(frozen=True)
class Plan:
    """A bounded run: it ends after `seconds` or `max_requests`, whichever comes first."""

    target: Target
    streams: tuple[Stream, ...]
    seconds: float
    max_requests: int = MAX_REQUESTS
    # From the scheduled moment to the last byte of the answer; more than this is a failure.
    timeout: float = 30.0
    # Prefix of the ids of POST requests; empty: made from the time, so that two runs never share an id.
    run_id: str = ""

    def __post_init__(self) -> None:
        if not self.streams:
            raise PlanError("streams: none given")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise PlanError(f"seconds: {self.seconds} is not within 0 to {MAX_SECONDS:g}")
        if not 0 < self.max_requests <= MAX_REQUESTS:
            raise PlanError(f"max_requests: {self.max_requests} is not within 1 to {MAX_REQUESTS}")
        if not 0 < self.timeout <= MAX_SECONDS:
            raise PlanError(f"timeout: {self.timeout} is not within 0 to {MAX_SECONDS:g}")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        data: dict[str, Any] = json.loads(text)
        streams = tuple(
            Stream(**{**stream, "kind": Kind(stream["kind"]), "mode": Mode(stream["mode"])})
            for stream in data.pop("streams")
        )
        return cls(target=Target(**data.pop("target")), streams=streams, **data)
