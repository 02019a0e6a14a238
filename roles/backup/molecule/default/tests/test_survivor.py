"""Root of a host that sends backups deletes and overwrites all that its keys reach; the newest backup still restores.

The droplet is both sides; what the attacker does goes over SFTP alone, with the keys that a sender has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flotilla import backups, kept
from testinfra.host import Host

from roles.backup.molecule.default.tests.test_backup import HOME, archived, backed_up, pgbackrest, sql
from roles.backup.molecule.default.tests.test_volumes import HOME as VOLUMES_HOME
from roles.backup.molecule.default.tests.test_volumes import UPLOADS, volumes
from tests.lab.waiting import eventually
from tests.run.times import span

BASE = "/srv/flotilla/backup"
KEYS = "/etc/flotilla/backup"
SENDERS = {
    backups.ACCOUNT: f"{HOME}/config/ssh/id_ed25519",
    "flotilla-vol-7becf04360b6": f"{VOLUMES_HOME}/ssh/id_ed25519",
}


def keeper(host: Host, *arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(host.check_output(f"flotilla-kept {' '.join(arguments)}").splitlines()[-1])
    return said


def wrong(host: Host) -> str:
    """What playbooks/status.yml would fail with."""
    return "\n".join(what for what, _ in kept.judge(keeper(host, "status"), {}, 26)[1])


def sftp(host: Host, account: str, *lines: str) -> str:
    """What SFTP answers to a sender; each line is tried, whatever came of the one before."""
    address = host.check_output(f"sed -n 's/^ListenAddress //p' {KEYS}/sshd_config")
    batch = "\n".join(f"-{line}" for line in lines)
    host.check_output(f"cat > /root/batch << 'END'\n{batch}\nEND")
    return str(
        host.run(
            f"sftp -F none -P 2222 -i {SENDERS[account]} -o BatchMode=yes -o StrictHostKeyChecking=no "
            "-o UserKnownHostsFile=/dev/null -o KexAlgorithms=curve25519-sha256 "
            f"-b /root/batch {account}@{address} 2>&1"
        ).stdout
    )


def rows(host: Host) -> str:
    """Of the newest backup and the log after it, in a server of their own."""
    restored = pgbackrest(host, "--pg1-path=/tmp/scratch restore")
    assert restored.rc == 0, restored.stdout
    options = "-p 5499 -c listen_addresses= -c unix_socket_directories=/tmp -c shared_buffers=16MB"
    scratch = f"docker exec postgres pg_ctl -D /tmp/scratch -l /tmp/scratch.log -o '{options}'"
    host.check_output(f"{scratch} -w -t 300 start")
    try:
        asked = "docker exec postgres psql -qAt -h /tmp -p 5499 -U postgres -c %s"
        return str(host.check_output(asked, "SELECT what FROM survives"))
    finally:
        host.run(f"{scratch} -m immediate stop; docker exec postgres rm -rf /tmp/scratch /tmp/scratch.log")


@pytest.fixture(scope="module")
def before(host: Host) -> Iterator[None]:
    """A row and a file, sent, and copied where their senders cannot reach."""
    # One at a time: the timer's run would be told so, or this one.
    host.check_output("systemctl stop flotilla-kept.timer")
    eventually(lambda: not keeper(host, "status")["running"])
    # Other tests flip bytes.
    for account in SENDERS:
        keeper(host, "accept", account)
    host.check_output("rm -rf /root/keys && cp -a /etc/flotilla/backup /root/keys")
    sql(
        host,
        "CREATE TABLE IF NOT EXISTS survives (what text); DELETE FROM survives; INSERT INTO survives VALUES ('yes')",
    )
    label = backed_up(host, "full")["repositories"][0]["backup"]["label"]
    eventually(archived(host))
    host.check_output(f"docker volume create notes_uploads && echo yes > {UPLOADS}/survives")
    volumes(host, "adopt", "notes_uploads")
    volumes(host, "run")

    def watched() -> bool:
        assert keeper(host, "run")["outcome"] == "done"
        seen = [host.file(f"{BASE}/kept/{account}.json").content_string for account in SENDERS]
        # What came just now may still be on its way.
        return label in seen[0] and "snapshots/" in seen[1]

    eventually(watched, pause=5)
    yield
    host.check_output("docker volume rm --force notes_uploads; systemctl start flotilla-kept.timer")


@pytest.mark.usefixtures("before")
def test_copies_of_what_is_sent_are_kept_and_all_is_well(host: Host) -> None:
    said = keeper(host, "status")
    assert {one["account"] for one in said["accounts"]} >= set(SENDERS)
    assert wrong(host) == ""


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("account", SENDERS)
def test_no_sender_reaches_the_copies(host: Host, account: str) -> None:
    find = f"find {BASE}/kept -printf '%P %s %C@\\n' | sort | sha256sum"
    kept_before = host.check_output(find)
    deep = host.check_output(f"cd {BASE} && find kept/{account}/snapshots -type f | head -n 1")
    said = sftp(
        host,
        account,
        "ls kept",
        "get kept/key /root/stolen",
        f"rm {deep}",
        f"put /root/batch {deep}",
        "rename kept gone",
        "chmod 777 kept",
        "rmdir kept",
        "mkdir kept/new",
        f"ln -s /kept {'repository' if account == backups.ACCOUNT else f'volumes/{account}'}/way",
        f"rm {'repository' if account == backups.ACCOUNT else f'volumes/{account}'}/way/{deep.removeprefix('kept/')}",
    )
    assert "permission denied" in said.lower(), said
    assert not host.file("/root/stolen").exists
    assert host.check_output(find) == kept_before
    # A link that a sender leaves is copied as one, and leads root nowhere.
    assert keeper(host, "run")["outcome"] == "done"


@pytest.fixture
def little_quota(host: Host) -> Iterator[None]:
    """Less than what the databases have, and more than what the volumes have."""
    settings = json.loads(host.check_output(f"cp -p {KEYS}/kept.json /root/kept.json; cat {KEYS}/kept.json"))
    host.check_output(f"cat > {KEYS}/kept.json << 'END'\n{json.dumps({**settings, 'quota_gb': 1})}\nEND")
    # A file of its own with a hole of that size.
    place = f"{BASE}/repository/hole"
    host.check_output(f"truncate -s 2G {place} && chown {backups.ACCOUNT}: {place}")
    yield
    host.check_output(f"rm -f {place}; mv /root/kept.json {KEYS}/kept.json")
    assert keeper(host, "run")["outcome"] == "done"


@pytest.mark.usefixtures("before", "little_quota")
def test_an_account_with_more_than_its_quota_may_only_read(host: Host) -> None:
    assert host.run("flotilla-kept run").rc == 1
    assert "more than its quota" in wrong(host)
    over, within = SENDERS
    said = sftp(host, over, "ls repository", "put /root/batch repository/more", "rm repository/hole")
    assert "repository/droplet" in said
    assert said.lower().count("permission denied") == 2, said
    sftp(host, within, f"put /root/batch volumes/{within}/more", f"rm volumes/{within}/more")
    assert volumes(host, "run")["outcome"] == "done"


@pytest.mark.usefixtures("before")
def test_an_account_that_has_less_again_may_write(host: Host) -> None:
    assert backed_up(host, "incr")["outcome"] == "done"
    assert wrong(host) == ""


@pytest.fixture(scope="module")
def destroyed(host: Host, before: None) -> None:
    """All that the senders' keys reach: written over, and every second file removed."""
    host.check_output("head -c 100 /dev/urandom > /root/garbage")
    for account in SENDERS:
        place = "repository" if account == backups.ACCOUNT else f"volumes/{account}"
        paths = host.check_output(f"cd {BASE} && find {place} -type f").splitlines()
        assert len(paths) > 5
        lines = [line for path in paths for line in (f"chmod 600 {path}", f"put /root/garbage {path}")]
        sftp(host, account, *lines, *(f"rm {path}" for path in paths[::2]))
        # A segment may have come meanwhile.
        spared = host.check_output(f"cd {BASE} && find {place} -type f -not -size 100c").splitlines()
        assert set(spared) & set(paths) == set()


@pytest.mark.usefixtures("destroyed")
def test_what_is_destroyed_is_told_by_the_host_that_keeps_copies(host: Host) -> None:
    assert pgbackrest(host, "--pg1-path=/tmp/scratch restore").rc != 0
    assert volumes(host, "status")["errors"] != []
    keeper(host, "run")
    said = wrong(host)
    print(said)
    assert f"{backups.ACCOUNT}: " in said
    assert "files that copies have are gone before their time" in said
    assert "files that copies have were written over" in said
    # And it is still told when there are newer copies, of the ruin.
    keeper(host, "run")
    assert wrong(host).count("before their time") == 2


@pytest.mark.usefixtures("destroyed")
def test_the_newest_backup_from_before_restores_from_the_survivor(host: Host) -> None:
    """Both of a database and of a volume: not the copies of the ruin, which are newer."""
    began = time.monotonic()
    with span("copies put back in the place of what was destroyed"):
        for account in SENDERS:
            said = keeper(host, "put-back", account)
            print(said)
            assert host.file(said["aside"]).is_directory
    put_back = time.monotonic()
    assert "Permission denied" in sftp(host, backups.ACCOUNT, "ls")
    # What provisioning does, with the keys of hosts that were rebuilt.
    host.check_output(f"cp -a /root/keys/authorized_keys {KEYS}/ && cp -a /root/keys/volumes/. {KEYS}/volumes/")
    with span("the database restored from a copy that was put back"):
        assert rows(host) == "yes"
    database = time.monotonic()
    volumes(host, "scratch", "notes_uploads", "--to=latest")
    try:
        came_back = host.check_output("cat /var/lib/docker/volumes/notes_uploads-scratch/_data/survives")
    finally:
        volumes(host, "scratch-remove", "notes_uploads")
    assert came_back == "yes"
    print(
        f"put back in {put_back - began:.1f} s, the database restored in {database - put_back:.1f} s, "
        f"the volume in {time.monotonic() - database:.1f} s"
    )


@pytest.mark.usefixtures("destroyed")
def test_what_was_put_back_takes_backups_again(host: Host) -> None:
    host.check_output("flotilla-backup ready")
    assert backed_up(host, "full")["outcome"] == "done"
    assert volumes(host, "run")["outcome"] == "done"
    assert keeper(host, "run")["outcome"] == "done"
    assert wrong(host) == ""
