"""What is asked of a running balancer: drain a host, take it back, reload, show the maintenance page."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .balancer import (
    OPERATOR,
    UNCHECKED,
    Admin,
    BalancerError,
    Server,
    carried_over,
    chosen,
    kept,
    parse_map,
    parse_reload,
    parse_servers,
    parse_states,
    parse_workers,
    sole,
)
from .contained import opened

DIRECTORY = Path("/opt/flotilla/haproxy")
# Where the container sees the same directories.
MAINTENANCE_MAP = "/etc/flotilla/state/maintenance"
ANSWER_SECONDS = 10.0
# A reload reads certificates and waits for the new worker.
RELOAD_SECONDS = 60.0
POLL_SECONDS = 0.1
NEXT = "Next: ansible-playbook playbooks/provision.yml -i <inventory>"


class NotUpError(BalancerError):
    """A host that nobody keeps traffic away from does not pass its checks."""


class HostsError(BalancerError):
    """What could not be done for some hosts. `trouble`: host → why, but for those that are only not up."""

    def __init__(self, errors: Mapping[str, BalancerError]) -> None:
        super().__init__("\n".join(map(str, errors.values())))
        self.trouble = {host: str(error) for host, error in errors.items() if not isinstance(error, NotUpError)}


def each(hosts: Iterable[str], do: Callable[[str], bool]) -> bool:
    """Ask for each host, whatever came of the one before it. True when something changed. Raises HostsError."""
    changed, errors = False, {}
    for host in hosts:
        try:
            changed |= do(host)
        except BalancerError as error:
            errors[host] = error
    if errors:
        raise HostsError(errors)
    return changed


class Asked(Protocol):
    """HAProxy's master, which speaks for all its workers."""

    def ask(self, command: str, seconds: float = ANSWER_SECONDS) -> str:
        """The answer to one command line."""


@dataclass(frozen=True)
class Master:
    """The master's socket."""

    path: Path

    def ask(self, command: str, seconds: float = ANSWER_SECONDS) -> str:
        """The answer to one command line, each over a connection of its own. Raises BalancerError."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(seconds)
                # The directory is the container's.
                with opened(self.path.parent, below=self.path.parent) as place, place.socket(self.path.name) as known:
                    connection.connect(known)
                connection.sendall(command.encode() + b"\n")
                # Else the master waits for another command.
                connection.shutdown(socket.SHUT_WR)
                parts = iter(lambda: connection.recv(65536), b"")
                return b"".join(parts).decode(errors="replace")
        except OSError as error:
            raise BalancerError(f"{self.path}: HAProxy does not answer ({error}). {NEXT}") from error


@dataclass(frozen=True)
class Balancer:
    """A balancer on this host. `now` and `sleep` are a clock in seconds."""

    master: Asked
    directory: Path = DIRECTORY
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    notes: list[str] = field(default_factory=list)

    # -- looking ----------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        """All workers, first the one that accepts. Those before a reload still send what their connections ask."""
        current, old = parse_workers(self.master.ask("show proc"))
        return [current, *old]

    def servers(self) -> list[Server]:
        """All servers as the current worker sees them."""
        return parse_servers(self._ask(self.workers()[0], "show stat"))

    def sessions(self, targets: Sequence[Server]) -> int:
        """What is in flight to some servers, in all workers."""
        wanted = {(one.app, one.host) for one in targets}
        count = 0
        for worker in self.workers():
            # An old worker may end between two questions.
            answer = self._ask(worker, "show stat", gone="# pxname,")
            servers = [*parse_servers(answer), *parse_servers(answer, unchecked=True)]
            count += sum(one.sessions for one in servers if (one.app, one.host) in wanted)
        return count

    def admin(self) -> dict[tuple[str, str], Admin]:
        """(app, host) → what an operator made of it, in the current worker."""
        return {row.key: row.admin for row in parse_states(self._ask(self.workers()[0], "show servers state"))}

    # -- draining and taking back -------------------------------------------------------------------

    def drain(
        self,
        host: str,
        apps: Sequence[str] = (),
        *,
        seconds: float,
        wait: bool = True,
        cut: bool = False,
        last: bool = False,
    ) -> bool:
        """No new request goes to the host; wait for those in flight. True when something changed.

        wait: whether to wait at all.
        cut: at the deadline, end what is left (websockets, as a rule).
        last: also when no other host takes an app's traffic then.
        Raises BalancerError when the host is not drained then.
        """
        servers = self.servers()
        targets = chosen(servers, host, apps)
        states = self.admin()
        changed = [one for one in targets if not states[one.app, one.host] & Admin.MAINTENANCE]
        if changed:
            if not last and (alone := sole(changed, servers)):
                what = f"{host} is the only host that takes the traffic of {', '.join(alone)}"
                raise BalancerError(f"{what}, so it is not drained. Next: bring another one up, or give last=true")
            self._set(changed, "maint")
            self._keep()
        deadline, ended = self.now() + seconds, False
        while wait and (left := self.sessions(targets)):
            if self.now() >= deadline:
                what = f"{host} still has {left} requests or websockets in flight"
                if ended:
                    late = f"{what} {ANSWER_SECONDS:g} s after they were ended; it gets no new ones"
                    raise BalancerError(f"{late}. Next: run again, or look at the log of the balancer")
                if not cut:
                    late = f"{what} after {seconds:g} s; it gets no new ones"
                    raise BalancerError(f"{late}. Next: wait longer, or give cut=true to end them")
                self._cut(targets)
                deadline, ended = self.now() + ANSWER_SECONDS, True
                self.notes.append(f"ended {left} requests or websockets to {host}")
            self.sleep(POLL_SECONDS)
        return bool(changed)

    def ready(self, host: str, apps: Sequence[str] = (), *, seconds: float) -> bool:
        """Take a host back once its checks pass: never before. True when something changed. Raises BalancerError."""
        targets = chosen(self.servers(), host, apps)
        states = self.admin()
        held = [one for one in targets if states[one.app, one.host] & OPERATOR]
        if held:
            # Checks run on a drained server and not on one in maintenance, from which HAProxy would take it back
            # unchecked. They begin at `down`: what they said last time is old.
            self._set(held, "drain")
            for one in held:
                self._tell(f"set server {one.app}/{one.host} health down")
        deadline = self.now() + seconds
        while True:
            asked = {(one.app, one.host) for one in targets}
            found = [one for one in self.servers() if (one.app, one.host) in asked]
            bad = [one for one in found if one.status.split()[0] not in ("UP", "DRAIN", "no")]
            if not bad:
                break
            if self.now() >= deadline:
                self._set(held, "maint")
                what = "; ".join(f"{one.app} on {one.host}: {one.status}, {one.check}" for one in bad)
                after = f"is not ready after {seconds:g} s and stays out" if held else f"is not up after {seconds:g} s"
                error = BalancerError if held else NotUpError
                raise error(f"{host} {after}: {what}. Next: look at the app's readiness on {host}")
            self.sleep(POLL_SECONDS)
        if held:
            self._set(held, "ready")
            self._keep()
        return bool(held)

    # -- reloading ----------------------------------------------------------------------------------

    def reload(self) -> None:
        """A new worker with the configuration on disk. What was drained stays drained. Raises BalancerError."""
        before = self.admin()
        dump = self._ask(self.workers()[0], "show servers state")
        configuration = (self.directory / "conf/haproxy.cfg").read_text()
        state = carried_over(dump, configuration)
        self._write("servers", state)
        try:
            parse_reload(self.master.ask("reload", RELOAD_SECONDS))
        finally:
            # After a restart nobody knows what a check found before it.
            self._write("servers", kept(state))
        after = self.admin()
        lost = [key for key, admin in before.items() if key in after and (admin ^ after[key]) & OPERATOR]
        if lost:
            raise BalancerError(f"HAProxy forgot that {', '.join(map('/'.join, sorted(lost)))} was drained. {NEXT}")

    # -- the maintenance page -----------------------------------------------------------------------

    def maintained(self) -> list[str]:
        """The apps whose maintenance page is on."""
        return sorted(parse_map(self._ask(self.workers()[0], f"show map {MAINTENANCE_MAP}")))

    def maintain(self, apps: Iterable[str], on: bool) -> list[str]:
        """Switch the page on or off, now and for workers to come. The apps that it changed for."""
        shown = set(self.maintained())
        changed = sorted({app for app in apps if (app in shown) != on})
        if changed:
            after = shown | set(changed) if on else shown - set(changed)
            self._write("maintenance", "".join(f"{app} on\n" for app in sorted(after)))
            for app in changed:
                self._tell(f"add map {MAINTENANCE_MAP} {app} on" if on else f"del map {MAINTENANCE_MAP} {app}")
        return changed

    # -- how ----------------------------------------------------------------------------------------

    def _ask(self, worker: int, command: str, gone: str = "") -> str:
        answer = self.master.ask(f"@!{worker} {command}")
        deadline = self.now() + ANSWER_SECONDS
        # A worker that has just begun, or ends just now, on a busy host.
        while answer.startswith("Can't connect to the target CLI") and self.now() < deadline:
            self.sleep(POLL_SECONDS)
            answer = self.master.ask(f"@!{worker} {command}")
        if answer.startswith("Can't find the target PID"):
            if gone:
                return gone
            raise BalancerError(f"HAProxy's worker {worker} ended just now. Next: run again")
        return answer

    def _tell(self, command: str) -> None:
        """A command to every worker, which has nothing to say about it unless it refuses."""
        for number, worker in enumerate(self.workers()):
            answer = self._ask(worker, command, gone="\n" if number else "").strip()
            # A worker of before a reload may not know a server that is new.
            if answer and number == 0:
                raise BalancerError(f"HAProxy refused `{command}`: {answer[:500]}")

    def _set(self, servers: Iterable[Server], state: str) -> None:
        for name in self._names(servers):
            self._tell(f"set server {name} state {state}")

    def _cut(self, servers: Iterable[Server]) -> None:
        for name in self._names(servers):
            self._tell(f"shutdown sessions server {name}")

    def _names(self, servers: Iterable[Server]) -> list[str]:
        """Each server in both of its backends; a configuration of an older role has one."""
        known = self.admin()
        pairs = [(backend, one.host) for one in servers for backend in (one.app, f"{UNCHECKED}{one.app}")]
        return ["/".join(pair) for pair in pairs if pair in known]

    def _keep(self) -> None:
        """Write down what an operator said, for the next start."""
        self._write("servers", kept(self._ask(self.workers()[0], "show servers state")))

    def _write(self, name: str, text: str) -> None:
        """Replace a file of the state's directory, which the container mounts, in one step."""
        path = self.directory / "state" / name
        new = path.with_name(f".{name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(text)
        new.replace(path)
