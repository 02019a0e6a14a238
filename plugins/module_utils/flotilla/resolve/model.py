"""What the resolver takes and gives: plain values, no behaviour but their own small questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..problem import Problem, report

ROUTER = "flotilla-router"
EDGE_NETWORK = "flotilla-edge"
COLOUR = "${FLOTILLA_COLOUR}"
RELEASE = "${FLOTILLA_RELEASE}"
HOST = "${FLOTILLA_HOST}"
MEMORY = "${FLOTILLA_MEMORY}"
ROUTER_ADDRESS = "${FLOTILLA_ROUTER_ADDRESS}"
SERVICE_ADDRESS = "${{FLOTILLA_ADDRESS_{}}}"


class ComposeFileError(Exception):
    """Everything that is wrong with an app's Compose file and what the inventory says about it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__(report(self.problems))


@dataclass(frozen=True)
class Route:
    """One route of the app, as far as the resolver looks at it; the longest `path` wins in the router."""

    path: str
    service: str
    port: int


@dataclass(frozen=True)
class Context:
    """Everything about an app that its Compose file does not say.

    app: `[a-z][a-z0-9-]{0,30}`.
    file, inventory: the user's file and the inventory as messages name them.
    source: the project directory that `docker compose config` ran in (absolute).
    base: the app's directory on the host, `/opt/<app>`; releases, shared files and secrets live below it.
    secrets_version: the directory below `<base>/secrets`.
    secrets: names of the secrets that the inventory gives the app.
    secret_variables: service → secrets that it gets as variables.
    shared, workers, migration: services named in the inventory (kept out of the colours; started at the
    commit; taken out and run once).
    per_colour: services that look like a database and that may be lost with their colour (a cache).
    shared_paths: writable relative paths (`uploads`) that are kept in `<base>/shared/`.
    unchecked: services that may be on a route without a health check.
    privileges: service → what it may have of the host, as `hardening.PRIVILEGES` names it.
    router_image, drain_seconds: the router's image, and how long it may finish requests in flight.
    digests: image as the user wrote it → `name@sha256:…`; images that are not in it keep their tag.
    allow_latest: whether an image without a tag, or with `latest`, is accepted.
    pids: the limit for a service that sets none.
    """

    app: str
    source: str
    base: str
    file: str = "compose.yaml"
    inventory: str = "inventory"
    routes: tuple[Route, ...] = ()
    migration: str | None = None
    workers: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    per_colour: tuple[str, ...] = ()
    shared_paths: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    privileges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    secrets_version: str = "none"
    secret_variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    router_image: str = "nginx:1.30"
    drain_seconds: float = 30
    digests: Mapping[str, str] = field(default_factory=dict)
    allow_latest: bool = False
    pids: int = 512


@dataclass(frozen=True)
class Copy:
    """A file or directory that a container mounts read-only and that must outlive the upload.

    source: relative to the project directory.  target: relative to `/opt/<app>/`; in a release's copies
    it starts with `releases/${FLOTILLA_RELEASE}/files/`, in a shared service's with `shared/.files/`.
    """

    source: str
    target: str

    def path(self, base: str, release: str) -> str:
        """The absolute path to copy to."""
        return f"{base}/{self.target.replace(RELEASE, release)}"


@dataclass(frozen=True)
class Network:
    """A network that must exist before a colour is booted. `name` holds `${FLOTILLA_COLOUR}`."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    ipv6: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    def for_colour(self, colour: str) -> str:
        """Its name for one colour."""
        return self.name.replace(COLOUR, colour)


@dataclass(frozen=True)
class Volume:
    """A named volume that must exist before anything is started; creating it again changes nothing."""

    name: str
    driver: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateConfig:
    """`deploy.update_config` (or `rollback_config`) of the app. Where a file is silent, Flotilla's default stands.

    A colour is rolled as a whole, so services that state a key must agree on it.
    order: `start-first` (the specification's default is `stop-first`; two colours are the point of Flotilla).
    failure_action: `rollback` (the specification's is `pause`), `pause` or `continue`.
    parallelism: hosts at a time; 0 is all.  delay_seconds: between batches.
    monitor_seconds: how long real traffic is watched after a switch; None when the file is silent.
    max_failure_ratio: share of failed requests tolerated while it is watched.
    """

    order: str = "start-first"
    parallelism: int = 1
    delay_seconds: float = 0.0
    monitor_seconds: float | None = None
    failure_action: str = "rollback"
    max_failure_ratio: float = 0.0
    stated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Limits:
    """Memory in bytes and CPUs, replicas counted. `unlimited`: services whose limit is what their host has left."""

    colour_memory: int = 0
    colour_cpus: float = 0.0
    shared_memory: int = 0
    shared_cpus: float = 0.0
    migration_memory: int = 0
    unlimited: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """The one file of a release and what goes with it. Nothing in it depends on release, colour or host.

    compose: the colour's project, `<app>-blue` or `<app>-green`.  shared: project `<app>-data`.
    migration: project `<app>-migration`, for `docker compose run`; its service is `Context.migration`.
    images: service → reference as the user wrote it, of all three projects (the router's included).
    start_with_colour, start_at_commit: the colour's services; workers are the second.
    one_shots: services of the colour that are expected to exit 0.
    addresses: service → number of its fixed address on the colour's default network.
    shared_fingerprint: changes only when the user changes a shared service itself; digests, files and
    secrets leave it alone, so that no deploy restarts a database by surprise.
    secrets: secret → services that mount it.  users: service → `user:` as written ('' where none is).
    secret_variables: service → variable → the file in the container that it is made from.
    hardened: service → what was added to it because its file is silent, as a person would have written it.
    """

    compose: dict[str, Any]
    shared: dict[str, Any] | None
    migration: dict[str, Any] | None
    images: dict[str, str]
    networks: tuple[Network, ...]
    volumes: tuple[Volume, ...]
    copies: tuple[Copy, ...]
    shared_directories: tuple[str, ...]
    start_with_colour: tuple[str, ...]
    start_at_commit: tuple[str, ...]
    one_shots: tuple[str, ...]
    addresses: dict[str, int]
    limits: Limits
    grace_seconds: dict[str, float]
    update: UpdateConfig
    rollback: UpdateConfig
    shared_fingerprint: str
    secrets: dict[str, tuple[str, ...]]
    users: dict[str, str]
    secret_variables: dict[str, dict[str, str]]
    hardened: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
