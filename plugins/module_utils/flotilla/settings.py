"""What a release needs to know of its app, from the module's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .resolve import Route


@dataclass(frozen=True)
class Settings:
    """One app on one host. Durations are seconds.

    host: the inventory's name of the host.  directory: the environment's inventory, as messages name it.
    arguments: all its inventories, as a command takes them (`-i a -i b`).
    migration_compatible: whether the release before can live with what the migration leaves.
    environment, secrets: name → value; both are visible to the Compose file as `${NAME}`.
    declared_swap_mb: what the role base makes; counts inside a container, where swap is only rendered.
    others_serve: whether a balancer can send this host's traffic to others for a while.
    """

    name: str
    host: str
    directory: str
    arguments: str
    file: str
    version: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    readiness_path: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    migration: str | None
    migration_seconds: float
    migration_compatible: bool
    workers: tuple[str, ...]
    shared: tuple[str, ...]
    per_colour: tuple[str, ...]
    shared_paths: tuple[str, ...]
    unchecked: tuple[str, ...]
    privileges: Mapping[str, tuple[str, ...]]
    secret_variables: Mapping[str, tuple[str, ...]]
    allow_latest: bool
    ready_seconds: float
    stable_seconds: float
    drain_seconds: float
    pull_seconds: float
    keep_releases: int
    router_image: str
    memory_once_mb: Mapping[str, int]
    declared_swap_mb: int
    https_port: int
    others_serve: bool = False
    root: Path = Path("/opt")
    edge: Path = Path("/opt/flotilla/nginx")

    @property
    def base(self) -> Path:
        return self.root / self.name

    @property
    def lock(self) -> Path:
        """The lease of the environment on this host."""
        return self.root / "flotilla" / "lock.json"

    def command(self, playbook: str, extra: str = "") -> str:
        """What a person types to run a playbook for this app."""
        return f"ansible-playbook {playbook} {self.arguments} -e app={self.name} {extra}".rstrip()

    def compose_variables(self) -> dict[str, str]:
        """The variables that the user's Compose file may use, secrets in capitals among them."""
        secret = {name.upper().replace("-", "_"): value for name, value in self.secrets.items()}
        return {**secret, **self.environment, "VERSION": self.version}


def parse(params: Mapping[str, Any]) -> Settings:
    """Settings from the arguments of the module `flotilla_release`."""
    app = params["app"]
    readiness = app.get("readiness") or {}
    migration = app.get("migration") or {}
    deadlines = app.get("deadlines") or {}
    return Settings(
        name=app["name"],
        host=params["host"],
        directory=params["inventory"],
        arguments=(params.get("run") or {}).get("arguments") or f"-i {params['inventory']}",
        file=f"{app.get('source', '').rstrip('/')}/compose.yaml",
        version=str(app.get("version", "")),
        domains=tuple(app.get("domains") or ()),
        routes=tuple(Route(r["path"], r["service"], int(r["port"])) for r in app.get("routes") or ()),
        readiness_path=readiness.get("path", "/"),
        environment={key: _text(value) for key, value in (app.get("environment") or {}).items()},
        secrets={key: _text(value) for key, value in (params.get("secrets") or {}).items()},
        migration=migration.get("service"),
        migration_seconds=float(migration.get("timeout_seconds", 600)),
        migration_compatible=bool(migration.get("compatible", True)),
        workers=tuple(app.get("workers") or ()),
        shared=tuple(app.get("shared") or ()),
        per_colour=tuple(app.get("per_colour") or ()),
        shared_paths=tuple(app.get("shared_paths") or ()),
        unchecked=tuple(app.get("routes_without_health_check") or ()),
        privileges={name: tuple(items) for name, items in (app.get("privileges") or {}).items()},
        secret_variables={name: tuple(items) for name, items in (app.get("secret_variables") or {}).items()},
        allow_latest=bool(params.get("allow_latest")),
        ready_seconds=float(deadlines.get("ready_seconds", 120)),
        stable_seconds=float(deadlines.get("stable_seconds", 3)),
        drain_seconds=float(deadlines.get("drain_seconds", 30)),
        pull_seconds=float(deadlines.get("pull_seconds", 600)),
        keep_releases=int(app.get("keep_releases", 3)),
        router_image=params.get("router_image") or "",
        memory_once_mb={key: int(value) for key, value in (params.get("memory_once_mb") or {}).items()},
        declared_swap_mb=int(params.get("declared_swap_mb") or 0),
        https_port=int(params.get("https_port") or 443),
        others_serve=bool(params.get("others_serve")),
        root=Path(params.get("root") or "/opt"),
        edge=Path(params.get("edge") or "/opt/flotilla/nginx"),
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
