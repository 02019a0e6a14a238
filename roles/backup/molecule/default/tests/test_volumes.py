"""What an administrator sees of backups of volumes. The droplet sends them to itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

UPLOADS = "/var/lib/docker/volumes/notes_uploads/_data"
HOME = "/opt/flotilla/volumes"
VOLUMES = "/srv/flotilla/backup/volumes"


def volumes(host: Host, *arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(host.check_output(f"flotilla-volumes {' '.join(arguments)}"))
    return said


def complaint(host: Host, *arguments: str) -> str:
    """Why a verb is refused."""
    done = host.run(f"flotilla-volumes {' '.join(arguments)}")
    assert done.rc == 1, done.stdout
    return str(done.stderr)


@pytest.fixture(scope="module")
def uploads(host: Host) -> str:
    """The id of a snapshot of two files, one of which changed since."""
    host.check_output(f"docker volume create notes_uploads && chown 10001:10001 {UPLOADS} && chmod 750 {UPLOADS}")
    host.check_output(f"mkdir {UPLOADS}/a && echo one > {UPLOADS}/a/one && echo two > '{UPLOADS}/t w o'")
    volumes(host, "adopt", "notes_uploads")
    made = volumes(host, "run")["volumes"]
    assert [(one["outcome"], one["files"]) for one in made] == [("done", 2)]
    host.check_output(f"echo changed > {UPLOADS}/a/one")
    return str(made[0]["snapshot"])


def test_a_volume_that_is_not_there_is_told(host: Host) -> None:
    host.check_output("docker volume rm --force notes_uploads")
    done = host.run("flotilla-volumes run")
    assert done.rc == 1
    assert "the volume notes_uploads does not exist on this host" in done.stdout


def test_a_snapshot_comes_back_beside_the_volume(host: Host, uploads: str) -> None:
    made = volumes(host, "scratch", "notes_uploads", "--to=backup", f"--what={uploads}")
    assert host.check_output(f"cat {made['directory']}/a/one") == "one"
    assert host.check_output(f"stat -c '%u %a' {made['directory']}") == "10001 750"
    assert host.check_output(f"cat {UPLOADS}/a/one") == "changed"
    volumes(host, "scratch-remove", "notes_uploads")
    assert "notes_uploads-scratch" not in host.check_output("docker volume ls")


def test_a_volume_is_restored_in_place_and_back_again(host: Host, uploads: str) -> None:
    place = ("place", "notes_uploads", "--to=backup", f"--what={uploads}")
    volumes(host, *place, "--id=first")
    assert host.check_output(f"cat {UPLOADS}/a/one '{UPLOADS}/t w o'") == "one\ntwo"
    assert host.check_output(f"stat -c '%u %a' {UPLOADS}") == "10001 750"
    assert "neither confirmed nor undone" in complaint(host, *place, "--id=second")
    volumes(host, "undo", "notes_uploads")
    assert host.check_output(f"cat {UPLOADS}/a/one") == "changed"
    assert "before" not in host.check_output("docker volume ls")


@pytest.mark.usefixtures("uploads")
def test_a_drill_restores_what_is_newest(host: Host) -> None:
    host.check_output("systemctl start flotilla-volumes-drill.service")
    found = volumes(host, "status")["drill"]
    assert (found["outcome"], found["rpo_seconds"] < 600) == ("passed", True), found


@pytest.mark.usefixtures("uploads")
def test_two_at_once_are_refused(host: Host) -> None:
    done = host.run("flock /run/flotilla/volumes.lock flotilla-volumes run")
    assert (done.rc, "one at a time" in done.stderr) == (75, True)


@pytest.mark.usefixtures("uploads")
def test_a_wrong_key_is_told(host: Host) -> None:
    host.check_output(f"cp -p {HOME}/key {HOME}/kept && echo another > {HOME}/key")
    try:
        assert "backup_volumes_key (vault_backup_volumes_key) is not the one" in volumes(host, "status")["errors"][0]
    finally:
        host.check_output(f"mv {HOME}/kept {HOME}/key")


def restic(host: Host, *words: str, key: str = "key") -> str:
    """What restic itself prints of the repository."""
    (repository,) = json.loads(host.file(f"{HOME}/settings.json").content_string)["repositories"]
    return str(
        host.check_output(
            f"cd {UPLOADS}/.. && RESTIC_PASSWORD_FILE={HOME}/{key} restic -o %s -r %s {' '.join(words)}",
            repository["options"][0],
            repository["url"],
        )
    )


@pytest.mark.usefixtures("uploads")
def test_a_key_that_the_databases_host_can_make_opens_it_no_more(host: Host) -> None:
    """As an older Flotilla left it: the repository opens with what is made of backup_key."""
    (only,) = json.loads(restic(host, "key list --json"))
    restic(host, "key add", "--new-password-file", f"{HOME}/old-key")
    restic(host, "key remove", str(only["id"]), key="old-key")
    assert "is not the one" in volumes(host, "status")["errors"][0]
    assert volumes(host, "ready") == {"made": True}
    assert volumes(host, "ready") == {"made": False}
    assert len(json.loads(restic(host, "key list --json"))) == 1
    assert volumes(host, "run")["outcome"] == "done"


@pytest.mark.usefixtures("uploads")
def test_retention_keeps_a_snapshot_for_every_moment_of_its_day(host: Host) -> None:
    made = {}
    for hours in (72, 36, 12):
        at = host.check_output(f"date --utc --date '{hours} hours ago' '+%F %T'")
        said = restic(
            host, "backup --json --quiet --host droplet --tag volume=notes_uploads", f"--time '{at}'", "_data"
        )
        made[hours] = str(json.loads(said.splitlines()[-1])["snapshot_id"])[:8]
    volumes(host, "run")
    kept = {str(one["id"])[:8] for one in json.loads(restic(host, "snapshots --json"))}
    assert {hours: one in kept for hours, one in made.items()} == {72: False, 36: True, 12: True}


@pytest.mark.usefixtures("uploads")
def test_a_repository_that_is_down_is_told(host: Host) -> None:
    host.check_output("systemctl stop flotilla-backup-sshd.service")
    try:
        done = host.run("flotilla-volumes run")
        assert "the repository droplet cannot be reached" in volumes(host, "status")["last"]["volumes"][0]["error"]
    finally:
        host.check_output("systemctl start flotilla-backup-sshd.service")
    assert done.rc == 1
    assert volumes(host, "run")["outcome"] == "done"


def test_a_volume_that_was_made_anew_does_not_replace_the_old_ones_snapshots(host: Host, uploads: str) -> None:
    host.check_output("docker volume rm notes_uploads && docker volume create notes_uploads")
    done = host.run("flotilla-volumes run")
    assert (done.rc, "was made anew" in done.stdout) == (1, True)
    volumes(host, "place", "notes_uploads", "--to=backup", f"--what={uploads}", "--id=third")
    volumes(host, "confirm", "notes_uploads", "--drop")
    assert host.check_output(f"cat {UPLOADS}/a/one") == "one"
    assert volumes(host, "run")["outcome"] == "done"


@pytest.mark.usefixtures("uploads")
def test_a_flipped_byte_is_found(host: Host) -> None:
    packs = f"find {VOLUMES} -path '*/data/*' -type f -size -100k"
    host.check_output(f"cp -a {VOLUMES} /srv/kept")
    flip = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(20); b = f.read(1)[0]; f.seek(20); f.write(bytes([b ^ 1]))"
    host.check_output(f'{packs} | while read -r file; do chmod u+w $file; python3 -c "{flip}" $file; done')
    try:
        assert host.run("flotilla-volumes drill").rc == 1
        assert "is damaged" in volumes(host, "status")["drill"]["detail"]
        assert "is damaged" in complaint(host, "scratch", "notes_uploads")
    finally:
        host.check_output(f"rm -r {VOLUMES} && mv /srv/kept {VOLUMES}")
    assert volumes(host, "drill")["outcome"] == "passed"


@pytest.mark.parametrize("path", ["/repository", "/volumes/flotilla-vol-other"])
def test_who_sends_volumes_sees_nothing_else(host: Host, path: str) -> None:
    host.check_output(f"install -d -m 700 -o flotilla-backup {VOLUMES}/flotilla-vol-other")
    listed = host.run(f"echo 'ls {path}' | sftp -b - -F /opt/flotilla/volumes/ssh_config droplet")
    host.check_output(f"rmdir {VOLUMES}/flotilla-vol-other")
    assert listed.rc != 0
    assert "Permission denied" in listed.stderr


def test_a_host_that_is_gone_is_shut_out_and_what_it_sent_stays(host: Host) -> None:
    keys = host.file("/etc/flotilla/backup/volumes").listdir()
    assert "flotilla-vol-gone" not in keys
    assert len(keys) == 1
    expires = host.check_output("getent shadow flotilla-vol-gone").split(":")[7]
    assert int(expires) == 1
    assert host.check_output(f"stat -c %U {VOLUMES}/flotilla-vol-gone") == "flotilla-vol-gone"


def test_a_host_that_is_back_is_let_in_again(host: Host) -> None:
    """Its account was shut before the role ran; that it sends is what the other tests see."""
    assert host.check_output("getent shadow flotilla-vol-7becf04360b6").split(":")[7] == ""
