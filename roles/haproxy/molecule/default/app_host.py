"""What stands for an app host: HTTPS that tells what has reached it. Usage: app_host.py NAME ADDRESS PORT"""

from __future__ import annotations

import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

NAME = sys.argv[1]


class Handler(BaseHTTPRequestHandler):
    """`/ready` fails while there is a file NAME.down here; `/slow?seconds=3` takes its time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        ready = address.path != "/ready" or not Path(f"{NAME}.down").exists()
        if address.path == "/slow":
            time.sleep(float(parse_qs(address.query)["seconds"][0]))
        length = int(self.headers.get("Content-Length") or 0)
        told = {
            "host": NAME,
            "method": self.command,
            "uri": self.path,
            "body": self.rfile.read(length).decode(),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(told).encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: a health check every half second."""


def main() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("tls.crt", "tls.key")
    server = ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), Handler)
    # The handshake belongs to the thread of its connection.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
