"""Three releases over eight app hosts behind a balancer, under load that never retries."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.fleet import Environment, Lab
from tests.e2e.load import Kind, Mode, Stream
from tests.e2e.test_balancer import BALANCER, entry, hosts_that_answer, load_on, stored_once
from tests.e2e.waiting import GENEROUS_SECONDS, eventually

HOSTS = [f"production-app-{number}" for number in range(1, 9)]
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")
# Whether answers are quick is asked where there are two (tests/faults), whether each comes is asked here.
LAB = Lab(VERSIONS, {"apps": [entry()]}, Path("inventories/production"), app_hosts=len(HOSTS))
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=10),
    Stream(Kind.GET, Mode.NEW, rate=5),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=3),
    Stream(Kind.POST, Mode.NEW, rate=3),
    Stream(Kind.SLOW, Mode.NEW, concurrency=2, path="/api/slow?seconds=5"),
    Stream(Kind.WEBSOCKET, concurrency=50),
)


def test_three_releases_over_eight_hosts_cost_nothing(production: Environment) -> None:
    first, *others = VERSIONS
    production.deploy(first).succeeded()
    front = production.on(BALANCER)
    front.live_within(GENEROUS_SECONDS)
    eventually(lambda: hosts_that_answer(front, 80) == set(HOSTS), why="all hosts answer")
    seconds = []
    with load_on(front, *STREAMS, timeout=60) as load:
        for version in others:
            seconds.append(round(front.deploy(version).succeeded().seconds, 1))
            assert {front.on(host).live().version for host in HOSTS} == {version}
        result = load.stop()
    print(f"\n3 deploys over {len(HOSTS)} hosts in {seconds} s\n{result.summary()}")
    assert not result.failures, result.summary(shown=30)
    # Each release says goodbye to each websocket once.
    assert result.goodbyes >= 50 * len(others)
    stored_once(front, result)
