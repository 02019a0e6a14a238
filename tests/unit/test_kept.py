"""Copies that who sends backups cannot reach: what is lost, what a break-in looks like, what status says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from flotilla import backups, kept, volumes

from plugins.filter.flotilla_backup import flotilla_kept_account, flotilla_kept_report
from plugins.scripts.flotilla_kept import (
    DATABASES,
    DAY,
    UNSETTLED,
    File,
    Keeper,
    KeptError,
    chosen,
    compared,
    copies_of,
    findings,
    heads,
    in_the_way,
    read_only,
    watched,
)

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0
VOLUMES = "flotilla-vol-7becf04360b6"
SEGMENT = "db-1/archive/main/17-1/0000000100000000/000000010000000000000007-ab.zst"
BUNDLE, MANIFEST = (f"db-1/backup/main/20270115-020000F/{name}" for name in ("bundle/1", "backup.manifest"))
INFO = "db-1/backup/main/backup.info"
SNAPSHOT, PACK = f"snapshots/{'a' * 64}", f"data/aa/{'a' * 64}"


def files(*paths: str, age: float = 3600, size: int = 100) -> dict[str, File]:
    at = NOW - age
    return {path: (size, int(at * 1e9), at) for path in paths}


def looked(account: str, *steps: Mapping[str, File], days: int = 7) -> dict[str, Any]:
    """What is known after these looks, one after the other."""
    state: dict[str, Any] = {}
    for step in steps:
        state = compared(account, state, step, days, NOW)
    return state


POSTGRES = files(SEGMENT, BUNDLE, MANIFEST, INFO)
RESTIC = files("config", "keys/one", SNAPSHOT, PACK, "index/one", "locks/one")


# -- what is lost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "before", "after", "lost", "changed"),
    [
        (DATABASES, POSTGRES, {}, [BUNDLE, MANIFEST, SEGMENT], []),
        (DATABASES, POSTGRES, POSTGRES | files(SEGMENT, age=100), [], [SEGMENT]),
        # The same size again, and the time of the file set back: the time of its entry is the kernel's.
        (DATABASES, POSTGRES, POSTGRES | {BUNDLE: (100, int(NOW * 1e9), NOW)}, [], [BUNDLE]),
        (VOLUMES, RESTIC, files("config", "keys/one", PACK), [SNAPSHOT], []),
        (VOLUMES, RESTIC, RESTIC | files(PACK, size=99), [], [PACK]),
        (VOLUMES, RESTIC, {}, ["config", "keys/one", SNAPSHOT], []),
    ],
)
def test_what_is_deleted_or_written_over_before_its_time_is_seen(
    account: str, before: Mapping[str, File], after: Mapping[str, File], lost: list[str], changed: list[str]
) -> None:
    state = looked(account, before, after)
    assert (sorted(state["lost"]), sorted(state["changed"])) == (sorted(lost), sorted(changed))
    assert findings(state)


@pytest.mark.parametrize(
    ("account", "before", "after"),
    [
        # pgBackRest and restic remove what is older than the retention,
        (DATABASES, files(SEGMENT, BUNDLE, MANIFEST, age=8 * DAY), {}),
        (VOLUMES, RESTIC | files(SNAPSHOT, age=8 * DAY), files("config", "keys/one", PACK, "index/two")),
        # write this one anew, pack others anew,
        (DATABASES, POSTGRES, POSTGRES | files(INFO, age=1, size=300)),
        (VOLUMES, RESTIC, {name: about for name, about in RESTIC.items() if name != PACK} | files("data/bb/b")),
        # and take away what a backup that was cut short has left.
        (DATABASES, files(BUNDLE), {}),
        (DATABASES, files(f"{SEGMENT}.pgbackrest.tmp"), {}),
        (VOLUMES, RESTIC, {name: about for name, about in RESTIC.items() if name != "locks/one"}),
        (VOLUMES, RESTIC, {name: about for name, about in RESTIC.items() if name != "keys/one"} | files("keys/two")),
    ],
)
def test_what_the_writers_do_themselves_is_no_finding(
    account: str, before: Mapping[str, File], after: Mapping[str, File]
) -> None:
    assert findings(looked(account, before, after)) == []


def test_a_finding_stays_until_it_is_accepted() -> None:
    """Nor does it go when the files would have been removed by now, or are there again."""
    state = looked(DATABASES, POSTGRES, {}, {}, POSTGRES)
    assert compared(DATABASES, state, POSTGRES, 7, NOW + 30 * DAY)["lost"] == looked(DATABASES, POSTGRES, {})["lost"]


def test_a_repository_that_loses_most_of_its_data_is_told() -> None:
    """What restic packs anew is not known one by one."""
    state = looked(VOLUMES, RESTIC | files("data/bb/b", size=10_000), RESTIC)
    assert "it shrank from 10600 to 600 bytes" in findings(state)[0]


def test_what_is_on_its_way_is_not_yet_watched() -> None:
    assert looked(DATABASES, files(SEGMENT, age=5))["files"] == {}


def test_no_account_chooses_the_age_of_a_file() -> None:
    """It is what the kernel says of the entry, at the first look; later ones do not make it older."""
    state = looked(DATABASES, POSTGRES, dict.fromkeys(POSTGRES, (100, 1, 1.0)), {})
    assert sorted(state["lost"]) == sorted([SEGMENT, BUNDLE, MANIFEST])


@pytest.mark.parametrize(("account", "path"), [(DATABASES, INFO), (VOLUMES, SNAPSHOT), (VOLUMES, "index/one")])
def test_a_backup_that_ends_meanwhile_is_copied_again(account: str, path: str) -> None:
    assert path in heads(account, files(path, PACK, SEGMENT))


def test_a_backup_without_its_manifest_is_none_yet() -> None:
    assert watched(DATABASES, files(BUNDLE)) == {}


# -- how much an account may have ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "copies", "quota", "free", "why"),
    [
        (101, 0, 100, 500, "it has 101 MiB, more than its quota of 100"),
        (99, 301, 100, 500, "its copies have 301 MiB, more than 3 times its quota of 100"),
        (99, 299, 0, 99, "the disk has 99 MiB left of 1000, too little for copies"),
        (99, 299, 100, 500, ""),
        (900, 900, 0, 500, ""),
    ],
)
def test_no_account_takes_the_disk_from_others(size: int, copies: int, quota: int, free: int, why: str) -> None:
    said = in_the_way(size << 20, copies << 20, quota << 20, free << 20, 1000 << 20)
    assert said.startswith(why) if why else not said


def test_an_account_that_has_too_much_may_read_alone() -> None:
    assert read_only([VOLUMES, DATABASES]).endswith(
        f"Match User {DATABASES},{VOLUMES}\n    ForceCommand internal-sftp -R\n"
    )
    assert "Match" not in read_only([])


# -- which copy comes back ----------------------------------------------------------------------------------------


COPIES = copies_of(
    '[{"time": "2026-11-22T14:00:00.975080988Z", "id": "22222222ff", "tags": ["settled"]},'
    ' {"time": "2026-11-22T13:00:00Z", "id": "11111111ff", "tags": ["settled"]},'
    f' {{"time": "2026-11-22T15:00:00Z", "id": "33333333ff", "tags": ["{UNSETTLED}"]}}]'
)


@pytest.mark.parametrize(("wanted", "found"), [("", "22222222"), ("11111111", "11111111"), ("33333333", "33333333")])
def test_the_newest_whole_copy_comes_back_or_the_one_that_is_named(wanted: str, found: str) -> None:
    assert chosen(COPIES, wanted)["id"] == found


def test_a_copy_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(KeptError, match=r"no abcdef\. There are: 11111111 \(2026-11-22T13:00:00Z\), 22222222"):
        chosen(COPIES, "abcdef")


# -- what status says ---------------------------------------------------------------------------------------------


ONE: dict[str, Any] = {
    "account": backups.ACCOUNT,
    "copies": 40,
    "newest": {"id": "22222222", "at": NOW - 1800, "settled": True},
    "oldest_at": NOW - 13 * DAY,
    "bytes": 4e9,
    "error": "",
    "findings": [],
}
SAID: dict[str, Any] = {"now": NOW, "running": False, "accounts": [ONE], "errors": []}
NAMES = {backups.ACCOUNT: "databases"}


def test_what_is_well_is_shown() -> None:
    lines, wrong = kept.judge(SAID, NAMES, 26)
    assert (lines, wrong) == (["databases: 40 copies, the newest 30 min old, the oldest 13 days; 4 GB now"], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"newest": None, "oldest_at": None}, "no whole copy of databases that who sends it cannot delete"),
        ({"newest": {**ONE["newest"], "at": NOW - 27 * 3600}}, "cannot delete is 27 h old, more than 26 h"),
        ({"error": "no space left"}, "the last copy of databases failed: no space left"),
        (
            {"findings": findings(looked(DATABASES, POSTGRES, {}))},
            "3 files that copies have are gone before their time",
        ),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], words: str) -> None:
    (found,) = kept.judge({**SAID, "accounts": [{**ONE, **changes}]}, NAMES, 26)[1]
    assert words in found[0]
    assert "docs/how-to/survive-a-break-in.md" in found[1]


def test_the_first_copy_may_be_on_its_way() -> None:
    said = {**SAID, "running": True, "accounts": [{**ONE, "newest": None}]}
    assert kept.judge(said, NAMES, 26)[1] == []


HOSTVARS: dict[str, dict[str, Any]] = {
    "db-1": {},
    "app-1": {"apps": [{"name": "notes", "backup_volumes": ["uploads"], "source": "x"}]},
    "cache-1": {"backup_kept_max_age_hours": 2},
}
GROUPS = {"postgres": ["db-1"], "app": ["app-1"], "backup": ["cache-1"]}


def test_a_backup_host_that_keeps_no_copies_fails_status() -> None:
    """As one does that was provisioned before there were any."""
    asked = [{"status_keeper": "cache-1", "msg": "No such file or directory: '/usr/local/sbin/flotilla-kept'"}]
    (problem,) = flotilla_kept_report(HOSTVARS, GROUPS, asked, ["inventories/x"])["problems"]
    assert problem.startswith(
        "cache-1: the copies that who sends backups cannot delete cannot be looked at: No such file"
    )
    assert problem.endswith("Next: ansible-playbook playbooks/provision.yml -i inventories/x")


@pytest.mark.parametrize(("of", "account"), [("databases", backups.ACCOUNT), ("app-1", volumes.account("app-1"))])
def test_what_is_put_back_is_named_as_people_call_it(of: str, account: str) -> None:
    assert flotilla_kept_account(HOSTVARS, GROUPS, of) == account


def test_a_name_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(AnsibleFilterError, match=r"there is no `db-1`\. Next: -e of=databases or -e of=app-1"):
        flotilla_kept_account(HOSTVARS, GROUPS, "db-1")


# -- a new place ----------------------------------------------------------------------------------------------------


def test_whatever_an_account_can_write_to_is_copied() -> None:
    """A directory that the role gives to an account, anywhere, is one of those that `Keeper.directory` knows."""
    text = "".join(path.read_text() for path in sorted((ROOT / "roles/backup/tasks").glob("*.yml")))
    given = re.findall(r"\{path: \"\{\{ backup_directory \}\}/([^\"]*)\", owner: \"\{\{ (\S+) \}\}\"", text)
    assert given == [("repository", "__backup_account"), ("volumes/{{ item.account }}", "item.account")]
    keeper = Keeper({"directory": "/b", "retention_days": 1, "kept_days": 1, "quota_gb": 0})
    assert str(keeper.directory(DATABASES)) == "/b/repository"
    assert str(keeper.directory(VOLUMES)) == f"/b/volumes/{VOLUMES}"


def test_nobody_but_root_reaches_the_copies() -> None:
    """Accounts are shut into the directory above it (ChrootDirectory), and may not enter."""
    assert '{path: "{{ backup_directory }}/kept", mode: "0700"}' in (ROOT / "roles/backup/tasks/kept.yml").read_text()
