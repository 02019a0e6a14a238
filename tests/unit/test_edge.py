"""The flag of the live colour, and probes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flotilla.edge import Edge, probe
from flotilla.journal import Colour


def test_nothing_is_live_before_the_first_commit(tmp_path: Path) -> None:
    assert Edge(tmp_path / "notes").live() is None


@pytest.mark.parametrize("colour", [Colour.BLUE, Colour.GREEN, None])
@pytest.mark.parametrize("before", [Colour.BLUE, Colour.GREEN, None])
def test_a_switch_is_safe_to_repeat_from_anywhere(tmp_path: Path, before: Colour | None, colour: Colour | None) -> None:
    edge = Edge(tmp_path / "notes")
    edge.switch(before)
    for _ in range(2):
        edge.switch(colour)
        assert edge.live() is colour


def test_a_switch_that_changes_something_is_as_old_as_that_change(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "notes")
    edge.switch(Colour.GREEN)
    os.utime(edge.directory, (0, time.time() - 60))
    edge.switch(Colour.GREEN)
    assert edge.switched_seconds() >= 60
    edge.switch(Colour.BLUE)
    assert edge.switched_seconds() < 5


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.headers["Host"] == "a.example.com" else 421)
        self.send_header("X-Flotilla-Release", "r1")
        self.end_headers()
        self.wfile.write(b"said\nwhy")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_probe_names_the_release_that_answered(port: int) -> None:
    answer = probe("127.0.0.1", port, "a.example.com", "/ready", tls=False, timeout=5)
    assert (answer.status, answer.release, answer.reason) == (200, "r1", "")


def test_a_probe_says_why(port: int) -> None:
    assert probe("127.0.0.1", port, "b.example.com", "/", tls=False, timeout=5).reason == "said why"


def test_a_probe_of_nobody_is_an_answer_too() -> None:
    answer = probe("127.0.0.1", 1, "a.example.com", "/", tls=False, timeout=1)
    assert answer.status == 0
    assert "refused" in answer.reason
