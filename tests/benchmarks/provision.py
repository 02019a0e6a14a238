"""provision_over_script: from a bare droplet to the first 200 over HTTPS, by deploy.yml and by a shell script."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks.benchmark import Benchmark, Cost, Pair, in_turn
from tests.benchmarks.droplet import BenchmarkError, Droplet, FirstAnswer, spent
from tests.e2e.fleet import HOST

SCRIPT = Path(__file__).with_name("by_hand.sh")
SCRIPT_SECONDS = 900


class Provisioning:
    """Both ways, on one fresh droplet after the other."""

    def __init__(self) -> None:
        self._files = b""
        self._release = ""
        self._listing: frozenset[str] = frozenset()

    def prepare(self, droplet: Droplet) -> None:
        """Take what the script starts from, and what it has to arrive at, from a droplet that Flotilla made.

        That first deploy also fills the lab's cache of packages, for both sides.
        """
        droplet.deployed()
        self._files, self._release, self._listing = droplet.files(), droplet.release(), droplet.listing()

    def measure(self, droplet: Droplet, number: int) -> Pair:
        """One bare droplet each."""
        return in_turn(number, lambda: self.by_flotilla(droplet), lambda: self.by_hand(droplet))

    def by_flotilla(self, droplet: Droplet) -> Cost:
        """What `deploy.yml` takes to the first 200."""
        droplet.bare()
        with spent() as cost, FirstAnswer(droplet.environment) as answer:
            droplet.deploy()
        return Cost(answer.seconds, cost.cpu_seconds)

    def by_hand(self, droplet: Droplet) -> Cost:
        """What the script takes to the first 200."""
        droplet.bare()
        config = droplet.environment.directory / "ssh_config"
        with tempfile.NamedTemporaryFile(suffix=".tar.gz") as files:
            files.write(self._files)
            files.flush()
            with spent() as cost, FirstAnswer(droplet.environment) as answer:
                run(str(SCRIPT), str(config), HOST, files.name, self._release)
        self.check(droplet)
        return Cost(answer.seconds, cost.cpu_seconds)

    def check(self, droplet: Droplet) -> None:
        """Refuse a comparison of two different things."""
        listing = droplet.listing()
        problems = [f"only Flotilla's droplet has {line}" for line in sorted(self._listing - listing)]
        problems += [f"only the script's droplet has {line}" for line in sorted(listing - self._listing)]
        if problems:
            raise BenchmarkError(f"{SCRIPT.name} does not do what the roles do:\n" + "\n".join(problems))


def run(*command: str) -> None:
    """Run a command to its end; say what it said when it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SCRIPT_SECONDS,
    )
    if done.returncode:
        raise BenchmarkError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-6000:]}")


PROVISIONING = Provisioning()
PROVISION_OVER_SCRIPT = Benchmark(
    name="provision_over_script",
    of="a bare droplet to the first 200, by deploy.yml",
    over="the same by a shell script",
    target=2.0,
    place=Droplet.named,
    prepare=PROVISIONING.prepare,
    measure=PROVISIONING.measure,
)
