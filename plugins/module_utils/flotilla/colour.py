"""One colour of an app on a host: boot it, wait for its verdict, drain it, take it down."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from . import readiness, sockets
from .compose_cli import ComposeError, Project
from .engine import Engine
from .readiness import State, service_of

ROUTER = "flotilla-router"
ROUTER_PORT = 8080
POLL_SECONDS = 0.1
# A request that was on its way to a colour when the traffic was switched has arrived by then.
SETTLE_SECONDS = 0.5


class ColourError(Exception):
    """A colour did not come up. The message is the explanation for a person, several lines."""


@dataclass(frozen=True)
class ColourProject:
    """A colour, by its Compose project.

    one_shots: services that are finished when they have exited with 0.
    grace_seconds: service → seconds between TERM and KILL.
    """

    engine: Engine
    project: Project
    one_shots: Collection[str]
    grace_seconds: Mapping[str, float]

    def containers(self) -> list[dict[str, Any]]:
        """All containers of the project, stopped ones too."""
        return self.engine.project(self.project.name)

    def up(self, services: Sequence[str], *, deadline: float, start: bool = True) -> None:
        """Start services, or only make their containers, without a pull; `deadline` is a `time.monotonic()` value."""
        try:
            self.project.run(
                "up",
                "--detach" if start else "--no-start",
                "--no-build",
                "--pull",
                "never",
                "--quiet-pull",
                *services,
                timeout=max(1.0, deadline - time.monotonic()),
            )
        except ComposeError as error:
            explained = self.explain(set(services), {})
            raise ColourError(f"docker compose up: {error.output}\n{explained}".strip()) from error

    def wait_ready(self, services: Collection[str], *, deadline: float, stable_seconds: float) -> None:
        """Poll until the verdict on `services` is ready; raise `ColourError`, explained, when it is not."""
        first_running: dict[str, float] = {}
        while True:
            containers = self.containers()
            now = time.monotonic()
            for container in containers:
                if container["State"].get("Status") == "running":
                    first_running.setdefault(container["Id"], now)
            uptimes = {name: now - since for name, since in first_running.items()}
            verdict = readiness.judge(
                containers,
                expected=services,
                one_shots=self.one_shots,
                uptimes=uptimes,
                stable_seconds=stable_seconds,
            )
            if verdict.state is State.READY:
                return
            if verdict.state is State.FAILED:
                raise ColourError(self.explain(set(verdict.reasons), verdict.reasons))
            if now >= deadline:
                late = {name: f"not ready in time: {reason}" for name, reason in verdict.reasons.items()}
                raise ColourError(self.explain(set(late), late))
            time.sleep(POLL_SECONDS)

    def explain(self, services: Collection[str], reasons: Mapping[str, str]) -> str:
        """Why these services are not ready: reason, exit code, probes, ports, last log lines."""
        parts = [f"{name}: {reason}" for name, reason in sorted(reasons.items())]
        for container in self.containers():
            if service_of(container) in services:
                ports = sockets.listening(sockets.of_process(int(container["State"].get("Pid") or 0)))
                # At once: the engine forgets soon.
                ended = self.engine.last_end(container["Id"]) if container.get("RestartCount") else None
                log = self.engine.logs(container["Id"], 20)
                parts.append(readiness.explain(container, log, ports, ended))
        return "\n".join(parts)

    def router_address(self, network: str) -> str:
        """The IP address of the colour's router on a Docker network, or an empty string."""
        for container in self.containers():
            if service_of(container) == ROUTER:
                joined = container["NetworkSettings"]["Networks"].get(network) or {}
                return str(joined.get("IPAddress", ""))
        return ""

    def in_flight(self) -> int:
        """Requests (and websockets) that the colour's routers hold open right now."""
        pids = [int(c["State"].get("Pid") or 0) for c in self.containers() if service_of(c) == ROUTER]
        return sum(sockets.in_flight(sockets.of_process(pid), ROUTER_PORT) for pid in pids if pid)

    def drain(self, seconds: float, *, switched_seconds: float = 0.0) -> int:
        """Wait until nothing is in flight, at most `seconds`. Returns what was still in flight.

        A request may have been sent to this colour just before the switch and not have arrived yet. So it must read
        zero half a second after the switch (`switched_seconds`: how long ago that was), or twice, half a second apart.
        """
        deadline = time.monotonic() + seconds
        pids = [int(c["State"].get("Pid") or 0) for c in self.containers() if service_of(c) == ROUTER]
        needed = 1 if switched_seconds >= SETTLE_SECONDS else 2
        quiet = 0
        while True:
            open_now = sum(sockets.in_flight(sockets.of_process(pid), ROUTER_PORT) for pid in pids if pid)
            quiet = quiet + 1 if open_now == 0 else 0
            if quiet >= needed or time.monotonic() >= deadline:
                return open_now
            time.sleep(SETTLE_SECONDS)

    def last_lines(self, lines: int) -> str:
        """The last log lines of every service, to be kept when the colour goes."""
        parts = []
        for container in self.containers():
            text = self.engine.logs(container["Id"], lines).rstrip()
            parts.append(f"== {service_of(container)} ==\n{text}")
        return "\n".join(parts) + "\n"

    def stop(self, services: Collection[str]) -> None:
        """Stop services (TERM, their grace, KILL) and leave their containers, to be started again."""
        chosen = [c for c in self.containers() if service_of(c) in services]
        _together(lambda c: self.engine.stop(c["Id"], self._grace(c)), chosen)

    def restart(self, services: Collection[str]) -> None:
        """Start stopped containers of services again."""
        chosen = [c for c in self.containers() if service_of(c) in services]
        _together(lambda c: self.engine.start(c["Id"]), chosen)

    def remove(self, *, graceful: bool = True) -> bool:
        """Take the colour down; idle means absent. The router goes last, so that services can say goodbye.

        Finds containers by their project label, so those that an interrupted `up` left under
        another name go too. Returns whether there was anything.
        """
        containers = self.containers()
        routers = [c for c in containers if service_of(c) == ROUTER]
        services = [c for c in containers if service_of(c) != ROUTER]
        for group in (services, routers):
            if graceful:
                _together(lambda c: self.engine.stop(c["Id"], self._grace(c)), group)
            _together(lambda c: self.engine.remove(c["Id"]), group)
        return bool(containers)

    def _grace(self, container: Mapping[str, Any]) -> int:
        return round(self.grace_seconds.get(service_of(container), 10))


def _together(action: Callable[[dict[str, Any]], None], containers: Sequence[dict[str, Any]]) -> None:
    """Do one thing to several containers at once, and raise the first error."""
    if containers:
        with ThreadPoolExecutor(max_workers=len(containers)) as pool:
            list(pool.map(action, containers))
