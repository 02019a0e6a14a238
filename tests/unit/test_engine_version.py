"""Which version of the API an engine is spoken to in: fake engines on a Unix socket that refuse as the real ones do."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from flotilla.engine import Engine, EngineError

ROOT = Path(__file__).resolve().parents[2]
# The oldest and the newest version of the API that these engines take.
ENGINE_20_10 = ("1.12", "1.41")
ENGINE_26 = ("1.24", "1.45")
ENGINE_29 = ("1.44", "1.52")
ONE_TO_COME = ("1.48", "1.60")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


class FakeEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers `/version` and `/containers/json`, and refuses versions in the words of moby's version middleware."""

    daemon_threads = True

    def __init__(self, path: Path, oldest: str, newest: str) -> None:
        super().__init__(str(path), Handler)
        self.oldest, self.newest = oldest, newest
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: FakeEngine

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        oldest, newest = self.server.oldest, self.server.newest
        found = re.fullmatch(r"/v([0-9.]+)(/.*)", self.path)
        version, path = found.groups() if found else (newest, self.path)
        if numbers(version) < numbers(oldest):
            words = "Minimum supported API version is"
            self.answer(400, {"message": f"client version {version} is too old. {words} {oldest}"})
        elif numbers(version) > numbers(newest):
            words = "Maximum supported API version is"
            self.answer(400, {"message": f"client version {version} is too new. {words} {newest}"})
        elif path == "/version":
            self.answer(200, {"Version": "x", "ApiVersion": newest, "MinAPIVersion": oldest})
        else:
            self.answer(200, [])

    def answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(path: Path, versions: tuple[str, str]) -> Iterator[FakeEngine]:
    with FakeEngine(path, *versions) as engine:
        threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield engine
        engine.shutdown()


@pytest.mark.parametrize(
    ("versions", "spoken"),
    [(ENGINE_20_10, "1.41"), (ENGINE_26, "1.44"), (ENGINE_29, "1.44"), (ONE_TO_COME, "1.48")],
)
def test_an_engine_is_spoken_to_in_a_version_that_it_takes(
    tmp_path: Path, versions: tuple[str, str], spoken: str
) -> None:
    with serving(tmp_path / "socket", versions) as fake:
        engine = Engine(str(tmp_path / "socket"))
        assert engine.project("notes-blue") == []
        assert engine.project("notes-green") == []
    assert [path.partition("?")[0] for path in fake.asked] == ["/version", *[f"/v{spoken}/containers/json"] * 2]


def test_an_engine_that_is_too_old_is_named(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "socket", ("1.12", "1.39")),
        pytest.raises(EngineError, match=r"1\.39 .* 1\.41 \(Engine 20\.10\) is needed: upgrade docker"),
    ):
        Engine(str(tmp_path / "socket")).project("notes-blue")


def test_what_is_no_engine_is_told(tmp_path: Path) -> None:
    with serving(tmp_path / "socket", ("none", "none")), pytest.raises(EngineError):
        Engine(str(tmp_path / "socket")).project("notes-blue")
    with pytest.raises(EngineError, match="did not answer GET /version"):
        Engine(str(tmp_path / "absent")).project("notes-blue")


PINNED = re.compile(
    r"/v1\.\d\d(?!\d|\.|/\.)|DOCKER_API_VERSION|\bapi_version:|(?:DockerClient|APIClient|from_env)\([^)]*version\s*="
)


def pins(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if PINNED.search(line.replace("engine/version/v1", ""))]


def test_no_version_of_the_api_is_pinned_anywhere() -> None:
    places = [
        path
        for part in ("plugins", "roles", "playbooks", "compose", "tests", "inventories")
        for path in (ROOT / part).rglob("*")
        if path.is_file()
        and path.suffix in {"", ".py", ".yml", ".yaml", ".sh", ".j2", ".service"}
        and path != Path(__file__)
        and not {"molecule", "tests"} <= set(path.relative_to(ROOT).parts)  # a test asks in an old one on purpose
    ]
    assert len(places) > 400
    assert {str(path): found for path in places if (found := pins(path.read_text(errors="replace")))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "curl --unix-socket /run/docker.sock http://docker/v1.41/containers/json",
        "DOCKER_API_VERSION=1.41 docker ps",
        "    api_version: '1.41'",
        "docker.from_env(version='1.41')",
    ],
)
def test_a_new_pin_would_be_found(text: str) -> None:
    assert pins(text)
