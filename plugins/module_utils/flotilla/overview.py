"""What all hosts said, in one text for people: status, history, logs. Pure functions, for the controller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .condition import FILLS, disk_problems, proven

GIB = 1024**3
Seen = Mapping[str, Mapping[str, Any]]
ROOM = ("free", "total")
# What makes entries of two hosts' histories one event.
SAME = ("app", "run", "action", "from", "to", "version", "outcome", "reason")


def status(seen: Seen, environment: str = "") -> dict[str, Any]:
    """`lines` to be shown and `problems`, from what each host returned: `flotilla_view`'s result, or Ansible's.

    seen: host → result.  environment: the inventories of the command line, for messages.
    """
    said = {host: result["status"] for host, result in seen.items() if "status" in result}
    problems = [
        f"{host}: {_silent(result).removeprefix(f'{host}: ')}"
        for host, result in seen.items()
        if "status" not in result
    ]
    at_work = any(one["lock"] and not one["lock"].get("expired") for one in said.values())
    lines: list[str] = []
    for app in sorted({name for one in said.values() for name in one["apps"]}):
        here = {host: one["apps"][app] for host, one in said.items() if app in one["apps"]}
        away = [host for host, one in said.items() if app not in one["apps"]]
        lines += [app, *(f"  {row}" for row in _app_lines(here))]
        differences = drift(here, away)
        lines += [f"  drift: {difference}" for difference in differences]
        if not differences:
            lines.append(f"  drift: none, {len(here)} of {len(said)} hosts agree" if len(said) > 1 else "  one host")
        if not at_work:
            problems += [f"{app}: {difference}. Next: deploy again{environment}" for difference in differences]
        problems += [f"{host}: {app}: {problem}" for host, one in here.items() for problem in one["problems"]]
    if said and not lines:
        problems.append(f"no app was ever deployed on {', '.join(said)}")
    lines += ["hosts", *(f"  {row}" for row in _host_lines(said))]
    problems += [f"{host}: {problem}" for host, one in said.items() for problem in one["problems"]]
    return {"lines": lines, "problems": problems}


def _silent(result: Mapping[str, Any]) -> str:
    why = " ".join(str(result.get("msg", "it said nothing")).split())
    return f"cannot be reached: {why}" if result.get("unreachable") else why


def drift(here: Mapping[str, Mapping[str, Any]], away: Sequence[str]) -> list[str]:
    """How the hosts of an app differ, one sentence each. away: hosts that have never had it."""
    found = []
    by_release: dict[str, list[str]] = {}
    for host, one in here.items():
        by_release.setdefault(one["release"], []).append(host)
    if len(by_release) > 1:
        parts = [f"{release or 'nothing'} on {', '.join(hosts)}" for release, hosts in sorted(by_release.items())]
        found.append(f"the hosts do not serve the same release: {'; '.join(parts)}")
    else:
        images: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for host, one in here.items():
            images.setdefault(tuple(sorted(one["images"].items())), []).append(host)
        if len(images) > 1:
            alike = "; ".join(", ".join(hosts) for hosts in images.values())
            found.append(f"the release is the same, but its images differ between: {alike}")
    if away:
        found.append(f"it was never deployed on {', '.join(away)}")
    return found


def _app_lines(here: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [("host", "version", "release", "colour", "live since", "containers")]
    for host, one in here.items():
        serving = (one["version"] or "-", one["release"] or "nothing serves", one["colour"] or "-", _when(one["since"]))
        rows.append((host, *serving, _containers(one["containers"])))
    lines = _columns(rows)
    lines += [f"{host}: in hand: {one['unfinished']}" for host, one in here.items() if one["unfinished"]]
    everywhere = [
        f"{release['id']} (proven {_when(release['proven'])})"
        for release in next(iter(here.values()))["releases"]
        if all(release["id"] in proven(one["releases"]) and release["id"] != one["release"] for one in here.values())
    ]
    lines.append(f"proven releases: {', '.join(everywhere) or 'none but what serves'}")
    known = {name for one in here.values() for name in proven(one["releases"])}
    for name in sorted(known):
        without = [host for host, one in here.items() if name not in proven(one["releases"])]
        if without and len(here) > 1:
            lines.append(f"{name} is not proven on {', '.join(without)}: a rollback cannot go there")
    return lines


def _containers(found: Sequence[Mapping[str, Any]]) -> str:
    well = sum(1 for one in found if not one["ailment"])
    restarts = sum(one["restarts"] for one in found)
    again = f", {restarts} restarts" if restarts else ""
    return f"{well} of {len(found)} well{again}" if found else "none"


def _host_lines(said: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for host, one in said.items():
        rows.append((host, lock_line(one["lock"]), _disk_line(one["disks"])))
    return _columns(rows)


def _disk_line(disks: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(
        f"{path} {room['free'] / GIB:.1f} of {room['total'] / GIB:.1f} GiB free" for path, room in _different(disks)
    )


def rooms(seen: Seen) -> dict[str, list[str]]:
    """`lines` and `problems` of hosts without apps, from what `df --block-size=1 --output=file,avail,size` said."""
    rows, problems = [], []
    # A run with --limit has asked these alone.
    for host, result in ((host, result) for host, result in seen.items() if result):
        disks = {}
        for line in str(result.get("stdout", "")).splitlines():
            path, *numbers = line.split()
            if len(numbers) == len(ROOM) and all(number.isdecimal() for number in numbers):
                disks[path] = dict(zip(ROOM, map(int, numbers), strict=True))
        if not disks:
            problems.append(f"{host}: {_silent(result)}")
        problems += [f"{host}: {problem}" for problem in disk_problems(disks, FILLS)]
        rows.append((host, _disk_line(disks)))
    return {"lines": [f"  {row}" for row in _columns(rows)], "problems": problems}


def balanced(seen: Seen) -> dict[str, list[str]]:
    """`lines` and `problems` of the balancers, from what each returned: `flotilla_balancer`'s result, or Ansible's."""
    rows, problems = [("balancer", "app", "host", "state", "in flight")], []
    for balancer, result in seen.items():
        if "servers" not in result:
            problems.append(f"{balancer}: {_silent(result)}")
            continue
        for one in result["servers"]:
            rows.append((balancer, one["app"], one["host"], one["condition"], str(one["sessions"])))
            if one["condition"] != "up":
                what = f"{one['app']}: no new request goes to {one['host']}, which is {one['condition']}"
                problems.append(f"{balancer}: {what} (its last check: {one['check'] or 'none'})")
        problems += [f"{balancer}: {app}: the maintenance page is shown" for app in result.get("maintained") or []]
    lines = ["balancers", *(f"  {row}" for row in _columns(rows))] if len(rows) > 1 else []
    return {"lines": lines, "problems": problems}


def images(seen: Seen) -> list[str]:
    """How old what runs is, and what registries have, from what each host returned: `flotilla_images`'s result."""
    rows = [("host", "what", "image", "age", "its lowest layer", "in the registry")]
    silent = []
    for host, result in seen.items():
        if "images" not in result:
            silent.append(f"{host}: its images are not known: {_silent(result)}")
            continue
        for one in result["images"]:
            ages = (_age(one["days"]), _age(one["base_days"]))
            rows.append((host, one["what"], one["built"] or _short(one["image"]), *ages, _registry(one)))
    return ["images", *(f"  {row}" for row in [*(_columns(rows) if len(rows) > 1 else []), *silent])]


def _short(reference: str) -> str:
    """A reference with the beginning of its digest."""
    name, at, digest = reference.partition("@sha256:")
    return f"{name}{at}{digest[:12]}"


def _age(days: int | None) -> str:
    return "not known" if days is None else f"{days} days"


def _registry(one: Mapping[str, Any]) -> str:
    """What a registry has of an image, or of its base."""
    if one["note"] or not one["newest"]:
        return str(one["note"] or "-")
    of = f" of its base {one['base'] or one['image']}" if one["base"] or one["built"] else ""
    if one["newest"] in one["digests"]:
        return f"the newest{of}"
    remedy = "" if one["base"] else ": playbooks/patch.yml" if one["due"] else ", and it is named with its digest"
    return f"a newer build{of}{remedy}"


def _different(disks: Mapping[str, Mapping[str, int]]) -> list[tuple[str, Mapping[str, int]]]:
    """Paths of one file system once."""
    seen: dict[int, tuple[str, Mapping[str, int]]] = {}
    for path, room in disks.items():
        seen.setdefault(room["total"], (path, room))
    return list(seen.values())


def lock_line(lock: Mapping[str, Any]) -> str:
    """Who has the environment's lock, for a person."""
    if not lock:
        return "not locked"
    expired = " (expired)" if lock.get("expired") else ""
    return f"locked by {lock.get('owner') or 'somebody'}: {lock.get('purpose') or 'no purpose given'}{expired}"


def history(seen: Seen, number: int) -> list[str]:
    """The last entries of all hosts, oldest first; what is the same on several hosts is one line.

    The entries of one run differ from host to host in their time only, by seconds.
    """
    merged: dict[tuple[str, ...], tuple[Mapping[str, Any], list[str]]] = {}
    for host, result in seen.items():
        times: Counter[tuple[str, ...]] = Counter()
        for entry in reversed(result.get("history", ())):
            same = tuple(str(entry.get(name, "")) for name in SAME)
            times[same] += 1
            # The same again on the same host is another event: the last on one host is the last on the next.
            merged.setdefault((*same, str(times[same])), (entry, []))[1].append(host)
    ordered = sorted(merged.values(), key=lambda pair: str(pair[0].get("when", "")))[-number:]
    rows = [
        (
            _when(str(entry.get("when", ""))),
            str(entry.get("outcome", "")),
            " ".join(filter(None, (str(entry.get("app", "")), str(entry.get("version", ""))))),
            " ".join(filter(None, (str(entry.get("action", "")), _by(entry)))),
            f"on {', '.join(hosts)}",
            _details(entry),
        )
        for entry, hosts in ordered
    ]
    return _columns(rows) or ["no host has a history yet"]


def _by(entry: Mapping[str, Any]) -> str:
    who, approver = str(entry.get("who") or ""), str(entry.get("approved_by") or "")
    return (f"by {who}" if who else "") + (f", approved by {approver}" if approver else "")


def _details(entry: Mapping[str, Any]) -> str:
    parts = [f"{entry['seconds']} s" if entry.get("seconds") else ""]
    parts.append(f"migration {entry['migration']}" if entry.get("migration") not in (None, "", "none") else "")
    parts.append(str(entry.get("reason") or ""))
    return "; ".join(filter(None, parts))


def logs(seen: Seen) -> list[str]:
    """Log lines, host by host and container by container, each line with where it is from."""
    found = [
        f"{host} {one['container']} | {row}"
        for host, result in seen.items()
        for one in result.get("logs", ())
        for row in one["lines"]
    ]
    return found or ["no container has logged anything"]


def _when(moment: str) -> str:
    """`2025-01-01T12:00:00Z` as `2025-01-01 12:00:00`; times are UTC."""
    return moment.replace("T", " ").removesuffix("Z") or "-"


def _columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as columns, as wide as their widest entry."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
