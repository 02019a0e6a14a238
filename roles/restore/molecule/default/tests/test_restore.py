"""What an administrator gets back: exactly the rows of a moment, and clear words where that cannot be."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from tests.lab.waiting import eventually

HOME = "/opt/flotilla/postgres/backup"
REPOSITORY = "/srv/flotilla/backup/repository/droplet"
WRITER = Path(__file__).with_name("writer.py")
POINT = "flotilla-20260101T000000Z-1.1.0"
# To how many moments the database is taken back; FLOTILLA_MOMENTS=10 takes two minutes more.
MOMENTS = int(os.environ.get("FLOTILLA_MOMENTS", "3"))


@dataclass(frozen=True)
class Row:
    """One that was acknowledged. Times are the droplet's, in seconds since the epoch."""

    number: int
    sent: float
    acknowledged: float


def sql(host: Host, text: str, container: str = "postgres") -> str:
    return str(host.check_output("docker exec %s psql -XqAtU postgres -d notes -c %s", container, text))


def restore(host: Host, *words: str) -> CommandResult:
    return host.run("flotilla-restore " + " ".join(["%s"] * len(words)), *words)


def done(result: CommandResult) -> dict[str, Any]:
    assert result.rc == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def acknowledged(host: Host) -> list[Row]:
    lines = host.check_output("cat /root/acknowledged").splitlines()
    return [Row(int(number), float(sent), float(back)) for number, sent, back in map(str.split, lines)]


def numbers(host: Host, container: str = "postgres") -> set[int]:
    return set(map(int, sql(host, "SELECT id FROM acknowledged", container).split()))


def write(host: Host, first: int, seconds: float) -> None:
    host.check_output("python3 /root/writer.py %s %s", str(first), str(seconds))


def send_all(host: Host) -> None:
    """Close the segment of the log that is written to, and wait until it and all before it have been sent."""
    sql(host, "SELECT pg_create_restore_point('closed')")
    segment = sql(host, "SELECT pg_walfile_name(pg_switch_wal())")
    sent = f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver"
    eventually(lambda: sql(host, sent) == "t", why=f"{segment} is archived")


def left_over(host: Host) -> list[str]:
    """Containers and volumes that a restore has not removed."""
    names = host.check_output("docker ps --all --format '{{.Names}}'; docker volume ls --format '{{.Name}}'").split()
    return [name for name in names if name.startswith(("postgres-drill", "postgres-scratch"))]


@contextmanager
def changed(host: Host, file: str, how: str) -> Iterator[None]:
    """A file that is other than it should be, meanwhile. how: a command that changes it."""
    host.check_output(f"cp --preserve {file} /root/kept")
    host.check_output(how)
    try:
        yield
    finally:
        host.check_output(f"cp --preserve /root/kept {file}")


@pytest.fixture(scope="module", autouse=True)
def written(host: Host) -> list[Row]:
    """Rows of ten seconds, with a restore point in between, in a database that has a backup from before them."""
    host.check_output(f"cat > /root/writer.py << 'END'\n{WRITER.read_text()}\nEND")
    host.check_output("rm -f /root/acknowledged; flotilla-backup run full")
    sql(host, "DROP TABLE IF EXISTS acknowledged; CREATE TABLE acknowledged (id int PRIMARY KEY)")
    write(host, 0, 6)
    done(restore(host, "point", POINT))
    write(host, 1_000_000, 4)
    done(restore(host, "scratch-remove"))
    return acknowledged(host)


@pytest.mark.parametrize("share", [random.Random(one).uniform(0.05, 0.95) for one in range(MOMENTS)])
def test_a_moment_has_exactly_the_rows_acknowledged_before_it(host: Host, written: list[Row], share: float) -> None:
    rows = written
    moment = rows[0].sent + share * (rows[-1].acknowledged - rows[0].sent)
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S.%f+0000")
    came = done(restore(host, "scratch", "--to=time", f"--what={text}"))
    found = numbers(host, "postgres-scratch")
    print(f"{text}: {len(found)} rows, {came['seconds']} s")
    assert {row.number for row in rows if row.acknowledged <= moment} <= found
    assert found <= {row.number for row in rows if row.sent <= moment}


def test_a_restore_point_has_exactly_the_rows_before_it(host: Host, written: list[Row]) -> None:
    done(restore(host, "scratch", "--to=point", f"--what={POINT}"))
    assert numbers(host, "postgres-scratch") == {row.number for row in written if row.number < 1_000_000}
    later = sum(row.number > 1_000_000 for row in written)
    assert f"(-{later})" in " ".join(done(restore(host, "compare"))["lines"])


def test_a_scratch_instance_listens_to_nobody_and_archives_nothing(host: Host) -> None:
    done(restore(host, "scratch", "--to=latest"))
    assert numbers(host, "postgres-scratch") == numbers(host)
    assert sql(host, "SHOW listen_addresses", "postgres-scratch") == ""
    assert sql(host, "SHOW archive_mode", "postgres-scratch") == "off"
    limits = host.check_output(
        "docker inspect --format '{{.HostConfig.Memory}} {{len .NetworkSettings.Ports}}' postgres-scratch"
    )
    assert limits.split()[0] == str(256 << 20)
    done(restore(host, "scratch-remove"))
    assert left_over(host) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to=time", "--what=2001-01-01 00:00:00+0000"), "no backup ended before 2001-01-01T00:00:00Z"),
        (("--to=time", "--what=2999-01-01 00:00:00+0000"), "is yet to come"),
        (("--to=point", "--what=unheard-of"), f"this host knows no restore point unheard-of (it knows: {POINT}"),
        (("--to=backup", "--label=20010101-000000F"), "the repository has no backup 20010101-000000F. It has: "),
    ],
)
def test_what_is_not_there_is_told_with_what_is(host: Host, words: tuple[str, ...], said: str) -> None:
    refused = restore(host, "scratch", *words)
    assert refused.rc == 1
    assert said in refused.stderr
    assert left_over(host) == []


def test_a_drill_passes_and_leaves_nothing(host: Host) -> None:
    began = time.monotonic()
    host.check_output("systemctl start flotilla-marker.service")
    send_all(host)
    drilling = time.monotonic()
    host.check_output("systemctl start flotilla-drill.service")
    ended = time.monotonic()
    drill = json.loads(host.file(f"{HOME}/drill.json").content_string)
    print(f"RPO {drill['rpo_seconds']} s, RTO {drill['rto_seconds']} s: {drill['detail']}")
    assert drill["outcome"] == "passed", drill
    # What it says of itself, in whole seconds, is no more than what passed here.
    assert 0 <= drill["rpo_seconds"] <= ended - began + 1
    assert 0 < drill["rto_seconds"] <= ended - drilling + 1
    assert "amcheck finds no fault" in drill["detail"]
    assert host.file(f"{HOME}/drill.json").mode == 0o600
    assert left_over(host) == []


def test_a_drill_that_is_killed_has_failed_and_leaves_nothing(host: Host) -> None:
    # All of it there: a drill takes seconds, and so may the way to a busy host.
    host.check_output(
        "systemctl start --no-block flotilla-drill.service;"
        " timeout 300 sh -c 'until docker ps --all --format {{.Names}} | grep -q ^postgres-drill; do sleep 0.05; done'"
        " && systemctl kill --signal=KILL flotilla-drill.service"
    )
    state = "systemctl is-active flotilla-drill.service"
    eventually(lambda: host.run(state).stdout.strip() not in ("activating", "deactivating"), why="the drill has ended")
    drill = json.loads(host.file(f"{HOME}/drill.json").content_string)
    assert (drill["outcome"], drill["detail"]) == ("failed", "the drill was cut short")
    assert left_over(host) == []


def test_two_restores_at_once_are_refused(host: Host) -> None:
    host.check_output("systemd-run --quiet --unit=first flotilla-restore scratch --to=latest")
    held = "lslocks --noheadings --notruncate --output PATH | grep -q /run/flotilla/restore.lock"
    eventually(lambda: host.run(held).rc == 0, why="the first one has begun", pause=0.1)
    second = restore(host, "scratch", "--to=latest")
    assert second.rc == 1
    assert "one at a time. Next: wait for it" in second.stderr
    eventually(lambda: host.run("systemctl is-active --quiet first").rc != 0, why="the first one has ended")
    done(restore(host, "scratch-remove"))


def test_a_wrong_key_is_told(host: Host) -> None:
    file = f"{HOME}/config/conf.d/keys.conf"
    with changed(host, file, f"sed 's/=.*/=a wrong key, twenty letters/' /root/kept | tee {file} > /dev/null"):
        drill = restore(host, "drill")
    assert drill.rc == 1
    assert "cannot be read with the key vault_backup_key" in json.loads(drill.stdout)["detail"]


def test_a_flipped_byte_is_told(host: Host) -> None:
    bundle = host.check_output(f"ls -S $(ls -td {REPOSITORY}/backup/main/*F | head -1)/bundle/* | head -1")
    flip = f"printf X | dd of={bundle} bs=1 seek=$(( $(stat -c %s {bundle}) / 2 )) conv=notrunc status=none"
    with changed(host, bundle, flip):
        drill = restore(host, "drill")
    assert drill.rc == 1
    assert "the repository is damaged" in json.loads(drill.stdout)["detail"]


def test_missing_wal_is_told(host: Host) -> None:
    for _ in range(4):
        sql(host, "INSERT INTO acknowledged SELECT max(id) + 1 FROM acknowledged; SELECT pg_switch_wal()")
    send_all(host)
    segment = host.check_output(
        f"find {REPOSITORY}/archive -regextype posix-extended -regex '.*/[0-9A-F]{{24}}-.*' | sort | tail -2 | head -1"
    )
    host.check_output(f"mv {segment} /root/wal")
    try:
        drill = restore(host, "drill")
    finally:
        host.check_output(f"mv /root/wal {segment}")
    assert drill.rc == 1
    assert "WAL is missing in the repository" in json.loads(drill.stdout)["detail"]


@pytest.mark.parametrize(
    "how",
    [
        "docker kill --signal=KILL postgres",
        "systemctl kill --signal=KILL docker.service; sleep 2; systemctl start docker",
    ],
)
def test_what_was_acknowledged_outlives_a_kill(host: Host, how: str) -> None:
    before = acknowledged(host)[-1].number
    host.check_output("systemd-run --quiet --unit=writer python3 /root/writer.py %s 10", str(before + 1000))
    eventually(lambda: acknowledged(host)[-1].number > before + 1020, why="twenty rows more are acknowledged")
    host.check_output(how)
    # A container that was killed by name stays down: the engine takes it for a person's will.
    up = "docker start postgres > /dev/null; docker exec postgres pg_isready -q"
    eventually(lambda: host.run(up).rc == 0, why="Postgres is back")
    eventually(lambda: host.run("systemctl is-active --quiet writer").rc != 0, why="the writer has ended")
    rows = {row.number for row in acknowledged(host)}
    lost = rows - numbers(host)
    print(f"{len(rows)} rows acknowledged, {len(lost)} lost")
    assert max(rows) > before + 1000
    assert not lost


def test_a_repository_that_is_down_is_no_crash_of_the_server(host: Host) -> None:
    started = sql(host, "SELECT pg_postmaster_start_time()")
    host.check_output("systemctl stop flotilla-backup-sshd.service")
    try:
        sql(host, "SELECT pg_switch_wal()")
        time.sleep(15)
        refused = restore(host, "scratch", "--to=backup")
    finally:
        host.check_output("systemctl start flotilla-backup-sshd.service")
    assert refused.rc == 1
    assert "the repository cannot be reached" in refused.stderr
    assert sql(host, "SELECT pg_postmaster_start_time()") == started
    assert "terminating any other active server processes" not in host.run("docker logs --since 60s postgres").stderr


def test_in_place_there_is_a_way_back(host: Host, written: list[Row]) -> None:
    everything = numbers(host)
    placed = done(restore(host, "place", "--id=one", "--to=point", f"--what={POINT}"))
    print(f"in place: {placed['seconds']} s")
    assert numbers(host) == {row.number for row in written if row.number < 1_000_000}
    again = restore(host, "place", "--id=two", "--to=latest")
    assert again.rc == 1
    assert "neither confirmed nor undone" in again.stderr
    assert host.run("docker volume inspect postgres-data-before-one").rc == 0
    done(restore(host, "undo"))
    assert numbers(host) == everything
    assert host.run("docker volume inspect postgres-data-before-one").rc != 0
    # What the restore had written is in the archive too, and is not taken for the latest state.
    done(restore(host, "scratch", "--to=latest"))
    assert numbers(host, "postgres-scratch") == everything
    done(restore(host, "scratch-remove"))


def test_a_restore_in_place_that_fails_leaves_what_was_there(host: Host) -> None:
    everything = numbers(host)
    bundle = host.check_output(f"ls -S $(ls -td {REPOSITORY}/backup/main/*F | head -1)/bundle/* | head -1")
    flip = f"printf X | dd of={bundle} bs=1 seek=$(( $(stat -c %s {bundle}) / 2 )) conv=notrunc status=none"
    with changed(host, bundle, flip):
        failed = restore(host, "place", "--id=three", "--to=latest")
    assert failed.rc == 1
    assert "What was there before serves again, and nothing is lost" in failed.stderr
    assert numbers(host) == everything
    assert not host.file(f"{HOME}/restored.json").exists


def test_a_lost_disk_is_back_from_the_repository(host: Host) -> None:
    everything = numbers(host)
    send_all(host)
    host.check_output("docker rm --force postgres && docker volume rm postgres-data")
    began = time.monotonic()
    placed = done(restore(host, "place", "--id=four", "--to=latest"))
    print(f"after the loss of the disk: {time.monotonic() - began:.0f} s")
    assert placed["volume"] == ""
    assert numbers(host) == everything
