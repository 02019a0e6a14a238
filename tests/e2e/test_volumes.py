"""A volume of an app and a durable Redis that are backed up on another host: lost, brought back, and compared."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.e2e.fleet import ROOT, Environment, Lab, app_entry
from tests.e2e.waiting import GENEROUS_SECONDS, eventually

pytestmark = pytest.mark.thorough

LAB = Lab(
    overlay={
        "backup_key": "{{ vault_backup_key }}",
        "backup_volumes_key": "{{ vault_backup_volumes_key }}",
        "backup_retention_days": 1,
        "redis_durable": True,
    },
    more_hosts={"backup": {"staging-backup-1": {"ansible_host": "198.51.100.20", "private_address": "10.1.0.20"}}},
)
BACKUP, RESTORE, STATUS = (f"playbooks/{name}.yml" for name in ("backup", "restore", "status"))
UPLOADS = "/var/lib/docker/volumes/notes_uploads/_data"
CONFIRM = ("-e", "confirm=staging")
FILES = 200
# The quotation is ended by whoever adds what is asked.
REDIS = (
    'docker exec redis sh -c \'REDISCLI_AUTH="$(cat /etc/redis/password)" '
    "exec redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt"
)


def files(environment: Environment) -> str:
    """The checksums, owners and modes of all files of the volume."""
    listed = "find . -exec stat -c '%n %u %g %a' {} + | sort; find . -type f -exec sha256sum {} + | sort"
    return environment.ssh(f"cd {UPLOADS} && {{ {listed}; }}")


def redis(environment: Environment, *words: str) -> str:
    """What Redis answers its apps' user."""
    return environment.ssh(f"{REDIS} {' '.join(words)}'").strip()


@pytest.fixture(scope="module")
def kept(staging: Environment, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The sample app with a volume, which has files; a Redis that is a store, which has keys; a backup of both."""
    source = tmp_path_factory.mktemp("source") / "app"
    shutil.copytree(ROOT / "compose/app", source)
    document = yaml.safe_load((source / "compose.yaml").read_text())
    document["services"]["api"]["volumes"] = ["uploads:/srv/uploads"]
    (source / "compose.yaml").write_text(yaml.safe_dump(document | {"volumes": {"uploads": {}}}))
    entry = app_entry(source=str(source), backup_volumes=["uploads"])
    environment = staging.over(tmp_path_factory.mktemp("changes"), {"apps": [entry]})
    environment.deploy("1.0.0").succeeded()
    make = f"for n in $(seq {FILES}); do mkdir -p d$((n % 7)); head -c $((n * 331)) /dev/urandom > d$((n % 7))/$n; done"
    environment.ssh(f"cd {UPLOADS} && {make} && chown -R 10001:10001 . && chmod 600 d1/* && ln -s d1 link")
    assert "OK" in redis(environment, "SET", "kept", "yes")
    redis(environment, "EVAL", '"for i=1,1000 do redis.call(\\"set\\", \\"key\\"..i, i) end"', "0")
    run = environment.playbook(BACKUP).succeeded()
    print("\n".join(re.findall(r"staging-backup-1: \S+: .* s\b", run.text)))
    return environment


def test_both_are_backed_up_and_status_says_so(kept: Environment) -> None:
    run = kept.playbook(STATUS)
    for volume in ("notes_uploads", "redis-data"):
        assert re.search(rf"{volume} in staging-backup-1: [0-9a-f]{{8}}, \d+ (s|min) ago; 1 kept", run.text), run.text
    assert f"{FILES} files" in kept.playbook(BACKUP, "-e", "volume=notes_uploads").succeeded().text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-e", "volume=notes_upload", "-e", "to=latest"), "notes_upload is backed up on no host of this run"),
        (("-e", "volume=notes_uploads", "-e", "to=point"), "to: is `point`, and must be one of latest, time, backup"),
        (("-e", "volume=notes_uploads", "-e", "to=latest", "-e", "into=place"), "its volume notes_uploads is replaced"),
    ],
)
def test_what_cannot_be_is_refused(kept: Environment, arguments: tuple[str, ...], said: str) -> None:
    run = kept.playbook(RESTORE, *arguments)
    assert run.rc != 0
    assert said in run.text
    assert "nothing was touched" in run.text


def test_a_lost_file_comes_back_beside_the_volume(kept: Environment) -> None:
    run = kept.playbook(RESTORE, "-e", "volume=notes_uploads", "-e", "to=latest").succeeded()
    assert "notes_uploads is in" not in run.text
    beside = UPLOADS.replace("notes_uploads", "notes_uploads-scratch")
    kept.ssh(f"diff -r {beside} {UPLOADS}")
    kept.playbook(RESTORE, "-e", "volume=notes_uploads", "-e", "state=absent").succeeded()


def test_a_volume_is_brought_back_whole(kept: Environment) -> None:
    before = files(kept)
    kept.ssh(f"rm -r {UPLOADS}/d1 && echo x > {UPLOADS}/d2/2 && chmod 777 {UPLOADS}")
    place = ("-e", "volume=notes_uploads", "-e", "to=latest", "-e", "into=place", *CONFIRM)
    run = kept.playbook(RESTORE, *place).succeeded()
    assert files(kept) == before
    assert "-e volume=notes_uploads -e state=undone -e confirm=staging" in run.text
    assert kept.live_within(GENEROUS_SECONDS).version == "1.0.0"
    kept.playbook(RESTORE, "-e", "volume=notes_uploads", "-e", "state=confirmed", *CONFIRM).succeeded()
    assert "before" not in kept.ssh("docker volume ls")


def test_the_keys_of_a_durable_redis_survive_a_kill_and_a_restore(kept: Environment) -> None:
    redis(kept, "SET", "late", "yes")
    # An append-only file is on the disk within a second, and within two more where the disk is busy.
    kept.ssh("sleep 3; docker kill --signal KILL redis; docker start redis")
    eventually(lambda: "PONG" in kept.ssh(f"{REDIS} ping' 2>&1", check=False), why="Redis is back")
    assert redis(kept, "GET", "late") == "yes"
    redis(kept, "DEL", "kept")
    place = ("-e", "volume=redis-data", "-e", "to=latest", "-e", "into=place", *CONFIRM)
    kept.playbook(RESTORE, *place).succeeded()
    assert (redis(kept, "GET", "kept"), redis(kept, "EXISTS", "late")) == ("yes", "0")
    assert int(redis(kept, "DBSIZE")) >= 1001
    kept.playbook(RESTORE, "-e", "volume=redis-data", "-e", "state=undone", *CONFIRM).succeeded()
    assert (redis(kept, "EXISTS", "kept"), redis(kept, "GET", "late")) == ("0", "yes")


def test_a_lost_volume_is_brought_back_from_the_repository(kept: Environment) -> None:
    before = files(kept)
    kept.ssh(
        "docker ps --quiet --filter volume=notes_uploads | xargs -r docker rm --force; docker volume rm notes_uploads"
    )
    kept.playbook(RESTORE, "-e", "volume=notes_uploads", "-e", "to=latest", "-e", "into=place", *CONFIRM).succeeded()
    assert files(kept) == before
    kept.playbook(RESTORE, "-e", "volume=notes_uploads", "-e", "state=confirmed", *CONFIRM).succeeded()


def test_a_drill_restores_both(kept: Environment) -> None:
    run = kept.playbook("playbooks/drill.yml")
    found = re.search(r"the drill of \S+ passed: .*?redis-data [0-9a-f]{8}, .*?, (\d+) keys", run.text)
    assert found, run.text
    assert int(found[1]) >= 1001


def test_backups_that_are_switched_off_leave_no_timer_that_fails(kept: Environment, tmp_path: Path) -> None:
    def timers() -> set[str]:
        listed = json.loads(kept.ssh("systemctl list-timers --output=json 'flotilla-*'"))
        return {str(one["unit"]) for one in listed}

    def labels() -> list[str]:
        return [one["label"] for one in json.loads(kept.ssh("flotilla-restore look"))["backups"]]

    everything, before = timers(), labels()
    assert {f"flotilla-{one}.timer" for one in ("backup-full", "marker", "drill", "volumes")} <= everything
    # Without the overlay that puts a host into the group.
    placeless = replace(kept, overlays=kept.overlays[:1])
    refused = placeless.playbook("playbooks/provision.yml")
    assert refused.rc != 0
    assert "the volumes of `staging-1` have no place. Next: add a host or backup_s3, or take backup_v" in refused.text
    assert timers() == everything
    off = placeless.over(tmp_path / "off", {"apps": [app_entry()]})
    run = off.playbook("playbooks/provision.yml").succeeded()
    assert "is not backed up: a lost disk is a lost database" in run.text
    assert not {one for one in timers() if re.search("backup|drill|marker|volumes", one)}
    assert kept.sql("SHOW archive_mode") == ["off"]
    kept.playbook("playbooks/provision.yml").succeeded()
    assert timers() == everything
    assert labels()[: len(before)] == before
    kept.playbook(BACKUP).succeeded()
