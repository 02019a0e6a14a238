"""flotilla.bundle: which files of an app a host gets, and that equal files give equal archives."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from flotilla.bundle import BundleError, collect, local_path, pack
from hypothesis import given
from hypothesis import strategies as st


def app(root: Path, compose: str, files: dict[str, str] | None = None) -> Path:
    for name, text in {"compose.yaml": compose, **(files or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


def test_only_what_the_file_refers_to_is_taken(tmp_path: Path) -> None:
    compose = """
services:
  api:
    build: .
    image: registry.example.com/api:1
    env_file: [api.env, {path: maybe.env, required: false}]
    volumes:
      - ./conf:/etc/conf:ro
      - data:/var/lib/data
      - /etc/ssl:/etc/ssl:ro
      - {type: bind, source: ./one.txt, target: /one.txt, read_only: true}
configs:
  settings: {file: ./settings.json}
secrets:
  password: {file: ./secrets/password}
volumes:
  data:
"""
    files = {
        name: name
        for name in ("api.env", "conf/a", "conf/b/c", "one.txt", "settings.json", "src/main.py", "secrets/password")
    }
    assert sorted(collect(app(tmp_path, compose, files))) == [
        "api.env",
        "compose.yaml",
        "conf/a",
        "conf/b/c",
        "one.txt",
        "settings.json",
    ]


def test_included_and_extended_files_bring_their_own(tmp_path: Path) -> None:
    files = {
        "more/compose.yaml": "services: {b: {image: b, env_file: b.env}}",
        "more/b.env": "",
        "base.yml": "services: {base: {image: c, env_file: base.env}}",
        "base.env": "",
    }
    compose = "include: [more/compose.yaml]\nservices: {a: {extends: {file: base.yml, service: base}}}"
    assert sorted(collect(app(tmp_path, compose, files))) == sorted(["compose.yaml", *files])


def test_a_path_with_a_variable_takes_what_may_be_meant(tmp_path: Path) -> None:
    compose = 'services: {a: {image: a, env_file: "env/${STAGE}.env"}}'
    found = collect(app(tmp_path, compose, {"env/one.env": "", "env/two.env": "", "other": ""}))
    assert sorted(found) == ["compose.yaml", "env/one.env", "env/two.env"]


def test_compose_s_own_tags_are_understood(tmp_path: Path) -> None:
    compose = "services: {a: {image: a, env_file: !override [a.env], ports: !reset null}}"
    assert sorted(collect(app(tmp_path, compose, {"a.env": ""}))) == ["a.env", "compose.yaml"]


@pytest.mark.parametrize(
    ("compose", "message"),
    [
        ("services: {a: {env_file: no.env}}", r"`no\.env`: there is no such file\. Next: create "),
        (
            "services: {a: {env_file: ../x.env}}",
            r"`\.\./x\.env`: is outside the app's directory\. Next: move it below ",
        ),
        ("services: {a: {volumes: ['./a/../../b:/b']}}", "is outside the app's directory"),
        ("services: [", r"compose\.yaml: is not YAML: .*Next: docker compose"),
    ],
)
def test_what_cannot_be_handed_over_is_told(tmp_path: Path, compose: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        collect(app(tmp_path / "app", compose))


def test_a_directory_without_a_compose_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"compose\.yaml: cannot be read"):
        collect(tmp_path)


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    directory = app(tmp_path / "app", "services: {a: {volumes: ['./conf:/conf:ro']}}", {"conf/a": ""})
    (directory / "conf/link").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="is a link out of the app's directory"):
        collect(directory)


def test_the_archive_depends_on_content_alone(tmp_path: Path) -> None:
    files = {"conf/a": "a", "conf/b": "b"}
    compose = "services: {a: {volumes: ['./conf:/conf:ro']}}"
    one, two = app(tmp_path / "one", compose, files), app(tmp_path / "two", compose, dict(reversed(files.items())))
    os.utime(two / "conf/a", (1, 1))
    (two / "conf/b").chmod(0o600)
    assert pack(collect(one), one) == pack(collect(two), two)
    (two / "conf/b").chmod(0o700)
    assert pack(collect(one), one) != pack(collect(two), two)
    assert names(pack(collect(one), one)) == ["compose.yaml", "conf/a", "conf/b"]


def test_too_much_is_refused_with_the_largest_files(tmp_path: Path) -> None:
    directory = app(tmp_path, "services: {a: {volumes: ['./d:/d:ro']}}", {"d/small": "x", "d/large": "x" * 9000})
    with pytest.raises(BundleError, match=r"more than 4 KiB; the largest: d/large \(8 KiB\), .*Next: "):
        pack(collect(directory), directory, limit=4096)


@given(st.text(alphabet="./ab$~", max_size=12))
def test_a_local_path_is_relative_and_free_of_inner_dots(reference: str) -> None:
    path = local_path(reference)
    if path is not None:
        assert not path.is_absolute()
        parts = list(path.parts)
        while parts[:1] == [".."]:
            parts.pop(0)
        assert ".." not in parts
