"""Releases, secrets and bundles on a host's disk."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flotilla.journal import Colour, Journal, Slot
from flotilla.retention import previous_proven, prune
from flotilla.store import Release, Standing, Store, digest_of_files, unpack


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "notes")
    store.create()
    return store


def add(store: Store, name: str, standing: Standing) -> None:
    store.directory(name).mkdir()
    store.write(Release(name, "1", "f", f"secrets-{name}", {"api": "a@sha256:1"}, standing))


def test_a_record_survives_the_disk(store: Store) -> None:
    add(store, "r1", Standing.PROVEN)
    assert store.read("r1") == Release("r1", "1", "f", "secrets-r1", {"api": "a@sha256:1"}, Standing.PROVEN)


def test_pruning_counts_proven_releases_only(store: Store) -> None:
    for name, standing in (
        ("r1", Standing.PROVEN),
        ("r2", Standing.PROVEN),
        ("r3", Standing.REFUSED),
        ("r4", Standing.PROVEN),
        ("r5", Standing.REVERTED),
        ("r6", Standing.LIVE),
    ):
        add(store, name, standing)
    assert [record.id for record in store.prunable(2, ["r6"])] == ["r1", "r2", "r3", "r5"]


def test_what_a_failed_prepare_left_goes_unless_it_is_in_hand(store: Store) -> None:
    add(store, "r1", Standing.PROVEN)
    add(store, "r4", Standing.LIVE)
    for name in ("r2", "r5"):
        (store.directory(name) / "source").mkdir(parents=True)
    assert store.unrecorded() == ["r2", "r5"]
    site: Any = SimpleNamespace(store=store)
    prune(site, Journal(live=Slot("r4", Colour.BLUE), candidate=Slot("r5", Colour.GREEN)), keep=2)
    assert sorted(path.name for path in store.directory("r1").parent.iterdir()) == ["r1", "r4", "r5"]


def test_a_release_that_was_rolled_back_from_stays_while_an_older_one_does(store: Store) -> None:
    for name, standing in (
        ("r1", Standing.ROLLED_BACK),
        ("r2", Standing.PROVEN),
        ("r3", Standing.ROLLED_BACK),
        ("r4", Standing.LIVE),
    ):
        add(store, name, standing)
    assert [record.id for record in store.prunable(2, ["r4"])] == ["r1"]
    assert [record.id for record in store.prunable(1, ["r4"])] == ["r1", "r2", "r3"]


def test_where_a_rollback_goes_is_never_pruned(store: Store) -> None:
    for name, standing in (
        ("r1", Standing.PROVEN),
        ("r2", Standing.PROVEN),
        ("r3", Standing.REVERTED),
        ("r4", Standing.LIVE),
    ):
        add(store, name, standing)
    target = previous_proven(store.releases(), "r4")
    assert target == "r2"
    assert [record.id for record in store.prunable(1, ["r4", target])] == ["r1", "r3"]


def test_nothing_is_before_the_first_release(store: Store) -> None:
    add(store, "r1", Standing.LIVE)
    assert previous_proven(store.releases(), "r1") == ""


def test_migrations_without_a_way_back_are_remembered(store: Store) -> None:
    assert store.barriers() == []
    store.add_barrier("r1", "1.0.0")
    store.add_barrier("r2", "1.1.0")
    with (store.base / "migrations.jsonl").open("a") as file:
        file.write('{"release": "r3"')
    assert [barrier["release"] for barrier in store.barriers()] == ["r1", "r2"]


def test_the_live_release_is_never_pruned(store: Store) -> None:
    add(store, "r1", Standing.LIVE)
    assert store.prunable(0, ["r1"]) == []


def test_secret_versions_follow_the_values_and_tell_nothing(store: Store) -> None:
    first = store.secrets_version({"a": "hunter2"})
    assert first == store.secrets_version({"a": "hunter2"})
    assert first != store.secrets_version({"a": "hunter3"})
    other = Store(store.base.parent / "other")
    other.create()
    assert other.secrets_version({"a": "hunter2"}) != first


def test_secret_files_are_private(store: Store) -> None:
    store.write_secrets("v1", {"password": "pa$$ 'word'"}, {"password-0": ("password", 0)})
    path = store.secrets_directory("v1") / "password-0"
    assert path.read_text() == "pa$$ 'word'"
    assert path.stat().st_mode & 0o777 == 0o400


def test_a_rotated_secret_reaches_every_release_that_is_kept(store: Store) -> None:
    for version in ("v1", "v2"):
        store.write_secrets(version, {"a-b": f"old {version}\r\n", "c": "c"}, {"a-b-0": ("a-b", 0), "c-0": ("c", 0)})
    pinned = (store.secrets_directory("v1") / "a-b-0").open()
    assert store.reissue_secrets({"a-b": "new", "b": "of nobody"}) == 2
    for version in ("v1", "v2"):
        path = store.secrets_directory(version) / "a-b-0"
        assert path.read_text() == "new"
        assert path.stat().st_mode & 0o777 == 0o400
        assert (store.secrets_directory(version) / "c-0").read_text() == "c"
    # What runs has the file that it was started with.
    with pinned:
        assert pinned.read().startswith("old v1")
    assert store.reissue_secrets({"a-b": "new"}) == 0


def test_unused_secret_versions_go(store: Store) -> None:
    add(store, "r1", Standing.LIVE)
    store.write_secrets("secrets-r1", {"a": "1"}, {"a-0": ("a", 0)})
    store.write_secrets("secrets-r0", {"a": "0"}, {"a-0": ("a", 0)})
    store.prune_secrets()
    assert not store.secrets_directory("secrets-r0").exists()
    assert store.secrets_directory("secrets-r1").exists()


def bundle(*members: tuple[tarfile.TarInfo, bytes]) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_bundle_is_unpacked(tmp_path: Path) -> None:
    unpack(bundle((tarfile.TarInfo("ui/index.html"), b"hello")), tmp_path / "source")
    assert (tmp_path / "source/ui/index.html").read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_a_bundle_cannot_write_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a plain file below it"):
        unpack(bundle((tarfile.TarInfo(name), b"x")), tmp_path / "source")


def test_a_bundle_holds_no_links(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
    with pytest.raises(ValueError, match="not a plain file"):
        unpack(bundle((link, b"")), tmp_path / "source")


def test_the_digest_of_files_follows_names_contents_and_modes(tmp_path: Path) -> None:
    tree = tmp_path / "ui"
    tree.mkdir()
    (tree / "a").write_text("1")
    first = digest_of_files([tree])
    assert digest_of_files([tree]) == first
    (tree / "a").chmod(0o755)
    second = digest_of_files([tree])
    (tree / "a").rename(tree / "b")
    third = digest_of_files([tree])
    assert len({first, second, third}) == 3
