"""A lab on the engine: two networks, the registry's container and one container a droplet."""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import docker

T = TypeVar("T")

# Labs that leave it to the engine take their networks' third octet from here up.
FIRST_AUTOMATIC_INDEX = 100
LAST_INDEX = 254
# Two labs that start at once may both choose the same networks; the engine gives them to one.
ATTEMPTS = 5
REGISTRY_NAMES = ["registry.example.com", "hub-mirror.example.com", "apt-cache.example.com"]
REGISTRY_OCTET, GATEWAY_OCTET = 253, 254
REGISTRY_PORTS = {"hub": 5000, "team": 5001}
HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")
PATIENCE_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.1
MIB = 1 << 20


class LabError(Exception):
    """The lab cannot be as it is wanted; the message says why."""


@dataclass(frozen=True)
class Container:
    """What a container is made with.

    networks: name → its address there, and further names in the first; in the order that its interfaces have.
    published: port inside → port on this machine's loopback address, 0 for any that is free.
    host: further arguments of docker.APIClient.create_host_config.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    networks: Mapping[str, tuple[str, Sequence[str]]]
    hostname: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[int, int] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What changes when any of it does."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def networks_of(lab: str, index: int) -> dict[str, str]:
    """Return the first three octets of a lab's networks by name: the public one, then the private one."""
    return {f"{lab}-public": f"10.77.{index}", f"{lab}-private": f"10.78.{index}"}


def placed(droplets: Iterable[Mapping[str, Any]], index: int) -> list[dict[str, Any]]:
    """Return droplets with their addresses in the networks of this index."""
    return [
        {**one, "address": f"10.77.{index}.{one['octet']}", "private_address": f"10.78.{index}.{one['octet']}"}
        for one in droplets
    ]


def registry(
    lab: str, index: int, image: str, directory: Path, cache: Path, labels: Mapping[str, str], certificate: str
) -> Container:
    """Return the registry of a lab. Another certificate, another container: it reads it at its start."""
    public = next(iter(networks_of(lab, index)))
    return Container(
        name=f"{lab}-registry",
        image=image,
        labels={**labels, "flotilla.lab.certificate": hashlib.sha256(certificate.encode()).hexdigest()[:12]},
        networks={public: (f"10.77.{index}.{REGISTRY_OCTET}", REGISTRY_NAMES)},
        published=dict.fromkeys(REGISTRY_PORTS.values(), 0),
        host={
            "init": True,
            "restart_policy": {"Name": "unless-stopped"},
            "mem_limit": 512 * MIB,
            "binds": [
                f"{cache}/registry:/var/lib/lab/hub",
                f"{lab}-registry:/var/lib/lab/team",
                f"{cache}/apt:/var/lib/lab/apt",
                f"{directory}/registry:/lab/registry:ro",
            ],
        },
    )


def droplet(
    lab: str,
    wanted: Mapping[str, Any],
    image: str,
    directory: Path,
    labels: Mapping[str, str],
    ports: Mapping[int, int],
) -> Container:
    """Return one droplet of a lab; `ports` are published if it is the one that serves.

    Privileges are not asked for as such: where the machine itself lacks CAP_SYS_RESOURCE that fails. Swap and clock
    belong to the machine, and stay out of the droplets' reach.
    """
    addresses = (wanted["address"], wanted["private_address"])
    memory = int(wanted["memory_mb"]) * MIB
    return Container(
        name=wanted["container"],
        image=image,
        labels={**labels, "flotilla.lab.host": wanted["host"]},
        networks={name: (address, []) for name, address in zip(networks_of(lab, 0), addresses, strict=True)},
        hostname=wanted["host"],
        environment={"container": "docker"},
        published=ports if wanted["serves"] else {},
        host={
            "restart_policy": {"Name": "no"},
            "cap_add": ["ALL"],
            "cap_drop": ["SYS_RESOURCE", "SYS_TIME"],
            "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
            "nano_cpus": int(float(wanted["cpus"]) * 1_000_000_000),
            "mem_limit": memory,
            "memswap_limit": memory,
            "tmpfs": {"/run": "exec", "/run/lock": ""},
            "binds": [f"{directory}/seed:/lab/seed:ro"],
        },
    )


def choose_index(networks: Iterable[Mapping[str, Any]], lab: str, wanted: str = "auto") -> int:
    """Return the third octet for a lab's networks: the one it has, or else the one wanted.

    For `auto` that is one that no network of the engine has. The search begins at a number made from the name, so that
    labs that start at the same time rarely meet.

    Raises:
        LabError: the lab has another one than is wanted, or all of 100-254 are taken.
    """
    taken = {}
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or []:
            match = re.match(r"10\.7[78]\.(\d+)\.", config.get("Subnet") or "")
            if match:
                taken[int(match[1])] = network["Name"]
    own = next((index for index, name in taken.items() if name in networks_of(lab, index)), None)
    if own is not None and wanted not in ("auto", str(own)):
        raise LabError(
            f"The lab {lab} has the lab_index {own}, not {wanted}: take it down first with lab_state=absent."
        )
    if own is not None or wanted != "auto":
        return int(own or wanted)
    size = LAST_INDEX - FIRST_AUTOMATIC_INDEX + 1
    start = zlib.crc32(lab.encode()) % size
    for step in range(size):
        index = FIRST_AUTOMATIC_INDEX + (start + step) % size
        if index not in taken:
            return index
    raise LabError("No network is left for another lab: take one down with lab_state=absent.")


def until(look: Callable[[], T | None], what: str) -> T:
    """Return what `look` returns at last.

    Raises:
        LabError: it returned None for a minute.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise LabError(f"{what} within {PATIENCE_SECONDS:.0f} seconds.")
        time.sleep(LOOK_AGAIN_SECONDS)
    return found


class Engine:
    """What a lab asks of the machine's engine. Each call that changes something says whether it did."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.labels = {"flotilla.lab": lab}

    @property
    def _api(self) -> docker.APIClient:
        """A connection of its own: several containers are brought up at a time."""
        return docker.from_env(timeout=120).api

    def make_networks(self, index: str) -> tuple[int, bool]:
        """Make the lab's networks at an index, or at one that is free for `auto`; return the index too.

        Raises:
            LabError: the networks belong to others.
        """
        api = self._api
        for attempt in range(1, ATTEMPTS + 1):
            there = api.networks()
            number = choose_index(there, self.lab, index)
            missing = networks_of(self.lab, number).keys() - {network["Name"] for network in there}
            try:
                for name in sorted(missing):
                    self._make_network(api, name, networks_of(self.lab, number)[name])
            except docker.errors.APIError as error:
                for name in sorted(missing):
                    self._remove_network(api, name)
                if index != "auto" or attempt == ATTEMPTS:
                    raise LabError(
                        f"The networks of the lab {self.lab} could not be made: {error.explanation}"
                    ) from error
                continue
            return number, bool(missing)
        raise AssertionError("unreachable")

    def _make_network(self, api: docker.APIClient, name: str, octets: str) -> None:
        pool = docker.types.IPAMPool(subnet=f"{octets}.0/24", gateway=f"{octets}.{GATEWAY_OCTET}")
        api.create_network(
            name,
            driver="bridge",
            check_duplicate=True,
            internal=name.endswith("-private"),
            ipam=docker.types.IPAMConfig(pool_configs=[pool]),
            labels=self.labels,
        )

    def _remove_network(self, api: docker.APIClient, name: str) -> None:
        for network in api.networks(names=[name]):
            if network["Name"] == name and (network.get("Labels") or {}).get("flotilla.lab") == self.lab:
                api.remove_network(network["Id"])

    def make_volume(self) -> None:
        """Make the volume of the team's registry, if it is not there."""
        self._api.create_volume(f"{self.lab}-registry", labels=self.labels)

    def bring_up(self, wanted: Sequence[Container]) -> dict[str, bool]:
        """Let these containers run; return by name whether one was made or started.

        One that is made of something else than what is wanted is made anew. It starts bare: its engine's data is an
        anonymous volume and goes with it.
        """
        with ThreadPoolExecutor(len(wanted)) as pool:
            return dict(zip((one.name for one in wanted), pool.map(self._bring_one_up, wanted), strict=True))

    def _bring_one_up(self, wanted: Container) -> bool:
        api = self._api
        try:
            found = api.inspect_container(wanted.name)
        except docker.errors.NotFound:
            found = None
        if found:
            labels = found["Config"]["Labels"]
            same = labels.get("flotilla.lab.made") == wanted.digest
            same = same and found["Image"] == docker.from_env().images.get(wanted.image).id
            # What comes from a snapshot (tests/lab/snapshots.py) was made of all that is wanted and more.
            if same or "flotilla.snapshot" in labels:
                if not found["State"]["Running"]:
                    api.start(wanted.name)
                return not found["State"]["Running"]
            api.remove_container(wanted.name, v=True, force=True)
        first, *others = wanted.networks
        address, aliases = wanted.networks[first]
        ends: Any = {first: docker.types.EndpointConfig(api.api_version, ipv4_address=address, aliases=list(aliases))}
        api.create_container(
            wanted.image,
            name=wanted.name,
            hostname=wanted.hostname,
            environment=dict(wanted.environment),
            labels={**wanted.labels, "flotilla.lab.made": wanted.digest},
            ports=list(wanted.published),
            host_config=api.create_host_config(
                network_mode=first,
                port_bindings={
                    inside: ("127.0.0.1", outside) if outside else ("127.0.0.1",)
                    for inside, outside in wanted.published.items()
                },
                **wanted.host,
            ),
            networking_config=docker.types.NetworkingConfig(ends),
        )
        for name in others:
            api.connect_container_to_network(wanted.name, name, ipv4_address=wanted.networks[name][0])
        api.start(wanted.name)
        return True

    def describe(self, container: str) -> tuple[str, dict[str, int]]:
        """Return a container's id, and which port of this machine leads to which of its ports (`443/tcp`)."""
        found = self._api.inspect_container(container)
        ports = found["NetworkSettings"]["Ports"] or {}
        return found["Id"], {inside: int(to[0]["HostPort"]) for inside, to in ports.items() if to}

    def host_key(self, container: str) -> str:
        """Return the droplet's host key, from the engine and not the network. Its file is there before the key is."""
        api = self._api
        file = "/etc/ssh/ssh_host_ed25519_key.pub"

        def look() -> str | None:
            ran = api.exec_create(container, ["cat", file])["Id"]
            match = HOST_KEY.match(api.exec_start(ran).decode())
            return match[0] if match else None

        return until(look, f"{container} made no host key")

    def remove_all(self) -> bool:
        """Remove every container, volume and network of the lab."""
        api, mine = self._api, {"label": f"flotilla.lab={self.lab}"}
        containers = [one["Id"] for one in api.containers(all=True, filters=mine)]
        if containers:
            with ThreadPoolExecutor(len(containers)) as pool:
                list(pool.map(lambda one: self._api.remove_container(one, v=True, force=True), containers))
        volumes = [one["Name"] for one in api.volumes(filters=mine)["Volumes"] or []]
        networks = [one["Id"] for one in api.networks(filters=mine)]
        for name in volumes:
            api.remove_volume(name)
        gone = [self._remove_unused_network(api, name) for name in networks]
        return bool(containers or volumes or any(gone))

    def _remove_unused_network(self, api: docker.APIClient, identifier: str) -> bool:
        """Remove a network of ours; return whether it is gone.

        Now and then the engine counts a container too many in a network that has none (moby's issue 42119), and refuses
        until it is restarted. Such a network stays: it is empty, and the lab has it again when it comes up.

        Raises:
            docker.errors.APIError: something is in it.
        """
        try:
            api.remove_network(identifier)
        except docker.errors.APIError as error:
            miscounted = "has active endpoints" in (error.explanation or "")
            if not miscounted or api.inspect_network(identifier)["Containers"]:
                raise
            return False
        return True


def wait_for_registry(addresses: Iterable[str]) -> None:
    """Wait until both registries answer.

    Raises:
        LabError: one does not.
    """
    for address in addresses:

        def look(address: str = address) -> bool | None:
            try:
                with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
                    return True
            except (OSError, urllib.error.URLError):
                return None

        until(look, f"The lab's registry did not answer at {address}")
