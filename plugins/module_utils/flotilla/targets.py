"""Which release a rollback goes to: pure functions over what the hosts of a fleet keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .store import Standing


class NoTargetError(Exception):
    """There is no release to go back to, or not to that one. The message is for a person and has the next command."""


@dataclass(frozen=True)
class Target:
    """A release of the fleet. verdicts: host → what became of it there, and what it lacks.

    images, secrets: what the hosts say it consists of, to be told from another release with the same id.
    """

    id: str
    version: str
    verdicts: Mapping[str, str]
    whole: bool
    chosen_by_itself: bool

    def line(self, live: Iterable[str]) -> str:
        """For a list: id, whether it is live, and the verdicts host by host."""
        mark = "live" if self.id in live else "" if self.whole else "cannot be gone back to"
        said = ", ".join(f"{host}: {verdict}" for host, verdict in self.verdicts.items())
        return f"{self.id:<36} {mark or 'can be gone back to':<24} {said}"


def targets(releases: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Target]:
    """All releases that any host keeps, newest first. `releases`: host → what `survey.held` says of each."""
    by_id: dict[str, dict[str, Mapping[str, Any]]] = {}
    for host, held in releases.items():
        for release in held:
            by_id.setdefault(str(release["id"]), {})[host] = release
    return [_target(name, by_id[name], list(releases)) for name in sorted(by_id, reverse=True)]


def _target(name: str, held: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]) -> Target:
    verdicts = {}
    for host in hosts:
        release = held.get(host)
        verdicts[host] = (
            "not there"
            if release is None
            else f"{release['standing']}{', but ' + release['lacks'] if release['lacks'] else ''}"
        )
    standings = {Standing(held[host]["standing"]) for host in hosts if host in held}
    complete = len(held) == len(hosts) and not any(release["lacks"] for release in held.values())
    gone_live = {Standing.LIVE, Standing.PROVEN, Standing.ROLLED_BACK}
    return Target(
        id=name,
        version=str(next(iter(held.values()))["version"]),
        verdicts=verdicts,
        whole=complete and standings <= gone_live,
        chosen_by_itself=complete and standings <= {Standing.LIVE, Standing.PROVEN},
    )


def kept_database(held: Iterable[Mapping[str, Any]], target: str, live: str, arguments: str) -> str:
    """What a person is told when a rollback leaves the database as migrations of later releases made it; else nothing.

    held: what `survey.held` says of releases, of all hosts.  target, live: ids.  arguments: the inventories.
    """
    left = {
        str(one["id"]): one for one in held if target < str(one["id"]) <= live and one.get("migration") == "applied"
    }
    if not left:
        return ""
    names = ", ".join(f"{left[name]['version']} ({name})" for name in sorted(left))
    told = f"the database stays as it is, with the migration of {names}"
    points = [str(left[name]["restore_point"]) for name in sorted(left) if left[name].get("restore_point")]
    if not points:
        return f"{told}; no restore point was set before it, since there were no backups then"
    command = f"ansible-playbook playbooks/restore.yml {arguments} -e to=point -e point={points[0]}"
    return (
        f"{told}. What was written since would be lost with a restore to the point before it. "
        f"Next, to see what that is: {command}"
    )


def choose(
    found: Sequence[Target],
    live: Mapping[str, str],
    barriers: Iterable[Mapping[str, str]],
    *,
    wanted: str = "",
    across: bool = False,
    command: str = "ansible-playbook rollback.yml",
) -> Target:
    """The release to go back to: `wanted`, by id or version, else the last proven one before the live one.

    It must be whole on every host.
    live: host → release, empty for none.  barriers: releases whose migration those before it cannot live with.
    across: whether a person answers for going back across one. Raises `NoTargetError`.
    """
    serving = set(live.values())
    target = _named(found, wanted, command) if wanted else _last_proven(found, live, command)
    if serving == {target.id}:
        raise NoTargetError(f"{target.id} serves already on {', '.join(live)}. Next: {command} -e list=true")
    crossed = [barrier for barrier in barriers if barrier["release"] > target.id]
    if crossed and not across:
        names = ", ".join(f"{barrier['version']} ({barrier['release']})" for barrier in crossed)
        raise NoTargetError(
            f"{target.version} ({target.id}) cannot live with the migration of {names}, which its app declares "
            "incompatible (migration.compatible: false). Next: deploy a mended version; or restore the database to "
            f"what it was before that migration, then {command} -e release={target.id} -e across_migration=true"
        )
    return target


def _named(found: Sequence[Target], wanted: str, command: str) -> Target:
    named = [one for one in found if one.id == wanted] or [one for one in found if one.version == wanted]
    target = next((one for one in named if one.whole), named[0] if named else None)
    if target is None:
        known = ", ".join(one.id for one in found if one.whole) or "none"
        raise NoTargetError(
            f"no host has a release {wanted} (can be gone back to: {known}). Next: {command} -e list=true"
        )
    if not target.whole:
        verdicts = ", ".join(f"{host}: {verdict}" for host, verdict in target.verdicts.items())
        raise NoTargetError(f"{wanted} cannot be gone back to ({verdicts}). Next: {command} -e list=true")
    return target


def _last_proven(found: Sequence[Target], live: Mapping[str, str], command: str) -> Target:
    serving = set(live.values())
    if len(serving) > 1:
        now = ", ".join(f"{release or 'nothing'} on {host}" for host, release in live.items())
        raise NoTargetError(
            f"the hosts do not serve the same release ({now}). Next: name one, {command} -e release=<id>"
        )
    (current,) = serving or {""}
    target = next((one for one in found if one.chosen_by_itself and one.id < current), None)
    if target is None:
        what = (
            f"there is no proven release before {current} on all of {', '.join(live)}" if current else "nothing serves"
        )
        raise NoTargetError(f"{what}. Next: {command} -e list=true")
    return target
