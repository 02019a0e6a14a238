"""flotilla.volumes: which volumes are backed up, what restic and ssh are told, what status says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flotilla import backups, volumes
from flotilla.inventory import Sources
from flotilla.static import static_problems

from plugins.filter.flotilla_backup import (
    flotilla_backup_holders,
    flotilla_backup_senders,
    flotilla_backup_stale,
    flotilla_volumes_accounts,
    flotilla_volumes_senders,
)

HOUR, DAY = 3600, 86_400
NOW = 1_800_000_000.0
CACHE = {"name": "cache-1", "address": "10.0.0.31", "port": 2222, "host_key": "ssh-ed25519 AAAA cache-1"}
S3 = {"bucket": "b", "endpoint": "s3.example.com", "region": "eu", "key": "access", "secret": "s3cret"}
GIVEN: dict[str, Any] = {
    "name": "app-1",
    "hosts": [CACHE],
    "s3": {},
    "retention_days": 7,
    "volumes": [{"name": "notes_uploads", "app": "notes", "kind": "files"}],
}
COMPOSE = """
services:
  web: {image: "registry.example.com/web:1"}
volumes:
  uploads:
  media: {name: shared-media}
  remote: {driver_opts: {type: nfs}}
  dynamic: {name: "media-${VERSION}"}
"""
GROUPS = {"app": ["app-1", "app-2"], "redis": ["cache-1"], "postgres": ["db-1"]}
APP = {"name": "notes", "source": "compose/app", "backup_volumes": ["uploads", "media"]}


def test_volumes_have_the_engines_names() -> None:
    found = volumes.of_host(["app", "redis"], [APP], True, lambda app: COMPOSE)
    assert [(one["name"], one["kind"]) for one in found] == [
        ("notes_uploads", "files"),
        ("shared-media", "files"),
        ("redis-data", "redis"),
    ]


@pytest.mark.parametrize(("member", "durable"), [([], True), (["postgres"], True), (["redis"], False)])
def test_other_hosts_have_none(member: list[str], durable: bool) -> None:
    assert volumes.of_host(member, [APP], durable, lambda app: COMPOSE) == []


@pytest.mark.parametrize(
    ("apps", "durable", "expected"),
    [
        ([APP], False, ["app-1", "app-2"]),
        ([{"name": "notes"}], True, ["cache-1"]),
        ([APP], True, ["app-1", "app-2", "cache-1"]),
        (None, False, []),
    ],
)
def test_who_sends(apps: Any, durable: bool, expected: list[str]) -> None:
    assert volumes.senders(GROUPS, apps, lambda host: durable) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("upload", "backup_volumes names `upload`, which the file does not declare (did you mean `uploads`?)"),
        ("remote", "may not be on this host's disk"),
        ("dynamic", "its name is known on the host only"),
    ],
)
def test_a_volume_that_cannot_be_backed_up_is_refused(name: str, said: str) -> None:
    found = static_problems(COMPOSE, file="compose.yaml", inventory="i", app="notes", backup_volumes=[name])
    assert [said in str(problem) for problem in found] == [True], [str(problem) for problem in found]


def test_a_declared_volume_is_not_refused() -> None:
    assert not static_problems(
        COMPOSE, file="compose.yaml", inventory="i", app="notes", backup_volumes=["uploads", "media"]
    )


@pytest.mark.parametrize(
    ("hosts", "variables", "places", "said"),
    [
        ({"app-1": {}}, {"backup_volumes_key": "k"}, [], "the volumes of `app-1` have no place"),
        ({"app-1": {}}, {"backup_volumes_key": "k"}, ["app-1"], "one lost disk would take both"),
        ({"app-1": {}, "cache-1": {}}, {"backup_volumes_key": "k"}, ["cache-1"], "`cache-1` is the only host in it"),
        ({"app-1": {}}, {"backup_key": "k"}, ["cache-1"], "backup_volumes_key: is missing"),
        ({"app-1": {}}, {}, ["cache-1"], "encrypts the backups of its volumes"),
        (
            {"app-1": {"backup_volumes_name": "x"}, "app-2": {"backup_volumes_name": "x"}},
            {"backup_volumes_key": "k"},
            ["cache-1"],
            "would share a repository",
        ),
    ],
)
def test_what_keeps_volumes_from_being_backed_up(
    hosts: dict[str, Any], variables: dict[str, Any], places: list[str], said: str
) -> None:
    sources = Sources((), Path("/"))
    (problem,) = volumes.problems(hosts, variables, places, sources, "ansible-playbook …", declared=True)
    assert said in str(problem)


def test_nothing_keeps_them() -> None:
    hosts: dict[str, Any] = {"app-1": {}, "app-2": {}}
    sources = Sources((), Path("/"))
    for places in (["cache-1"], ["app-1", "app-2"]):
        assert not list(volumes.problems(hosts, {"backup_volumes_key": "k"}, places, sources, "x", declared=True))
    assert not list(
        volumes.problems(hosts, {"backup_volumes_key": "k", "backup_s3": S3}, ["app-1"], sources, "x", declared=True)
    )


def test_a_store_may_do_without_backups_as_a_database_may() -> None:
    assert not list(volumes.problems({"cache-1": {}}, {}, [], Sources((), Path("/")), "x", declared=False))


def test_a_hosts_key_is_its_own() -> None:
    mine = volumes.key("the key of the vault", "app-1")
    assert len(mine) == 64
    assert mine == volumes.key("the key of the vault", "app-1")
    assert mine not in (volumes.key("the key of the vault", "app-2"), volumes.key("another key", "app-1"))
    assert "the key" not in mine


def test_an_account_fits_useradd() -> None:
    name = volumes.account("a-host-with-a-very-long-name-indeed.example.com")
    assert (len(name) <= 32, name.startswith("flotilla-vol-")) == (True, True)


def test_restic_is_told_where_and_nothing_secret_is_in_an_option() -> None:
    found = volumes.settings({**GIVEN, "s3": {**S3, "uri_style": "path", "authority": "PEM"}})
    first, second = found["repositories"]
    assert first["url"] == f"sftp:cache-1:/volumes/{volumes.account('app-1')}"
    assert first["options"] == ["sftp.command=ssh -F /opt/flotilla/volumes/ssh_config cache-1 -s sftp"]
    assert second["url"] == "s3:https://s3.example.com/b/volumes/app-1"
    assert second["environment"] == {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    assert "s3.bucket-lookup=path" in second["options"]
    assert not [option for one in found["repositories"] for option in one["options"] if "s3cret" in option]


def test_ssh_trusts_the_host_key_that_was_handed_over_alone() -> None:
    config = volumes.ssh_config([CACHE], "app-1")
    for line in ("HostName 10.0.0.31", "Port 2222", "HostKeyAlias cache-1", "StrictHostKeyChecking yes"):
        assert f"  {line}\n" in config
    assert volumes.known_hosts([CACHE]) == "cache-1 ssh-ed25519 AAAA\n"


NEWEST = {"id": "1a2b3c4d", "at": NOW - HOUR, "volume": "notes_uploads"}
SEEN: dict[str, Any] = {
    "now": NOW,
    "volumes": [
        {
            "repository": "cache-1",
            "volume": "notes_uploads",
            "number": 3,
            "oldest_at": NOW - 3 * DAY,
            "newest": NEWEST,
        }
    ],
    "last": {"at": "2027-01-15T06:00:00Z", "volumes": []},
    "drill": {"at": "2027-01-15T06:00:00Z", "outcome": "passed", "rpo_seconds": 30, "rto_seconds": 9, "detail": ""},
    "since": "2027-01-01T00:00:00Z",
    "restored": [],
    "errors": [],
}
LIMITS = backups.limits({})


def test_what_is_well_is_shown() -> None:
    lines, wrong = volumes.judge(SEEN, LIMITS)
    assert lines[0] == "notes_uploads in cache-1: 1a2b3c4d, 60 min ago; 3 kept, the oldest 3 days old"
    assert lines[1].startswith("volumes' drill: passed")
    assert wrong == []


def without_snapshots(last: Any) -> dict[str, Any]:
    (one,) = SEEN["volumes"]
    return {**SEEN, "last": last, "volumes": [{**one, "number": 0, "oldest_at": None, "newest": None}]}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({**SEEN, "now": NOW + 2 * DAY}, "is 2 days old, more than 26 h"),
        ({**SEEN, "errors": ["the repository cache-1 cannot be reached"]}, "cannot be reached"),
        ({**SEEN, "drill": {**SEEN["drill"], "outcome": "failed", "detail": "cut short"}}, "drill failed: cut short"),
        ({**SEEN, "drill": None}, "there was no drill"),
        ({**without_snapshots(None), "since": "2027-01-14T00:00:00Z"}, "there is no snapshot of notes_uploads"),
        (without_snapshots(SEEN["last"]), "there is no snapshot of notes_uploads in cache-1"),
        (
            {
                **SEEN,
                "last": {
                    "at": "x",
                    "volumes": [{"volume": "v", "repository": "r", "outcome": "failed", "error": "disk full"}],
                },
            },
            "the last backup of v (x) failed: disk full",
        ),
    ],
)
def test_what_is_wrong_is_told(said: dict[str, Any], problem: str) -> None:
    _, wrong = volumes.judge(said, LIMITS)
    assert any(problem in what for what, _ in wrong), wrong


def test_before_the_first_release_nothing_is_wrong() -> None:
    said = {**without_snapshots(None), "drill": None, "since": "2027-01-15T07:00:00Z"}
    assert volumes.judge(said, LIMITS)[1] == []


def test_a_host_that_cannot_be_asked_is_told() -> None:
    found = volumes.report({"app-1": {"msg": "no such file"}}, {"app-1": LIMITS}, " -i inventories/staging")
    assert found["problems"] == [
        "app-1: the backups of its volumes cannot be looked at: no such file. "
        "Next: ansible-playbook playbooks/provision.yml -i inventories/staging"
    ]


# -- the filters ------------------------------------------------------------------------------------------------------

FLEET = {"app": ["app-1", "app-2"], "postgres": ["db-1"], "redis": ["cache-1"], "backup": ["cache-1"]}


def hostvars(**of_all: Any) -> dict[str, dict[str, Any]]:
    return {host: {"apps": [APP], **of_all} for host in ("app-1", "app-2", "db-1", "cache-1")}


@pytest.mark.parametrize(
    ("fresh", "side", "expected"),
    [
        (["app-2"], "senders", ["db-1", "app-1", "app-2", "cache-1"]),
        (["app-2"], "backup", ["cache-1"]),
        (["lb-1"], "senders", []),
        (["lb-1"], "backup", []),
    ],
)
def test_a_new_host_of_either_side_has_both_introduced(fresh: list[str], side: str, expected: list[str]) -> None:
    assert flotilla_backup_stale({**FLEET, "unprovisioned": fresh}, side) == expected


def test_without_a_repository_databases_are_told_so_and_nobody_has_a_key_made() -> None:
    groups = {**FLEET, "backup": [], "unprovisioned": ["db-1", "app-1"]}
    assert (flotilla_backup_stale(groups, "senders"), flotilla_backup_stale(groups, "backup")) == (["db-1"], [])


def test_who_sends_is_let_in_when_its_key_is_known() -> None:
    seen = hostvars()
    seen["app-2"] |= {"backup_volumes_public_key": "ssh-ed25519 AAAA app-2", "backup_volumes_name": "old"}
    assert flotilla_volumes_senders(seen, FLEET) == [
        {"account": volumes.account("old"), "host": "app-2", "public_key": "ssh-ed25519 AAAA app-2"}
    ]


def test_a_host_whose_key_is_not_known_now_is_not_shut_out() -> None:
    seen = hostvars()
    seen["app-2"] |= {"backup_volumes_name": "old"}
    assert flotilla_volumes_accounts(seen, FLEET) == [volumes.account("app-1"), volumes.account("old")]


@pytest.mark.parametrize(("groups", "expected"), [(FLEET, ["app-1", "app-2"]), ({**FLEET, "backup": []}, [])])
def test_who_holds_a_volume(groups: dict[str, list[str]], expected: list[str]) -> None:
    # The sample app declares no volume of that name: it has the name that the resolver would give it.
    assert flotilla_backup_holders(["app-1", "app-2", "cache-1"], hostvars(), groups, "notes_uploads") == expected
    assert flotilla_backup_senders(hostvars(), groups) == expected
