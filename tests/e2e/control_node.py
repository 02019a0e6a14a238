"""A second control node: a container with Debian 13's Python, the locked requirements, and a copy of the checkout.

The checkout is where it is on this machine, so that the paths in a lab's inventory hold in both places.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.models.containers import Container
from packaging.requirements import Requirement
from packaging.tags import platform_tags

from tests.e2e.fleet import PLAYBOOK_SECONDS, ROOT, Environment, Run

PYTHON = "3.13"
BASE = "debian:trixie-slim"
CONTEXT = ROOT / "tests/lab/images/control"
LOCK = ROOT / "requirements.lock"
SOCKET = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
# Among those whom the droplets let in by SSH: lab_operators.
LAST_OCTET = 241
# What Ansible needs to know wherever it runs: the same as on this machine, colours off, and the recap that tests read.
SETTINGS = {
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
}


@dataclass(frozen=True)
class ControlNode:
    """A running control node."""

    container: Container

    def run(
        self,
        *command: str,
        directory: Path = ROOT,
        environment: Mapping[str, str] | None = None,
        seconds: float = PLAYBOOK_SECONDS,
    ) -> Run:
        """Run a command in a directory of the copy; it is ended after so many seconds, with return code 124."""
        began = time.monotonic()
        code, output = self.container.exec_run(
            ["timeout", "--kill-after=10", str(seconds), *command],
            workdir=str(directory),
            environment={**SETTINGS, **(environment or {})},
        )
        assert isinstance(code, int) and isinstance(output, bytes)
        return Run(shlex.join(command), code, output.decode(errors="replace"), time.monotonic() - began)

    def put(self, files: Iterable[Path]) -> None:
        """Copy files of this machine to the same paths, owned by root."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for file in files:
                tar.add(file, arcname=str(file.relative_to("/")), filter=_owned_by_root)
        self.container.put_archive("/", archive.getvalue())


@contextmanager
def control_node(environment: Environment, networks: Sequence[str]) -> Iterator[ControlNode]:
    """A control node on some of a lab's networks, with the checkout, the lab's inventory and the test's own.

    networks: the public one first.
    """
    with _container(environment, f"{environment.name}-control", network=networks[0]) as node:
        engine = docker.from_env()
        public = engine.networks.get(networks[0])
        subnet = public.attrs["IPAM"]["Config"][0]["Subnet"]
        public.disconnect(node.container)
        public.connect(node.container, ipv4_address=str(ipaddress.ip_network(subnet)[LAST_OCTET]))
        for network in networks[1:]:
            engine.networks.get(network).connect(node.container)
        places = (environment.directory, *environment.overlays, *environment.changes)
        node.put([*checkout(), *(path for place in places for path in place.resolve().rglob("*") if path.is_file())])
        yield node


@contextmanager
def lab_maker(environment: Environment, scratch: Path) -> Iterator[ControlNode]:
    """A control node that makes labs of its own on this machine's engine; their directories belong in `scratch`."""
    cache = os.environ.get("FLOTILLA_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'}/flotilla"
    # The engine resolves binds and published ports on this machine: paths and network have to be the machine's.
    binds = [f"{path}:{path}" for path in (scratch, cache)] + [f"{SOCKET}:/var/run/docker.sock"]
    settings = {"FLOTILLA_CACHE": cache}
    name = f"{environment.name}-lab-maker"
    with _container(environment, name, network="host", volumes=binds, environment=settings) as node:
        node.put(checkout())
        # Molecule looks for its shared configuration at the root of a Git checkout.
        node.run("git", "init", "--quiet").succeeded()
        yield node


@contextmanager
def _container(
    lab: Environment,
    name: str,
    network: str,
    volumes: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[ControlNode]:
    # An exec is silent for as long as its command is.
    engine = docker.from_env(timeout=3600)
    container = engine.containers.run(
        control_image(engine),
        detach=True,
        name=name,
        init=True,
        # The lab's clean-up removes what has its label.
        labels={"flotilla.lab": lab.name},
        # The unit tests give the firewall's rules to nft, in a network of their own.
        cap_add=["NET_ADMIN", "SYS_ADMIN"],
        security_opt=["apparmor=unconfined"],
        network=network,
        volumes=list(volumes),
        environment=dict(environment or {}),
    )
    try:
        yield ControlNode(container)
    finally:
        if not os.environ.get("FLOTILLA_KEEP"):
            container.remove(force=True, v=True)


def checkout() -> list[Path]:
    """The files of this checkout, changed and new ones too, without those that Git ignores."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def control_image(engine: docker.DockerClient) -> str:
    """The name of the control node's image, built unless it was built of the same Dockerfile, lock and base before."""
    key = hashlib.sha256(str(engine.images.get(BASE).id).encode())
    for file in (CONTEXT / "Dockerfile", LOCK):
        key.update(file.read_bytes())
    name = f"flotilla-lab/control:{key.hexdigest()[:12]}"
    if not engine.images.list(name):
        with tempfile.TemporaryDirectory() as directory:
            shutil.copytree(CONTEXT, directory, dirs_exist_ok=True)
            shutil.copy(LOCK, directory)
            fetch_wheels(Path(directory) / "wheels")
            engine.images.build(path=directory, tag=name, rm=True, forcerm=True)
    return name


def fetch_wheels(directory: Path) -> None:
    """Fetch what the lock names, for the control node's Python. The container itself may reach no package index."""
    directory.mkdir()
    # pip judges the markers by the Python that it runs on, so the lock is cut to size first.
    requirements = directory.with_name("wheels.lock")
    requirements.write_text("".join(locked_for(PYTHON, LOCK.read_text())))
    target = ["--implementation", "cp", "--python-version", PYTHON, "--only-binary", ":all:"]
    platforms = [argument for tag in platform_tags() for argument in ("--platform", tag)]
    wanted = ["--quiet", "--no-deps", "--require-hashes", "--requirement", str(requirements), "--dest", str(directory)]
    subprocess.run([sys.executable, "-m", "pip", "download", *target, *platforms, *wanted], check=True)


def locked_for(python: str, lock: str) -> Iterator[str]:
    """The lines of a lock with hashes that hold for a version of Python, without their markers."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    wanted = False
    for line in lock.splitlines(keepends=True):
        if line.startswith(" "):
            if wanted:
                yield line
        elif line.strip() and not line.startswith("#"):
            requirement = Requirement(line.rstrip(" \\\n"))
            wanted = requirement.marker is None or requirement.marker.evaluate(environment)
            if wanted:
                yield f"{requirement.name}{requirement.specifier} \\\n"


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
