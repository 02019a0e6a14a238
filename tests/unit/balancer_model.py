"""A model of HAProxy's master, its workers and their servers, which answers as HAProxy 3.0 does; and a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from flotilla.balancer import Admin, parse_states
from flotilla.balancing import ANSWER_SECONDS, MAINTENANCE_MAP

from tests.unit.haproxy_answers import processes, stat, state_line, states

GONE = "Can't find the target PID matching the prefix '{pid}'\n"
Key = tuple[str, str]
NOTHING = Admin(0)


@dataclass
class Backend:
    """A server as one worker knows it. healthy: what its checks will find; passes: how many of them passed."""

    sessions: int = 0
    admin: Admin = NOTHING
    healthy: bool = True
    up: bool = True
    passes: int = 0
    port: int = 443

    @property
    def status(self) -> str:
        if self.admin & Admin.MAINTENANCE:
            return "MAINT"
        if not self.up:
            return f"DOWN {self.passes}/2" if self.passes else "DOWN"
        return "DRAIN" if self.admin & Admin.DRAIN else "UP"


@dataclass
class Clock:
    """Seconds that pass when someone sleeps; `events` happen at their time."""

    seconds: float = 0.0
    events: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        due = [event for event in self.events if event[0] <= self.seconds]
        self.events = [event for event in self.events if event[0] > self.seconds]
        for _, happen in due:
            happen()


@dataclass
class FakeMaster:
    """A master and its workers, the current one first."""

    state: Path
    workers: dict[int, dict[Key, Backend]]
    shown: dict[int, set[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuses_reload: bool = False
    forgets: bool = False
    ignores: str = "\0"

    @property
    def current(self) -> dict[Key, Backend]:
        return next(iter(self.workers.values()))

    def ask(self, command: str, seconds: float = ANSWER_SECONDS) -> str:
        self.asked.append(command)
        if command == "show proc":
            return processes(*self.workers)
        if command == "reload":
            return self.reload()
        prefix, _, rest = command.partition(" ")
        pid = int(prefix.removeprefix("@!"))
        if pid not in self.workers:
            return GONE.format(pid=pid)
        return self.tell(pid, rest)

    def tell(self, pid: int, command: str) -> str:
        servers, shown = self.workers[pid], self.shown.setdefault(pid, set())
        match command.split():
            case ["show", "stat"]:
                return stat(
                    {"pxname": app, "svname": host, "scur": one.sessions, "status": one.status, "check_status": "L7OK"}
                    for (app, host), one in servers.items()
                )
            case ["show", "servers", "state"]:
                return states(
                    *(
                        state_line(app, host, admin=one.admin, port=one.port, op=2 if one.up else 0)
                        for (app, host), one in servers.items()
                    )
                )
            case ["show", "map", name]:
                assert name == MAINTENANCE_MAP
                return "".join(f"0x7f3{number} {app} on\n" for number, app in enumerate(sorted(shown))) + "\n"
            case ["add", "map", name, app, "on"]:
                assert name == MAINTENANCE_MAP
                shown.add(app)
                return "\n"
            case ["del", "map", name, app]:
                if app not in shown:
                    return "Key not found.\n"
                shown.remove(app)
                return "\n"
            case ["set", "server", target, *change]:
                app, _, host = target.partition("/")
                return self.change(servers.get((app, host)), " ".join(change))
            case ["shutdown", "sessions", "server", target]:
                app, _, host = target.partition("/")
                if (app, host) not in servers:
                    return "No such server.\n"
                if app != "stubborn":
                    servers[app, host].sessions = 0
                return "\n"
        raise AssertionError(command)

    def change(self, server: Backend | None, change: str) -> str:
        if server is None or change == self.ignores:
            return "No such server.\n"
        match change:
            case "state maint":
                server.admin = Admin.MAINTENANCE
            case "state drain":
                server.admin = Admin.DRAIN
            case "state ready":
                if server.admin & Admin.MAINTENANCE:
                    # As HAProxy does: unchecked.
                    server.up = True
                server.admin = NOTHING
            case "health down":
                server.up, server.passes = False, 0
            case _:
                raise AssertionError(change)
        return "\n"

    def check(self) -> None:
        """One round of health checks in all workers; two that pass bring a server up."""
        for servers in self.workers.values():
            for one in servers.values():
                if one.admin & Admin.MAINTENANCE:
                    continue
                one.passes = one.passes + 1 if one.healthy else 0
                one.up = one.healthy and (one.up or one.passes >= 2)

    def end(self, pid: int) -> None:
        """A worker ends."""
        del self.workers[pid]

    def reload(self) -> str:
        """A new worker, which knows of its servers what stands in the state file."""
        if self.refuses_reload:
            return "Success=0\n--\n[ALERT]    (1) : config : unknown keyword\n"
        rows = {row.key: row for row in parse_states((self.state / "servers").read_text())}
        fresh = {}
        for key, one in self.current.items():
            row = rows.get(key)
            admin = row.admin if row and not self.forgets else NOTHING
            up = row is not None and row.fields["srv_op_state"] == "2"
            port = int(row.fields["srv_port"]) if row else one.port
            fresh[key] = replace(one, sessions=0, admin=admin, up=up, port=port)
        self.workers = {max(self.workers) + 10: fresh, **self.workers}
        listed = (self.state / "maintenance").read_text() if (self.state / "maintenance").exists() else ""
        self.shown[next(iter(self.workers))] = {line.split()[0] for line in listed.splitlines()}
        return "Success=1\n--\n[NOTICE]   (1) : Loading success.\n"

    @property
    def commands(self) -> list[str]:
        """What changed something, without the worker it was said to."""
        found = [command.partition(" ")[2] for command in self.asked if command.startswith("@!")]
        return [command for command in found if not command.startswith("show ")]
