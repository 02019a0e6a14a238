"""What HAProxy says of its servers, read into values; and the state file that carries them over a reload.

The formats are those of HAProxy 3.0: `show servers state` (version 1) and `show stat` in section 9.3 of its Management
Guide, `show proc` in section 9.4. Nothing here opens a socket.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntFlag, StrEnum
from typing import Any

STATE_VERSION = "1"
# An app's second backend: the same servers, unchecked, for when no check passes. No app's name begins so.
UNCHECKED = "_any_"
# The fields of `show servers state` that are used here; their names are in its second line.
_HEADER = "# be_id be_name srv_id srv_name srv_addr"
_SERVER_LINE = re.compile(r"^\s*server\s+(\S+)\s+(\[[^\]]+\]|[^\s:]+):(\d+)", re.MULTILINE)
_BACKEND_LINE = re.compile(r"^backend\s+(\S+)\s*$", re.MULTILINE)
NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_WORKER_LINE = re.compile(r"^(\d+)\s+worker\s", re.MULTILINE)


class BalancerError(Exception):
    """HAProxy cannot be asked, refuses, or does not come to the state asked for. The message is for a person."""


class Admin(IntFlag):
    """The administrative state of a server, a set of flags; only the first and the fourth are an operator's."""

    MAINTENANCE = 0x01
    MAINTENANCE_INHERITED = 0x02
    MAINTENANCE_CONFIGURED = 0x04
    DRAIN = 0x08
    DRAIN_INHERITED = 0x10
    MAINTENANCE_RESOLUTION = 0x20
    MAINTENANCE_HOSTNAME = 0x40


OPERATOR = Admin.MAINTENANCE | Admin.DRAIN


class Condition(StrEnum):
    """What a server is, in one word."""

    UP = "up"
    DOWN = "down"
    DRAINED = "drained"
    DRAINING = "draining"


@dataclass(frozen=True)
class Row:
    """One line of `show servers state`. `fields` by the names of its header."""

    fields: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """Backend and server."""
        return self.fields["be_name"], self.fields["srv_name"]

    @property
    def admin(self) -> Admin:
        return Admin(int(self.fields["srv_admin_state"]))


@dataclass(frozen=True)
class Server:
    """A server of an app in one worker.

    status: HAProxy's word, such as `UP`, `DOWN 1/2`, `MAINT`, `DRAIN`. check: the last health check's result.
    sessions: requests and tunnels in flight. requests, errors_5xx, …: since the worker started.
    """

    app: str
    host: str
    status: str
    check: str
    sessions: int
    requests: int
    errors_5xx: int
    connection_errors: int
    response_errors: int
    retries: int
    redispatches: int
    response_ms: int

    @property
    def condition(self) -> Condition:
        """What it is, whatever its check's progress."""
        if self.status.startswith("MAINT"):
            return Condition.DRAINING if self.sessions else Condition.DRAINED
        if self.status.startswith("DRAIN"):
            return Condition.DRAINING
        return Condition.UP if self.status.startswith(("UP", "no check")) else Condition.DOWN

    def describe(self) -> dict[str, Any]:
        """As a module returns it."""
        return {**asdict(self), "condition": str(self.condition)}


COUNTERS = (
    "requests",
    "errors_5xx",
    "connection_errors",
    "response_errors",
    "retries",
    "redispatches",
)


def parse_states(text: str) -> list[Row]:
    """The rows of `show servers state`. Raises BalancerError for anything else."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0].strip() != STATE_VERSION or not lines[1].startswith(_HEADER):
        raise BalancerError(f"HAProxy answered `show servers state` with something else: {text.strip()[:200]!r}")
    names = lines[1].removeprefix("#").split()
    rows = [Row(dict(zip(names, line.split(), strict=False))) for line in lines[2:]]
    for row in rows:
        if not NUMBER.fullmatch(row.fields.get("srv_admin_state", "")):
            raise BalancerError(f"HAProxy answered `show servers state` with a row that is cut: {row.fields}")
    return rows


def format_states(rows: Iterable[Row], like: str) -> str:
    """The content of a server-state-file with these rows, under the header of the dump `like`."""
    header = [line for line in like.splitlines() if line.strip()][:2]
    return "\n".join([*header, *(" ".join(row.fields.values()) for row in rows)]) + "\n"


def configured_servers(configuration: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(backend, server) → (address, port), from the text of haproxy.cfg as the role writes it."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    parts = _BACKEND_LINE.split(configuration)
    for backend, body in zip(parts[1::2], parts[2::2], strict=True):
        for name, address, port in _SERVER_LINE.findall(body):
            found[backend, name] = (address.strip("[]"), port)
    return found


def carried_over(dump: str, configuration: str) -> str:
    """What the next worker is to know of its servers.

    HAProxy believes the file about ports, so a port that the configuration changed would stay the old one: each row
    gets the configuration's address and port. Rows of servers that are no more are left out.
    """
    servers = configured_servers(configuration)
    rows = []
    for row in parse_states(dump):
        if row.key in servers:
            address, port = servers[row.key]
            rows.append(Row({**row.fields, "srv_addr": address, "srv_port": port}))
    return format_states(rows, dump)


def kept(state: str) -> str:
    """The part of a state file that outlives a restart: what an operator said, not what a check found some time ago."""
    return format_states((row for row in parse_states(state) if row.admin & OPERATOR), state)


def held(state: str) -> list[str]:
    """`app/host` of what an operator keeps traffic away from, by a state file. Raises BalancerError for others."""
    rows = parse_states(state)
    return sorted({f"{row.key[0].removeprefix(UNCHECKED)}/{row.key[1]}" for row in rows if row.admin & OPERATOR})


def parse_servers(text: str, *, unchecked: bool = False) -> list[Server]:
    """The servers of `show stat`; `unchecked`: of the second backends. Raises BalancerError for anything else."""
    if not text.startswith("# pxname,"):
        raise BalancerError(f"HAProxy answered `show stat` with something else: {text.strip()[:200]!r}")
    try:
        lines = list(csv.DictReader(text.removeprefix("# ").splitlines(), restval=""))
        return [_server(line) for line in lines if _is_server(line, unchecked)]
    except (csv.Error, KeyError) as error:
        raise BalancerError(f"HAProxy answered `show stat` without what is needed: {error}") from error


def _is_server(line: Mapping[str, str], unchecked: bool) -> bool:
    return line["svname"] not in ("FRONTEND", "BACKEND") and line["pxname"].startswith(UNCHECKED) is unchecked


def _server(line: Mapping[str, str]) -> Server:
    return Server(
        app=line["pxname"].removeprefix(UNCHECKED),
        host=line["svname"],
        status=line["status"],
        check=" ".join(filter(None, (line["check_status"], line["check_code"], line["last_chk"]))),
        sessions=_number(line["scur"]),
        requests=_number(line["req_tot"]) or _number(line["stot"]),
        errors_5xx=_number(line["hrsp_5xx"]),
        connection_errors=_number(line["econ"]),
        response_errors=_number(line["eresp"]),
        retries=_number(line["wretr"]),
        redispatches=_number(line["wredis"]),
        response_ms=_number(line["rtime"]),
    )


def parse_workers(text: str) -> tuple[int, list[int]]:
    """(the worker that accepts, those that only finish what they have), from the master's `show proc`."""
    current, _, old = text.partition("# old workers")
    found = [int(pid) for pid in _WORKER_LINE.findall(current)]
    if len(found) != 1:
        raise BalancerError(f"HAProxy's master names {len(found)} current workers: {text.strip()[:300]!r}")
    return found[0], [int(pid) for pid in _WORKER_LINE.findall(old)]


def parse_reload(text: str) -> None:
    """Raise BalancerError with the reasons when the master's `reload` did not succeed."""
    first, _, rest = text.partition("\n")
    if first.strip() != "Success=1":
        reasons = "\n".join(line for line in rest.splitlines() if "[ALERT]" in line) or text
        raise BalancerError(f"HAProxy did not reload; the one before serves on:\n{reasons.strip()[:2000]}")


def parse_map(text: str) -> dict[str, str]:
    """Key → value of `show map <file>`, whose lines are `<reference> <key> <value>`."""
    rows = [line.split(None, 2) for line in text.splitlines() if line.startswith("0x")]
    return {row[1]: row[2] if len(row) > 2 else "" for row in rows if len(row) > 1}


def chosen(servers: Iterable[Server], host: str, apps: Iterable[str] = ()) -> list[Server]:
    """The servers of a host, of some apps or of all. Raises BalancerError when there is none."""
    everything = list(servers)
    wanted = list(apps)
    found = [one for one in everything if one.host == host and (not wanted or one.app in wanted)]
    known = {one.host for one in everything}
    if not found and host not in known:
        raise BalancerError(f"the balancer knows no host {host} (it knows {', '.join(sorted(known)) or 'none'})")
    missing = set(wanted) - {one.app for one in found}
    if missing or not found:
        raise BalancerError(f"the balancer knows no app {', '.join(sorted(missing))} on {host}")
    return found


def sole(targets: Iterable[Server], servers: Sequence[Server]) -> list[str]:
    """The apps whose traffic only the targets take."""
    own = list(targets)
    hosts = {one.host for one in own}
    taken = {one.app for one in servers if one.condition is Condition.UP and one.host not in hosts}
    return sorted({one.app for one in own if one.condition is Condition.UP and one.app not in taken})


def balancer_trouble(asked: Mapping[str, Any], host: str = "") -> str:
    """What those said that could not do what they were asked for; empty when all did.

    asked: what a loop over balancers registered, or a task on the host itself.  host: what they said of this one.
    """
    return "\n".join(
        f"{one.get('app_balancer', 'the health check')}: "
        + " ".join(str((one.get("trouble") or {}).get(host) or one.get("msg", "it said nothing")).split())
        for one in asked.get("results", [asked])
        if one.get("failed") or one.get("unreachable")
    )


def counted(servers: Iterable[Server]) -> dict[str, dict[str, dict[str, int]]]:
    """App → host → counters since the worker started."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for one in servers:
        found.setdefault(one.app, {})[one.host] = {name: getattr(one, name) for name in COUNTERS}
    return found


def counted_since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """How far counters came. A reload begins them at 0, which shows as a counter that went back."""
    restarted = any(now[name] < before.get(name, 0) for name in now)
    return {name: now[name] - (0 if restarted else before.get(name, 0)) for name in now}


# So few failures say nothing: a client that gave up, a host that was checked just then.
MIN_FAILURES = 3


def judge(before: Mapping[str, Any], now: Mapping[str, Any], app: str, host: str, ratio: float) -> str:
    """Why the balancer finds a host bad; empty when it does not.

    before, now: what `counted` said.  ratio: share of requests that may find no answer.
    """
    counters = (now.get(app) or {}).get(host)
    if not counters:
        return ""
    since = counted_since((before.get(app) or {}).get(host) or {}, counters)
    failures = since["connection_errors"] + since["response_errors"]
    if failures < MIN_FAILURES or failures <= ratio * max(since["requests"], failures):
        return ""
    kinds = f"{since['connection_errors']} without a connection, {since['response_errors']} without an answer"
    return f"of {since['requests']} requests to {host} {failures} failed ({kinds})"


def _number(text: str | None) -> int:
    return int(text) if text and NUMBER.fullmatch(text) else 0
