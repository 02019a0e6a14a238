"""The sample app's service on a real port, with a store that lives in memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from notes import api, rehearse, settings
from notes.store import Check, Note
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

IDENTITY = settings.Identity("notes", "1.2.3", "r1", "blue", "app-1")


class Memory:
    """A store that forgets everything; `failing` names the dependencies that do not answer."""

    def __init__(self) -> None:
        self.notes: dict[str, Note] = {}
        self.queue: list[str] = []
        self.failing: set[str] = set()
        self.count = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def add(self, note_id: str, text: str) -> tuple[Note, bool]:
        self._need("postgres")
        created = note_id not in self.notes
        now = datetime.datetime.now(datetime.UTC)
        return self.notes.setdefault(note_id, Note(note_id, text, IDENTITY.release, now, None, None)), created

    async def find(self, note_id: str) -> Note | None:
        self._need("postgres")
        return self.notes.get(note_id)

    async def counts(self) -> dict[str, int]:
        self._need("postgres")
        return {"notes": len(self.notes), "processed": 0}

    async def enqueue(self, note_id: str) -> None:
        self._need("redis")
        self.queue.append(note_id)

    async def queue_length(self) -> int:
        self._need("redis")
        return len(self.queue)

    async def visit(self) -> int:
        self._need("redis")
        self.count += 1
        return self.count

    async def visits(self) -> int:
        self._need("redis")
        return self.count

    async def check(self) -> dict[str, Check]:
        return {name: Check("rehearsed" if name in self.failing else "", 0.1) for name in ("postgres", "redis")}

    def _need(self, name: str) -> None:
        if name in self.failing:
            raise ConnectionRefusedError(name)


@dataclasses.dataclass
class Running:
    """A service that listens."""

    port: int
    store: Memory
    server: api.Server
    thread: threading.Thread

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one request; `body`: bytes as they are, anything else as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, path, data, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def listens(self) -> bool:
        """Whether it takes a new connection."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """What TERM does."""
        self.server.should_exit = True


def until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


@contextlib.contextmanager
def running(rehearsal: rehearse.Rehearsal | None = None) -> Iterator[Running]:
    store = Memory()
    built: list[api.Server] = []

    async def serve() -> None:
        service = api.Service(IDENTITY, store)
        app = rehearse.wrap(api.application(service, store), rehearsal or rehearse.Rehearsal())
        built.append(api.Server(api.server_config(app, "127.0.0.1", 0, "warning"), service))
        await built[0].serve()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    until(lambda: bool(built and built[0].started), "the service does not listen")
    port = built[0].servers[0].sockets[0].getsockname()[1]
    current = Running(port, store, built[0], thread)
    try:
        yield current
    finally:
        current.stop()
        thread.join(15)
    assert not thread.is_alive()


@pytest.fixture
def service() -> Iterator[Running]:
    with running() as current:
        yield current


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_version_is_served_with_and_without_the_prefix(service: Running, prefix: str) -> None:
    assert service.call("GET", f"{prefix}/version") == (200, IDENTITY.as_dict())


@pytest.mark.parametrize("failing", [set(), {"postgres"}, {"redis"}, {"postgres", "redis"}])
def test_readiness_names_what_fails_and_liveness_does_not_care(service: Running, failing: set[str]) -> None:
    service.store.failing = failing

    status, body = service.call("GET", "/ready")

    assert status == (503 if failing else 200)
    assert (body["ready"], set(body["failing"])) == (not failing, failing)
    assert {name for name, check in body["checks"].items() if not check["ok"]} == failing
    assert service.call("GET", "/live") == (200, {"live": True})


def test_a_repeated_note_is_stored_once_and_answered_alike(service: Running) -> None:
    first = service.call("POST", "/notes", {"text": "hello"}, Idempotency_Key="n1")
    again = service.call("POST", "/api/notes", {"text": "hello", "id": "n1"})

    assert (first[0], again[0]) == (201, 200)
    assert first[1] == again[1]
    assert first[1]["id"] == "n1"
    assert service.call("GET", "/notes/count") == (200, {"notes": 1, "processed": 0})
    assert service.call("GET", "/notes/n1")[1]["text"] == "hello"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not JSON", 400),
        ([], 400),
        ({"id": "n1"}, 400),
        ({"id": "n1", "text": ""}, 400),
        ({"id": "n1", "text": "a\0b"}, 400),
        ({"text": "no id"}, 400),
        ({"id": 7, "text": "a"}, 400),
        ({"id": "with space", "text": "a"}, 400),
        ({"id": "x" * 129, "text": "a"}, 400),
        ({"id": "n1", "text": "x" * 70_000}, 413),
    ],
)
def test_a_bad_note_is_refused(service: Running, body: object, status: int) -> None:
    answer = service.call("POST", "/notes", body)

    assert answer[0] == status
    assert answer[1]["error"]
    assert service.store.notes == {}


def test_an_id_is_not_used_for_two_texts(service: Running) -> None:
    service.call("POST", "/notes", {"id": "n1", "text": "one"})

    assert service.call("POST", "/notes", {"id": "n1", "text": "two"})[0] == 422
    assert service.call("POST", "/notes", {"id": "n1", "text": "one"}, Idempotency_Key="n2")[0] == 400


def test_a_note_is_taken_without_redis_and_refused_without_postgres(service: Running) -> None:
    service.store.failing = {"redis"}
    assert service.call("POST", "/notes", {"id": "n1", "text": "a"})[0] == 201

    service.store.failing = {"postgres"}
    assert service.call("POST", "/notes", {"id": "n2", "text": "a"})[0] == 503


def test_the_status_has_identity_and_counters(service: Running) -> None:
    service.call("POST", "/visits")
    service.call("POST", "/notes", {"id": "n1", "text": "a"})

    status, body = service.call("GET", "/status")

    assert (status, body["release"], body["colour"]) == (200, "r1", "blue")
    assert (body["visits"], body["notes"], body["queued"]) == (1, 1, 1)


@pytest.mark.parametrize("seconds", ["31", "-1", "nan", "inf", "x", ""])
def test_the_slow_endpoint_is_bounded(service: Running, seconds: str) -> None:
    assert service.call("GET", f"/slow?seconds={seconds}")[0] == 400


def test_an_unknown_note_is_not_found(service: Running) -> None:
    assert service.call("GET", "/notes/nix") == (404, {"error": "no such note"})


# Stopping


def test_a_stop_lets_a_request_in_flight_end_and_takes_no_new_one(service: Running) -> None:
    answers: list[tuple[int, Any]] = []
    request = threading.Thread(target=lambda: answers.append(service.call("GET", "/slow?seconds=3")))
    request.start()
    until(lambda: bool(service.server.server_state.tasks), "the request does not arrive")

    service.stop()
    until(lambda: not service.listens(), "the service goes on listening")
    assert request.is_alive()
    request.join(30)

    assert [status for status, _ in answers] == [200]


def test_a_websocket_echoes_and_is_told_of_the_stop(service: Running) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/api/ws", proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv(5) == "hello"

        service.stop()
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(5)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


def test_a_websocket_takes_text_only(service: Running) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/ws", proxy=None) as websocket:
        websocket.send(b"bytes")
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(5)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


# Rehearsals


@pytest.mark.parametrize(
    ("rehearsal", "path", "status"),
    [("unhealthy", "/live", 500), ("unhealthy", "/version", 200), ("not_ready", "/api/ready", 503)],
)
def test_a_rehearsed_fault_shows_where_it_should(rehearsal: str, path: str, status: int) -> None:
    with running(rehearse.parse(rehearsal)) as service:
        assert service.call("GET", path)[0] == status


def test_errors_begin_after_readiness() -> None:
    with running(rehearse.parse("error_after_ready")) as service:
        service.store.failing = {"redis"}
        assert service.call("GET", "/ready")[0] == 503
        assert service.call("GET", "/version")[0] == 200

        service.store.failing = set()
        assert service.call("GET", "/ready")[0] == 200
        assert service.call("GET", "/version")[0] == 500
        assert service.call("GET", "/live")[0] == 200


def test_slow_answers_are_slow_but_for_the_probes() -> None:
    with running(rehearse.parse("slow_answers:1")) as service:
        for path, slow in (("/version", True), ("/live", False), ("/ready", False)):
            began = time.monotonic()
            assert service.call("GET", path)[0] == 200
            assert (time.monotonic() - began >= 1) is slow
