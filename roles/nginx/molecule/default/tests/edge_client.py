"""A client of the droplet's edge, and the app that the tests put behind it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testinfra.host import Host

from tests.lab.waiting import eventually

# How long an answer may take: longer than any that a test makes slow.
SECONDS = 60
# One byte more than a line of a request may have. All of it is sent before the edge hangs up: who still sends then,
# loses the answer.
TOO_LONG = "x" * (16 * 1024 + 1)
DIRECTORY = "/opt/flotilla/nginx"
LIVE = f"{DIRECTORY}/live/notes"
COLOURS = ("blue", "green")
APP: dict[str, Any] = {
    "name": "notes",
    "readiness": {"path": "/login/ready"},
    "routes": [
        {
            "path": "/api",
            "service": "api",
            "port": 3000,
            "strip_prefix": True,
            "cors_origins": ["https://www.example.com"],
            "cors_credentials": True,
            "cache_seconds": 0,
            "websocket": True,
        },
        {"path": "/small", "service": "api", "port": 3000, "upload_limit_mb": 1},
        {"path": "/login", "service": "api", "port": 3000, "rate_limit": {"requests_per_minute": 6, "burst": 2}},
        {"path": "/logout", "service": "api", "port": 3000, "clear_site_data": True},
        {"path": "/", "service": "ui", "port": 8080, "spa": True, "cache_seconds": 3600},
    ],
}
# Three seconds for `/slow`; the answer to anything else tells what has reached the service.
SERVICE = """
events {{}}
http {{
    default_type application/json;
    access_log off;
    server {{
        listen 3000;
        listen 8080;
        client_max_body_size 0;
        location / {{
            return 200 '{{"colour":"{colour}","method":"$request_method","uri":"$request_uri","host":"$http_host",\
"client":"$http_x_forwarded_for","scheme":"$http_x_forwarded_proto","request_id":"$http_x_request_id"}}';
        }}
        location = /index.html {{ default_type text/html; return 200 "index of {colour}"; }}
        location = /large-file {{ alias /tmp/large-file; }}
        location = /bare {{ add_header X-Powered-By PHP/8; add_header X-AspNet-Version 4; return 200 "{{}}"; }}
        location = /framed {{ add_header X-Frame-Options DENY; return 200 "{{}}"; }}
        location = /cached {{ add_header Cache-Control "max-age=7"; return 200 "{{}}"; }}
        location = /large {{ default_type text/plain; return 200 "{large}"; }}
        location = /forbidden {{ return 403; }}
        location /missing {{ return 404; }}
        location = /slow {{ limit_rate 400; return 200 '{{"colour":"{colour}","padding":"{padding}"}}'; }}
    }}
}}
"""


@dataclass(frozen=True)
class Reply:
    """One answer; header names are in small letters, a header that came twice has both values."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.headers.get(name.lower(), [])
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Edge:
    """A client that connects to the droplet's address and asks for a name."""

    address: str
    authority: str
    name: str = "notes.example.com"
    context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cadata=self.authority)

    def connect(self, name: str | None = None, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """A connection over TLS, verified against the host's own authority."""
        raw = socket.create_connection((self.address, 443), timeout=SECONDS)
        connection = http.client.HTTPConnection(name or self.name, timeout=SECONDS)
        connection.sock = (context or self.context).wrap_socket(raw, server_hostname=name or self.name)
        return connection

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        connection: http.client.HTTPConnection | None = None,
        name: str | None = None,
    ) -> Reply:
        """One request, over a connection of its own unless one is given."""
        used = connection or self.connect(name)
        try:
            used.request(method, path, body, dict(headers or {}))
            return reply(used.getresponse())
        finally:
            if connection is None:
                used.close()

    def ask_quickly(self, path: str, times: int, name: str | None = None, **headers: str) -> list[Reply]:
        """So many requests one after another, without a handshake in between: too many, however busy the machine is.

        headers: of each, where `{number}` is that of the request.
        """
        answers, kept = [], self.connect(name)
        for number in range(times):
            if kept.sock is None:
                kept = self.connect(name)
            given = {key.replace("_", "-"): value.format(number=number) for key, value in headers.items()}
            answers.append(self.ask(path, headers=given, connection=kept))
        kept.close()
        return answers


def reply(response: http.client.HTTPResponse) -> Reply:
    headers: dict[str, list[str]] = {}
    for name, value in response.getheaders():
        headers.setdefault(name.lower(), []).append(value)
    return Reply(response.status, headers, response.read())


def write(host: Host, path: str, text: str) -> None:
    host.run_expect([0], "printf %s %s > %s", "%s", text, path)


def logged(host: Host, **wanted: Any) -> dict[str, Any]:
    """The last entry of the access log that has these values. An answer is sent before it is written down."""

    def found() -> dict[str, Any] | None:
        text = str(host.file(f"{DIRECTORY}/logs/access.log").content_string)
        whole = text[: text.rfind("\n") + 1].splitlines()
        entries: list[dict[str, Any]] = [json.loads(line) for line in whole]
        return next((one for one in reversed(entries) if wanted.items() <= one.items()), None)

    return eventually(found, why=f"the access log has {wanted}")


# OWASP's list (https://owasp.org/www-project-secure-headers/ci/headers_add.json) but for Clear-Site-Data, which would
# log out whoever gets it, and Cache-Control and Strict-Transport-Security, whose values are looked at below.
SECURITY_HEADERS = (
    "Content-Security-Policy",
    "Cross-Origin-Embedder-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-Permitted-Cross-Domain-Policies",
)


def assert_secure(answer: Reply) -> None:
    """Every header of OWASP's list is there, once, and nothing tells a version."""
    missing = [name for name in SECURITY_HEADERS if not answer.header(name)]
    assert missing == [], answer
    assert answer.header("Strict-Transport-Security") == "max-age=63072000"
    assert answer.header("Cache-Control")
    assert answer.header("Server") in (None, "nginx")
    assert not [name for name in answer.headers if "powered" in name or "version" in name]


@dataclass(frozen=True)
class App:
    """The switch of the app `notes`, as a deploy uses it."""

    host: Host

    def switch(self, colour: str) -> None:
        command = "touch" if colour == "green" else "rm -f"
        self.host.run_expect([0], f"{command} {LIVE}/green")
