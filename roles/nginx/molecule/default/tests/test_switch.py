"""An app of two colours behind the edge: its routes, its switch, its traces."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from itertools import product

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, LIVE, App, Edge, Reply, logged
from tests.lab.waiting import eventually

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def blue(app: App) -> None:
    app.switch("blue")


def test_the_flag_alone_decides_the_colour(edge: Edge, app: App) -> None:
    seen = []
    for colour in ("green", "blue", "green"):
        app.switch(colour)
        seen.append(edge.ask("/api/x").json["colour"])
    assert seen == ["green", "blue", "green"]


@pytest.mark.parametrize("local", [True, False], ids=["loopback", "public address"])
def test_the_host_itself_is_told_the_release(host: Host, edge: Edge, local: bool) -> None:
    address = "127.0.0.1" if local else edge.address
    headers = host.check_output(
        "docker run --rm --network host nginx:1.30 curl -skI -H X-Flotilla-Probe:1 --resolve %s %s",
        f"{edge.name}:443:{address}",
        f"https://{edge.name}/api/x",
    )
    assert "x-flotilla-release: release-of-blue" in headers.lower().splitlines()


def test_nobody_else_is_told_the_release(edge: Edge) -> None:
    answer = edge.ask("/api/x", headers={"X-Flotilla-Probe": "1"})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("x-flotilla")]


def test_a_service_learns_who_asks_and_how(edge: Edge) -> None:
    told = edge.ask("/api/x?y=%2Fz", headers={"X-Forwarded-For": "192.0.2.66", "X-Request-ID": "chosen"})
    assert told.json["uri"] == "/x?y=%2Fz"
    assert told.json["host"] == "notes.example.com"
    assert told.json["scheme"] == "https"
    assert told.json["client"] != "192.0.2.66" and "," not in told.json["client"]
    assert told.json["request_id"] == told.header("X-Request-ID") != "chosen"


@pytest.mark.parametrize("path", ["/missing/page", "/forbidden"])
def test_a_page_that_the_app_draws_itself_gets_the_index(edge: Edge, path: str) -> None:
    answer = edge.ask(path, headers=PAGE)
    assert (answer.status, answer.body) == (200, b"index of blue")
    assert answer.header("Cache-Control") == "no-cache"


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [("/missing.png", {"Accept": "image/*"}, "GET"), ("/api/missing", PAGE, "GET"), ("/missing", PAGE, "POST")],
)
def test_what_is_no_page_stays_missing(edge: Edge, path: str, headers: dict[str, str], method: str) -> None:
    assert edge.ask(path, method, headers).status == 404


def test_cache_rules(edge: Edge) -> None:
    assert edge.ask("/data.json").header("Cache-Control") == "public, max-age=3600"
    assert edge.ask("/api/x").header("Cache-Control") == "no-store"
    assert edge.ask("/cached").header("Cache-Control") == "max-age=7"


def test_an_app_keeps_its_own_header(edge: Edge) -> None:
    assert edge.ask("/framed").header("X-Frame-Options") == "DENY"


def test_answers_are_compressed(edge: Edge) -> None:
    answer = edge.ask("/large", headers={"Accept-Encoding": "gzip"})
    assert answer.header("Content-Encoding") == "gzip" and len(answer.body) < 500


def preflight(edge: Edge, origin: str) -> Reply:
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-token"}
    return edge.ask("/api/x", "OPTIONS", asked)


def test_a_listed_origin_may_call(edge: Edge) -> None:
    allowed = preflight(edge, "https://www.example.com")
    assert allowed.status == 204
    assert allowed.header("Access-Control-Allow-Origin") == "https://www.example.com"
    assert "PUT" in (allowed.header("Access-Control-Allow-Methods") or "")
    assert allowed.header("Access-Control-Allow-Headers") == "x-token"
    called = edge.ask("/api/x", headers={"Origin": "https://www.example.com"})
    assert called.header("Access-Control-Allow-Origin") == "https://www.example.com"
    assert called.header("Access-Control-Allow-Credentials") == "true"
    for answer in (allowed, called, edge.ask("/api/x")):
        assert "Origin" in answer.headers["vary"]


def test_another_origin_may_not(edge: Edge) -> None:
    refused = preflight(edge, "https://evil.example.com")
    assert refused.status == 403
    assert refused.header("Access-Control-Allow-Origin") is None
    assert refused.header("Access-Control-Allow-Credentials") is None


def test_uploads_have_a_limit(edge: Edge) -> None:
    assert edge.ask("/api/x", "POST", body=b"x" * 900_000).status == 200
    # Announced only: the edge answers before it reads.
    assert edge.ask("/api/x", "POST", {"Content-Length": "3000000"}).status == 413


def test_the_access_log_tells_time_release_and_colour(host: Host, edge: Edge) -> None:
    began = time.time()
    asked = edge.ask("/api/traced?token=secret").header("X-Request-ID")
    entry = logged(host, request_id=asked)
    passed = time.time() - began
    assert entry["uri"] == "/api/traced" and "secret" not in json.dumps(entry)
    assert (entry["status"], entry["method"], entry["app"]) == (200, "GET", "notes")
    assert (entry["colour"], entry["release"]) == ("blue", "release-of-blue")
    assert 0 <= entry["request_seconds"] <= passed and 0 <= float(entry["upstream_seconds"]) <= passed
    assert began - 1 <= entry["msec"] <= began + passed + 1


def test_checks_of_a_balancer_outside_are_no_traffic(host: Host, edge: Edge) -> None:
    """Failed ones neither: a deploy judges a release by this log."""
    host.run_expect([0], f"touch {LIVE}/drained")
    try:
        assert edge.ask("/.flotilla/health").status == 503
    finally:
        host.run_expect([0], f"rm {LIVE}/drained")
    assert edge.ask("/.flotilla/health?again=1").status == 200
    # What comes after them is there.
    logged(host, request_id=edge.ask("/api/x").header("X-Request-ID"))
    assert "/.flotilla/health" not in host.file(f"{DIRECTORY}/logs/access.log").content_string


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_nothing_but_the_question_reaches_the_app_with_such_a_check(edge: Edge, method: str) -> None:
    """It is in no log and not judged: what somebody sends with it goes no further."""
    asked = edge.ask("/.flotilla/health?q=<script>", method, {"X-Forwarded-For": "192.0.2.66"}, b'{"text": "<script>"}')
    assert (asked.status, asked.json["method"], asked.json["uri"]) == (200, "GET", "/")
    assert asked.json["host"] == "notes.example.com"


def test_such_a_check_becomes_no_websocket(edge: Edge) -> None:
    assert edge.ask("/.flotilla/health", headers={"Connection": "upgrade", "Upgrade": "websocket"}).status == 400


def test_without_its_router_a_page_says_so(host: Host, edge: Edge, app: App) -> None:
    host.run_expect([0], "docker stop notes-router-green")
    app.switch("green")
    answer = edge.ask("/")
    assert answer.status in (502, 504) and b"We will be back in a moment" in answer.body
    app.switch("blue")
    host.run_expect([0], "docker start notes-router-green")
    assert edge.ask("/").status == 200


def test_what_fails_is_logged_for_the_colour_that_was_asked(host: Host, edge: Edge, app: App) -> None:
    """Also when the traffic is switched while the edge still waits for a router that is away."""
    host.run_expect([0], "docker stop notes-router-green")
    paths = (f"/asks-green-{number}" for number in itertools.count())

    def switched_meanwhile() -> str:
        """What was asked, when the switch came between the question and its answer, as it has to for this test."""
        path = next(paths)
        app.switch("green")
        # On the host and by itself: the edge waits for two seconds, and SSH may take as long.
        host.run_expect([0], f"nohup sh -c 'sleep 1.5; rm {LIVE}/green' > /dev/null 2>&1 &")
        in_time = edge.ask(path).status in (502, 504) and not host.file(f"{LIVE}/green").exists
        eventually(lambda: not host.file(f"{LIVE}/green").exists, why="the traffic is switched")
        return path if in_time else ""

    try:
        path = eventually(switched_meanwhile, why="the traffic is switched while the edge waits")
    finally:
        host.run_expect([0], "docker start notes-router-green")
    entry = logged(host, uri=path)
    assert (entry["target"], entry["release"]) == ("notes-router-green", "")


@pytest.mark.timeout(1200)
def test_switching_under_load_loses_nothing(edge: Edge, app: App) -> None:
    """Kept and new connections, POST, and answers that take longer than several switches."""
    lost: list[str] = []
    served: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()

    def load(kind: str, count: int) -> None:
        kept = edge.connect()
        for number in range(count):
            try:
                if kind == "new":
                    answer = edge.ask(f"/api/{number}")
                elif kind == "post":
                    answer = edge.ask(f"/api/{number}", "POST", body=b"x" * 2000, connection=kept)
                else:
                    answer = edge.ask("/api/slow" if kind == "slow" else f"/api/{number}", connection=kept)
                with lock:
                    served[kind, answer.json["colour"]] += 1
                    if answer.status != 200:
                        lost.append(f"{kind}: {answer.status}")
            except (OSError, ValueError) as error:
                lost.append(f"{kind}: {error!r}")
                kept = edge.connect()
            time.sleep(0.005)

    plan = [("kept", 600)] * 3 + [("post", 400)] * 2 + [("new", 200)] * 2 + [("slow", 3)] * 3
    threads = [threading.Thread(target=load, args=entry) for entry in plan]
    for thread in threads:
        thread.start()
    switches = 0
    deadline = time.monotonic() + 900
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        app.switch("green" if switches % 2 == 0 else "blue")
        switches += 1
        time.sleep(0.7)
    for thread in threads:
        thread.join(timeout=60)

    assert lost == []
    assert sum(served.values()) == sum(count for _, count in plan)
    assert switches >= 6
    assert {key for key in served if key[0] != "slow"} == set(product(("kept", "post", "new"), ("blue", "green")))


@pytest.mark.parametrize(
    ("target", "named", "told"),
    [
        ("/api/x", "notes.example.com", "notes.example.com"),
        ("/api/x", "NOTES.example.com.", "notes.example.com"),
        ("/api/x", "notes.example.com:443", "notes.example.com:443"),
        ("https://notes.example.com/api/x", "notes.example.com", "notes.example.com"),
        ("https://notes.example.com:443/api/x", "notes.example.com:443", "notes.example.com:443"),
    ],
)
def test_the_name_that_was_decided_is_handed_on(edge: Edge, target: str, named: str, told: str) -> None:
    answer = edge.ask(target, headers={"Host": named})
    assert answer.status == 200, answer
    assert answer.json["host"] == told
