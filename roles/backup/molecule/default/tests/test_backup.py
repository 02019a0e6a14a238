"""What an administrator sees of backups: they arrive, can be restored, and say so when they do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from tests.lab.waiting import eventually

HOME = "/opt/flotilla/postgres/backup"
REPOSITORY = "/srv/flotilla/backup/repository/droplet"
KEY = "a key of the scenario's own, # ; and more"
SSHD = "flotilla-backup-sshd.service"


def pgbackrest(host: Host, *arguments: str, environment: str = "") -> CommandResult:
    return host.run(f"docker exec {environment} postgres pgbackrest --stanza=main {' '.join(arguments)}")


def sql(host: Host, text: str) -> str:
    return str(host.check_output("docker exec postgres psql --no-psqlrc -qAt -U postgres -c %s", text))


def status(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.check_output("flotilla-backup status"))
    return found


def backed_up(host: Host, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(host.check_output(f"flotilla-backup run {kind} 2> /dev/null").splitlines()[-1])
    return made


def closed(host: Host) -> str:
    """The name of a segment that ends now. With nothing written since the last one there would be none to end."""
    sql(host, "SELECT pg_create_restore_point('closed')")
    return sql(host, "SELECT pg_walfile_name(pg_switch_wal())")


def archived(host: Host) -> Callable[[], bool]:
    """Whether the segment that is closed now has arrived."""
    segment = closed(host)
    return lambda: host.run(f"find {REPOSITORY}/archive -name '{segment}-*.zst' | grep -q .").rc == 0


@pytest.fixture
def down(host: Host) -> Iterator[None]:
    """Nobody answers where backups are sent to."""
    host.check_output(f"systemctl stop {SSHD}")
    yield
    host.check_output(f"systemctl start {SSHD}")


def test_the_first_full_backup_is_made_by_itself(host: Host) -> None:
    eventually(lambda: status(host)["repositories"][0]["number"] > 0)
    found = status(host)
    assert (found["repositories"][0]["code"], found["errors"]) == (0, [])
    assert json.loads(host.file(f"{HOME}/last.json").content_string)["outcome"] == "done"


def test_what_is_written_is_archived(host: Host) -> None:
    sql(host, "CREATE TABLE IF NOT EXISTS rows (at timestamptz); INSERT INTO rows VALUES (now())")
    eventually(archived(host))
    assert sql(host, "SHOW archive_timeout") == "50s"
    assert sql(host, "SHOW data_checksums") == "on"


def test_only_one_backup_is_made_at_a_time(host: Host) -> None:
    """Of two that begin together one is made, whichever, and the other one is told to come again."""
    each = "{ flotilla-backup run %s; echo $?; } 2> /dev/null | tail -n 2 > /root/%s"
    both = " & ".join(each % (kind, kind) for kind in ("full", "incr"))
    said = host.check_output(f"({both} & wait); cat /root/full /root/incr")
    full, first, incr, second = said.splitlines()
    ended = {json.loads(full)["outcome"]: first, json.loads(incr)["outcome"]: second}
    assert ended == {"done": "0", "busy": "75"}


def test_a_backup_is_restored_with_every_row(host: Host) -> None:
    sql(host, "DELETE FROM rows; INSERT INTO rows VALUES ('2001-01-01')")
    backed_up(host, "diff")
    sql(host, "INSERT INTO rows VALUES ('2002-02-02')")
    eventually(archived(host))
    assert pgbackrest(host, "--pg1-path=/tmp/scratch restore").rc == 0
    options = "-p 5499 -c listen_addresses= -c unix_socket_directories=/tmp -c shared_buffers=16MB"
    scratch = f"docker exec postgres pg_ctl -D /tmp/scratch -l /tmp/scratch.log -o '{options}'"
    host.check_output(f"{scratch} -w -t 300 start")
    try:
        rows = "docker exec postgres psql -qAt -h /tmp -p 5499 -U postgres -c %s"
        assert host.check_output(rows, "SELECT count(*) FROM rows WHERE at < '2003-01-01'") == "2"
    finally:
        host.run(f"{scratch} -m immediate stop; docker exec postgres rm -rf /tmp/scratch /tmp/scratch.log")


@pytest.mark.parametrize("command", ["--pg1-path=/tmp/scratch restore", "stanza-create", "backup"])
def test_with_another_key_nothing_can_be_read(host: Host, command: str) -> None:
    wrong = f"docker exec -e PGBACKREST_REPO1_CIPHER_PASS=another postgres pgbackrest --stanza=main {command} 2>&1"
    said = host.run(f"{wrong} | tr -cd '[:print:]'").stdout
    # Which of the two is a matter of what the wrong key makes of the last block.
    assert "ERROR" in said
    assert "FormatError" in said or "CryptoError" in said


def test_status_says_that_the_key_is_another(host: Host) -> None:
    file = f"{HOME}/config/conf.d/keys.conf"
    host.check_output(f"cp -p {file} /root/keys && sed -i 's/cipher-pass=.*/cipher-pass=another/' {file}")
    try:
        assert "is not the one that it was made with" in json.dumps(status(host))
        assert "is not the one that it was made with" in host.run("flotilla-backup ready").stderr
    finally:
        host.check_output(f"cat /root/keys > {file}; rm /root/keys")


def test_a_flipped_byte_in_the_repository_is_found(host: Host) -> None:
    backed_up(host, "full")
    assert "status: ok" in pgbackrest(host, "verify --output=text --verbose").stdout
    bundle = host.check_output(f"ls -S $(ls -td {REPOSITORY}/backup/main/*F)/bundle/* | head -n 1")
    host.check_output(f"cp -p {bundle} /root/kept && printf X | dd of={bundle} bs=1 seek=5000 conv=notrunc status=none")
    try:
        found = pgbackrest(host, "verify --output=text --verbose")
        assert "status: ok" not in found.stdout
        assert "checksum invalid: 1" in found.stdout or "other: 1" in found.stdout
    finally:
        host.check_output(f"cp -p /root/kept {bundle}")


@pytest.mark.usefixtures("down")
def test_without_the_repository_postgres_serves_and_status_says_so(host: Host) -> None:
    before, started = status(host)["wal"]["failed"], sql(host, "SELECT pg_postmaster_start_time()")
    arrived = archived(host)
    sql(host, "INSERT INTO rows VALUES (now())")
    eventually(lambda: status(host)["wal"]["failed"] > before)
    found = status(host)
    assert found["wal"]["waiting"] > 0
    assert found["repositories"][0]["code"] != 0
    host.check_output(f"systemctl start {SSHD}")
    eventually(arrived)
    eventually(lambda: status(host)["wal"]["waiting"] == 0)
    # Nor has anything that failed in the background made the server start all over.
    assert sql(host, "SELECT pg_postmaster_start_time()") == started
    assert "reinitializing" not in host.run("docker logs postgres 2>&1").stdout


@pytest.mark.usefixtures("down")
def test_what_is_dropped_is_told_until_the_next_backup(host: Host) -> None:
    host.check_output(
        f"sed -i 's/^archive-push-queue-max=.*/archive-push-queue-max=1MB/' {HOME}/config/pgbackrest.conf"
    )
    segment = closed(host)
    eventually(lambda: any(segment in line for line in status(host)["dropped"]))
    host.check_output(
        f"sed -i 's/^archive-push-queue-max=.*/archive-push-queue-max=9GB/' {HOME}/config/pgbackrest.conf"
    )
    host.check_output(f"systemctl start {SSHD}")
    backed_up(host, "full")
    assert status(host)["dropped"] == []


@pytest.mark.parametrize(
    "command", ["docker inspect postgres", "docker logs postgres", "ps auxww", "journalctl -b --no-pager"]
)
def test_the_key_is_shown_nowhere(host: Host, command: str) -> None:
    assert KEY not in host.run(f"{command} 2>&1").stdout


@pytest.mark.parametrize("path", ["conf.d/keys.conf", "ssh/id_ed25519"])
def test_keys_are_the_containers_users_alone(host: Host, path: str) -> None:
    file = host.file(f"{HOME}/config/{path}")
    assert (file.uid, file.mode) == (999, 0o400)


def test_who_sends_backups_has_no_shell_there(host: Host) -> None:
    address = host.check_output("sed -n 's/^ListenAddress //p' /etc/flotilla/backup/sshd_config")
    ssh = (
        f"ssh -F none -p 2222 -i {HOME}/config/ssh/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no "
        "-o UserKnownHostsFile=/dev/null -o KexAlgorithms=curve25519-sha256"
    )
    assert "sftp connections only" in host.run(f"{ssh} flotilla-backup@{address} id").stdout
    assert "Permission denied" in host.run(f"{ssh} root@{address} id").stderr


@pytest.mark.parametrize(("kind", "wanted"), [("full", True), ("diff", True), ("incr", True)])
def test_timers_are_set(host: Host, kind: str, wanted: bool) -> None:
    assert host.service(f"flotilla-backup-{kind}.timer").is_running is wanted


@pytest.mark.parametrize("plant", ["ln -sf /etc/shadow", "rm -f {0}; mkfifo", "rm -f {0}; mkdir"])
def test_what_the_database_puts_into_the_spool_leads_root_nowhere(host: Host, plant: str) -> None:
    place, name = "/var/spool/pgbackrest/dropped", f"{HOME}/spool/dropped"
    before = host.check_output("sha256sum /etc/shadow; stat -c '%U %a' /etc/shadow")
    try:
        host.check_output(f"docker exec postgres sh -c '{plant.format(place)} {place}'")
        found = status(host)
        assert found["dropped"] == []
        assert any(name in error for error in found["errors"])
        backed_up(host, "incr")
    finally:
        host.check_output(f"rm -rf {name}")
    assert host.check_output("sha256sum /etc/shadow; stat -c '%U %a' /etc/shadow") == before


def test_who_starts_a_backup_by_hand_has_the_sandbox_of_the_timer(host: Host) -> None:
    launcher = host.file("/usr/local/sbin/flotilla-backup").content_string
    unit = host.file("/etc/systemd/system/flotilla-backup@.service").content_string
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", f"ReadWritePaths={HOME}"):
        assert f"'--property={line}'" in launcher
        assert f"\n{line}\n" in f"{unit}\n"
