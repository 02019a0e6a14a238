"""Draining, taking back, reloads and the maintenance page, while clients ask."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from testinfra.host import Host

from roles.haproxy.molecule.default.tests.balancer_client import (
    CONTAINER,
    FETCH,
    HOSTS,
    Operator,
    all_answer,
    answering,
)
from roles.nginx.molecule.default.tests.edge_client import Edge, Reply, assert_secure
from tests.lab.waiting import GENEROUS_SECONDS, eventually

DOWN = "/opt/app-hosts/app-1.down"


@pytest.fixture(autouse=True)
def everything_up(host: Host, operator: Operator) -> Iterator[None]:
    """After a test both hosts take requests and no page is shown, as before it."""
    yield
    host.run_expect([0], f"rm -f {DOWN}")
    for name in sorted(HOSTS):
        operator.do(state="ready", hosts=[name], seconds=GENEROUS_SECONDS)
    operator.do(state="maintenance", maintenance=False)


class Slow(threading.Thread):
    """One request that takes some seconds; `answer` is there after join()."""

    def __init__(self, edge: Edge, seconds: int) -> None:
        super().__init__()
        self.edge, self.seconds = edge, seconds
        self.answer: Reply | None = None

    def run(self) -> None:
        self.answer = self.edge.ask(f"/slow?seconds={self.seconds}")


def in_flight(host: Host) -> str:
    """The app host to which a request is in flight. The metrics are asked: they answer sooner than a module begins."""

    def busy() -> list[str]:
        (published,) = host.check_output(f"docker port {CONTAINER} 8405/tcp").splitlines()
        metrics = host.check_output("python3 -c %s %s", FETCH, f"http://{published}/metrics")
        return re.findall(r'^haproxy_server_current_sessions\{.*server="([^"]+)".*\} [1-9]', metrics, re.MULTILINE)

    return eventually(busy, why="a request is in flight", pause=0.1)[0]


def restart(host: Host) -> None:
    host.run_expect([0], f"docker restart {CONTAINER}")
    healthy = f"docker inspect --format '{{{{.State.Health.Status}}}}' {CONTAINER}"
    eventually(lambda: host.check_output(healthy) == "healthy", why="the balancer comes back")


def test_a_drained_host_gets_no_request(edge: Edge, operator: Operator) -> None:
    all_answer(edge)
    drained = operator.do(state="drained", hosts=["app-1"])
    assert drained["changed"]
    assert operator.conditions() == {"app-1": "drained", "app-2": "up"}
    assert answering(edge) == {"app-2"}
    assert not operator.do(state="drained", hosts=["app-1"])["changed"]


def test_what_is_drained_survives_a_reload_and_a_restart(host: Host, edge: Edge, operator: Operator) -> None:
    operator.do(state="drained", hosts=["app-1"])
    operator.do(state="reloaded")
    assert operator.conditions() == {"app-1": "drained", "app-2": "up"}
    assert answering(edge) == {"app-2"}
    restart(host)
    assert operator.conditions() == {"app-1": "drained", "app-2": "up"}
    assert answering(edge) == {"app-2"}


def test_new_connections_wait_while_it_restarts(host: Host, edge: Edge) -> None:
    before = host.check_output(f"docker inspect --format '{{{{.State.StartedAt}}}}' {CONTAINER}")
    busy = Slow(edge, seconds=6)  # which keeps it from stopping at once
    busy.start()
    in_flight(host)
    answers = []
    with ThreadPoolExecutor(9) as pool:
        restarting = pool.submit(restart, host)
        while not restarting.done():
            answers.append(pool.submit(edge.ask, "/"))
            time.sleep(0.2)
        restarting.result()
        assert {answer.result().status for answer in answers} == {200}
    busy.join()
    assert busy.answer
    assert busy.answer.status == 200
    assert host.check_output(f"docker inspect --format '{{{{.State.StartedAt}}}}' {CONTAINER}") != before


def test_a_host_is_taken_back(edge: Edge, operator: Operator) -> None:
    operator.do(state="drained", hosts=["app-1"])
    assert operator.do(state="ready", hosts=["app-1"], seconds=GENEROUS_SECONDS)["changed"]
    all_answer(edge)
    assert not operator.do(state="ready", hosts=["app-1"])["changed"]


def test_a_host_that_is_not_ready_stays_out(host: Host, edge: Edge, operator: Operator) -> None:
    operator.do(state="drained", hosts=["app-1"])
    host.run_expect([0], f"touch {DOWN}")
    failed = operator.run(state="ready", hosts=["app-1"], seconds=3)
    assert failed["failed"]
    assert "app-1 is not ready after 3 s and stays out" in failed["msg"]
    assert "503" in failed["msg"]
    host.run_expect([0], f"rm {DOWN}")
    # Its checks pass again, and it is still out.
    time.sleep(2)
    assert answering(edge) == {"app-2"}


def test_hosts_whose_checks_all_fail_are_asked_all_the_same(host: Host, edge: Edge, operator: Operator) -> None:
    """A fleet that is too slow for its checks is not made an outage; what an operator drained stays out."""
    downs = [DOWN.replace("app-1", name) for name in sorted(HOSTS)]
    host.run_expect([0], f"touch {' '.join(downs)}")
    eventually(lambda: set(operator.conditions().values()) == {"down"}, why="all checks fail")
    try:
        all_answer(edge)
        operator.do(state="drained", hosts=["app-1"], last=True)
        assert answering(edge) == {"app-2"}
    finally:
        host.run_expect([0], f"rm {' '.join(downs)}")


def test_one_app_is_drained_alone(edge: Edge, operator: Operator) -> None:
    operator.do(state="drained", hosts=["app-1"], apps=["wild"])
    assert operator.conditions("wild") == {"app-1": "drained", "app-2": "up"}
    all_answer(edge)


def test_draining_waits_for_a_request_in_flight(host: Host, edge: Edge, operator: Operator) -> None:
    slow = Slow(edge, 30)
    slow.start()
    busy = in_flight(host)
    operator.do(state="drained", hosts=[busy], seconds=120)
    slow.join(3)
    assert not slow.is_alive(), "the host was said to be drained before its request had ended"
    assert slow.answer and (slow.answer.status, slow.answer.json["host"]) == (200, busy)


def test_draining_says_what_is_left_at_its_deadline(host: Host, edge: Edge, operator: Operator) -> None:
    slow = Slow(edge, 30)
    slow.start()
    failed = operator.run(state="drained", hosts=[in_flight(host)], seconds=1)
    assert "still has 1 requests or websockets in flight after 1 s" in failed["msg"]
    slow.join()
    assert slow.answer and slow.answer.status == 200


def test_a_reload_ends_no_request(host: Host, edge: Edge, operator: Operator) -> None:
    slow = Slow(edge, 60)
    slow.start()
    busy = in_flight(host)
    operator.do(state="reloaded")
    assert slow.is_alive(), "the request ended before the reload"
    # The request is the old worker's now, and is waited for all the same.
    operator.do(state="drained", hosts=[busy], seconds=120)
    slow.join(3)
    assert slow.answer and slow.answer.status == 200


def test_check_mode_tells_and_does_nothing(edge: Edge, operator: Operator) -> None:
    assert operator.do(check=True, state="drained", hosts=["app-1"])["changed"]
    assert operator.do(check=True, state="maintenance", maintenance=True)["changed"]
    assert not operator.do(check=True, state="ready", hosts=["app-1"])["changed"]
    all_answer(edge)


def test_an_unknown_host_and_app_are_named(operator: Operator) -> None:
    assert "knows no host app-9 (it knows app-1, app-2)" in operator.run(state="drained", hosts=["app-9"])["msg"]
    assert "serves no app shop" in operator.run(state="maintenance", apps=["shop"], maintenance=True)["msg"]


def test_the_maintenance_page_of_one_app(host: Host, edge: Edge, operator: Operator) -> None:
    switched = operator.do(state="maintenance", apps=["notes"], maintenance=True)
    assert (switched["changed"], switched["maintained"]) == (True, ["notes"])
    assert not operator.do(state="maintenance", apps=["notes"], maintenance=True)["changed"]
    for survive in (lambda: None, lambda: operator.do(state="reloaded"), lambda: restart(host)):
        survive()
        page = edge.ask("/")
        assert (page.status, page.header("Retry-After")) == (503, "60")
        assert page.header("Cache-Control") == "no-store"
        assert_secure(page)
        assert edge.ask("/", name="wild.example.com").status == 200
    operator.do(state="maintenance", apps=["notes"], maintenance=False)
    assert edge.ask("/").status == 200


def test_requests_are_counted(edge: Edge, operator: Operator) -> None:
    before = operator.do(state="counters")
    answering(edge, 10)
    after = operator.do(state="counters")
    assert before["worker"] == after["worker"]
    counts = [sum(one["requests"] for one in answer["counters"]["notes"].values()) for answer in (before, after)]
    assert counts[1] - counts[0] == 10
