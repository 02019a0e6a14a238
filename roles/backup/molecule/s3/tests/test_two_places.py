"""A host and object storage keep the same, and either is enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from roles.backup.molecule.default.tests.test_backup import (
    HOME,
    KEY,
    REPOSITORY,
    SSHD,
    backed_up,
    closed,
    pgbackrest,
    sql,
    status,
)
from roles.backup.molecule.default.tests.test_volumes import UPLOADS, volumes
from tests.lab.waiting import eventually

EPHEMERAL = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "."))
BUCKET = "/opt/objects/buckets/notes"


@pytest.fixture(scope="module")
def objects() -> Host:
    return testinfra.get_host("paramiko://objects", ssh_config=str(EPHEMERAL / "lab/ssh_config"))


def kept(objects: Host) -> list[str]:
    """The names of what is in the bucket."""
    return str(objects.check_output(f"find {BUCKET} -type f -printf '%P\\n'")).splitlines()


def test_a_backup_goes_to_both(host: Host, objects: Host) -> None:
    eventually(lambda: all(one["number"] > 0 for one in status(host)["repositories"]))
    sql(host, "CREATE TABLE rows (id int); INSERT INTO rows SELECT generate_series(1, 10000)")
    made = backed_up(host, "diff")
    assert [(one["repository"], one["outcome"]) for one in made["repositories"]] == [
        ("droplet", "done"),
        ("bucket notes", "done"),
    ]
    label = made["repositories"][1]["backup"]["label"]
    assert f"droplet/backup/main/{label}/backup.manifest" in kept(objects)
    found = status(host)
    assert ([one["code"] for one in found["repositories"]], found["errors"]) == ([0, 0], [])


def test_the_log_goes_to_both(host: Host, objects: Host) -> None:
    segment = closed(host)
    eventually(lambda: any(f"/{segment}-" in name for name in kept(objects)))
    eventually(lambda: host.run(f"find {REPOSITORY}/archive -name '{segment}-*' | grep -q .").rc == 0)


def test_the_bucket_alone_brings_every_row_back(host: Host) -> None:
    host.check_output(f"systemctl stop {SSHD}")
    try:
        sql(host, "INSERT INTO rows VALUES (10001)")
        segment = closed(host)
        # The host is down, so the segment waits for it; the bucket has it all the same.
        arrived = f"docker exec postgres pgbackrest --stanza=main --repo=2 archive-get {segment} /tmp/segment"
        eventually(lambda: host.run(arrived).rc == 0)
        restored = pgbackrest(host, "--pg1-path=/tmp/scratch --repo=2 restore")
        assert restored.rc == 0, restored.stdout
        options = "-p 5499 -c listen_addresses= -c unix_socket_directories=/tmp -c shared_buffers=16MB"
        scratch = f"docker exec postgres pg_ctl -D /tmp/scratch -l /tmp/scratch.log -o '{options}'"
        host.check_output(f"{scratch} -w -t 300 start")
        rows = "docker exec postgres psql -qAt -h /tmp -p 5499 -U postgres -c %s"
        assert host.check_output(rows, "SELECT count(*) FROM rows") == "10001"
        host.run(f"{scratch} -m immediate stop")
    finally:
        host.run("docker exec postgres rm -rf /tmp/scratch /tmp/scratch.log /tmp/segment")
        host.check_output(f"systemctl start {SSHD}")
    eventually(lambda: status(host)["wal"]["waiting"] == 0)


def test_a_volume_goes_to_both_and_comes_back_from_either(host: Host, objects: Host) -> None:
    host.check_output(f"docker volume create notes_uploads && echo one > {UPLOADS}/one")
    made = volumes(host, "run")["volumes"]
    assert [(one["repository"], one["outcome"]) for one in made] == [("droplet", "done"), ("bucket notes", "done")]
    assert any("/snapshots/" in name for name in kept(objects))
    assert volumes(host, "drill")["detail"].count("notes_uploads") == 2
    host.check_output(f"systemctl stop {SSHD}")
    try:
        volumes(host, "scratch", "notes_uploads", "--to=latest")
        assert host.check_output("cat /var/lib/docker/volumes/notes_uploads-scratch/_data/one") == "one"
    finally:
        host.check_output(f"systemctl start {SSHD}")


def test_a_wrong_secret_is_told(host: Host) -> None:
    file = f"{HOME}/config/conf.d/keys.conf"
    host.check_output(f"cp -p {file} /root/keys && sed -i 's/s3-key-secret=.*/s3-key-secret=another/' {file}")
    try:
        found = status(host)
        first, second = found["repositories"]
        assert first["code"] == 0
        assert second["code"] != 0
        assert "403" in second["message"]
    finally:
        host.check_output(f"cat /root/keys > {file}; rm /root/keys")


def test_the_authorities_of_the_web_are_there_for_a_storage_without_one_of_its_own(host: Host) -> None:
    count = "docker exec postgres grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt"
    assert int(host.check_output(count)) > 50


def test_a_storage_that_nobody_vouches_for_is_refused(host: Host) -> None:
    said = pgbackrest(host, "--repo=2 --repo2-storage-ca-file=/etc/ssl/certs/ca-certificates.crt info").stdout
    assert "unable to verify certificate" in said


@pytest.mark.parametrize(
    "command", ["docker inspect postgres", "docker logs postgres", "ps auxww", "journalctl -b --no-pager"]
)
def test_what_is_secret_is_shown_nowhere(host: Host, command: str) -> None:
    secret = (EPHEMERAL / "lab/objects/secret").read_text().strip()
    said = host.run(f"{command} 2>&1").stdout
    assert said
    assert not any(one in said for one in (KEY, secret))
