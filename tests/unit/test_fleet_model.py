"""Every way to die, and the run after it: a model check of the fleet over its real phases and decisions.

Depth: the exhaustive part kills one call at each of its side effects, with the controller or without it, in each task
of a run over two hosts, with every way for the other host's call to end; then the run is repeated. The random part
plays up to 8 runs over three hosts, each with a fault of its own; `make thorough` plays many more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import hypothesis.strategies as st
import pytest
from flotilla.journal import Phase
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.fleet_model import ControllerDiedError, Fault, World, proven

# The tasks of a deploy over two hosts that do something: prepare, commit, commit, finish or abort.
TASKS = range(2, 6)
ORDERS = ["start-first", "stop-first"]
# More side effects than any call has: a test stops when its victim has none left to die at.
EFFECTS = 60
ENDS: list[int | str | None] = [None, "unheard", "gone", 5]


@pytest.fixture(params=ORDERS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(order=request.param)
    yield world
    world.close()


@contextmanager
def fresh(order: str = ORDERS[0], hosts: int = 2) -> Iterator[World]:
    """A fleet whose first release serves."""
    world = World(hosts, order=order)
    try:
        assert world.deploy("1.0") == "deployed"
        yield world
    finally:
        world.close()


def settled(world: World) -> None:
    """Nothing is in hand, nobody has a lock, one release serves everywhere, and all of it runs."""
    assert len(world.releases()) == 1
    for host in world.hosts.values():
        site = host.site()
        journal = site.journal
        assert journal.phase is Phase.IDLE
        assert site.lease.read() is None
        assert journal.live
        assert host.engine.running[journal.live.colour] == {"api", "worker"}
        assert host.engine.running[journal.live.colour.other] == set()
        assert not host.drained


def faulted(world: World, version: str, fault: Fault) -> str:
    try:
        return world.deploy(version, fault=fault)
    except ControllerDiedError:
        return "died"


def test_a_deploy_and_a_rollback(world: World) -> None:
    assert world.deploy("1.0") == "deployed"
    assert world.deploy("1.1") == "deployed"
    settled(world)
    assert world.deploy("1.1") == "unchanged"
    assert world.rollback() == "deployed"
    assert {release.partition("-")[2] for release in world.releases()} == {"1.0"}
    settled(world)
    assert world.rollback() == "refused"


def test_a_bad_release_is_reverted_and_its_successor_deployed(world: World) -> None:
    world.deploy("1.0")
    world.bad.add("1.1")
    assert world.deploy("1.1") == "reverted"
    settled(world)
    assert world.deploy("1.2") == "deployed"
    settled(world)


def test_a_release_that_does_not_boot_is_refused(world: World) -> None:
    world.unbootable.add("1.0")
    assert world.deploy("1.0") == "refused"
    assert world.releases() == {""}
    assert world.deploy("1.1") == "deployed"
    settled(world)


def test_a_release_that_fails_its_window_loses_its_traffic_at_once() -> None:
    """Not only when the controller says so: here it dies with the canary's commit."""
    with fresh() as world:
        before = world.releases()
        world.bad.add("1.1")
        faulted(world, "1.1", Fault(3, {}, fatal=True))
        assert world.releases() == before


@pytest.mark.parametrize("host", ["app-1", "app-2"])
def test_a_lost_host_makes_it_mixed_and_the_next_run_whole(host: str) -> None:
    for task, outcome in ((2, "refused"), (3 if host == "app-1" else 4, "mixed"), (5, "mixed")):
        with fresh() as world:
            assert world.deploy("1.1", fault=Fault(task, {host: "gone"})) == outcome
            assert world.deploy("1.2") == "deployed"
            settled(world)


@pytest.mark.parametrize("other", ENDS, ids=str)
@pytest.mark.parametrize("fatal", [True, False], ids=["controller dies", "controller lives"])
@pytest.mark.parametrize("task", TASKS)
def test_a_deploy_that_was_cut_short_is_ended_by_the_next(task: int, fatal: bool, other: int | str | None) -> None:
    tried = 0
    for victim, bystander in (("app-1", "app-2"), ("app-2", "app-1")):
        for effect in range(EFFECTS):
            with fresh() as world:
                (before,) = world.releases()
                cut: dict[str, int | str] = {victim: effect}
                if other is not None:
                    cut[bystander] = other
                outcome = faulted(world, "1.1", Fault(task, cut, fatal))
                serving = world.releases()
                assert "" not in serving
                if outcome == "deployed":
                    assert before not in serving
                if outcome in ("refused", "reverted"):
                    assert serving == {before}
                assert world.deploy("1.2") == "deployed"
                settled(world)
                if not world.hosts[victim].died:
                    break
                tried += 1
        else:
            pytest.fail("a call has more side effects than were tried")
    assert tried > 2


@pytest.mark.parametrize("task", range(2, 9))
@pytest.mark.parametrize("first", TASKS)
def test_a_recovery_that_was_cut_short_is_ended_by_the_next(first: int, task: int) -> None:
    for effect in range(0, 18, 3):
        with fresh() as world:
            faulted(world, "1.1", Fault(first, {"app-1": 5, "app-2": 7}, fatal=True))
            faulted(world, "1.2", Fault(task, {"app-1": effect, "app-2": 18 - effect}, fatal=True))
            assert "" not in world.releases()
            assert world.deploy("1.3") == "deployed"
            settled(world)


@pytest.mark.parametrize("fatal", [True, False], ids=["controller dies", "controller lives"])
@pytest.mark.parametrize("task", range(2, 9))
def test_one_stop_first_at_a_time(task: int, fatal: bool) -> None:
    """Nobody's traffic is without a release, whatever dies, and each host has room for one colour only."""
    for victim in ("app-1", "app-2"):
        for effect in range(EFFECTS):
            with fresh("stop-first") as world:
                faulted(world, "1.1", Fault(task, {victim: effect}, fatal))
                assert world.deploy("1.2") == "deployed"
                settled(world)
                if not world.hosts[victim].died:
                    break
        else:
            pytest.fail("a call has more side effects than were tried")


@pytest.mark.parametrize("bad", ["app-1", "app-2"])
def test_a_stop_first_release_that_is_bad_goes_back_host_by_host(bad: str) -> None:
    with fresh("stop-first") as world:
        before = world.releases()
        world.bad.add((bad, "1.1"))
        assert world.deploy("1.1") == "reverted"
        assert world.releases() == before
        settled(world)


@pytest.mark.parametrize("bad", [None, "app-1", "app-2"])
@pytest.mark.parametrize("task", TASKS)
def test_after_a_recovery_all_hosts_serve_the_same(task: int, bad: str | None) -> None:
    """Without a release of its own that would hide what was recovered: the next one does not boot."""
    for effect in range(0, 18, 2):
        for cut in ({"app-1": effect}, {"app-2": effect}, {"app-1": effect, "app-2": 18 - effect}):
            with fresh() as world:
                if bad:
                    world.bad.add((bad, "1.1"))
                faulted(world, "1.1", Fault(task, dict(cut), fatal=True))
                world.unbootable.add("1.2")
                assert world.deploy("1.2") in ("refused", "unchanged")
                settled(world)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("skipped", ["app-1", "app-2"])
def test_a_run_without_one_host_and_then_with_it(task: int, skipped: str) -> None:
    for effect in range(0, 18, 2):
        with fresh() as world:
            faulted(world, "1.1", Fault(task, {"app-1": effect, "app-2": 18 - effect}, fatal=True))
            assert world.deploy("1.2", skip=[skipped]) == "deployed"
            assert world.deploy("1.3") == "deployed"
            settled(world)


def test_a_paused_run_that_committed_everywhere_is_not_called_deployed() -> None:
    """The canary was not heard in its last window: all serve the release, and nobody decided for it."""
    with fresh() as world:
        assert world.deploy("1.1", fault=Fault(4, {"app-1": "never"}), action="pause") == "mixed"
        assert {release.partition("-")[2] for release in world.releases()} == {"1.1"}
        assert world.deploy("1.1") == "unchanged"
        settled(world)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("action", ["continue", "pause"])
def test_a_commit_that_breaks_off_is_not_gone_on_with(order: str, action: str) -> None:
    """Told to continue or to pause, a run leaves the host in between without traffic, and calls it no success."""
    for effects in range(12):
        with fresh(order, hosts=3) as world:
            assert world.deploy("1.1", fault=Fault(3, {"app-1": effects}), action=action) != "deployed", effects
            assert world.deploy("1.2") == "deployed"
            settled(world)


@pytest.mark.parametrize("stuck", ["app-1", "app-2", "app-3"])
@pytest.mark.parametrize(("version", "again"), [("1.1", "mixed"), ("1.0", "mixed")], ids=["a release", "nothing to do"])
def test_a_host_that_the_balancer_does_not_take_back_makes_it_mixed(stuck: str, version: str, again: str) -> None:
    with fresh(hosts=3) as world:
        world.hosts[stuck].drained = world.hosts[stuck].stuck = True
        assert world.deploy(version) == "mixed"
        assert world.deploy(version) == again
        world.hosts[stuck].stuck = False
        assert world.deploy(version) == "unchanged"
        settled(world)


@pytest.mark.parametrize("stuck", ["app-1", "app-2", "app-3"])
def test_a_stop_first_host_that_is_not_taken_back_ends_the_rollout(stuck: str) -> None:
    with fresh("stop-first", hosts=3) as world:
        world.hosts[stuck].stuck = True
        assert world.deploy("1.1") == "mixed"
        assert world.hosts[stuck].drained
        world.hosts[stuck].stuck = False
        assert world.deploy("1.2") == "deployed"
        settled(world)


class Fleet(RuleBasedStateMachine):
    """Runs over three hosts, one after another, each with what may happen to it."""

    order = "start-first"

    def __init__(self) -> None:
        super().__init__()
        self.world = World(3, order=self.order)
        self.number = 0
        self.whole = True

    def teardown(self) -> None:
        self.world.close()

    faults = st.none() | st.builds(
        Fault,
        st.integers(1, 9),
        st.dictionaries(
            st.sampled_from(["app-1", "app-2", "app-3"]),
            st.sampled_from(["never", "unheard", "gone"]) | st.integers(0, 20),
        ),
        st.booleans(),
    )

    @initialize()
    def first(self) -> None:
        assert self.world.deploy("1.0") == "deployed"

    @rule(
        fault=faults,
        fate=st.sampled_from(["good", "bad", "unbootable"]),
        action=st.sampled_from(["rollback", "rollback", "continue", "pause"]),
        skip=st.sampled_from([(), (), (), ("app-1",), ("app-3",)]),
        stuck=st.sampled_from([None, None, None, "app-1", "app-3"]),
    )
    def deploy(self, fault: Fault | None, fate: str, action: str, skip: tuple[str, ...], stuck: str | None) -> None:
        self.number += 1
        for name, host in self.world.hosts.items():
            host.stuck = name == stuck
        version = f"2.{self.number}"
        if fate == "bad":
            self.world.bad.add(version)
        if fate == "unbootable":
            self.world.unbootable.add(version)
        try:
            outcome = self.world.deploy(version, fault=fault, skip=skip, action=action)
        except ControllerDiedError:
            outcome = "died"
        usual = not fault and not stuck and action == "rollback"
        self.whole = not skip and (outcome == "deployed" or (self.whole and usual))
        for host in self.world.hosts.values():
            host.stuck = False
        if outcome == "deployed":
            new = {host.serves() for name, host in self.world.hosts.items() if name not in skip}
            assert {release.partition("-")[2] for release in new} == {version}

    @rule(fault=faults)
    def rollback(self, fault: Fault | None) -> None:
        try:
            self.world.rollback(fault=fault)
        except ControllerDiedError:
            self.whole = False
        self.whole = self.whole and not fault

    @rule()
    def a_run_without_a_fault_always_works(self) -> None:
        self.number += 1
        assert self.world.deploy(f"2.{self.number}") == "deployed"
        settled(self.world)
        self.whole = True

    @invariant()
    def something_serves_everywhere(self) -> None:
        for host in self.world.hosts.values():
            host.check()
        if self.number:
            assert "" not in self.world.releases()

    @precondition(lambda self: self.whole and self.number > 0)
    @invariant()
    def a_whole_fleet_agrees(self) -> None:
        assert len(self.world.releases()) == 1
        assert self.world.releases() <= proven(self.world)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=settings().max_examples // 2,
    stateful_step_count=8,
    suppress_health_check=[HealthCheck.too_slow],
)


class StopFirst(Fleet):
    """The same, with releases that leave no room for two colours."""

    order = "stop-first"


TestStopFirst = StopFirst.TestCase
TestStopFirst.settings = TestFleet.settings
