"""What is asked of playbooks/restore.yml, checked before anything is touched; what it says. For the controller.

Times, names and labels go to a command on the host of the database, and to Postgres: they are held to a form here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .problem import Problem, did_you_mean

WHERE = "command line"
TARGETS = ("latest", "time", "point", "backup")
PLACES = ("scratch", "place")
STATES = ("present", "absent", "confirmed", "undone")
# Of a volume.
VOLUME_TARGETS = ("latest", "time", "backup")
VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
SNAPSHOT = re.compile(r"[0-9a-f]{8,64}")
ARGUMENTS = ("volume", "to", "time", "point", "label", "timeline", "into", "state", "confirm", "count")
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d(?::?\d\d)?)")
POINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}")
LABEL = re.compile(r"\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?")
TIMELINE = re.compile(r"[1-9]\d{0,9}|latest|current")


def asked(extra: Mapping[str, Any], environment: str, inventory: str) -> dict[str, Any]:
    """`problems`, as text, and what is to be done: `state`, `into`, `count`, and `arguments` for `flotilla-restore`.

    extra: the arguments that were given on the command line, by name.  inventory: such as ` -i inventories/staging`.
    """
    given = {name: str(extra[name]).strip() for name in ARGUMENTS if name in extra and str(extra[name]).strip()}
    command = f"ansible-playbook playbooks/restore.yml{inventory}"
    if "volume" in given:
        command += f" -e volume={given['volume']}"
    state, into = given.get("state", "present"), given.get("into", "scratch")
    problems = list(_problems(given, state, into, environment, command))
    return {
        "problems": [str(problem) for problem in problems],
        "state": state,
        "into": into,
        "count": given.get("count", "true").lower() not in ("false", "no", "off", "0"),
        "arguments": [] if problems else _arguments(given),
        "volume": given.get("volume", ""),
        "says": _says(given) + (f" of the volume {given['volume']}" if "volume" in given else ""),
    }


def _problems(given: Mapping[str, str], state: str, into: str, environment: str, command: str) -> list[Problem]:
    found = [
        *_one_of("state", state, STATES, f"{command} -e into={into} -e state=absent"),
        *_one_of("into", into, PLACES, f"{command} -e to=latest -e into=scratch"),
    ]
    if found:
        return found
    if "volume" in given and not VOLUME.fullmatch(given["volume"]):
        return [
            Problem(WHERE, "volume", f"`{given['volume']}` is no name of a volume", "such as -e volume=app_uploads")
        ]
    if state == "absent" and into == "place":
        what = "removes a scratch instance, and nothing of Flotilla's removes a database or a volume"
        return [Problem(WHERE, "state", f"`absent` {what}", f"{command} -e state=absent")]
    if state in ("confirmed", "undone") and into == "scratch" and "into" in given:
        what = f"`{state}` is about a restore in place"
        return [Problem(WHERE, "into", what, f"{command} -e state={state} -e confirm={environment}")]
    if state == "present":
        found += _target_problems(given, command)
    if (into == "place" and state == "present") or state in ("confirmed", "undone"):
        found += _confirm_problems(given, environment, state)
    return found


def _target_problems(given: Mapping[str, str], command: str) -> list[Problem]:
    to = given.get("to", "")
    if not to:
        what = "is not given: what to go back to"
        targets = VOLUME_TARGETS if "volume" in given else TARGETS
        return [Problem(WHERE, "to", what, f"{command} -e to={', or to='.join(targets)}")]
    if found := _one_of("to", to, VOLUME_TARGETS if "volume" in given else TARGETS, f"{command} -e to=latest"):
        return found
    found = []
    label = (SNAPSHOT, "-e label=1a2b3c4d") if "volume" in given else (LABEL, "-e label=20261122-100000F")
    for name, form, example in (
        ("time", TIME, "-e \"time='2026-11-22 10:00:00+00'\""),
        ("point", POINT, "-e point=flotilla-20261122T100000Z-1.1.0"),
        ("label", *label),
        ("timeline", TIMELINE, "-e timeline=2"),
    ):
        value = given.get(name)
        if to == name and value is None:
            found.append(Problem(WHERE, name, f"is not given, and to={to} needs it", f"{command} -e to={to} {example}"))
        elif value is not None and not (form.fullmatch(value) and (name != "time" or _is_time(value))):
            zone = ", with its zone" if name == "time" else ""
            found.append(Problem(WHERE, name, f"is `{value}`, and must be a {name}{zone}", f"such as {example}"))
        elif value is not None and name in ("time", "point") and to != name:
            found.append(Problem(WHERE, name, f"is given, and to is `{to}`", f"-e to={name}, or leave {name} out"))
    return found


def _confirm_problems(given: Mapping[str, str], environment: str, state: str) -> list[Problem]:
    typed = given.get("confirm", "")
    if typed == environment:
        return []
    what = f"is `{typed}`" if typed else "is not given"
    thing = f"volume {given['volume']}" if "volume" in given else "database"
    why = {"confirmed": f"the old data of its {thing} is let go of"}.get(state, f"its {thing} is replaced")
    told = f"{what}; this is {environment}, and {why}"
    return [Problem(WHERE, "confirm", told, f"type the environment's name: -e confirm={environment}")]


def _one_of(name: str, value: str, known: Sequence[str], example: str) -> list[Problem]:
    if value in known:
        return []
    what = f"is `{value}`, and must be one of {', '.join(known)}{did_you_mean(value, known)}"
    return [Problem(WHERE, name, what, example)]


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _arguments(given: Mapping[str, str]) -> list[str]:
    to = given.get("to", "latest")
    found = [f"--to={to}"]
    if "volume" in given:
        what = given["time"].replace(" ", "T") if to == "time" else given.get("label", "") if to == "backup" else ""
        return found + [f"--what={what}"] * bool(what)
    if to in ("time", "point"):
        found.append(f"--what={_for_postgres(given[to]) if to == 'time' else given[to]}")
    return found + [f"--{name}={given[name]}" for name in ("label", "timeline") if name in given]


def _for_postgres(text: str) -> str:
    """A time as Postgres and pgBackRest both read it."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S.%f%z")


def _says(given: Mapping[str, str]) -> str:
    to = given.get("to", "latest")
    what = {"latest": "the latest state", "backup": f"the backup {given.get('label', '(the newest)')}"}
    return what.get(to, f"the {to} {given.get(to, '')}")


def scratch_lines(
    result: Mapping[str, Any], lines: Sequence[str] | None, host: str, inventory: str, stays: bool = True
) -> list[str]:
    """What a person is told of a scratch instance: how to look at it, and how to remove it.

    lines: what differs from the live database; None where nothing was counted.  stays: whether it can be looked at.
    """
    last = f", the last transaction in it is of {result['last_transaction']}" if result.get("last_transaction") else ""
    told = [f"{host}: {result['container']} has the backup {result['backup']}{last}; {result['seconds']} s"]
    if lines is not None:
        told.append("Rows of each table, now and in it (rows that were only changed are not seen):" if lines else "")
        told += lines or ["Every table has as many rows in it as it has now; rows that were only changed are not seen."]
    told = [line for line in told if line]
    if not stays:
        return told
    databases = ", ".join(result.get("databases", ()))
    return [
        *told,
        f"Look at it, on {host}: docker exec -it {result['container']} sh /etc/postgresql/session.sh postgres psql "
        f"<one of {databases}>, where tables are named with their schema",
        f"Remove it: ansible-playbook playbooks/restore.yml{inventory} -e state=absent",
    ]


def trouble(result: Mapping[str, Any]) -> str:
    """Why `flotilla-restore` did not do it, or a task did not, of a loop the one that failed."""
    for item in result.get("results", ()):
        if item.get("failed") or item.get("unreachable"):
            return trouble(item)
    return " ".join(str(result.get("stderr") or result.get("msg") or "it said nothing").split())


def drill_line(drill: Mapping[str, Any], host: str) -> str:
    """What came of a drill."""
    told = f"{host}: the drill of {drill['at']} {drill['outcome']}"
    if drill["rto_seconds"] >= 0:
        told += f": restored within {drill['rto_seconds']} s (RTO)"
    if drill["rpo_seconds"] >= 0:
        told += f", the last {drill['rpo_seconds']} s would be lost (RPO)"
    return f"{told}. {drill['detail']}"


def placed_lines(result: Mapping[str, Any], state: str, host: str, inventory: str, environment: str) -> list[str]:
    """What a person is told of a restore in place, and how to go back or to end it."""
    volume, command = result.get("volume", ""), f"ansible-playbook playbooks/restore.yml{inventory}"
    if state == "undone":
        return [f"{host}: the data from before the restore {result['id']} serves again"]
    if state == "confirmed":
        kept = f"{host}: the volume {volume} has it. Next, when nobody needs it any more: docker volume rm {volume}"
        gone = f"{host}: the volume {volume} is removed"
        return [f"The restore {result['id']} stays, and cannot be undone any more", gone if result["dropped"] else kept]
    last = f"; the last transaction in it is of {result['last_transaction']}" if result.get("last_transaction") else ""
    told = [f"{host}: restored to {result['target']} from the backup {result['backup']} in {result['seconds']} s{last}"]
    if result.get("foreign"):
        told.append(
            f"What was there was another database, a new one. Next: ansible-playbook playbooks/provision.yml{inventory}"
        )
    if not volume:
        return told
    return [
        *told,
        f"What was there before is in the volume {volume}, until you say what becomes of it",
        f"Back to it: {command} -e state=undone -e confirm={environment}",
        f"Let it go: {command} -e state=confirmed -e confirm={environment}",
    ]


def volume_lines(result: Mapping[str, Any], state: str, host: str, inventory: str, environment: str) -> list[str]:
    """What a person is told of a volume that was brought back, and how to go on."""
    volume = result["volume"]
    command = f"ansible-playbook playbooks/restore.yml{inventory} -e volume={volume}"
    unwell = [f"{host}: {name} does not run well since: docker logs {name}" for name in result.get("unwell", ())]
    if state == "absent":
        return [f"{host}: {volume}-scratch is removed"]
    if state == "undone":
        return [f"{host}: {volume} is what it was before the restore {result['id']}", *unwell]
    if state == "confirmed":
        kept = f"{host}: the volume {result['before']} has what was there before. Next, when nobody needs it any more: "
        gone = f"{host}: the volume {result['before']} is removed"
        return [gone if result["dropped"] else f"{kept}docker volume rm {result['before']}"]
    told = f"{host}: {volume} of {result['of']} (snapshot {result['snapshot']}) from {result['repository']}"
    if "scratch" in result:
        return [
            f"{told} is in the volume {result['scratch']}, {result['entries']} entries; {result['seconds']} s",
            f"Look at it, on {host}: ls {result['directory']}",
            f"Remove it: {command} -e state=absent",
        ]
    return [
        f"{told} is in its place; {result['seconds']} s",
        *unwell,
        f"What was there before is in the volume {result['before']}, until you say what becomes of it",
        f"Back to it: {command} -e state=undone -e confirm={environment}",
        f"Let it go: {command} -e state=confirmed -e confirm={environment}",
    ]
