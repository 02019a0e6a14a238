"""deploy_over_floor, rollback_over_floor: a release on two app hosts, against a script that only gives the commands.

eight_over_two: how much longer a deploy takes on eight hosts than on two, against how much longer the script takes.
tasks_per_host: how often a deploy asks a host for something.

The floor has its files ready, runs on all hosts at once over SSH connections that are open, and commits one host
before the other, as Flotilla does. What it leaves is undone after each run, and not measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.benchmark import Benchmark, Cost, Count, Growth, Pair, in_turn
from tests.benchmarks.droplet import BenchmarkError, spent
from tests.e2e.fleet import (
    APP,
    FLEET_LAB,
    PRODUCTION,
    Environment,
    Lab,
    Run,
    app_entry,
    lab_down,
    lab_up,
    write_lab_overlay,
)
from tests.e2e.serving import lab_that_serves

FLEET_HOSTS = ("production-app-1", "production-app-2")
IMAGE = "registry.example.com/acme/notes"
FIRST = "1.0.0"
SCRIPT = Path(__file__).with_name("floor.sh")
SECONDS = 300

# Puts the files of the live release and the addresses of its colour where the script finds them.
READY = r"""
set -eu
release=$1 colour=$2 image=$3
mkdir -p /opt/by-hand
cd "/opt/notes/releases/$release"
for file in compose.json migration.json; do
    sed -e "s#registry.example.com/acme/notes[@:][^\"]*#$image#" \
        -e "s#/releases/[\$]{FLOTILLA_RELEASE}#/releases/$release#g" "$file" > "/opt/by-hand/$file"
done
router=notes-$colour-flotilla-router-1
{
    docker inspect $router --format '{{range .Config.Env}}{{println .}}{{end}}' \
        | sed -n 's/^FLOTILLA_UPSTREAM_/FLOTILLA_ADDRESS_/p'
    docker inspect $router --format '{{(index .NetworkSettings.Networks "flotilla-edge").IPAddress}}' \
        | sed 's/^/FLOTILLA_ROUTER_ADDRESS=/'
} > /opt/by-hand/addresses-$colour
"""
# Brings back what Flotilla had made: its release in its colour, and nothing of the script's.
UNDO = r"""
set -eu
release=$1 colour=$2 other=$3 host=$4
cd "/opt/notes/releases/$release"
set -a
. /opt/by-hand/addresses-$colour
FLOTILLA_COLOUR=$colour FLOTILLA_RELEASE=$release FLOTILLA_HOST=$host
set +a
docker compose -p notes-$colour -f compose.json up --detach --wait --wait-timeout 120 api ui flotilla-router worker
case $colour in
    green) touch /opt/flotilla/nginx/live/notes/green ;;
    blue) rm -f /opt/flotilla/nginx/live/notes/green ;;
esac
docker compose -p notes-$other down
"""


@dataclass
class Fleet:
    """App hosts of inventories/production, in a lab, that Flotilla has deployed to."""

    environment: Environment
    lab: Lab
    count: int
    unused: list[str]
    up: bool = False

    @classmethod
    def of(cls, count: int, name: str, runs: int) -> Fleet:
        """A fleet that is not up yet. It is that of the end-to-end tests, with more app hosts if there are to be more.

        Each run ships a version of its own, with a small new layer to pull: five are enough for a pair of each figure.
        """
        environment = Environment(name, inventory=PRODUCTION, host="production-app-1", domain="www.example.com")
        lab = FLEET_LAB if count == len(FLEET_HOSTS) else replace(FLEET_LAB, app_hosts=count, name="")
        return cls(environment, lab, count, [f"1.0.{number}" for number in range(1, 2 + 5 * runs)])

    @property
    def hosts(self) -> list[str]:
        """The app hosts; the first is the canary."""
        return [f"production-app-{number}" for number in range(1, self.count + 1)]

    def deployed(self) -> None:
        """Have it serve, with a release of each colour behind it."""
        if self.up:
            return
        directory = self.environment.directory.with_name(f"{self.environment.name}-overlay")
        self.environment = replace(self.environment, overlays=write_lab_overlay(directory / "hosts", self.lab))
        lab_down(self.environment)
        lab_that_serves(self.environment, self.lab)
        lab_up(self.environment, replace(self.lab, versions=(FIRST, *self.unused)))
        entry = app_entry(PRODUCTION, environment={"UPDATE_MONITOR": "0s"}, keep_releases=4)
        # After the lab's own inventory, and not there when secrets are made: they go into the last one.
        self.environment = self.environment.over(directory / "app", {"apps": [entry]})
        self.up = True
        self._ready("")
        self.deploy()
        self._ready("")

    def deploy(self) -> Run:
        """Ship the next version."""
        return self.environment.deploy(self.unused.pop(0)).succeeded()

    def live(self) -> tuple[str, str]:
        """Release and colour, the same on all hosts."""
        slots = [self.environment.on(host).journal()["live"] for host in self.hosts]
        if any(slot != slots[0] for slot in slots):
            raise BenchmarkError(f"the hosts do not serve the same: {slots}")
        return str(slots[0]["release"]), str(slots[0]["colour"])

    def floor(self, image: str, *, pull: bool) -> Cost:
        """What the script takes to ship an image. Afterwards the hosts are what they were."""
        self._ready(image)
        release, old = self.live()
        new = {"blue": "green", "green": "blue"}[old]
        self._on(self.hosts, "true")
        with spent() as cost, ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(lambda host: self._stage("prepare", host, new, old, image, pull), self.hosts))
            for batch in (self.hosts[:1], self.hosts[1:]):
                list(pool.map(lambda host: self._stage("commit", host, new, old), batch))
            list(pool.map(lambda host: self._stage("finish", host, new, old), self.hosts))
        served = {self.environment.on(host).live().release for host in self.hosts}
        if served != {"floor"}:
            raise BenchmarkError(f"the script did not ship: {served}")
        self._on(self.hosts, UNDO, release, old, new, name=True)
        return Cost(cost.seconds, cost.cpu_seconds)

    def remove(self) -> None:
        """Remove it and its lab."""
        lab_down(self.environment)
        shutil.rmtree(self.environment.directory.with_name(f"{self.environment.name}-overlay"), ignore_errors=True)

    def _ready(self, image: str) -> None:
        release, colour = self.live()
        self._on(self.hosts, READY, release, colour, image or f"{IMAGE}:{FIRST}")

    def _stage(self, stage: str, host: str, new: str, old: str, image: str = "", pull: bool = False) -> None:
        wanted = (
            [image if pull else "", "migrate" if pull and host == self.hosts[0] else ""] if stage == "prepare" else []
        )
        self._run(host, SCRIPT.read_text(), stage, new, old, host, *wanted)

    def _on(self, hosts: Sequence[str], script: str, *arguments: str, name: bool = False) -> None:
        with ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(lambda host: self._run(host, script, *arguments, *([host] if name else [])), hosts))

    def _run(self, host: str, script: str, *arguments: str) -> None:
        quoted = " ".join(f"'{argument}'" for argument in arguments)
        command = self.environment.on(host).ssh_command(f"bash -s -- {quoted}")
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=120s", "-o", "ControlPath=~/.ansible/cp/floor-%C"]
        done = subprocess.run(
            [command[0], *shared, *command[1:]],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        if done.returncode != 0:
            raise BenchmarkError(
                f"{host}: {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )


@dataclass
class Fleets:
    """Two fleets, each of which is up when a benchmark asked for it."""

    two: Fleet
    eight: Fleet

    @classmethod
    def named(cls, lab: str, runs: int) -> Fleets:
        """Fleets that are not up yet."""
        return cls(Fleet.of(len(FLEET_HOSTS), f"{lab}-fleet", runs), Fleet.of(8, f"{lab}-eight", runs))

    @property
    def environment(self) -> Environment:
        """The one of two hosts, which all benchmarks use."""
        return self.two.environment

    def remove(self) -> None:
        """Remove both and their labs."""
        self.two.remove()
        self.eight.remove()


def prepare(fleets: Fleets) -> None:
    """Two hosts, and two releases behind them."""
    fleets.two.deployed()


def prepare_both(fleets: Fleets) -> None:
    """Two hosts and eight, with two releases behind them."""
    fleets.two.deployed()
    fleets.eight.deployed()


def deploy_pair(fleets: Fleets, number: int) -> Pair:
    """One deploy and one run of the script, each with a version that no host has."""
    return deploys(fleets.two, number)


def deploys(fleet: Fleet, number: int) -> Pair:
    """The same of a fleet."""
    return in_turn(number, lambda: deploy(fleet), lambda: fleet.floor(f"{IMAGE}:{fleet.unused.pop(0)}", pull=True))


def growth(fleets: Fleets, number: int) -> Growth:
    """A pair of deploys on two hosts and one on eight, right after each other."""
    two, eight = deploys(fleets.two, number), deploys(fleets.eight, number)
    return Growth(of=eight.of, over=eight.over, before=two)


def tasks_of_a_deploy(fleets: Fleets, _: int) -> Count:
    """On how many tasks of a deploy the host that has most of them was asked."""
    began = float(fleets.environment.ssh("sleep 1; date +%s"))
    fleets.two.deploy()
    asked = [*fleets.two.hosts, "production-lb-1"]
    return Count(max(fleets.environment.on(host).module_calls(began) for host in asked))


def deploy(fleet: Fleet) -> Cost:
    """What a deploy takes."""
    with spent() as cost:
        fleet.deploy()
    return Cost(cost.seconds, cost.cpu_seconds)


def rollback_pair(fleets: Fleets, number: int) -> Pair:
    """One rollback, and the script with an image that the hosts have."""
    fleet = fleets.two
    return in_turn(number, lambda: rollback(fleet), lambda: fleet.floor(f"{IMAGE}:{FIRST}", pull=False))


def rollback(fleet: Fleet) -> Cost:
    """What going back takes: to the release before, or from there to the one after."""
    live, _ = fleet.live()
    kept = json.loads(fleet.environment.python(KEPT))
    target = next(release for release in reversed(kept) if release != live)
    with spent() as cost:
        fleet.environment.playbook("rollback.yml", "-e", f"release={target}", "-e", f"approve={target}").succeeded()
    return Cost(cost.seconds, cost.cpu_seconds)


KEPT = f"""
import json, pathlib
found = sorted(pathlib.Path("/opt/{APP}/releases").glob("*/release.json"))
print(json.dumps([path.parent.name for path in found]))
"""

DEPLOY_OVER_FLOOR = Benchmark(
    name="deploy_over_floor",
    of="a deploy on two app hosts",
    over="its Docker and edge commands over SSH",
    target=2.5,
    prepare=prepare,
    measure=deploy_pair,
    place=Fleets.named,
)
ROLLBACK_OVER_FLOOR = Benchmark(
    name="rollback_over_floor",
    of="a rollback on two app hosts",
    over="its Docker and edge commands over SSH",
    target=2.5,
    prepare=prepare,
    measure=rollback_pair,
    place=Fleets.named,
)
EIGHT_OVER_TWO = Benchmark(
    name="eight_over_two",
    of="a deploy on eight app hosts over one on two",
    over="the same of its Docker and edge commands",
    target=1.3,
    prepare=prepare_both,
    measure=growth,
    place=Fleets.named,
)
TASKS_PER_HOST = Benchmark(
    name="tasks_per_host",
    of="tasks of a deploy",
    over="host, of the one that has most",
    target=8,
    prepare=prepare,
    measure=tasks_of_a_deploy,
    place=Fleets.named,
)
