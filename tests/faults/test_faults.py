"""What may go wrong with two app hosts behind a balancer, one fault a test, under load that never retries.

Every failed request is counted. None may fail, except those that a host had in hand when it died itself: a test that
allows them says so and lists them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.fleet import (
    APP,
    FLEET_LAB,
    PRODUCTION,
    Environment,
    Run,
    ansible_process,
    app_entry,
    inventory_variables,
)
from tests.e2e.load import BackgroundLoad, Failure, Kind, Mode, Plan, Reason, Result, Stream, Target
from tests.e2e.waiting import GENEROUS_SECONDS, eventually, in_phase

BALANCER, DATABASE = "production-lb-1", "production-db-1"
HOSTS = CANARY, OTHER = "production-app-1", "production-app-2"
MONITOR_SECONDS = 3
PHASES = ("preparing", "prepared", "committing", "committed", "finishing")
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=15),
    Stream(Kind.GET, Mode.NEW, rate=8),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=4),
    Stream(Kind.POST, Mode.NEW, rate=4),
    Stream(Kind.SLOW, Mode.NEW, concurrency=2, path="/api/slow?seconds=5"),
    Stream(Kind.WEBSOCKET, concurrency=5),
)


def entry(environment: Mapping[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """The production inventory's app, which does not wait long for what is in flight."""
    deadlines = {"drain_seconds": 10, "pull_seconds": 180, **changes.pop("deadlines", {})}
    return app_entry(
        PRODUCTION,
        environment={"UPDATE_MONITOR": f"{MONITOR_SECONDS}s", **(environment or {})},
        deadlines=deadlines,
        keep_releases=4,
        **changes,
    )


LAB = FLEET_LAB
# Answers may take so long while a release is watched: the inventory's milliseconds, or, where the machine is so busy
# that they take long without a release, so many times as long as they took then.
SLOWER = 10.0
# How much later than it came a failure may be told of, and by what the load generator itself was late at worst.
LATE_SECONDS = 2
TARGET = {"environment_p95_ms": inventory_variables("environment", PRODUCTION)["environment_p95_ms"]}


@dataclass
class Scene:
    """The environment, and what the load saw during a test."""

    fleet: Environment
    allowed: Callable[[Failure], bool] = lambda _: False
    result: Result | None = field(default=None)

    @property
    def front(self) -> Environment:
        return self.fleet.on(BALANCER)

    def versions(self) -> list[str]:
        """What each app host serves, asked at its own edge."""
        return [self.fleet.on(host).live_within(GENEROUS_SECONDS).version for host in HOSTS]

    def other(self) -> str:
        """A version that is not live."""
        return {"1.0.0": "1.1.0", "1.1.0": "1.2.0", "1.2.0": "1.1.0"}[self.versions()[0]]

    def release(self) -> str:
        return self.fleet.live().release

    def droplet(self, host: str) -> Any:
        return docker.from_env(timeout=300).containers.get(f"{self.fleet.name}-{host}")


@pytest.fixture(scope="module")
def fleet(served: Environment, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Version 1.1.0 serves, and 1.0.0 before it; the target for the answers was measured before any fault."""
    front = served.on(BALANCER)
    front.live_within(GENEROUS_SECONDS)
    plan = Plan(Target(front.url, front.domain, str(front.ca)), STREAMS, seconds=20)
    with BackgroundLoad(plan) as load:
        usual = load.wait().latency["get-keepalive"].p95
    target = max(TARGET["environment_p95_ms"], round(SLOWER * usual))
    print(f"  p95 {usual:.0f} ms without a release; {target} ms are allowed")
    changes = {"apps": [entry()], "environment_p95_ms": target}
    fleet = served.over(tmp_path_factory.mktemp("fleet"), changes)
    fleet.deploy("1.1.0").succeeded()
    return fleet


@pytest.fixture
def scene(fleet: Environment) -> Iterator[Scene]:
    """Load on the balancer for the time of a test. Afterwards every failed request is accounted for, and every id."""
    scene = Scene(fleet)
    whole(scene)
    plan = Plan(Target(scene.front.url, fleet.domain, str(fleet.ca)), STREAMS, seconds=1500, timeout=30)
    with BackgroundLoad(plan) as load:
        time.sleep(2)
        yield scene
        time.sleep(2)
        result = scene.result = load.stop()
    excused = [
        failure
        for failure in result.failures
        if scene.allowed(failure) or scene.allowed(replace(failure, time=failure.time - result.lag / 1000))
    ]
    for failure in result.failures:
        mark = " " if failure in excused else "!"
        print(f" {mark} {failure.time:.2f} {failure.stream} {failure.reason} {failure.status} {failure.detail}")
    print(f"  {result.requests} requests, {len(result.failures)} failed, {len(excused)} of them allowed")
    assert result.requests > 100
    assert len(excused) == len(result.failures), result.summary(shown=30)
    stored = fleet.on(DATABASE).sql("SELECT id FROM notes")
    assert len(stored) == len(set(stored))
    assert set(result.acknowledged) - set(stored) == set()
    whole(scene)


def whole(scene: Scene) -> None:
    """One release serves on all hosts, nothing is in hand, nobody holds a lock, and the balancer uses all hosts."""
    assert len(set(scene.versions())) == 1
    for host in map(scene.fleet.on, HOSTS):
        journal = host.journal()
        assert (journal["phase"], journal["candidate"]) == ("idle", None)
        assert list(host.colours()) == [journal["live"]["colour"]]
        assert host.ssh("ls /opt/flotilla/lock.json", check=False) == ""
    eventually(lambda: {scene.front.live().host for _ in range(30)} == set(HOSTS), why="the balancer uses all hosts")


def last_line(run: Run) -> str:
    return run.output.rstrip().splitlines()[-1]


def refused(scene: Scene, run: Run, before: str, *says: str) -> None:
    """The run moved no traffic, and said why."""
    assert run.rc != 0
    assert "refused, no traffic moved" in last_line(run)
    assert [word for word in says if word not in run.text] == []
    assert scene.versions() == [before, before]


@contextmanager
def deploy_at(scene: Scene, version: str, host: str, phase: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A deploy that has just come to a phase on a host."""
    with ansible_process("ansible-playbook", *scene.fleet.deploy_arguments(version, None, *arguments)) as process:
        in_phase(scene.fleet.on(host), phase)
        yield process


def ended(process: subprocess.Popen[str]) -> Run:
    output, _ = process.communicate(timeout=1500)
    return Run("deploy", process.returncode, output, 0.0)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def awake(host: Environment) -> None:
    """Wait until a droplet that was switched on has its engine and its stacks."""
    up = "docker info > /dev/null 2>&1 && echo up"
    eventually(lambda: host.ssh(up, check=False).strip() == "up", why=f"{host.host} comes up")
    host.live_within(GENEROUS_SECONDS)


# -- the controller dies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 0.7], ids=["at the boundary", "in the middle"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("host", HOSTS)
def test_the_controller_is_killed_and_the_next_run_ends_it(scene: Scene, host: str, phase: str, delay: float) -> None:
    before, version = scene.versions()[0], scene.other()
    with deploy_at(scene, version, host, phase) as controller:
        time.sleep(delay)
        kill(controller)
    assert {scene.front.live().version for _ in range(20)} <= {before, version}
    scene.fleet.deploy(version).succeeded()
    assert scene.versions() == [version, version]


def test_the_controller_is_killed_in_an_abort(scene: Scene, tmp_path: Path) -> None:
    before, version = scene.versions()[0], scene.other()
    bad = Scene(scene.fleet.over(tmp_path, {"apps": [entry({"REHEARSE": "slow_answers:2"})], **TARGET}))
    with deploy_at(bad, version, CANARY, "aborting") as controller:
        kill(controller)
    assert {scene.front.live().version for _ in range(20)} == {before}
    scene.fleet.deploy(before).succeeded()
    assert scene.versions() == [before, before]


# -- hosts and the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["preparing", "committing"])
def test_ssh_to_one_host_is_cut(scene: Scene, phase: str) -> None:
    """The public network goes away under the controller; requests come by the private one."""
    before, version = scene.versions()[0], scene.other()
    network = docker.from_env(timeout=300).networks.get(f"{scene.fleet.name}-public")
    droplet, address = scene.droplet(OTHER), scene.fleet.on(OTHER).address
    with deploy_at(scene, version, OTHER, phase) as process:
        network.disconnect(droplet)
        try:
            run = ended(process)
        finally:
            network.connect(droplet, ipv4_address=address)
    assert run.rc != 0
    assert ("refused, no traffic moved" if phase == "preparing" else "mixed") in last_line(run)
    assert scene.fleet.on(CANARY).live().version == before
    scene.fleet.deploy(version).succeeded()
    assert scene.versions() == [version, version]


def test_a_host_that_is_dead_before_is_refused_or_left_out(scene: Scene) -> None:
    before, version = scene.versions()[0], scene.other()
    droplet = scene.droplet(OTHER)
    scene.allowed = died_at(time.time())
    droplet.kill()
    time.sleep(15)
    run = scene.fleet.deploy(version)
    assert run.rc != 0
    assert OTHER in run.text
    assert scene.fleet.live().version == before
    scene.fleet.deploy(version, None, "-e", f"skip_hosts={OTHER}").succeeded()
    assert {scene.front.live().version for _ in range(20)} == {version}
    droplet.start()
    awake(scene.fleet.on(OTHER))
    # It serves the old release and is kept out until a deploy includes it.
    assert scene.fleet.on(OTHER).live().version == before
    assert {scene.front.live().host for _ in range(20)} == {CANARY}
    scene.fleet.deploy(version).succeeded()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("host", HOSTS)
def test_a_host_dies_during_a_phase(scene: Scene, host: str, phase: str) -> None:
    version = scene.other()
    droplet = scene.droplet(host)
    with deploy_at(scene, version, host, phase) as process:
        scene.allowed = died_at(time.time())
        droplet.kill()
        run = ended(process)
    print(f"  {last_line(run)}")
    droplet.start()
    awake(scene.fleet.on(host))
    # A host that died while it finished had the release: the fleet may have come to it meanwhile.
    if run.rc != 0:
        assert any(word in last_line(run) for word in ("refused", "mixed"))
    scene.fleet.deploy(version).succeeded()
    assert scene.versions() == [version, version]


@pytest.mark.parametrize("phase", ["preparing", "committed"])
def test_a_host_is_rebooted_in_the_middle(scene: Scene, phase: str) -> None:
    version = scene.other()
    with deploy_at(scene, version, OTHER, phase) as process:
        scene.allowed = died_at(time.time())
        scene.fleet.on(OTHER).reboot()
        run = ended(process)
    print(f"  {last_line(run)}")
    awake(scene.fleet.on(OTHER))
    scene.fleet.deploy(version).succeeded()


@pytest.mark.parametrize("phase", ["preparing", "committed"])
def test_an_engine_is_restarted_in_the_middle(scene: Scene, phase: str) -> None:
    version = scene.other()
    with deploy_at(scene, version, OTHER, phase) as process:
        scene.fleet.on(OTHER).ssh("systemctl reset-failed docker; systemctl restart docker")
        run = ended(process)
    print(f"  {last_line(run)}")
    scene.fleet.deploy(version).succeeded()
    assert scene.versions() == [version, version]


def died_at(moment: float) -> Callable[[Failure], bool]:
    """Only what the host had in hand may fail: POSTs, which are sent once, slow requests and websockets, at once.

    A connection that nobody resets is given up 16 seconds later, or by the client after 30. A GET is sent to another
    host.
    """

    def allowed(failure: Failure) -> bool:
        kind = failure.stream.partition("-")[0]
        return kind in ("post", "slow", "websocket") and -1 <= failure.time - moment <= 30 + LATE_SECONDS

    return allowed


# -- releases that are no good -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rehearsal", "says"),
    [
        ("crash", "rehearsing crash"),
        ("unhealthy", "unhealthy"),
        ("not_ready", "503"),
        ("slow_start:300", "not ready in time"),
        ("memory:900", "out of memory: yes"),
    ],
)
def test_a_release_that_does_not_become_ready(scene: Scene, tmp_path: Path, rehearsal: str, says: str) -> None:
    before = scene.versions()[0]
    flags = [switched_at(scene, host) for host in HOSTS]
    # Enough for the service, and not for what `memory` takes.
    environment = {"REHEARSE": rehearsal, "API_MEMORY": "128M"}
    bad = scene.fleet.over(tmp_path, {"apps": [entry(environment, deadlines={"ready_seconds": 30})]})
    refused(scene, bad.deploy(scene.other()), before, says)
    assert [switched_at(scene, host) for host in HOSTS] == flags


def switched_at(scene: Scene, host: str) -> str:
    """When the flag of the live colour last moved."""
    return scene.fleet.on(host).ssh(f"stat -c %.Y /opt/flotilla/nginx/live/{APP}")


def test_an_image_that_is_not_there(scene: Scene) -> None:
    refused(scene, scene.fleet.deploy("9.9.9"), scene.versions()[0], "9.9.9")


def test_a_release_that_is_slow_to_start_is_waited_for(scene: Scene, tmp_path: Path) -> None:
    slow = scene.fleet.over(tmp_path, {"apps": [entry({"REHEARSE": "slow_start:8"})]})
    version = scene.other()
    slow.deploy(version).succeeded()
    assert scene.versions() == [version, version]


@pytest.mark.parametrize(
    ("rehearsal", "says", "status"),
    [
        ("error_after_ready:2.5", "failed", HTTPStatus.INTERNAL_SERVER_ERROR),
        ("slow_answers:1.5", "95th percentile", None),
        # Late enough to have been found well, and watched for longer; then nobody answers for it.
        ("crash:20", "exit", HTTPStatus.BAD_GATEWAY),
    ],
)
def test_a_release_that_fails_under_traffic(
    scene: Scene, tmp_path: Path, rehearsal: str, says: str, status: HTTPStatus | None
) -> None:
    """It had traffic: what it answered, or left without an answer, on the canary alone, until it is taken back."""
    before, flag = scene.versions()[0], switched_at(scene, OTHER)
    died = status is HTTPStatus.BAD_GATEWAY
    scene.allowed = lambda failure: failure.status == status or (died and failure.stream == "websocket")
    watched = {"UPDATE_MONITOR": "60s"} if died else {}
    bad = scene.fleet.over(tmp_path, {"apps": [entry({"REHEARSE": rehearsal, **watched})], **TARGET})
    run = bad.deploy(scene.other())
    assert run.rc != 0
    assert "reverted, traffic moved and moved back" in last_line(run)
    assert says in run.text
    assert scene.versions() == [before, before]
    assert switched_at(scene, OTHER) == flag


@pytest.mark.parametrize(
    ("rehearsal", "says", "seconds"),
    [("migration_fails", "division by zero", 300), ("slow_start:300", "did not end within 5 s", 5)],
    ids=["migration_fails-division by zero", "slow_start:300-did not end within 5 s"],
)
def test_a_migration_that_fails_or_hangs(scene: Scene, tmp_path: Path, rehearsal: str, says: str, seconds: int) -> None:
    before = scene.versions()[0]
    migration = {"service": "migrate", "timeout_seconds": seconds}
    bad = entry({"REHEARSE_MIGRATE": rehearsal}, migration=migration)
    run = scene.fleet.over(tmp_path, {"apps": [bad]}).deploy(scene.other())
    refused(scene, run, before, says)
    assert "migration: failed" in last_line(run)


# -- what a deploy needs -------------------------------------------------------------------------------------


def test_the_registry_is_down(scene: Scene) -> None:
    before, version = scene.versions()[0], scene.other()
    registry = docker.from_env(timeout=300).containers.get(f"{scene.fleet.name}-registry")
    registry.stop(timeout=1)
    try:
        refused(scene, scene.fleet.deploy(version), before)
        back = next(iter(candidates(scene)))
        arguments = ("-e", f"release={back}", "-e", f"approve={back}")
        scene.fleet.playbook("rollback.yml", *arguments).succeeded()
    finally:
        registry.start()
    assert scene.release() == back


def candidates(scene: Scene) -> list[str]:
    listed = scene.fleet.playbook("rollback.yml", "-e", "list=true").succeeded().text
    return re.findall(r'"(\S+) +can be gone back to', listed)


def test_the_balancer_is_reloaded_during_a_commit(scene: Scene) -> None:
    version = scene.other()
    with deploy_at(scene, version, CANARY, "committing") as process:
        scene.front.module("flotilla_balancer", state="reloaded")
        assert ended(process).rc == 0
    assert scene.versions() == [version, version]


def test_the_balancer_is_restarted_during_a_commit(scene: Scene) -> None:
    """What it had in hand may fail; a new connection waits until it is back, and is never refused."""
    version = scene.other()
    moments: list[float] = []
    in_hand = {Reason.CLOSED, Reason.TRUNCATED, Reason.PROTOCOL}

    def allowed(failure: Failure) -> bool:
        return failure.reason in in_hand and moments[0] <= failure.time <= moments[1] + LATE_SECONDS

    with deploy_at(scene, version, CANARY, "committing") as process:
        moments.append(time.time())
        scene.front.ssh("docker restart haproxy-haproxy-1")
        moments.append(time.time())
        scene.allowed = allowed
        run = ended(process)
    print(f"  {last_line(run)}")
    scene.fleet.deploy(version).succeeded()
    assert scene.versions() == [version, version]


# -- several runs --------------------------------------------------------------------------------------------


def test_of_many_deploys_at_once_one_wins(scene: Scene) -> None:
    version = scene.other()
    with ThreadPoolExecutor(20) as pool:
        runs = list(pool.map(lambda _: modest_deploy(scene, version), range(20)))
    won = [run for run in runs if run.rc == 0]
    lost = [run for run in runs if run.rc != 0]
    # One that begins when the winner is through finds nothing to do.
    shipped = [run for run in won if "nothing to do" not in last_line(run)]
    assert len(shipped) == 1, [last_line(run) for run in won]
    for run in lost:
        assert "the environment is locked by" in run.text
        assert "refused, no traffic moved" in last_line(run)
    print(f"  {len(shipped)} shipped, {len(lost)} refused, {len(won) - 1} came late")
    assert scene.versions() == [version, version]


def modest_deploy(scene: Scene, version: str) -> Run:
    """A deploy that leaves the processors to the hosts and to the load: twenty control nodes are this machine here."""
    with ansible_process("ansible-playbook", *scene.fleet.deploy_arguments(version)) as process:
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        # Where sessions are scheduled as groups, a priority counts within its own one only. Source: sched(7).
        autogroup = Path(f"/proc/{process.pid}/autogroup")
        if autogroup.exists():
            autogroup.write_text("19")
        return ended(process)


def test_a_lock_whose_holder_died_is_taken_over(scene: Scene) -> None:
    version = scene.other()
    with deploy_at(scene, version, CANARY, "preparing") as controller:
        kill(controller)
    assert scene.fleet.on(CANARY).ssh("cat /opt/flotilla/lock.json") != ""
    scene.fleet.deploy(version).succeeded()


# -- the disk ------------------------------------------------------------------------------------------------

# The engine's disk, as a small one in memory: its containers run on, and it is found as it was left.
SMALL = """
set -e
mkdir -p /mnt/large /mnt/small
systemctl stop docker docker.socket
mount --bind /var/lib/docker /mnt/large
mount -t tmpfs -o size=3g,mode=710 small /mnt/small
cp -ax /var/lib/docker/. /mnt/small/
mount --move /mnt/small /var/lib/docker
systemctl reset-failed docker
systemctl start docker
"""
LARGE = """
set -e
systemctl stop docker docker.socket
rm -rf /mnt/large/containers /mnt/large/image /mnt/large/network
cp -ax /var/lib/docker/. /mnt/large/
"""


@contextmanager
def small_disk(scene: Scene) -> Iterator[Environment]:
    """The engine of the second host on a disk of 3 GB, for the time of the block. The host serves before and after."""
    host = scene.fleet.on(OTHER)
    scene.front.module("flotilla_balancer", state="drained", hosts=[OTHER], seconds=60, cut=True)
    # A drained host has no requests, but the websockets that were cut come back elsewhere.
    scene.allowed = lambda failure: failure.stream.startswith("websocket")
    host.ssh(SMALL)
    awake(host)
    try:
        yield host
    finally:
        host.ssh(LARGE)
        host.reboot()
        awake(host)
        scene.front.module("flotilla_balancer", state="ready", hosts=[OTHER], seconds=GENEROUS_SECONDS)


def leave(free_mb: int) -> str:
    """The command that makes the small disk so large that this much is free."""
    used = "$(df --output=used -B1 /var/lib/docker | tail -1)"
    return f"mount -o remount,size=$(({used} + {free_mb} * 1048576)) /var/lib/docker"


def releases(host: Environment) -> set[str]:
    return set(host.ssh(f"ls /opt/{APP}/releases").split())


def test_a_full_disk_is_refused_before_and_in_prepare(scene: Scene) -> None:
    before, version, live = scene.versions()[0], scene.other(), scene.release()
    with small_disk(scene) as host:
        kept = releases(host)
        assert len(kept) >= 3
        target = max(release for release in candidates(scene) if release < live)
        host.ssh(leave(200))
        refused(scene, scene.fleet.deploy(version), before, "MiB are free on /var/lib/docker")
        # Under pressure it parted with what is kept for comfort, and not with what serves and where a rollback goes.
        assert kept - releases(host)
        assert {live, target} <= releases(host)
        host.ssh(leave(2048))
        full = f"timeout 110 sh -c 'until grep -q preparing /opt/{APP}/state.json; do sleep 0.02; done'; {leave(0)}"
        with ThreadPoolExecutor(1) as pool:
            filling = pool.submit(host.ssh, full)
            run = scene.fleet.deploy(version)
            filling.result()
        print(f"  {last_line(run)}")
        host.ssh(leave(2048))
        refused(scene, run, before)
        scene.fleet.playbook("rollback.yml", "-e", f"release={target}", "-e", f"approve={target}").succeeded()
        assert scene.release() == target
        scene.fleet.deploy(version).succeeded()
