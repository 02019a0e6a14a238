"""The droplet that benchmarks work on: bare again whenever one asks, in a lab of its own."""

from __future__ import annotations

import contextlib
import http.client
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import docker

from tests.e2e.fleet import HOST, Environment, Lab, Run, lab_down, lab_up

VERSION = "1.0.0"
# Answers only when the app, its database and its cache do.
READY = "/api/ready"
POLL_SECONDS = 0.1

# What there is on a droplet, one line a thing. The packages' versions are the archive's business.
LISTING = """
set -eu
dpkg-query --show --showformat 'package ${binary:Package}\\n'
docker container ls --all --format 'container {{.Names}} {{.Image}} {{.State}}'
docker image ls --all --quiet --no-trunc | sort --unique | sed 's/^/image /'
docker network ls --format 'network {{.Name}} {{.Driver}}'
docker volume ls --format 'volume {{.Name}}'
systemctl list-unit-files --state=enabled --no-legend --plain | awk '{print "enabled", $1}'
getent passwd deploy | sed 's/^/account /'
"""

# What a person writes before they begin, addresses too. Left out: what the programs write, and Flotilla's own books.
COLLECT = """
set -eu
cd /
mkdir -p opt/by-hand
docker network inspect notes-blue notes-green flotilla-edge \
    --format '{{.Name}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).IPRange}}' > opt/by-hand/networks
router=notes-blue-flotilla-router-1
docker inspect $router --format '{{range .Config.Env}}{{println .}}{{end}}' \
    | sed -n 's/^FLOTILLA_UPSTREAM_/FLOTILLA_ADDRESS_/p' > opt/by-hand/addresses
docker inspect $router --format '{{(index .NetworkSettings.Networks "flotilla-edge").IPAddress}}' \
    | sed 's/^/FLOTILLA_ROUTER_ADDRESS=/' >> opt/by-hand/addresses
tar --create --gzip \
    --exclude='opt/flotilla/nginx/logs/*' --exclude='opt/flotilla/nginx/cache/*' --exclude='opt/flotilla/nginx/live/*' \
    --exclude=opt/flotilla/stamp.json --exclude='opt/*/state.json' --exclude='opt/*/history.jsonl' --exclude='*.log' \
    $(find etc -type f -name '*flotilla*') etc/docker/daemon.json root/.docker/config.json opt
"""


class BenchmarkError(Exception):
    """A benchmark could not be made, or would not be a fair one."""


@dataclass
class Spent:
    """Filled in when the block ends. `cpu_seconds`: of the children that ended meanwhile."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class Droplet:
    """The droplet of inventories/staging. `provisioned`: a deploy made it what it is, and nothing else touched it."""

    environment: Environment
    provisioned: bool = field(default=False, init=False)

    @classmethod
    def named(cls, lab: str, _: int = 0) -> Droplet:
        """A droplet that is not up yet."""
        return cls(Environment(lab))

    def bare(self) -> None:
        """Replace it by a new one, with its secrets beside it."""
        with contextlib.suppress(docker.errors.NotFound):
            docker.from_env().containers.get(f"{self.environment.name}-{HOST}").remove(v=True, force=True)
        self.provisioned = False
        lab_up(self.environment, Lab(versions=(VERSION,)))

    def deploy(self) -> Run:
        """Deploy the sample app, and provision the droplet before that if it is bare."""
        run = self.environment.deploy(VERSION).succeeded()
        self.provisioned = True
        return run

    def deployed(self) -> None:
        """Have the sample app on it, brought by Flotilla and nobody else."""
        if not self.provisioned:
            self.bare()
            self.deploy()

    def listing(self) -> frozenset[str]:
        """What there is on it: packages, containers, images, networks, volumes, enabled units, the deploy user."""
        return frozenset(self.environment.ssh(LISTING).splitlines())

    def files(self) -> bytes:
        """What Flotilla wrote on it, as a tar.gz below `/`: configurations, Compose files, the release, secrets."""
        done = subprocess.run(self.environment.ssh_command(COLLECT), stdout=subprocess.PIPE, check=True, timeout=60)
        return done.stdout

    def release(self) -> str:
        """The id of the release that serves."""
        return str(self.environment.journal()["live"]["release"])

    def remove(self) -> None:
        """Remove it and its lab."""
        lab_down(self.environment)


@contextlib.contextmanager
def spent() -> Iterator[Spent]:
    """Measure a block that runs commands to their end."""
    result = Spent()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    yield result
    result.seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result.cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class FirstAnswer:
    """Asks for the app until it answers 200, in the background."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._began = 0.0
        self._seconds: float | None = None

    def __enter__(self) -> FirstAnswer:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """When the answer came, since the block began. Raises `BenchmarkError` when none came within the block."""
        if self._seconds is None:
            raise BenchmarkError(f"{READY} never answered 200 over HTTPS")
        return self._seconds

    def _ask(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._environment.fetch(READY, timeout=2.0).status == 200:
                    self._seconds = time.monotonic() - self._began
                    return
            self._stop.wait(POLL_SECONDS)
