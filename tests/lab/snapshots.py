"""Snapshots of labs: hosts that were provisioned, and maybe deployed to, from which a lab starts in seconds.

A snapshot is everything that makes the lab what it is: of each host the root file system (an image) and its engine's
data (a volume), the registry's data (a volume), and the lab's directory with its keys and its vault. It lies in the
engine and in the cache beside the lab's images, under a key: the digest of all that went into it. A lab that is
restored has the name, the networks and the addresses that it had; where they are taken, it cannot be restored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import docker
from flotilla.stamp import digest_of_files

from tests.lab.containers import HOST_LABEL, SNAPSHOT_LABEL, STOP_SECONDS, LabContainers, in_parallel
from tests.lab.roles.lab.module_utils.lab_containers import Engine, choose_index

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(
    os.environ.get("FLOTILLA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flotilla"
)
SNAPSHOTS = CACHE / "snapshots"
# All that decides what a lab's hosts are like once they are provisioned and deployed to, and what is told of them.
INPUTS = (
    "ansible.cfg",
    "compose",
    "deploy.yml",
    "inventories",
    "playbooks",
    "plugins",
    "requirements.lock",
    "roles",
    "tests/e2e/facts.py",
    "tests/e2e/serving.py",
    "tests/lab",
)
# Certificates, backups and lists of packages of a snapshot grow old: it is made anew after so long.
OLDEST_SECONDS = 16 * 3600
# So many are kept, of all checkouts of the machine.
KEPT = 6


@dataclass(frozen=True)
class Snapshot:
    """A snapshot in the cache; see `find`.

    key: of all that went into it.  described: the lab's name and index, its containers with what the engine knows of
    them, the facts that were handed over when it was taken, and where the lab's directory was.
    """

    key: str
    described: Mapping[str, Any]

    @property
    def facts(self) -> Any:
        """What `take` was handed."""
        return self.described["facts"]

    @property
    def directory(self) -> Path:
        return SNAPSHOTS / self.key


def index_of(name: str) -> int:
    """The third octet of the networks that a lab has, or would be given."""
    return choose_index(docker.from_env().api.networks(), name)


@lru_cache
def key_of(name: str, index: int, wanted: str, root: Path = ROOT) -> str:
    """Digest of the project's files, the Python that runs Ansible, and the lab: its name, index and what it wants."""
    files = digest_of_files(root, tuple(path for path in INPUTS if (root / path).exists()))
    return hashlib.sha256("\0".join((files, sys.version, name, str(index), wanted)).encode()).hexdigest()[:16]


@contextmanager
def locked(how: int) -> Iterator[None]:
    """Hold the lock of all snapshots of this machine. how: `fcntl.LOCK_SH` to use some, `LOCK_EX` to take or remove."""
    SNAPSHOTS.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (CACHE / "snapshots.lock").open("w") as lock:
        fcntl.flock(lock, how)
        yield


def find(key: str) -> Snapshot | None:
    """The snapshot under this key, when it is whole and young enough."""
    try:
        described = json.loads((SNAPSHOTS / key / "snapshot.json").read_text())
    except (OSError, ValueError):
        return None
    if time.time() - described["taken"] > OLDEST_SECONDS:
        return None
    client = docker.from_env()
    images = {tag for image in client.images.list() for tag in image.tags}
    volumes = {volume.name for volume in client.volumes.list(filters={"label": f"{SNAPSHOT_LABEL}={key}"})}
    wanted = [one["image"] for one in described["containers"]]
    kept = [one["volume"] for one in described["containers"]]
    return Snapshot(key, described) if set(wanted) <= images and set(kept) <= volumes else None


def take(key: str, name: str, directory: Path, facts: Any = None) -> None:
    """Make a snapshot of a lab that is up. Its hosts are switched off, and stay off: restore it to go on.

    directory: the lab's, below `.lab`.  facts: anything that JSON holds, to be handed back by `Snapshot.facts`.
    """
    lab = LabContainers(name)
    containers = lab.all()
    seen = {one.name: lab.see(one) for one in containers if HOST_LABEL in one.labels}
    in_parallel(lambda one: one.stop(timeout=STOP_SECONDS), containers)
    with locked(fcntl.LOCK_EX):
        prune()
        remove(key)
        described = {
            "taken": time.time(),
            "name": name,
            "directory": str(directory),
            "containers": in_parallel(lambda one: lab.keep(one, key, seen.get(one.name, {})), containers),
            "index": index_of(name),
            "facts": facts,
        }
        place = SNAPSHOTS / f"{key}.new"
        place.mkdir(parents=True, mode=0o700)
        with tarfile.open(place / "lab.tar", "w") as archive:
            archive.add(directory, ".")
        (place / "snapshot.json").write_text(json.dumps(described))
        place.rename(SNAPSHOTS / key)


def restore(snapshot: Snapshot, directory: Path) -> None:
    """Put the lab of a snapshot in the place of whatever there is of that lab, and wait until it is as it was.

    Raises:
        LabError: its networks belong to somebody else, or a host did not come back.
    """
    described = snapshot.described
    name, before = str(described["name"]), str(described["directory"])
    engine, lab = Engine(name), LabContainers(name)
    with locked(fcntl.LOCK_SH):
        engine.remove_all()
        engine.make_networks(str(described["index"]))
        kept = described["containers"]
        made = in_parallel(lambda one: lab.make(one, (before, str(directory))), kept)
        changed = {before: str(directory)}
        changed |= {one["id"][:12]: str(container.id)[:12] for one, container in zip(kept, made, strict=True)}
        unpack(snapshot.directory / "lab.tar", directory, changed)
    # The registry first: hosts may want something of it when they come up.
    for container in sorted(made, key=lambda one: HOST_LABEL in one.labels):
        container.start()
    write_ports(directory, {str(one.name).removeprefix(f"{name}-"): lab.ports(one) for one in made})
    hosts = [pair for pair in zip(made, kept, strict=True) if pair[1]["seen"]]
    in_parallel(lambda pair: lab.bring_back(pair[0], pair[1]["seen"]), hosts)


def remove(key: str) -> None:
    """Remove a snapshot, or what there is of it."""
    client = docker.from_env()
    label = {"label": f"{SNAPSHOT_LABEL}={key}"}
    shutil.rmtree(SNAPSHOTS / key, ignore_errors=True)
    for image in client.images.list(filters=label):
        for tag in image.tags:
            client.images.remove(tag, force=True)
    for volume in client.volumes.list(filters=label):
        volume.remove(force=True)


def prune(kept: int = KEPT - 1) -> None:
    """Remove snapshots that are too old or broken, and all but the latest ones."""
    labelled = docker.from_env().volumes.list(filters={"label": SNAPSHOT_LABEL})
    keys = {str((volume.attrs["Labels"] or {})[SNAPSHOT_LABEL]) for volume in labelled}
    keys |= {path.name for path in SNAPSHOTS.glob("*")}
    whole = [snapshot for snapshot in map(find, sorted(keys)) if snapshot]
    latest = sorted(whole, key=lambda one: float(one.described["taken"]), reverse=True)[:kept]
    for key in keys - {snapshot.key for snapshot in latest}:
        remove(key)


def unpack(archive: Path, directory: Path, changed: Mapping[str, str]) -> None:
    """Put a lab's directory in its place, with other paths and container ids in its files."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    with tarfile.open(archive) as opened:
        # An argument of it is not known to Debian 12's Python 3.11.2, which trusts archives by itself.
        opened.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        opened.extractall(directory)
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            before = after = path.read_bytes()
            for old, new in changed.items():
                after = after.replace(old.encode(), new.encode())
            if after != before:
                path.write_bytes(after)


def write_ports(directory: Path, ports: Mapping[str, Mapping[str, int]]) -> None:
    """Say in the lab's files where its containers are published on this machine now.

    ports: host, or `registry` → port in the container → port of this machine.
    """
    registry = f"127.0.0.1:{ports['registry']['5001/tcp']}"
    serving = next((found for host, found in ports.items() if "443/tcp" in found), {})
    described = json.loads((directory / "lab.json").read_text())
    described |= {"registry": registry, "https_port": serving.get("443/tcp"), "http_port": serving.get("80/tcp")}
    (directory / "lab.json").write_text(json.dumps(described, indent=4))
    for path in directory.glob("*/group_vars/all/lab.yml"):
        text = path.read_text()
        for variable, value in (
            ("lab_registry_address", registry),
            ("lab_https_port", serving.get("443/tcp")),
            ("lab_http_port", serving.get("80/tcp")),
        ):
            text = re.sub(rf"^{variable}: .*$", f"{variable}: {value}", text, flags=re.MULTILINE)
        path.write_text(text)
