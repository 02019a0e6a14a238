"""What one host can say of an app: what serves, whether it is whole, what is wrong. Pure, over what was read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .host import MIB
from .journal import Colour, Journal, Phase
from .readiness import service_of
from .store import Release, Standing

# Below this, admit refuses the next deploy.
DISK_NEEDED = 1024 * MIB
# A disk with less than one part in so many free is told, while there is time to act.
DISK_PARTS = 20


FILLS = (
    "a full disk stops Postgres. Next: docker system df, and du -xhd2 /var/lib/docker/volumes /opt on the host, tell "
    "what takes it; or enlarge the disk"
)


def container(inspected: Mapping[str, Any], one_shots: Collection[str] = ()) -> dict[str, Any]:
    """A container in a few words, from its `inspect`. `ailment`: what is wrong with it, empty when nothing is."""
    state = inspected["State"]
    found = {
        "service": service_of(inspected),
        "name": str(inspected.get("Name", "")).lstrip("/"),
        "state": str(state.get("Status", "")),
        "health": str((state.get("Health") or {}).get("Status", "")),
        "exit_code": int(state.get("ExitCode") or 0),
        "restarts": int(inspected.get("RestartCount", 0)),
        "out_of_memory": bool(state.get("OOMKilled")),
    }
    done = found["service"] in one_shots and found["state"] == "exited" and found["exit_code"] == 0
    return {**found, "ailment": "" if done else _ailment(found)}


def _ailment(found: Mapping[str, Any]) -> str:
    if found["state"] != "running":
        memory = ", out of memory" if found["out_of_memory"] else ""
        return f"{found['service']} is {found['state']} (exit code {found['exit_code']}{memory})"
    if found["health"] in ("unhealthy", "starting"):
        return f"{found['service']} is {found['health']}"
    return ""


def condition(
    journal: Journal,
    edge: Colour | None,
    releases: Sequence[Release],
    colours: Mapping[Colour, Sequence[Mapping[str, Any]]],
    shared: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    *,
    at_work: bool = False,
) -> dict[str, Any]:
    """An app on a host.

    edge: the colour that the edge sends traffic to.  colours: colour → `inspect` of its containers.
    shared: `inspect` of the services that own data.  history: its entries, oldest first.
    at_work: whether a run has the environment's lock: then an unfinished release is nothing to worry about.

    Returns `release`, `version`, `colour`, `since` (ISO 8601; empty where nothing serves), `unfinished` (phase and
    release in hand, or empty), `containers`, `images`, `releases` (newest first), `problems` (one line each).
    """
    live = journal.live
    record = next((found for found in releases if live and found.id == live.release), None)
    one_shots = record.services.get("one_shots", ()) if record else ()
    serving = [container(one, one_shots) for one in (colours.get(live.colour, ()) if live else ())]
    data = [container(one) for one in shared]
    return {
        "release": live.release if live else "",
        "version": record.version if record else "",
        "colour": str(live.colour) if live else "",
        "since": since(history, live.release) or (record.proven if record else "") if live else "",
        "unfinished": "" if journal.phase is Phase.IDLE else f"{journal.phase} {_in_hand(journal)}",
        "containers": [*serving, *data],
        "images": dict(record.images) if record else {},
        "releases": [
            {"id": found.id, "version": found.version, "standing": str(found.standing), "proven": found.proven}
            for found in sorted(releases, key=lambda found: found.id, reverse=True)
        ],
        "problems": [
            *([] if at_work else _cut_short(journal)),
            *_problems(journal, edge, record, serving, data, colours),
        ],
    }


def _in_hand(journal: Journal) -> str:
    return journal.candidate.release if journal.candidate else ""


def _cut_short(journal: Journal) -> Iterable[str]:
    if journal.phase is not Phase.IDLE:
        yield f"release {_in_hand(journal)} is {journal.phase}, and no run is at work: one was cut short; deploy again"


def _problems(
    journal: Journal,
    edge: Colour | None,
    record: Release | None,
    serving: Sequence[Mapping[str, Any]],
    data: Sequence[Mapping[str, Any]],
    colours: Mapping[Colour, Sequence[Mapping[str, Any]]],
) -> Iterable[str]:
    live = journal.live
    if live is None:
        if journal.phase is Phase.IDLE:
            yield "nothing was ever deployed here"
        return
    if record is None:
        yield f"the live release {live.release} has no record in releases/"
    if edge is not live.colour and journal.phase is Phase.IDLE:
        yield f"the edge sends traffic to {edge or 'nobody'}, but {live.colour} is live"
    yield from filter(None, (one["ailment"] for one in [*serving, *data]))
    if record:
        wanted = {*record.services.get("start_with_colour", ()), *record.services.get("start_at_commit", ())}
        wanted -= set(record.services.get("one_shots", ()))
        for missing in sorted(wanted - {one["service"] for one in serving}):
            yield f"{missing} has no container"
    if journal.phase is Phase.IDLE and colours.get(live.colour.other):
        yield f"containers of {live.colour.other} are there, which should be absent"


def since(history: Iterable[Mapping[str, Any]], release: str) -> str:
    """When a release went live on this host, by its history."""
    times = [str(entry.get("when", "")) for entry in history if _went_live(entry) == release]
    return times[-1] if times else ""


def _went_live(entry: Mapping[str, Any]) -> str:
    return str(entry.get("to", "")) if entry.get("outcome") == "deployed" else ""


def proven(releases: Iterable[Mapping[str, Any]]) -> list[str]:
    """The releases, out of `condition`'s, that a rollback may choose."""
    return [str(one["id"]) for one in releases if one["standing"] in (Standing.PROVEN, Standing.LIVE)]


def disk_problems(
    disks: Mapping[str, Mapping[str, int]], without_room: str = "the next deploy will be refused"
) -> list[str]:
    """File systems that will soon be full. disks: path → `free` and `total`, in bytes.

    without_room: what follows from less than DISK_NEEDED.
    """
    found = []
    for path, room in disks.items():
        if room["free"] < DISK_NEEDED:
            found.append(f"{path} has {room['free'] // MIB} MiB left: {without_room}")
        elif room["free"] * DISK_PARTS < room["total"]:
            found.append(f"{path} has {room['free'] // MIB} MiB left, less than {100 // DISK_PARTS} %: {FILLS}")
    return found
