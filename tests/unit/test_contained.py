"""What a container puts into its own directories to have root read or write elsewhere, and what root makes of it.

The attacker is the account 999, in directories that it owns, as the containers of the stacks are.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from flotilla.balancer import BalancerError
from flotilla.balancing import Master
from flotilla.contained import StrangeError, copy, opened
from flotilla.preparation import Preparation
from flotilla.resolve.model import Copy
from flotilla.traffic import AccessLog

from plugins.scripts import flotilla_backup, flotilla_volumes, postgres_restore
from tests.unit.controller import module

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what root does is shown by root alone")

CONTAINER = 999
SECRET = "of root's\n"
T = TypeVar("T")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that the container can neither read nor write."""
    path = tmp_path / "shadow"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of the container's."""
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, CONTAINER, CONTAINER)
    return path


def listed(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())


def own(path: Path) -> Path:
    os.chown(path, CONTAINER, CONTAINER, follow_symlinks=False)
    return path


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def hard_link(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def pipe(path: Path, secret: Path) -> None:
    os.mkfifo(path)
    own(path)


def directory(path: Path, secret: Path) -> None:
    path.mkdir()
    own(path)


def device(path: Path, secret: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    own(path)


def of_another(path: Path, secret: Path) -> None:
    path.write_text(SECRET)
    os.chown(path, 1234, 1234)


Plant = Callable[[Path, Path], None]
PLANTS = pytest.mark.parametrize("plant", [link, hard_link, pipe, directory, device, of_another])


def within(seconds: float, does: Callable[[], T]) -> T:
    """What `does` returns, or raises. Fails when it hangs."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append((does(), None))
        except BaseException as error:
            came.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert came, f"it hangs for {seconds} s"
    value, error = came[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


@contextmanager
def swapped(path: Path, *others: Callable[[Path], None]) -> Iterator[None]:
    """Something else stands at the path every moment, as fast as it goes."""
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            new = path.with_name(f".swap{number % len(others)}")
            others[number % len(others)](new)
            new.replace(path)
            number += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# -- the module ---------------------------------------------------------------------------------------


@PLANTS
def test_nothing_but_a_file_of_the_directorys_own_account_is_read(theirs: Path, secret: Path, plant: Plant) -> None:
    plant(theirs / "file", secret)
    with opened(theirs) as place, pytest.raises(StrangeError, match="file"):
        within(5, lambda: place.read("file"))


@PLANTS
def test_nor_written_over(theirs: Path, secret: Path, plant: Plant) -> None:
    plant(theirs / "file", secret)
    with opened(theirs) as place, pytest.raises(StrangeError, match="file"):
        within(5, lambda: place.write("file", b"ours", over=True))
    assert secret.read_text() == SECRET


@pytest.mark.parametrize("plant", [link, hard_link, pipe, device, of_another])
def test_what_is_written_anew_takes_the_place_of_what_is_there(theirs: Path, secret: Path, plant: Plant) -> None:
    plant(theirs / "file", secret)
    with opened(theirs) as place:
        place.write("file", b"ours", mode=0o640, owner=CONTAINER, group=CONTAINER)
    found = (theirs / "file").lstat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (CONTAINER, CONTAINER, 0o640)
    assert (theirs / "file").read_text() == "ours"
    assert (secret.read_text(), secret.stat().st_uid) == (SECRET, 0)
    assert listed(theirs) == ["file"]


def test_no_link_is_followed_on_the_way_down(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (theirs / "a").symlink_to(tmp_path / "root")
    with (
        pytest.raises(StrangeError, match=r"a is a link, in a place that others than root can change"),
        opened(theirs / "a" / "b", make=0o755),
    ):
        pass
    assert listed(tmp_path / "root") == []


def test_links_of_roots_own_are_followed() -> None:
    """An administrator may keep /opt on another disk."""
    root = Path("/run/flotilla-test-contained")
    root.mkdir(mode=0o755)
    try:
        (root / "disk").mkdir(mode=0o755)
        (root / "opt").symlink_to("disk/../disk")
        with opened(root / "opt" / "made", make=0o755) as place:
            assert place.path == root / "disk" / "made"
            place.write("file", b"text")
        assert (root / "disk" / "made" / "file").read_text() == "text"
        # Below what is said to be a container's, they are not: its root owns files as the host's does.
        with pytest.raises(StrangeError), opened(root / "opt", below=root):
            pass
    finally:
        with opened(root.parent) as place:
            place.remove(root.name)


def test_more_than_was_bargained_for_is_not_read(theirs: Path) -> None:
    (theirs / "file").write_bytes(b"x" * 11)
    own(theirs / "file")
    with opened(theirs) as place:
        assert place.read("file", 11) == b"x" * 11
        with pytest.raises(StrangeError, match="more than 10 bytes"):
            place.read("file", 10)


def test_removing_a_link_leaves_what_it_leads_to(theirs: Path, secret: Path) -> None:
    link(theirs / "file", secret)
    (theirs / "deep").mkdir()
    link(theirs / "deep" / "dir", secret.parent)
    with opened(theirs) as place:
        for name in ("file", "deep", "none"):
            place.remove(name)
    assert listed(theirs) == []
    assert secret.read_text() == SECRET


def test_a_race_is_lost_by_who_swaps(theirs: Path, secret: Path) -> None:
    """A file and a link take each other's place while root reads and writes: root has its own file or an error."""

    def plain(path: Path) -> None:
        path.write_text("of the container's\n")
        own(path)

    read: list[bytes] = []
    with swapped(theirs / "file", plain, lambda path: path.symlink_to(secret), lambda path: hard_link(path, secret)):
        began = time.monotonic()
        while (waited := time.monotonic() - began) < 1 or (len(set(read)) < 2 and waited < 20):
            with opened(theirs) as place:
                try:
                    read.append(place.read("file"))
                except (StrangeError, FileNotFoundError):
                    read.append(b"")
                for over in (True, False):
                    try:
                        place.write("file", b"ours\n", over=over)
                    except (StrangeError, FileNotFoundError):
                        continue
    assert set(read) <= {b"", b"of the container's\n", b"ours\n"}
    assert len(set(read)) > 1
    assert secret.read_text() == SECRET


def test_a_race_for_a_directory_is_lost_too(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    real = own_directory(theirs / "real")

    def swap(stop: threading.Event) -> None:
        while not stop.is_set():
            real.rename(theirs / "a")
            (theirs / "a").rename(real)
            (theirs / "a").symlink_to(tmp_path / "root")
            (theirs / "a").unlink()

    stop = threading.Event()
    thread = threading.Thread(target=swap, args=(stop,))
    thread.start()
    came: set[str] = set()
    try:
        began = time.monotonic()
        # On a busy machine it takes longer until both have come.
        while (waited := time.monotonic() - began) < 1 or (len(came) < 2 and waited < 20):
            try:
                with opened(theirs / "a") as place:
                    place.write("file", b"ours")
                came.add("written")
            except OSError as error:
                came.add(type(error).__name__)
    finally:
        stop.set()
        thread.join()
    assert listed(tmp_path / "root") == []
    assert len(came) > 1


def own_directory(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return own(path)


# -- backups of Postgres ------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of backups: root's, but for the spool."""
    home = tmp_path / "backup"
    home.mkdir()
    (home / "settings.json").write_text(json.dumps({"repositories": ["cache-1"], "queue_max_mb": 100}))
    for name in ("spool", "spool/archive", "spool/archive/main", "spool/archive/main/out"):
        own_directory(home / name)
    monkeypatch.setattr(flotilla_backup, "pgbackrest", lambda *words, seconds=None: (0, "[]"))
    monkeypatch.setattr(
        flotilla_backup, "psql", lambda sql: '{"waiting": 1, "last_failed_at": 2, "last_archived_at": 1}'
    )
    monkeypatch.setattr(flotilla_backup, "REASON_SECONDS", 0)
    return home


@PLANTS
def test_what_was_dropped_is_no_way_to_other_files(kept: Path, secret: Path, plant: Plant) -> None:
    secret.write_text("2999-01-01T00:00:00Z 000000010000000000000007\n")
    before = secret.read_text()
    plant(kept / "spool" / "dropped", secret)
    within(10, lambda: flotilla_backup.run("full", kept))
    said = within(10, lambda: flotilla_backup.status(kept))
    assert secret.read_text() == before
    assert said["dropped"] == []
    assert any("dropped" in one for one in said["errors"])


def test_what_is_no_line_of_ours_is_not_told(kept: Path) -> None:
    (kept / "spool" / "dropped").write_text("\x1b]52;c;aGk=\x07 x\n2026-11-22T12:00:00Z 000000010000000000000007\n")
    own(kept / "spool" / "dropped")
    assert flotilla_backup.status(kept)["dropped"] == ["2026-11-22T12:00:00Z 000000010000000000000007"]


@PLANTS
def test_an_error_of_the_archive_is_no_way_either(kept: Path, secret: Path, plant: Plant) -> None:
    plant(kept / "spool/archive/main/out/0001.error", secret)
    said = within(10, lambda: flotilla_backup.status(kept))
    assert SECRET.strip() not in json.dumps(said)


def test_nor_is_the_directory_of_the_errors(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "0001.error").write_text(SECRET)
    (kept / "spool/archive/main/out").rmdir()
    (kept / "spool/archive/main/out").symlink_to(tmp_path / "root")
    assert SECRET.strip() not in json.dumps(within(10, lambda: flotilla_backup.status(kept)))


# -- a restore that is undone -------------------------------------------------------------------------


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The data of the engine's volumes, by name; the container that has them stopped."""
    found = {}
    for name in ("postgres-data", "kept"):
        (tmp_path / name).mkdir(mode=0o701)
        found[name] = own_directory(tmp_path / name / "_data")
    (found["kept"] / "postgresql.auto.conf").write_text("work_mem = '8MB'\n")
    own(found["kept"] / "postgresql.auto.conf")
    monkeypatch.setattr(postgres_restore, "mountpoint", lambda name: found[name])
    monkeypatch.setattr(postgres_restore, "run", lambda *words, **options: "")
    return found


class Server:
    """Starts at once, and notes what it was started with."""

    volume = "postgres-data"

    def __init__(self, data: Path, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.data, self.seen, self.meanwhile = data, list[tuple[bool, str]](), meanwhile

    def start(self, target: object) -> str:
        path = self.data / "postgresql.auto.conf"
        self.seen.append(((self.data / "recovery.signal").exists(), path.read_text()))
        self.meanwhile()
        return ""


def test_old_data_is_put_back_with_what_the_server_needs(volumes: dict[str, Path]) -> None:
    data = volumes["postgres-data"]
    server = Server(data)
    postgres_restore.put_back(server, "kept")  # type: ignore[arg-type]
    first, second = server.seen
    assert first[0] is True
    assert "restore_command" in first[1]
    assert second[1] == "work_mem = '8MB'\n"
    for name in ("recovery.signal", "postgresql.auto.conf"):
        found = (data / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (CONTAINER, CONTAINER, 0o600)


@pytest.mark.parametrize("plant", [link, hard_link, pipe, directory, device])
def test_old_data_with_a_trap_in_it_is_refused_before_it_is_moved(
    volumes: dict[str, Path], secret: Path, plant: Plant
) -> None:
    (volumes["kept"] / "postgresql.auto.conf").unlink()
    plant(volumes["kept"] / "postgresql.auto.conf", secret)
    with pytest.raises((StrangeError, postgres_restore.RestoreError)):
        within(10, lambda: postgres_restore.put_back(Server(volumes["postgres-data"]), "kept"))  # type: ignore[arg-type]
    assert secret.read_text() == SECRET
    assert listed(volumes["kept"]) == ["postgresql.auto.conf"]


def test_a_signal_file_that_is_a_link_changes_nobodys_owner(volumes: dict[str, Path], secret: Path) -> None:
    link(volumes["kept"] / "recovery.signal", secret)
    postgres_restore.put_back(Server(volumes["postgres-data"]), "kept")  # type: ignore[arg-type]
    assert secret.stat().st_uid == 0
    assert not (volumes["postgres-data"] / "recovery.signal").is_symlink()


def test_a_server_that_runs_cannot_have_root_write_elsewhere(volumes: dict[str, Path], secret: Path) -> None:
    data = volumes["postgres-data"]

    def attack() -> None:
        (data / "postgresql.auto.conf").unlink()
        (data / "postgresql.auto.conf").symlink_to(secret)

    server = Server(data)
    server.meanwhile = lambda: attack() if len(server.seen) == 1 else None
    postgres_restore.put_back(server, "kept")  # type: ignore[arg-type]
    assert secret.read_text() == SECRET


def test_emptying_a_volume_empties_no_other_place(volumes: dict[str, Path], secret: Path) -> None:
    data = volumes["postgres-data"]
    link(data / "file", secret)
    link(data / "dir", secret.parent)
    postgres_restore.empty(data)
    assert listed(data) == []
    assert secret.read_text() == SECRET


# -- volumes ------------------------------------------------------------------------------------------


@pytest.fixture
def append_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume of Redis'; the directory that the engine keeps it in."""
    root = tmp_path / "redis-data"
    root.mkdir(mode=0o701)
    own_directory(root / "_data")
    own_directory(root / "_data" / "appendonlydir")
    (root / "_data/appendonlydir/base.rdb").write_text("keys")
    own(root / "_data/appendonlydir/base.rdb")
    said = {
        "CONFIG": "auto-aof-rewrite-percentage\n100",
        "INFO": "aof_enabled:1 aof_rewrite_in_progress:0 aof_rewrite_scheduled:0",
    }
    monkeypatch.setattr(flotilla_volumes, "redis", lambda *words, operator=False: said[words[0]])
    return root


def staged(root: Path) -> dict[str, str]:
    with flotilla_volumes.redis_files(root) as stage:
        return {str(path.relative_to(stage)): path.read_text() for path in stage.rglob("*") if path.is_file()}


def test_append_only_files_are_staged_with_their_owner(append_only: Path) -> None:
    assert staged(append_only) == {"appendonlydir/base.rdb": "keys"}
    with flotilla_volumes.redis_files(append_only) as stage:
        for path in (stage, stage / "appendonlydir"):
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (CONTAINER, 0o700)
    assert listed(append_only) == ["_data"]


@PLANTS
def test_what_redis_plants_is_in_no_backup(append_only: Path, secret: Path, plant: Plant) -> None:
    plant(append_only / "_data/appendonlydir/evil", secret)
    with pytest.raises((StrangeError, flotilla_volumes.VolumeError)):
        within(10, lambda: staged(append_only))
    assert listed(append_only) == ["_data"]


def test_another_directory_in_place_of_redis_own_is_in_no_backup(append_only: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "shadow").write_text(SECRET)
    (append_only / "_data/appendonlydir").rename(append_only / "_data/away")
    (append_only / "_data/appendonlydir").symlink_to(tmp_path / "root")
    with pytest.raises((StrangeError, flotilla_volumes.VolumeError)):
        staged(append_only)


def test_a_backup_of_a_volume_follows_no_link_that_is_put_there_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """restic walks by path: a directory that becomes a link while it does leads out of the volume."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "shadow").write_text(SECRET)
    data = own_directory(tmp_path / "_data")
    (data / "dir").symlink_to(tmp_path / "root")
    (data / "file").write_text("of the app's")
    summary = {"snapshot_id": "1" * 64, "total_bytes_processed": 1, "data_added": 1, "total_files_processed": 1}
    program = tmp_path / "bin" / "restic"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\ncat _data/file _data/dir/shadow > {tmp_path}/read 2> /dev/null\n"
        f"readlink _data/dir >> {tmp_path}/read\n"
        f"touch _data/written 2> /dev/null\necho '{json.dumps({'message_type': 'summary', **summary})}'\n"
    )
    program.chmod(0o755)
    repository = flotilla_volumes.Repository({"name": "x", "url": "/x"}, "h")
    repository._environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    assert repository.backup(data, "v")["snapshot"] == "11111111"
    assert (tmp_path / "read").read_text() == f"of the app's{tmp_path}/root\n"
    assert not (data / "written").exists()


# -- deploys ------------------------------------------------------------------------------------------


def prepared(base: Path, source: Path, copies: list[Copy], shared: list[str]) -> None:
    site = SimpleNamespace(settings=SimpleNamespace(base=base))
    preparation = Preparation(site, SimpleNamespace(release="r1"))  # type: ignore[arg-type]
    resolved = SimpleNamespace(copies=copies, shared_directories=shared)
    preparation._copy_files(source, resolved)  # type: ignore[arg-type]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    (path / "shared").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    return path


@pytest.mark.parametrize("owner", [0, CONTAINER])
def test_a_shared_path_within_another_one_is_made_nowhere_else(base: Path, tmp_path: Path, owner: int) -> None:
    """The app has the outer one mounted writable, and its container may run as root."""
    (base / "shared/data").mkdir()
    os.chown(base / "shared/data", owner, owner)
    (base / "shared/data/sub").symlink_to(tmp_path / "root")
    with pytest.raises(OSError, match="is a link"):
        prepared(base, tmp_path, [], [f"{base}/shared/data/sub/new"])
    assert listed(tmp_path / "root") == []


@pytest.mark.parametrize("owner", [0, CONTAINER])
def test_nothing_is_bound_through_a_link_that_a_container_had_left(base: Path, tmp_path: Path, owner: int) -> None:
    """An earlier release had the outer path mounted; this one has what is below it. A file that is there is fine."""
    (base / "shared/data").mkdir()
    os.chown(base / "shared/data", owner, owner)
    (base / "shared/data/notes.sqlite").touch()
    prepared(base, tmp_path, [], [f"{base}/shared/data/notes.sqlite"])
    for name in ("root", "root/new"):
        (base / "shared/data/sub").unlink(missing_ok=True)
        (base / "shared/data/sub").symlink_to(tmp_path / name)
        with pytest.raises(OSError, match="is a link"):
            prepared(base, tmp_path, [], [f"{base}/shared/data/sub"])
    assert listed(tmp_path / "root") == []


@pytest.mark.parametrize("owner", [0, CONTAINER])
def test_a_file_of_the_app_is_written_through_no_link(base: Path, tmp_path: Path, secret: Path, owner: int) -> None:
    """shared_paths: [.] mounts what shared services' files are in."""
    source = tmp_path / "source"
    (source / "conf").mkdir(parents=True)
    (source / "conf" / "a.conf").write_text("of the app's\n")
    copies = [Copy("conf", "shared/.files/conf"), Copy("conf/a.conf", "releases/${FLOTILLA_RELEASE}/files/a.conf")]
    prepared(base, source, copies, [f"{base}/shared/data"])
    assert (base / "shared/.files/conf/a.conf").read_text() == "of the app's\n"
    assert (base / "releases/r1/files/a.conf").read_text() == "of the app's\n"
    assert (base / "shared/data").stat().st_mode & 0o777 == 0o755
    (base / "shared/.files/conf/a.conf").unlink()
    (base / "shared/.files/conf/a.conf").symlink_to(secret)
    os.chown(base / "shared/.files/conf", owner, owner)
    with pytest.raises(OSError, match="is a link"):
        prepared(base, source, copies, [])
    assert secret.read_text() == SECRET


def test_a_file_that_a_container_has_mounted_alone_stays_that_file(base: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.conf"
    found = []
    for text, mode in (("one\n", 0o644), ("two\n", 0o755)):
        source.write_text(text)
        source.chmod(mode)
        copy(source, base / "shared/.files/a.conf", below=base)
        found.append((base / "shared/.files/a.conf").stat())
    assert found[0].st_ino == found[1].st_ino
    assert [one.st_mode & 0o777 for one in found] == [0o644, 0o755]


@pytest.mark.parametrize("plant", [link, hard_link, pipe, directory, device])
def test_the_edges_log_is_read_from_no_other_file(theirs: Path, secret: Path, plant: Plant) -> None:
    plant(theirs / "access.log", secret)
    log = AccessLog(theirs / "access.log")
    assert within(5, log.lines) == []


def test_a_balancers_socket_that_is_a_link_is_not_spoken_to(theirs: Path, tmp_path: Path) -> None:
    """Else whoever has HAProxy's directory has root speak to the engine's socket, or another program's."""
    heard = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "engine.sock"))
        server.listen()

        def listen() -> None:
            connection, _ = server.accept()
            heard.append(connection.recv(100))
            connection.sendall(b"hello")
            connection.close()

        threading.Thread(target=listen, daemon=True).start()
        (theirs / "master.sock").symlink_to(tmp_path / "engine.sock")
        with pytest.raises(BalancerError, match="is a link"):
            Master(theirs / "master.sock").ask("show proc", 2)
        assert heard == []
        # The very socket is.
        assert Master(tmp_path / "engine.sock").ask("show proc", 2) == "hello"


# -- files of roles -----------------------------------------------------------------------------------


def written(path: Path, *flags: str, directories: bool = False) -> tuple[int, str]:
    entry: dict[str, Any] = {"path": str(path), "owner": "0", "group": "0", "mode": "0644"}
    arguments = {"directories": [entry]} if directories else {"files": [{**entry, "content": "ours\n"}]}
    process = module("flotilla_files", arguments, *flags)
    return process.returncode, process.stdout + process.stderr


def test_a_link_of_a_containers_is_in_no_difference_and_is_replaced(theirs: Path, secret: Path) -> None:
    link(theirs / "file", secret)
    code, said = written(theirs / "file", "--diff")
    assert "of root's" not in said
    assert code == 0
    assert secret.read_text() == SECRET
    assert (theirs / "file").read_text() == "ours\n"
    assert not (theirs / "file").is_symlink()


def test_a_link_on_the_way_is_refused(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (theirs / "dir").symlink_to(tmp_path / "root")
    code, said = written(theirs / "dir" / "new" / "file")
    assert code != 0
    assert "dir is a link" in said
    assert listed(tmp_path / "root") == []


def test_a_directory_that_is_a_link_keeps_its_owner_and_mode(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(mode=0o700)
    (theirs / "dir").symlink_to(tmp_path / "root")
    code, said = written(theirs / "dir", directories=True)
    assert code != 0
    assert "dir is a link" in said
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700


def test_a_pipe_in_place_of_a_file_hangs_no_run(theirs: Path, secret: Path) -> None:
    pipe(theirs / "file", secret)
    code, said = within(60, lambda: written(theirs / "file"))
    assert code != 0
    assert "is no regular file" in said
