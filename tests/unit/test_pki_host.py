"""The files of a certificate on its host: a switch is one step, and only to a key with its own certificate."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from flotilla.pki import host

from tests.unit import pki_data as data

FIRST, SECOND, THIRD = (f"20300101T00000{second}Z-0a1b2c" for second in "123")
AUTHORITY = data.named("old")


def write(directory: Path, version: str, matching: bool = True) -> Path:
    key = data.new_key()
    certificate = data.certificate(AUTHORITY, data.request(key=key))
    path = directory / version
    path.mkdir(parents=True)
    (path / "tls.crt").write_text(certificate)
    (path / "chain.crt").write_text(certificate + AUTHORITY["certificate"])
    (path / "ca.crt").write_text(AUTHORITY["certificate"])
    (path / "tls.key").write_text(data.private_pem(key if matching else data.new_key()))
    (path / "tls.key").chmod(0o600)
    return path


def look(directory: Path, mode: int = 0o600) -> host.Found:
    return host.read(directory, os.getuid(), os.getgid(), mode)


def test_where_nothing_is_nothing_is_found(tmp_path: Path) -> None:
    assert look(tmp_path / "none") == host.Found()


def test_what_is_current_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST)
    assert host.activate(tmp_path, FIRST) == []
    found = look(tmp_path)
    assert (found.version, found.key_matches, found.key_private) == (FIRST, True, True)
    assert found.chain == found.certificate + found.authorities
    assert (tmp_path / "current").readlink() == Path(FIRST)
    assert found.certificate == (path / "tls.crt").read_text()


@pytest.mark.parametrize("spoil", ["mode", "link", "gone"])
def test_a_key_that_is_not_as_private_as_it_should_be(tmp_path: Path, spoil: str) -> None:
    key = write(tmp_path, FIRST) / "tls.key"
    host.activate(tmp_path, FIRST)
    if spoil == "mode":
        key.chmod(0o644)
    else:
        key.rename(tmp_path / "elsewhere")
    if spoil == "link":
        key.symlink_to(tmp_path / "elsewhere")
    assert not look(tmp_path).key_private


def test_another_key_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST)
    host.activate(tmp_path, FIRST)
    (path / "tls.key").write_text(data.private_pem(data.new_key()))
    assert not look(tmp_path).key_matches


@pytest.mark.parametrize("wrong", ["mismatch", "no certificate", "name"])
def test_what_does_not_belong_together_is_never_current(tmp_path: Path, wrong: str) -> None:
    write(tmp_path, FIRST)
    host.activate(tmp_path, FIRST)
    path = write(tmp_path, SECOND, matching=wrong != "mismatch")
    if wrong == "no certificate":
        (path / "tls.crt").unlink()
    with pytest.raises(host.CertificateError, match="belong together" if wrong != "name" else "is no version"):
        host.activate(tmp_path, "../etc" if wrong == "name" else SECOND)
    assert look(tmp_path).version == FIRST


def test_the_version_before_stays_and_older_ones_go_with_what_was_left_behind(tmp_path: Path) -> None:
    write(tmp_path, FIRST)
    host.activate(tmp_path, FIRST)
    (tmp_path / "20300101T000009Z-ffffff").mkdir()
    (tmp_path / "mine").mkdir()
    write(tmp_path, SECOND)
    assert host.activate(tmp_path, SECOND) == ["20300101T000009Z-ffffff"]
    write(tmp_path, THIRD)
    assert host.activate(tmp_path, THIRD) == [FIRST]
    assert sorted(path.name for path in tmp_path.iterdir()) == [SECOND, THIRD, "current", "mine"]


def test_at_every_moment_the_link_leads_to_a_whole_version(tmp_path: Path) -> None:
    write(tmp_path, FIRST)
    host.activate(tmp_path, FIRST)
    write(tmp_path, SECOND)
    seen, stop = [0], threading.Event()
    failures: list[OSError] = []

    def watch() -> None:
        while not stop.is_set():
            try:
                (tmp_path / "current" / "tls.key").read_bytes()
                seen[0] += 1
            except OSError as error:
                failures.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(20):
            host.activate(tmp_path, SECOND)
            host.activate(tmp_path, FIRST)
    finally:
        stop.set()
        watcher.join()
    assert not failures
    assert seen[0] > 0
