"""A fleet of two app hosts: all of it comes to the new release, or none does, and everybody is told which."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.facts import facts
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
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Stream, Target
from tests.e2e.waiting import eventually, in_phase

HOSTS = ("production-app-1", "production-app-2")
MONITOR_SECONDS = 2
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=15),
    Stream(Kind.GET, Mode.NEW, rate=5),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=5),
)


def entry(**changes: Any) -> dict[str, Any]:
    """The production inventory's app, watched for a short time only.

    Always the same towards the edge: a changed edge is provisioned first, and its reload closes idle connections.
    """
    environment = {"UPDATE_MONITOR": f"{MONITOR_SECONDS}s", **changes.pop("environment", {})}
    return app_entry(PRODUCTION, environment=environment, deadlines={"drain_seconds": 8}, **changes)


LAB = FLEET_LAB


@pytest.fixture(scope="module")
def fleet(served: Environment) -> Environment:
    """The fleet with two releases behind it: 1.0.0 is proven, 1.1.0 serves."""
    served.deploy("1.1.0").succeeded()
    return served


def versions(fleet: Environment) -> list[str]:
    """What each app host serves, in the app's own words."""
    return [fleet.on(host).live().version for host in HOSTS]


def last_line(run: Run) -> str:
    return run.output.rstrip().splitlines()[-1]


def history(fleet: Environment, host: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fleet.on(host).ssh(f"cat /opt/{APP}/history.jsonl").splitlines()]


def account_file(fleet: Environment) -> Path:
    return fleet.home / "production/last.json"


def account(fleet: Environment) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(account_file(fleet).read_text())["apps"][APP]
    return found


def drained(fleet: Environment) -> set[str]:
    """The hosts that the balancer keeps the traffic away from."""
    servers = fleet.on("production-lb-1").module("flotilla_balancer", state="status")["servers"]
    return {server["host"] for server in servers if server["condition"] == "drained"}


def at_rest(fleet: Environment) -> None:
    """Nothing is in hand, nothing is locked, and each host runs its live colour and nothing of the other."""
    for host in map(fleet.on, HOSTS):
        journal = host.journal()
        assert (journal["phase"], journal["candidate"]) == ("idle", None)
        assert list(host.colours()) == [journal["live"]["colour"]]
        assert host.ssh("ls /opt/flotilla/lock.json", check=False) == ""


def other(version: str) -> str:
    return {"1.0.0": "1.1.0", "1.1.0": "1.2.0", "1.2.0": "1.1.0"}[version]


def switched_at(fleet: Environment, host: str) -> float:
    """When the flag of the live colour last moved."""
    return float(fleet.on(host).ssh(f"stat -c %.Y /opt/flotilla/nginx/live/{APP}"))


@contextmanager
def under_load(fleet: Environment) -> Iterator[None]:
    """Load on the edges of all hosts meanwhile; no request may fail."""
    plans = [Plan(Target(fleet.on(host).url, fleet.domain, str(fleet.ca)), STREAMS, seconds=3600) for host in HOSTS]
    with BackgroundLoad(plans[0]) as first, BackgroundLoad(plans[1]) as second:
        yield
        for result in (first.stop(), second.stop()):
            assert result.requests > 100
            assert not result.failures, result.summary(shown=20)


def test_the_fleet_is_as_it_was_provisioned(served: Environment, provisioned_facts: dict[str, list[str]]) -> None:
    assert set(HOSTS) < set(provisioned_facts)
    assert facts(served) == provisioned_facts


# -- the usual -------------------------------------------------------------------------------------------


def test_a_deploy_reaches_every_host_and_is_told(fleet: Environment) -> None:
    began = time.time()
    before = versions(fleet)[0]
    version = other(before)
    with under_load(fleet):
        run = fleet.deploy(version).succeeded()
    assert versions(fleet) == [version, version]
    at_rest(fleet)
    assert last_line(run).startswith(f"{APP} {version}: deployed, serves on {HOSTS[0]} (")
    assert switched_at(fleet, HOSTS[1]) - switched_at(fleet, HOSTS[0]) >= MONITOR_SECONDS
    assert max(fleet.on(host).module_calls(began) for host in HOSTS) <= 8

    told = account(fleet)
    assert (told["outcome"], told["version"], set(told["hosts"])) == ("deployed", version, set(HOSTS))
    assert stat.S_IMODE(account_file(fleet).stat().st_mode) == 0o600
    for host in HOSTS:
        line = history(fleet, host)[-1]
        assert (line["outcome"], line["version"], line["to"]) == ("deployed", version, told["release"])
        assert line["who"] == line["approved_by"] != ""
        assert line["from"].endswith(f"-{before}")


def test_each_host_has_written_down_where_the_others_log_was(fleet: Environment) -> None:
    read = {host: fleet.on(host).ssh("cat /opt/flotilla/trail.jsonl").splitlines() for host in HOSTS}
    trails = {host: [json.loads(line) for line in lines] for host, lines in read.items()}
    for host, others in zip(HOSTS, reversed(HOSTS), strict=True):
        last = [one for one in trails[host] if (one["verb"], one["step"]) == ("deploy", "end")][-1]
        number, link = last["heads"][others]
        seen = trails[others][number - 1]
        assert (seen["n"], seen["hash"]) == (number, link)
        assert (seen["run"], seen["step"]) == (last["run"], "begin")


def test_a_rollback_needs_neither_registry_nor_checkout(fleet: Environment, tmp_path: Path) -> None:
    now = versions(fleet)[0]
    listed = fleet.playbook("rollback.yml", "-e", "list=true").succeeded().text
    target = next(re.finditer(r'"(\S+) +can be gone back to', listed))[1]
    elsewhere = fleet.over(tmp_path, {"apps": [entry(source="compose/gone", readiness={"path": "/gone"})]})
    registry = docker.from_env(timeout=300).containers.get(f"{fleet.name}-registry")
    registry.pause()
    began = time.time()
    try:
        with under_load(fleet):
            run = elsewhere.playbook("rollback.yml", "-e", f"release={target}", "-e", f"approve={target}").succeeded()
    finally:
        registry.unpause()
    assert set(versions(fleet)) == {target.partition("-")[2]} != {now}
    at_rest(fleet)
    assert f"rolled back from {now}, serves on" in last_line(run)
    assert max(fleet.on(host).module_calls(began) for host in HOSTS) <= 6
    assert history(fleet, HOSTS[0])[-1]["action"] == "rollback"
    assert "rolled back" in fleet.playbook("rollback.yml", "-e", "list=true").text


def test_check_mode_shows_what_would_change_where(fleet: Environment) -> None:
    before = versions(fleet)[0]
    version = other(before)
    run = fleet.deploy(version, None, "--check", "--diff").succeeded()
    assert run.text.count(f"-version: {before}\n") == run.text.count(f"+version: {version}\n") == len(HOSTS)
    assert f"{APP} {version}: would be deployed on {', '.join(HOSTS)} (check mode)" in last_line(run)
    refused = fleet.deploy("9.9.9", None, "--check")
    assert refused.rc != 0
    assert "9.9.9" in refused.text
    assert versions(fleet) == [before, before]
    at_rest(fleet)


# -- what is refused before anything is touched ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-e", "version=1.2.0"], ["environment_approval", "nobody can be asked", "-e approve=<the same>"]),
        (["-e", "version=1.2.0", "-e", "approve=1.2.1"], ["named twice"]),
        (
            ["-e", "version=1.2.0", "-e", "approve=1.2.0", "--limit", HOSTS[0]],
            ["--limit", f"leaves out {HOSTS[1]}", f"-e skip_hosts={HOSTS[1]}"],
        ),
        (["-e", "version=1.2.0", "-e", "approve=1.2.0", "-e", "skip_hosts=app-9"], ["there is no host `app-9`"]),
    ],
)
def test_refused_on_the_controller(fleet: Environment, arguments: Sequence[str], says: Sequence[str]) -> None:
    began, before = time.time(), versions(fleet)
    run = fleet.playbook("deploy.yml", *arguments)
    assert run.rc != 0
    assert [word for word in says if word not in run.text] == []
    assert last_line(run) == "deploy: refused, no traffic moved; migration: none"
    assert [fleet.on(host).module_calls(began) for host in HOSTS] == [0, 0]
    assert versions(fleet) == before


def test_a_rollback_to_what_is_not_there_is_refused(fleet: Environment) -> None:
    before = versions(fleet)
    run = fleet.playbook("rollback.yml", "-e", "release=9.9.9", "-e", "approve=9.9.9")
    assert run.rc != 0
    assert "no host has a release 9.9.9 (can be gone back to: 2" in run.text
    assert last_line(run).startswith(f"{APP}: refused, no traffic moved: {before[0]} on {HOSTS[0]}")
    assert versions(fleet) == before
    at_rest(fleet)


def test_a_rollback_is_approved_too(fleet: Environment) -> None:
    run = fleet.playbook("rollback.yml")
    assert run.rc != 0
    assert "environment_approval" in run.text
    at_rest(fleet)


# -- a release that is no good -----------------------------------------------------------------------------


def test_a_release_that_does_not_boot_moves_no_traffic(fleet: Environment, tmp_path: Path) -> None:
    before, flags = versions(fleet), [switched_at(fleet, host) for host in HOSTS]
    bad = fleet.over(tmp_path, {"apps": [entry(environment={"REHEARSE": "crash"})]})
    with under_load(fleet):
        run = bad.deploy(other(before[0]))
    assert run.rc != 0
    assert "refused, no traffic moved" in last_line(run)
    assert "rehearsing crash" in run.text
    assert versions(fleet) == before
    assert [switched_at(fleet, host) for host in HOSTS] == flags
    at_rest(fleet)
    assert account(fleet)["outcome"] == "refused"
    assert [history(fleet, host)[-1]["outcome"] for host in HOSTS] == ["refused", "refused"]


def test_a_release_that_fails_after_the_switch_is_taken_back(fleet: Environment, tmp_path: Path) -> None:
    before, flag = versions(fleet), switched_at(fleet, HOSTS[1])
    # Time enough to get the traffic, and not to live through the window.
    bad = fleet.over(tmp_path, {"apps": [entry(environment={"REHEARSE": "error_after_ready:1.5"})]})
    run = bad.deploy(other(before[0]))
    assert run.rc != 0
    assert "reverted, traffic moved and moved back" in last_line(run)
    assert "requests failed" in run.text
    assert versions(fleet) == before
    # Only the canary ever had it.
    assert switched_at(fleet, HOSTS[1]) == flag
    at_rest(fleet)
    assert account(fleet)["outcome"] == "reverted"
    listed = fleet.playbook("rollback.yml", "-e", "list=true").text
    assert f"{HOSTS[0]}: reverted, {HOSTS[1]}: refused" in listed


@pytest.mark.thorough
def test_a_release_that_is_too_slow_is_taken_back(fleet: Environment, tmp_path: Path) -> None:
    before, flag = versions(fleet), switched_at(fleet, HOSTS[1])
    target = inventory_variables("environment", PRODUCTION)["environment_p95_ms"]
    changes = {"apps": [entry(environment={"REHEARSE": "slow_answers:1.5"})], "environment_p95_ms": target}
    with under_load(fleet):
        run = fleet.over(tmp_path, changes).deploy(other(before[0]))
    assert run.rc != 0
    assert "reverted, traffic moved and moved back" in last_line(run)
    assert f"environment_p95_ms allows {target} ms" in run.text
    assert versions(fleet) == before
    assert switched_at(fleet, HOSTS[1]) == flag
    at_rest(fleet)


def test_a_migration_without_a_way_back_bars_a_rollback(fleet: Environment, tmp_path: Path) -> None:
    before = versions(fleet)[0]
    migration = {"service": "migrate", "timeout_seconds": 600, "compatible": False}
    fleet.over(tmp_path, {"apps": [entry(migration=migration)]}).deploy(other(before)).succeeded()
    listed = fleet.playbook("rollback.yml", "-e", "list=true").succeeded().text
    target = next(re.finditer(r'"(\S+) +can be gone back to', listed))[1]
    run = fleet.playbook("rollback.yml", "-e", f"release={target}", "-e", f"approve={target}")
    assert run.rc != 0
    for part in ("cannot live with the migration", "restore the database", "-e across_migration=true"):
        assert part in run.text
    assert versions(fleet) == [other(before)] * 2
    at_rest(fleet)


# -- several runs, dead runs, lost hosts ---------------------------------------------------------------------


def test_of_two_deploys_at_once_one_wins(fleet: Environment) -> None:
    version = other(versions(fleet)[0])
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(fleet.deploy, [version, version]))
    won = [run for run in runs if run.rc == 0]
    lost = [run for run in runs if run.rc != 0]
    assert (len(won), len(lost)) == (1, 1), [last_line(run) for run in runs]
    for part in ("the environment is locked by", f"(deploy {APP} {version})", "Next: wait for it", "unlock.yml"):
        assert part in lost[0].text
    assert "refused, no traffic moved" in last_line(lost[0])
    assert versions(fleet) == [version, version]
    at_rest(fleet)


@contextmanager
def deploy_until(fleet: Environment, version: str, host: str, phase: str) -> Iterator[subprocess.Popen[str]]:
    """A deploy that has come to a phase on a host."""
    with ansible_process("ansible-playbook", *fleet.deploy_arguments(version)) as process:
        in_phase(fleet.on(host), phase)
        yield process


# `make faults` has every phase on every host.
@pytest.mark.parametrize(
    ("host", "phase"), [(HOSTS[1], "preparing"), pytest.param(HOSTS[0], "committed", marks=pytest.mark.thorough)]
)
def test_the_next_run_ends_what_a_dead_controller_left(fleet: Environment, host: str, phase: str) -> None:
    before = versions(fleet)[0]
    version = other(before)
    with deploy_until(fleet, version, host, phase) as controller:
        os.killpg(controller.pid, signal.SIGKILL)
        controller.wait()
    assert set(versions(fleet)) <= {before, version}
    fleet.deploy(version).succeeded()
    assert versions(fleet) == [version, version]
    at_rest(fleet)


@pytest.mark.thorough
def test_an_interrupted_controller_says_what_serves_and_the_next_run_ends_it(fleet: Environment) -> None:
    before = versions(fleet)[0]
    version = other(before)
    with deploy_until(fleet, version, HOSTS[0], "committed") as controller:
        controller.send_signal(signal.SIGTERM)
        output, _ = controller.communicate(timeout=300)
    assert controller.returncode == 128 + signal.SIGTERM
    last = output.rstrip().splitlines()[-1]
    assert last.startswith(f"deploy: interrupted; by what the hosts said last, {APP} {before} serves on {HOSTS[0]} (")
    assert "a lock that it still holds is taken over by the next run from this machine" in last
    fleet.deploy(version).succeeded()
    assert versions(fleet) == [version, version]
    at_rest(fleet)


@pytest.mark.thorough
def test_a_dead_runs_lock_can_be_removed(fleet: Environment) -> None:
    before = versions(fleet)[0]
    with deploy_until(fleet, other(before), HOSTS[0], "preparing") as controller:
        os.killpg(controller.pid, signal.SIGKILL)
        controller.wait()
    run = fleet.playbook("playbooks/unlock.yml").succeeded()
    assert f"(deploy {APP} {other(before)})" in run.text
    assert "was removed" in run.text
    assert fleet.ssh("ls /opt/flotilla/lock.json", check=False) == ""
    fleet.deploy(other(before)).succeeded()
    at_rest(fleet)


@pytest.mark.thorough
def test_a_host_that_is_lost_while_it_commits_makes_it_mixed(fleet: Environment) -> None:
    before = versions(fleet)[0]
    version = other(before)
    droplet = docker.from_env(timeout=300).containers.get(f"{fleet.name}-{HOSTS[1]}")
    with deploy_until(fleet, version, HOSTS[1], "committing") as process:
        droplet.pause()
        try:
            output, _ = process.communicate(timeout=1200)
        finally:
            droplet.unpause()
    run = Run("deploy", process.returncode, output, 0.0)
    assert run.rc != 0
    assert f"{APP} {version}: mixed: {before} on {HOSTS[0]}" in last_line(run)
    assert f"{HOSTS[1]} was lost while it was switched" in last_line(run)
    assert f"Next: ansible-playbook deploy.yml {' '.join(fleet.inventories)} -e app={APP}" in last_line(run)
    assert fleet.on(HOSTS[0]).live().version == before
    assert history(fleet, HOSTS[0])[-1]["outcome"] == "mixed"

    fleet.deploy(version).succeeded()
    assert versions(fleet) == [version, version]
    at_rest(fleet)


def test_a_host_that_is_down_is_refused_or_left_out_on_purpose(fleet: Environment) -> None:
    before = versions(fleet)[0]
    droplet = docker.from_env(timeout=300).containers.get(f"{fleet.name}-{HOSTS[0]}")
    droplet.pause()
    try:
        refused = fleet.deploy(other(before))
        skipped = fleet.deploy(other(before), None, "-e", f"skip_hosts={HOSTS[0]}")
    finally:
        droplet.unpause()
    assert refused.rc != 0
    assert HOSTS[0] in refused.text
    assert f"left out: {HOSTS[0]}" in last_line(skipped.succeeded())
    assert versions(fleet) == [before, other(before)]
    assert drained(fleet) == {HOSTS[0]}
    # Back again, it comes to the release that the others serve, and gets its traffic.
    fleet.deploy(other(before)).succeeded()
    assert versions(fleet) == [other(before)] * 2
    assert drained(fleet) == set()
    at_rest(fleet)


# -- a balancer that is not ours ---------------------------------------------------------------------------


@dataclass
class Outside:
    """A balancer as a cloud has them: it knows of the hosts what their health checks say, and nothing else."""

    fleet: Environment
    well: set[str] = field(default_factory=set)
    drained: set[str] = field(default_factory=set)
    answers: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def status(self, host: str, path: str) -> str:
        """A host's answer, or why there was none."""
        try:
            return str(self.fleet.on(host).fetch(path, timeout=60).status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__

    def check(self) -> None:
        while not self.stop.wait(0.2):
            for host in HOSTS:
                if self.status(host, "/.flotilla/health") == "200":
                    self.well.add(host)
                else:
                    self.well.discard(host)
                    self.drained.add(host)

    def ask(self) -> None:
        for host in itertools.cycle(HOSTS):
            if self.stop.wait(0.02):
                return
            if host in self.well:
                self.answers.append(self.status(host, "/api/version"))

    @contextmanager
    def balancing(self) -> Iterator[None]:
        with ThreadPoolExecutor(4) as pool:
            tasks = [pool.submit(self.check), *(pool.submit(self.ask) for _ in range(2))]
            try:
                eventually(lambda: self.well == set(HOSTS), why="both hosts are found well")
                yield
                eventually(lambda: self.well == set(HOSTS), why="both hosts are found well again")
            finally:
                self.stop.set()
            for task in tasks:
                task.result()


def test_a_balancer_outside_is_told_before_a_host_stops_its_release(fleet: Environment, tmp_path: Path) -> None:
    version = other(versions(fleet)[0])
    changes = {
        "loadbalancer_mode": "external",
        # This balancer is a thread beside others, and has to have asked by then.
        "loadbalancer_drain_seconds": 6,
        "apps": [entry(environment={"UPDATE_ORDER": "stop-first"})],
    }
    outside = Outside(fleet)
    with outside.balancing():
        fleet.over(tmp_path, changes).deploy(version).succeeded()
    assert versions(fleet) == [version, version]
    assert outside.drained == set(HOSTS)
    assert len(outside.answers) > 100
    assert set(outside.answers) == {"200"}
    at_rest(fleet)
