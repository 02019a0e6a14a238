"""noop_over_ping: a deploy that has nothing to do, measured in pings of the same hosts."""

from __future__ import annotations

from tests.benchmarks.benchmark import Benchmark, Cost, Pair, in_turn
from tests.benchmarks.droplet import BenchmarkError, Droplet, spent


def prepare(droplet: Droplet) -> None:
    """A deployed droplet, and the SSH connection that both sides use."""
    droplet.deployed()
    droplet.environment.ping().succeeded()


def measure(droplet: Droplet, number: int) -> Pair:
    """One deploy and one ping, whole commands."""
    return in_turn(number, lambda: deploy(droplet), lambda: ping(droplet))


def deploy(droplet: Droplet) -> Cost:
    """What a deploy of the version that serves already takes."""
    with spent() as cost:
        run = droplet.deploy()
    changed = {host: recap.changed for host, recap in run.recap.items() if recap.changed}
    if changed:
        raise BenchmarkError(f"the deploy was to change nothing, and changed {changed}:\n{run.output}")
    return Cost(cost.seconds, cost.cpu_seconds)


def ping(droplet: Droplet) -> Cost:
    """What `ansible all -m ping` takes."""
    with spent() as cost:
        droplet.environment.ping().succeeded()
    return Cost(cost.seconds, cost.cpu_seconds)


NOOP_OVER_PING = Benchmark(
    name="noop_over_ping",
    of="a deploy that changes nothing",
    over="ansible all -m ping",
    target=6.0,
    place=Droplet.named,
    prepare=prepare,
    measure=measure,
)
